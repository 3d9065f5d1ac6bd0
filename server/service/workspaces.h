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
COF_CODE workspace_update(struct call *call, const Coffer__V1__UpdateWorkspaceRequest *request,
                          Coffer__V1__UpdateWorkspaceResponse *response);
COF_CODE workspace_delete(struct call *call, const Coffer__V1__DeleteWorkspaceRequest *request,
                          Coffer__V1__DeleteWorkspaceResponse *response);
COF_CODE workspace_restore(struct call *call, const Coffer__V1__RestoreWorkspaceRequest *request,
                           Coffer__V1__RestoreWorkspaceResponse *response);

/* --- What they share ---- */

enum { WORKSPACE_DISPLAY_NAME_MAX = 255 };

COF_CODE workspace_read_display_name(struct call *call, const char *text, struct cof_slice *ret_name);
COF_CODE workspace_not_found(struct call *call);
COF_CODE workspace_is_system(struct call *call);
COF_CODE workspace_exists(struct call *call, struct cof_slice name);
