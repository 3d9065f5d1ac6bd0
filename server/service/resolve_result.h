#pragma once

#include "server/service/resolve_plan.h"

/*
 * Builds the result of one item in one environment. Names that look alike are looked up afterwards, by
 * result_suggest, because that needs the database.
 */
COF_CODE result_build(struct call *call, struct plan *plan, size_t environment, bool with_values,
                      Coffer__V1__ResolveResult **ret_result);

/* A result that says nothing but what became of it. */
COF_CODE result_of_outcome(struct call *call, const struct plan *plan, size_t environment, outcome value,
                           const char *message, Coffer__V1__ResolveResult **ret_result);

/* Adds near misses to the faults of a result; reads the names of its environment. No pipeline may be open. */
COF_CODE result_suggest(struct call *call, const struct plan *plan, Coffer__V1__ResolveResult *result);
