#pragma once

#include <coffer/v1/integration.pb-c.h>

#include "server/service/call.h"

/* coffer.v1.IntegrationService (docs/decisions/0020-registry.md). */

COF_CODE action_register(struct call *call, const Coffer__V1__RegisterActionsRequest *request,
                         Coffer__V1__RegisterActionsResponse *response);
COF_CODE action_get(struct call *call, const Coffer__V1__GetActionRequest *request,
                    Coffer__V1__GetActionResponse *response);
COF_CODE action_list(struct call *call, const Coffer__V1__ListActionsRequest *request,
                     Coffer__V1__ListActionsResponse *response);
COF_CODE definition_list(struct call *call, const Coffer__V1__ListDefinitionsRequest *request,
                         Coffer__V1__ListDefinitionsResponse *response);
COF_CODE action_delete(struct call *call, const Coffer__V1__DeleteActionRequest *request,
                       Coffer__V1__DeleteActionResponse *response);
