#pragma once

#include "common/error.h"
#include "common/uuid.h"
#include "server/crypto/keyring.h"

/*
 * Walks over all segments of a folder, from the first to the last, and checks everything: seals, numbers, hashes, and
 * that each segment goes on where the one before it ends. May run beside the server that writes.
 */

struct audit_walk {
    const char *folder;
    const struct keyring *keyring;
    bool from_first; /* segments are never removed, so the first one must be there */
    bool has_head;   /* an end of the log that was kept elsewhere must still stand */
    uint64_t head;
    uint8_t head_chain[CRYPTO_DIGEST];
    /* Takes a good record; may be NULL. */
    cof_code (*record)(uint64_t segment, uint64_t sequence, struct cof_slice text, void *context,
                       struct cof_error *err);
    /* Takes a sentence about a segment: damage, or something that is worth knowing. */
    void (*tell)(bool damage, const char *text, void *context);
    void *context;
};

struct audit_summary {
    struct cof_uuid server;
    uint64_t segments;
    uint64_t records;
    uint64_t damages;
    uint64_t sequence; /* of the last good record */
    uint8_t chain[CRYPTO_DIGEST];
};

/* Fails only if the folder cannot be read or `record` fails; damage stands in the summary. */
COF_CODE audit_walk(const struct audit_walk *walk, struct audit_summary *ret_summary, struct cof_error *err);
