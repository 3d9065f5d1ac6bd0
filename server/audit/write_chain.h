#pragma once

#include "common/uuid.h"
#include "server/crypto/keyring.h"

/*
 * The chain over the records of writes, which are rows of the database (docs/decisions/0007-audit-stream.md). A link
 * covers the writes of one workspace that follow each other in its revisions; its hash is
 *
 *   row MAC (keyring.h) over: "write_chain", hash of the link before (zeros before the first), workspace UUID,
 *                             u64 first revision, u64 last revision, digest of the writes
 *   digest = SHA-256 of: digest of the writes before (zeros before the first), u64 revision, u64 time in microseconds
 *                        since 1970, u32 length of objects, objects, record
 *
 * with all numbers big-endian. Knows no SQL.
 */

enum {
    WRITE_CHAIN_MOST = 256, /* writes that the server puts into one link */
    WRITE_CHAIN_BEFORE = 1, /* the revision with which a workspace begins; the first write makes the next one */
};

/* One write, as its row has it. Borrows. */
struct write_chain_write {
    uint64_t revision;
    int64_t time_us;
    struct cof_slice objects;
    struct cof_slice record;
};

struct write_chain_link {
    struct cof_uuid workspace;
    uint64_t first; /* 0: no write was added */
    uint64_t last;
    size_t count;
    uint8_t before[CRYPTO_DIGEST]; /* hash of the link before */
    uint8_t digest[CRYPTO_DIGEST]; /* of its writes */
};

void write_chain_begin(struct write_chain_link *link, const struct cof_uuid *workspace, struct cof_slice before);

/* Adds a write; they come in the order of their revisions. */
COF_CODE write_chain_add(struct write_chain_link *link, const struct write_chain_write *write,
                         struct cof_error *err);

/* The link's hash under a key generation of the workspace, which must be installed. */
COF_CODE write_chain_hash(const struct write_chain_link *link, struct keyring *keyring, uint32_t generation,
                          uint8_t ret_hash[CRYPTO_DIGEST], struct cof_error *err);
