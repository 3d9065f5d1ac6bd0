#pragma once

#include <stdio.h>

#include "server/crypto/keyring.h"
#include "server/store/session.h"

/*
 * Checks the records of writes in the database against their chains (docs/decisions/0007-audit-stream.md), and these
 * against the ends that servers' own logs have. May run beside servers that write.
 */

/* Ends of chains, as records of a server's log have them: of each workspace the last one. */
struct chain_ends;

COF_CODE chain_ends_new(struct chain_ends **ret_ends, struct cof_error *err);
void chain_ends_free(struct chain_ends *ends);
static inline void chain_ends_cleanup(struct chain_ends **ends)
{
    chain_ends_free(*ends);
}

/* Takes them from a packed audit record; others leave it as it is. */
COF_CODE chain_ends_take(struct chain_ends *ends, struct cof_slice record, struct cof_error *err);

struct audit_writes {
    struct session *session;
    struct keyring *keyring;
    struct chain_ends *ends;
    FILE *export; /* gets every record as a line of JSON; may be NULL */
    /* Takes a sentence about damage. */
    void (*tell)(bool damage, const char *text, void *context);
    void *context;
};

struct audit_writes_summary {
    uint64_t workspaces;
    uint64_t writes;
    uint64_t links;
    uint64_t unchained; /* writes that no link covers yet */
    uint64_t ends;      /* ends of chains in the log that were compared */
    uint64_t damages;
};

/* Fails only if the database cannot be read; damage stands in the summary. */
COF_CODE audit_writes_check(const struct audit_writes *check, struct audit_writes_summary *ret_summary,
                            struct cof_error *err);
