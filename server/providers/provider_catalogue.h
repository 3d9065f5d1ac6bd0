#pragma once

#include "server/providers/provider.h"

/*
 * The providers that every workspace has: those of the file that is part of the program, and those of the operator's files.
 * Read and checked when the server starts, constant afterwards, so any thread may read it.
 */

struct provider_catalogue;

/*
 * Reads the built-in file, then `files` in their order. An entry may take the place of an earlier file's only if it says so
 * (replaces: true), and must not say so for nothing. Fails with CONFIG_INVALID, which names file and line.
 */
COF_CODE provider_catalogue_new(const char *const *files, size_t count, struct provider_catalogue **ret_catalogue,
                                struct cof_error *err);
void provider_catalogue_free(struct provider_catalogue *catalogue);

/* NULL: there is none of this ID. */
const struct provider *provider_catalogue_find(const struct provider_catalogue *catalogue, const char *id);

/* Sorted by ID. */
size_t provider_catalogue_count(const struct provider_catalogue *catalogue);
const struct provider *provider_catalogue_at(const struct provider_catalogue *catalogue, size_t index);
