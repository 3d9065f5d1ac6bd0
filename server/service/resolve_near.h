#pragma once

#include "server/service/resolve_lookup.h"

/* Names that look alike, "did you mean", of what the caller may see. */

/* Adds the keys of the secret that look like the one that it does not have. */
COF_CODE near_keys(struct call *call, const struct lookup *lookup, Coffer__V1__ReferenceFault *fault);

/*
 * Adds names to the faults of a result, or says that its environment does not exist; for that it reads the names of
 * the environment. No pipeline may be open.
 */
COF_CODE near_names(struct call *call, const struct plan *plan, Coffer__V1__ResolveResult *result);
