#pragma once

#include <coffer/v1/aws.pb-c.h>

#include "server/service/call.h"

/* coffer.v1.AwsService (docs/decisions/0026-aws.md). */

COF_CODE role_get_access(struct call *call, const Coffer__V1__GetAssumeRoleAccessRequest *request,
                         Coffer__V1__GetAssumeRoleAccessResponse *response);
COF_CODE role_test(struct call *call, const Coffer__V1__TestRoleRequest *request,
                   Coffer__V1__TestRoleResponse *response);
