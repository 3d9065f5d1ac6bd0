#pragma once

#include "server/aws/arn.h"
#include "server/aws/identity.h"
#include "server/aws/sts_answer.h"
#include "server/aws/sts_request.h"

/*
 * Roles that are assumed: each piece of work is under a key, and ends in `sessions` and then with `landed`. It takes
 * neither a thread nor a database connection while STS is waited for. Thread-safe.
 */

struct roles;

struct roles_options {
    const struct cof_clock *clock;
    const struct cof_log *log;
    const struct aws_outside *outside; /* NULL: nothing is asked of the outside, so no role can be assumed */
    struct outbound *outbound;
    struct outbound *local; /* see identity.h */
    struct cof_pool *pool;
    const struct aws_identity_config *config;
    const char *sts_endpoint;  /* empty: the regional ones */
    const char *principal_arn; /* that customers are to trust; empty: not configured */
    uint32_t duration_s;       /* where nobody asks for another one */
    uint32_t sessions;
    void (*landed)(void *context, const uint8_t key[SESSIONS_KEY]);
    void *context;
};

/* CONFIG_INVALID for a principal or an endpoint that cannot be used. Texts of the options are borrowed. */
COF_CODE roles_new(const struct roles_options *options, struct roles **ret_roles, struct cof_error *err);
/* When nothing is asked of the outside any more. NULL is allowed. */
void roles_free(struct roles *roles);

const struct roles_options *roles_options_of(const struct roles *roles);

/* NULL, or one that asks nothing of the outside, is false. */
bool roles_are_assumed(const struct roles *roles);

struct sessions *roles_sessions(struct roles *roles);

/* What STS said so far, tests included; IDENTITY also where it was not asked, for want of credentials. */
void roles_counts(const struct roles *roles, uint64_t counts[STS_VERDICTS]);

struct roles_order {
    uint8_t key[SESSIONS_KEY];
    struct sessions_owner owner;
    struct aws_place place;
    struct sts_role role;
    int64_t version; /* of the secret, for a test */
    bool
        tests; /* with its External ID, without, with a random one, and with its own again; nothing is kept of the sessions */
};

/* Begins. On failure nothing was begun, and `landed` is not called; the arena is for what is sent. */
COF_CODE roles_fly(struct roles *roles, const struct roles_order *order, struct cof_arena *arena,
                   struct cof_error *err);
