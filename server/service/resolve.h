#pragma once

#include <coffer/v1/resolve.pb-c.h>

#include "server/service/call.h"

/*
 * coffer.v1.ResolveService (docs/decisions/0005-resolve-answer.md).
 *
 * All references of one item in all its environments are read by one statement, from one snapshot. Items of one
 * request go out in one pipeline.
 */

COF_CODE resolve(struct call *call, const Coffer__V1__ResolveRequest *request,
                 Coffer__V1__ResolveResponse *response);

/*
 * Says which secrets a small request will need (call->prefetch), so that they are read in the round trip that
 * authenticates the caller, and together with those of other calls. What was found is looked at only after the caller
 * turned out to be permitted. `workspace` is the token's.
 */
COF_CODE resolve_prefetch(struct call *call, const Coffer__V1__ResolveRequest *request,
                          const struct cof_uuid *workspace);
