#pragma once

#include "server/aws/arn.h"
#include "server/aws/mode.h"
#include "server/aws/roles.h"
#include "server/service/resolve_lookup.h"

/* Secrets for AWS in a Resolve (docs/decisions/0026-aws.md). */

enum { AWS_TEMPORARY = 3, AWS_SECRETS = 3, AWS_ROOM = AWS_SECRETS * AWS_TEMPORARY };

/* What is known of a secret for AWS that was opened. */
struct aws_secret {
    aws_kind kind;
    aws_mode mode;
    struct aws_stored stored;
    /* Of a role, once somebody needs it. */
    bool asked;
    outcome state;
    char *problem;
    uint32_t retry_ms;
    struct value temporary[AWS_TEMPORARY]; /* RESOLVED: sorted by key */
    int64_t expire_us;                     /* 0: only checked */
};

/* Finds out what a secret that was just opened is for AWS, and trims its values; nothing for any other secret. */
COF_CODE aws_open(struct call *call, struct found *found);

/* What becomes of a key of such a secret. */
COF_CODE aws_find(struct call *call, struct plan *plan, struct cof_slice environment, uint8_t needs,
                  struct lookup *lookup);

/*
 * Values that are handed out besides those that were asked for: a declaration that names one key of a role's session is
 * given all. They are written behind the lookups, where there is room for AWS_TEMPORARY for each; `origin` is the lookup
 * that each comes from.
 */
COF_CODE aws_complete(struct call *call, const struct asked *asked, struct lookup *lookups, size_t *ret_count);

/* Tells what of the secret counts, and when what is handed out of it expires. */
COF_CODE aws_describe(struct call *call, const struct found *found, Coffer__V1__ResolvedSecret *secret,
                      Coffer__V1__ResolveResult *result);

/* The session's order without its External ID: ARN and region are checked. The failure says what is wrong with them. */
COF_CODE aws_order_of(struct call *call, const struct aws_stored *stored, struct roles_order *ret_order);

/* The workspace's External ID, from its row; nothing may be queued. */
COF_CODE aws_external_id(struct call *call, const struct cof_uuid *workspace, struct cof_slice *ret_id);

/* Something was written: forgets the sessions that it could have changed the right to. */
struct write;
void aws_written(struct call *call, const struct write *write);
