#pragma once

#include "server/providers/provider.h"

/*
 * Files of providers in YAML: server/providers/providers.yaml, which is part of the program, and those of operators.
 *
 *   providers:
 *     - id: example
 *       name: Example
 *       documentation: https://docs.example.com/oauth
 *       authorization_endpoint: https://{tenant}.example.com/authorize
 *       token_endpoint: https://{tenant}.example.com/token
 *       parameters:
 *         - {name: tenant, form: label, help: the first part of your address}
 *       user: {scopes: [read, write]}
 *
 * docs/reference/providers.md has all fields. Strict: whatever is not known, stands twice, has another type or makes no
 * sense (provider_check) fails with FILE_INVALID, line and column.
 */

enum { PROVIDER_FILE_MAX = 1 << 20 };

struct provider_entry {
    struct provider provider;
    bool replaces; /* an entry of the same ID in an earlier file */
    uint32_t line;
};

struct provider_entries {
    struct provider_entry *items;
    size_t count;
};

/* Reads one file. All that is read lies in the arena. */
COF_CODE provider_file_read(struct cof_slice file, struct cof_arena *arena, struct provider_entries *ret_entries,
                            struct cof_error *err);
