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

/* Adds one. */
COF_CODE chain_ends_add(struct chain_ends *ends, const struct cof_uuid *workspace, uint64_t revision,
                        const uint8_t hash[CRYPTO_DIGEST], struct cof_error *err);

/* Takes them from a packed audit record; others leave it as it is. */
COF_CODE chain_ends_take(struct chain_ends *ends, struct cof_slice record, struct cof_error *err);

struct writes_damage {
    const struct cof_uuid *workspace;
    uint64_t first; /* revisions */
    uint64_t last;
    const char *what; /* a sentence's part */
};

struct writes_check {
    struct session *session;
    struct keyring *keyring;
    struct chain_ends *ends; /* compacted */
    const char *ends_from;   /* "the server's log" */
    FILE *export;            /* gets every record as a line of JSON; may be NULL */
    /* Gets every record in the order of the revisions; may be NULL. */
    cof_code (*take)(uint64_t revision, struct cof_slice record, void *context, struct cof_error *err);
    void (*tell)(const struct writes_damage *damage, void *context);
    void *context;
};

/* Where the chain of a workspace ends now; revision 0: it has no link. */
struct writes_end {
    uint64_t revision;
    uint8_t hash[CRYPTO_DIGEST];
};

struct writes_summary {
    uint64_t workspaces;
    uint64_t writes;
    uint64_t links;
    uint64_t unchained; /* writes that no link covers yet */
    uint64_t ends;      /* ends of chains in the log that were compared */
    uint64_t damages;
};

/* Sorts the ends and keeps the last one of each workspace. Before the first check. */
void chain_ends_compact(struct chain_ends *ends);

/* Checks the writes of one workspace, which has come to `revision`, and adds to the summary. Its keys are loaded if they
 * can be. Fails only if the database cannot be read. */
COF_CODE writes_check_workspace(const struct writes_check *check, const struct cof_uuid *workspace,
                                uint64_t revision, struct writes_summary *summary, struct writes_end *ret_end,
                                struct cof_error *err);

/* The same for all workspaces. Fails only if the database cannot be read; damage stands in the summary. */
COF_CODE writes_check_run(const struct writes_check *check, struct writes_summary *ret_summary,
                          struct cof_error *err);
