#pragma once

#include "server/service/resolve_lookup.h"

/* The environment view: the values of a result once more, as one flat set of variables. */

/* Gives the outcome ENVIRONMENT_VIEW_CONFLICT to values whose key another secret has, too; the message names both. */
COF_CODE view_check(struct call *call, struct lookup *lookups, size_t count);

/* Adds the variables to a result that has its values. */
COF_CODE view_fill(struct call *call, Coffer__V1__ResolveResult *result);
