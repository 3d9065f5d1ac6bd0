#pragma once

#include <coffer/v1/identity.pb-c.h>

#include "server/service/call.h"
#include "server/store/row.h"

/* The fields of an account that requests set: each is checked and put into the row, in the form that is stored. What
 * the caller may give is not checked here (issuer.h). The texts are borrowed or lie in the arena. */

COF_CODE account_set_description(struct call *call, const char *description, struct principal_row *row);
COF_CODE account_set_expire_time(struct call *call, const Google__Protobuf__Timestamp *expire_time,
                                 struct principal_row *row);
COF_CODE account_set_grants(struct call *call, Coffer__V1__Rule *const *grants, size_t count,
                            struct principal_row *row);
COF_CODE account_set_networks(struct call *call, char *const *networks, size_t count, struct principal_row *row);
