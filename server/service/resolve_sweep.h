#pragma once

#include "server/service/resolve_plan.h"

/*
 * Which of many results would fail, found out without keeping one of them. Results are gone through in the order of
 * their environments: what the items ask for in some of these is read and opened once, each secret for all items
 * that name it, in memory that is used again for the environments that follow. What the caller may not resolve is not
 * even read, and nothing is put into the cache, where it would push out what executors need.
 */

struct sweep {
    const struct plan *plans;
    uint32_t *first; /* where a plan's results begin */
    uint32_t count;  /* of all results */
    uint8_t *failed; /* a bit for each of them */
};

/*
 * Goes through all results of these plans, whose actions were read. A plan that fails as a whole says so itself. All
 * results in one environment come from one state; in other environments it may be a later one. No pipeline may be open.
 */
COF_CODE sweep_run(struct call *call, struct plan *plans, size_t count, struct sweep *ret_sweep);

bool sweep_failed(const struct sweep *sweep, size_t plan, size_t environment);
