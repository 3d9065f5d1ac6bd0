#pragma once

#include "server/service/resolve_plan.h"

/* One entry of an item's list in one environment: what became of it. */

struct lookup {
    const Coffer__V1__SecretReference *reference;
    struct cof_slice name;
    struct cof_slice key;
    outcome outcome;
    bool tolerated; /* it is missing, and another operand of its expression stands in for it */
    bool satisfied; /* it is not handed out, and satisfies what declares it all the same */
    struct found *found;
    const struct value *value; /* that is handed out */
    char *problem;             /* a message of its own; NULL: the outcome says it */
    uint32_t retry_ms;         /* when it is worth another try; 0: no advice */
    size_t origin;             /* of a value that is handed out besides: what it comes from */
};

/* Looks up the entry of this index. */
COF_CODE lookup_find(struct call *call, struct plan *plan, struct cof_slice environment, size_t index,
                     struct lookup *ret_lookup);

/* What went wrong, where, and what to do next; NULL if the memory is exhausted. */
char *lookup_message(struct call *call, const struct lookup *lookup, struct cof_slice environment) COF_MUST_USE;

/* Says when what is handed out of a secret expires by itself: with it, and with the result if nothing does sooner. */
COF_CODE lookup_expires(struct call *call, int64_t time_us, Coffer__V1__ResolvedSecret *secret,
                        Coffer__V1__ResolveResult *result);
