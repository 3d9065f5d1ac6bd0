#pragma once

#include "common/token.h"
#include "server/service/call.h"
#include "server/service/narrowed.h"
#include "server/service/rights.h"
#include "server/store/row.h"

/* Who calls: the token, its account, and what both permit. */
struct caller {
    uint64_t kept_revision;    /* of its workspace, where it was kept of an earlier call; 0: read for this one */
    struct cof_uuid workspace; /* that the account belongs to */
    struct cof_uuid principal;
    cof_token_kind kind;
    struct token_row token;
    struct principal_row account;
    struct rule_set grants;
    struct rule_set restrictions;
    const struct cof_narrowed *narrowed; /* NULL: it calls with a whole token */
    struct rule_set caveats;             /* of a narrowed token: each must permit */
    struct cof_uuid home;                /* the workspace that a request without one means */
    bool has_home;
};

/* What a caller is read from. */
struct caller_source {
    struct rows *rows;        /* of caller_queue's statement */
    struct cache_read begun;  /* before it was sent */
    struct cache_entry *kept; /* in their place; its rows' MACs were checked before it was kept */
    bool proven;              /* the secret of a whole token was compared with what is kept, and is the one */
};

/* For service->nobody: a row that no token has. NULL if there is no memory. */
struct rows *caller_nobody(void);

/* NULLs are allowed. */
void caller_source_done(struct caller_source *source);

/*
 * Finds what is kept of the token; false if it has to be read. A token whose secret is wrong has to be, like one that is
 * unknown: whoever guesses learns from the time of an answer nothing about which tokens there are.
 */
bool caller_recall(const struct service *service, const struct cof_token *token, struct caller_source *ret_source);

/*
 * Whether the token was a good one when it was last read. What the caller may do now has to be read if his workspace has
 * changed since; for the queue it is enough that he was not invented.
 */
bool caller_was_known(const struct service *service, const struct cof_token *token);

/* The same while the database is lost, whatever the age of what is kept; `ret_older_us` says when that was known to be
 * right. How old it may be is for the workspace to say in which it is used (secrets_recall). */
bool caller_recall_older(const struct service *service, const struct cof_token *token,
                         struct caller_source *ret_source, int64_t *ret_older_us);

/* Queues the statement that reads a token and its account; its result goes into the source's rows. */
COF_CODE caller_queue(struct call *call, const struct cof_token *token, struct caller_source *ret_source);

/*
 * Checks the token against its row: hash or tag, kind, revocation, expiry, the account's state, both rows' MACs. Loads the
 * keys of the token's workspace first if need be, so no pipeline may be open. Fails with TOKEN_INVALID (the same
 * for unknown, wrong and revoked, and for all of a deleted account), TOKEN_EXPIRED, ACCOUNT_DISABLED, NETWORK_DENIED,
 * CORRUPTED, or a reason of workspace_state_permits. The source must outlive the caller. Callers that pass are kept.
 */
COF_CODE caller_read(struct call *call, const struct cof_token *token, const struct caller_source *source,
                     struct caller *ret_caller);

/* Reads the caller anew if he was kept of an older state of this workspace: nobody who was sent away by then, or has
 * lost a right, is still known. No pipeline may be open. */
COF_CODE caller_at_least(struct call *call, const struct cof_uuid *workspace, uint64_t revision);

/*
 * Somebody who does not call now: what the account of a token may do as of now, if the token is still good. Fails as
 * caller_read does, except that nobody asks from where he would come. No pipeline may be open.
 */
COF_CODE caller_of_token(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *token,
                         struct caller *ret_caller);

/* Whether tokens of this account work now, and from where the call comes: fails with TOKEN_INVALID if it was deleted,
 * ACCOUNT_DISABLED or NETWORK_DENIED. */
COF_CODE caller_check_account(struct call *call, const struct principal_row *account);

/* Which workspace a request without one means: that of a workspace's token, and the one that a token is narrowed to. A
 * whole fleet or system token has none. */
void caller_set_home(struct caller *caller, const struct cof_uuid *home);

bool caller_permits(const struct caller *caller, const struct right *right);
/* Whether the token may be used for this run; each ID may be empty. */
bool caller_permits_run(const struct caller *caller, struct cof_slice workflow_id, struct cof_slice run_id);
bool caller_permits_somewhere(const struct caller *caller, cof_permission permission,
                              const struct cof_uuid *workspace);
