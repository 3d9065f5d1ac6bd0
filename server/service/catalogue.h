#pragma once

#include <coffer/v1/resolve.pb-c.h>

#include "common/arena.h"

/*
 * What integrations need that every workspace may use: the definitions of the file that is part of the program
 * (server/service/integrations.yaml), and those of the operator's files. Each is a declaration of one secret. Read and
 * checked when the server starts, constant afterwards, so any thread may read it (docs/decisions/0027-catalogue.md).
 */

enum { CATALOGUE_FILE_MAX = 1 << 20 };

struct catalogue;

/*
 * Reads the built-in file, then `files` in their order. A definition may take the place of an earlier file's only if it
 * says so (replaces: true), and must not say so for nothing. Fails with CONFIG_INVALID, which names file, line and column.
 */
COF_CODE catalogue_new(const char *const *files, size_t count, struct catalogue **ret_catalogue,
                       struct cof_error *err);
void catalogue_free(struct catalogue *catalogue);

/* Sorted by name. A type that is not given is CUSTOM. */
size_t catalogue_count(const struct catalogue *catalogue);
const Coffer__V1__SecretDeclaration *catalogue_at(const struct catalogue *catalogue, size_t index);

/* A definition of a file. */
struct catalogue_entry {
    Coffer__V1__SecretDeclaration declaration;
    bool replaces; /* one of the same name in an earlier file */
    uint32_t line;
};

struct catalogue_entries {
    struct catalogue_entry *items;
    size_t count;
};

/* Reads one file; all that is read lies in the arena. Fails with FILE_INVALID, line and column, or OUT_OF_MEMORY. */
COF_CODE catalogue_read(struct cof_slice file, struct cof_arena *arena, struct catalogue_entries *ret_entries,
                        struct cof_error *err);
