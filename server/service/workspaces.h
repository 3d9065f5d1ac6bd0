#pragma once

#include <coffer/v1/workspace.pb-c.h>

#include "server/service/call.h"

/* coffer.v1.WorkspaceService, as its proto file describes it. */

COF_CODE workspace_create(struct call *call, const Coffer__V1__CreateWorkspaceRequest *request,
                          Coffer__V1__CreateWorkspaceResponse *response);
COF_CODE workspace_get(struct call *call, const Coffer__V1__GetWorkspaceRequest *request,
                       Coffer__V1__GetWorkspaceResponse *response);
COF_CODE workspace_list(struct call *call, const Coffer__V1__ListWorkspacesRequest *request,
                        Coffer__V1__ListWorkspacesResponse *response);
