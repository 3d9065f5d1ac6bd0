#pragma once

#include "server/service/resolve_lookup.h"

/* Tokens of OAuth connections in a Resolve (product.md, Resolve, rule 5; docs/decisions/0022-refresh.md). */

/* What became of one token in one environment. */
struct oauth_token {
    struct cof_slice environment;
    struct cof_slice name; /* of what stands for a secret */
    struct cof_slice key;
    outcome state;
    char *problem;
    uint32_t retry_ms;
    struct found found;
    struct value value; /* RESOLVED */
    int64_t expire_us;  /* 0: it does not, or it was only checked */
};

/* Finds the token that a name that ends in _oauth and a key mean, and has it refreshed where it must be. */
COF_CODE oauth_find(struct call *call, struct plan *plan, struct cof_slice environment, struct lookup *lookup);

/* Tells when what is handed out of a connection expires; nothing for any secret. */
COF_CODE oauth_describe(struct call *call, const struct found *found, Coffer__V1__ResolvedSecret *secret,
                        Coffer__V1__ResolveResult *result);
