#pragma once

#include <coffer/v1/resolve.pb-c.h>

#include "common/permission.h"
#include "server/service/caller.h"

/*
 * The one place that says yes. Whatever touches a named thing takes an address from here; an address exists only if
 * the caller may do to it what the address was made for.
 */

/* An authorised place: workspace, environment, name. In the call's arena. */
struct address;

const struct cof_uuid *address_workspace(const struct address *address);
struct cof_slice address_environment(const struct address *address);
struct cof_slice address_name(const struct address *address);

/*
 * Finds the workspace that a request means and demands the permission somewhere in it. Empty text is the caller's
 * own workspace; fleet and system tokens must name one (WORKSPACE_REQUIRED). PERMISSION_DENIED for a foreign
 * workspace; the reasons of workspace_state_permits for one that is disabled or deleted, whose state is read unless it is
 * the caller's own, so nothing may be queued.
 */
COF_CODE authorize_workspace(struct call *call, const char *workspace, cof_permission permission,
                             struct cof_uuid *ret_workspace);

/* The same without a look at the workspace's state, which the caller of this takes from its own statement and gives to
 * workspace_state_permits, or is about to change. */
COF_CODE authorize_stateless(struct call *call, const char *workspace, cof_permission permission,
                             struct cof_uuid *ret_workspace);

/* Whether the token may be used for this run (NULL: none is named): one may be narrowed to a run. PERMISSION_DENIED. */
COF_CODE authorize_run(struct call *call, const Coffer__V1__RunContext *run);

/* The same, as an address without environment and name, for what belongs to the workspace as a whole. */
COF_CODE authorize_whole(struct call *call, const char *workspace, cof_permission permission,
                         const struct address **ret_address);

/* An environment; an empty name is "default". Checks the name's form. */
COF_CODE authorize_environment(struct call *call, const char *workspace, const char *environment,
                               cof_permission permission, const struct address **ret_address);

/* A secret in an environment. Checks the names' form. */
COF_CODE authorize_secret(struct call *call, const char *workspace, const char *environment, const char *name,
                          cof_permission permission, const struct address **ret_address);

/*
 * An OAuth connection: `<provider>_oauth` in an environment, or in all of them (NULL), which is the environment `*` of the
 * address. What changes one of all environments needs manage_all besides, and both in every environment; to see it
 * suffices the right to see it in one.
 */
COF_CODE authorize_connection(struct call *call, const char *workspace, const char *environment,
                              const char *provider, cof_permission permission, const struct address **ret_address);

/* For lists and for Resolve, which answer per name: whether the caller may, without a failure. */
bool authorize_sees(const struct call *call, const struct cof_uuid *workspace, struct cof_slice environment,
                    struct cof_slice name, cof_permission permission);
