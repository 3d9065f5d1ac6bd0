#pragma once

#include "common/narrowed.h"
#include "server/service/call.h"
#include "server/service/rights.h"
#include "server/store/row.h"

/* Narrowed tokens (docs/decisions/0013-narrowed-tokens.md): whether one was really made from the token that it names,
 * and what it still permits. */

/*
 * Whether the tag is the one that follows from the narrowing key in the issued token's row; `row` is NULL if there is
 * none, which costs as many HMACs. Loads the keys of the token's workspace first if need be, so no pipeline may be open.
 * Fails with CORRUPTED if the row's MAC does not fit, or the key does not open.
 */
COF_CODE narrowed_check(struct call *call, const struct cof_narrowed *narrowed, const struct token_row *row,
                        bool *ret_fits);

/* Fails with TOKEN_EXPIRED if a caveat has ended. */
COF_CODE narrowed_check_expiry(struct call *call, const struct cof_narrowed *narrowed);

/*
 * Its caveats as rules that must all permit: one for each of workspace, environments and names, and one that permits
 * resolving alone. In the call's arena; borrows from `narrowed`.
 */
COF_CODE narrowed_rules(struct call *call, const struct cof_narrowed *narrowed, struct rule_set *ret_set);

/* Whether every caveat of a workflow or a run holds for these IDs. */
bool narrowed_permits_run(const struct cof_narrowed *narrowed, struct cof_slice workflow_id,
                          struct cof_slice run_id);
