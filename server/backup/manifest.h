#pragma once

#include "server/backup/anchor.h"
#include "server/backup/verify.h"

/*
 * What a backup's directory holds beside PostgreSQL's own dump: the anchor of the state that was dumped, the instance's row,
 * which is not in the dump, the numbers of rows, and the dump's size and hash. No key.
 */

#define MANIFEST_FILE "manifest"
#define MANIFEST_DUMP "database.dump"

struct manifest {
    struct outside file; /* what the slices below borrow from */
    struct anchor anchor;
    uint64_t schema; /* number of the last schema file */
    uint64_t dump_bytes;
    uint8_t dump_sha256[CRYPTO_DIGEST];
    uint64_t rows[VERIFY_TABLE_COUNT];
    struct cof_slice instance; /* the row as JSON */
};

void manifest_done(struct manifest *manifest);

COF_CODE manifest_write(const struct manifest *manifest, const struct root_key *root, const char *path,
                        struct cof_error *err);
/* Fails as outside_read does. */
COF_CODE manifest_read(const char *path, struct root_key *const *roots, size_t count, struct manifest *ret_manifest,
                       struct cof_error *err);
