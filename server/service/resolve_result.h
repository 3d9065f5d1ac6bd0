#pragma once

#include "server/service/resolve_lookup.h"

/* The result of one item in one environment. */

/* One that is being built. */
struct building {
    struct call *call;
    struct plan *plan;
    struct cof_slice environment;
    struct lookup *lookups; /* of each entry of the item's list */
    size_t count;
    size_t all; /* with values that are handed out besides, which stand behind them */
    Coffer__V1__ResolveResult *result;
};

/* Names that look alike are looked up afterwards, by result_suggest, because that needs the database. */
COF_CODE result_build(struct call *call, struct plan *plan, size_t environment, bool with_values,
                      struct building *ret_building);

/* Whether the result would fail; nothing of it is kept, so `call->arena` may be memory that is thrown away. */
COF_CODE result_check(struct call *call, struct plan *plan, size_t environment, bool *ret_fails);

/* Adds near misses to the faults of a result; reads the names of its environment. No pipeline may be open. */
COF_CODE result_suggest(const struct building *building);

/* A result that says nothing but what became of it. */
COF_CODE result_of_outcome(struct call *call, const struct plan *plan, size_t environment, outcome value,
                           const char *message, Coffer__V1__ResolveResult **ret_result);
