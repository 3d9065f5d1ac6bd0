#pragma once

#include "common/arena.h"
#include "common/slice.h"
#include "common/uuid.h"

/* What is asked of STS: bodies of requests as AWS's query protocol wants them. Pure; all memory is the arena's. */

enum {
    STS_DURATION_LEAST_S = 900,
    STS_DURATION_MOST_S = 43200,
    STS_POLICY_MAX = 2048, /* characters of a session policy */
    STS_TAGS_MAX = 8,
    STS_SESSION_NAME = sizeof "coffer-ws-12345678-run-12345678",
};

/* "coffer-ws-<8 hex>-run-<8 hex>": the beginnings of SHA-256 of the workspace's UUID, as text, and of the run's ID. */
COF_CODE sts_session_name(const struct cof_uuid *workspace, struct cof_slice run, char to[STS_SESSION_NAME],
                          struct cof_error *err);

struct sts_tag {
    const char *key;
    struct cof_slice value;
};

struct sts_role {
    struct cof_slice arn;
    struct cof_slice session_name;
    struct cof_slice external_id; /* empty: none is sent */
    struct cof_slice policy;      /* empty: all that the role may do */
    uint32_t duration_s;
    struct sts_tag tags[STS_TAGS_MAX]; /* one with an empty value is left out */
    size_t tag_count;
};

COF_CODE sts_assume_role(const struct sts_role *role, struct cof_arena *arena, struct cof_slice *ret_body,
                         struct cof_error *err);

/* The same with a token of another issuer; it is not signed. */
COF_CODE sts_assume_role_with_token(const struct sts_role *role, struct cof_slice token, struct cof_arena *arena,
                                    struct cof_slice *ret_body, struct cof_error *err);
