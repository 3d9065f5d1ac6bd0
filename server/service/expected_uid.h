#pragma once

#include "server/service/call.h"

/* Whether the object is the one that the caller expects: `expected` is the request's expected_uid; NULL or empty: any. Fails
 * with FIELD_INVALID if it is no UUID, with UID_MISMATCH if it is another's. */
COF_CODE expected_uid_check(struct call *call, const char *expected, const struct cof_uuid *uid);
