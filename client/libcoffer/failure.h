#pragma once

#include <coffer/errors.h>

#include "common/error.h"
#include "common/fault_list.h"
#include "common/uuid.h"

/* What the public functions hand out as a coffer_error. */

/*
 * Writes the failure to *ret_error, if that is not NULL, and returns its status. `request_id` may be NULL. COF_OK
 * writes NULL.
 */
coffer_status failure_tell(const struct cof_error *err, const struct cof_uuid *request_id,
                           coffer_error **ret_error);

/* The same with everything that is wrong with a text or document. */
coffer_status failure_tell_faults(const struct cof_error *err, const struct cof_fault_list *faults,
                                  coffer_error **ret_error);

/* The error by itself; never NULL. Takes one that is set aside if there is no memory. */
coffer_error *failure_new(const struct cof_error *err, const struct cof_uuid *request_id);
