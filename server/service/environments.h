#pragma once

#include <coffer/v1/environment.pb-c.h>

#include "server/service/call.h"

/* coffer.v1.EnvironmentService, as its proto file describes it. */

COF_CODE environment_create(struct call *call, const Coffer__V1__CreateEnvironmentRequest *request,
                            Coffer__V1__CreateEnvironmentResponse *response);
COF_CODE environment_list(struct call *call, const Coffer__V1__ListEnvironmentsRequest *request,
                          Coffer__V1__ListEnvironmentsResponse *response);
COF_CODE environment_delete(struct call *call, const Coffer__V1__DeleteEnvironmentRequest *request,
                            Coffer__V1__DeleteEnvironmentResponse *response);
