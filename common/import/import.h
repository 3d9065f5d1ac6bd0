#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/expression.h"
#include "common/slice.h"

/*
 * Files of secrets: read into a list, and written from one (docs/importing.md). The formats stand in format.def.
 *
 * Nothing here opens a file or talks to a server. What is read lies in the caller's arena and is wiped with it; the
 * caller wipes the file's own bytes. What passes through libyaml is wiped when it is freed, in programs that have
 * common/scrub.c.
 */

enum {
    COF_IMPORT_FILE_MAX = 16 << 20,
    COF_IMPORT_ENTRIES_MAX = 10000,
    COF_IMPORT_NAME_MAX = 1024, /* bytes of a name as it stands in a file */
};

typedef enum cof_import_format {
#define FORMAT(NAME, name, flat, read, write) COF_IMPORT_##NAME,
#include "common/import/format.def"
#undef FORMAT
} cof_import_format;

/* One value, with its names as they stand in the file: plan.h makes names of Coffer's of them. */
struct cof_import_entry {
    struct cof_slice secret;
    struct cof_slice key;
    struct cof_slice value;
    struct cof_place place;
};

/* In the file's order; the entries of one secret stand together, and none stands twice. */
struct cof_import_list {
    const struct cof_import_entry *entries;
    size_t count;
};

/* The format with this name; false if there is none. */
bool cof_import_format_find(const char *name, cof_import_format *ret_format);
const char *cof_import_format_name(cof_import_format format);
/* Whether cof_import_write knows the format, too. */
bool cof_import_format_written(cof_import_format format);

/*
 * Reads a whole file. `secret` is the name of the secret that a file without names of secrets is for; empty if there
 * is none. Fails with FILE_INVALID, which names line and column and no value, LIMIT_EXCEEDED or OUT_OF_MEMORY.
 */
COF_CODE cof_import_read(cof_import_format format, struct cof_slice file, struct cof_slice secret,
                         struct cof_arena *arena, struct cof_import_list *ret_list, struct cof_error *err);

/*
 * Writes a file into the arena, sorted by the names of secrets and keys, which must be Coffer's own. Reading it gives
 * exactly these values. Fails with FILE_INVALID where the format cannot hold a value or a name, and where the flat
 * format would get a key from two secrets.
 */
COF_CODE cof_import_write(cof_import_format format, const struct cof_import_list *list, struct cof_arena *arena,
                          struct cof_slice *ret_file, struct cof_error *err);
