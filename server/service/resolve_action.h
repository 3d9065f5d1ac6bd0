#pragma once

#include "server/service/resolve_plan.h"

/*
 * Items that name an action: what it declares, with all that its steps call, becomes part of what they ask for.
 *
 * The actions of one workspace are read together, those of all workspaces in one pipeline; what is kept of them and
 * fresh costs nothing. A failure is the item's own.
 */
COF_CODE action_plans(struct call *call, struct plan *plans, size_t count);
