#pragma once

#include "server/service/resolve_lookup.h"

/* Expressions of an item in one environment (docs/expressions.md; common/expand.h decides what they are worth). */

/*
 * Looks up the references of each expression as far as they are needed, and adds the expressions' results with their
 * values. An operand that is missing while another one stands in for it is tolerated: its outcome is told, and is no
 * failure.
 */
COF_CODE expression_results(struct call *call, struct plan *plan, struct cof_slice environment,
                            struct lookup *lookups, Coffer__V1__ResolveResult *result);

/* Takes the values out again: nothing of a result is handed out that failed, or is only a check. */
void expression_withhold(Coffer__V1__ResolveResult *result);
