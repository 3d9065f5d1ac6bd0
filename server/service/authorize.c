#include "server/service/authorize.h"

#include <assert.h>

#include "common/name.h"
#include "server/service/workspace_state.h"

struct address {
    struct cof_uuid workspace;
    struct cof_slice environment;
    struct cof_slice name;
};

static cof_code deny(struct call *call, cof_permission permission, const char *what, struct cof_slice name)
{
    const char *permission_name = cof_permission_name(permission);
    if (name.len == 0) {
        cof_ignore(cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                            "the token does not have the permission %s for %s; ask for a grant of it",
                            permission_name, what));
    } else {
        cof_ignore(
            cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                     "the token does not have the permission %s for the %s \"%.*s\", or it does not exist; ask "
                     "for a grant of it",
                     permission_name, what, (int) name.len, (const char *) name.data));
    }
    return cof_error_fact(call->err, "permission", "%s", permission_name);
}

/* The token is of a kind that does not reach there, whatever it is granted. */
static cof_code deny_kind(struct call *call, cof_permission permission)
{
    cof_ignore(
        cof_fail(call->err, COF_REASON_PERMISSION_DENIED, "%s",
                 call->caller->kind == COF_TOKEN_WORKSPACE
                     ? "the token acts in its own workspace only; name no workspace, or call with a token that "
                       "acts in the one that is named"
                     : "fleet accounts act in the workspaces of tenants only; call with a token of a system "
                       "account"));
    return cof_error_fact(call->err, "permission", "%s", cof_permission_name(permission));
}

static cof_code read_workspace(struct call *call, const char *text, struct cof_uuid *ret_workspace)
{
    const struct caller *caller = call->caller;
    if (text[0] != '\0' && !cof_uuid_parse(cof_slice_text(text), ret_workspace)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "workspace",
                              "workspace is no UUID in lower case; coffer workspace list shows the UUIDs");
    }
    if (text[0] != '\0') {
        return COF_OK;
    }
    if (!caller->has_home) {
        return cof_fail_field(call->err, COF_REASON_WORKSPACE_REQUIRED, "workspace", "%s; %s",
                              cof_reason_meaning(COF_REASON_WORKSPACE_REQUIRED),
                              cof_reason_next_step(COF_REASON_WORKSPACE_REQUIRED));
    }
    *ret_workspace = caller->home;
    return COF_OK;
}

/* Where a token of this kind can act at all, whatever its rules say. A system token administers: it reaches into a
 * workspace only with permissions that system accounts can have. */
static bool kind_reaches(const struct caller *caller, const struct cof_uuid *workspace)
{
    switch (caller->kind) {
    case COF_TOKEN_WORKSPACE:
        return cof_uuid_equal(workspace, &caller->workspace);
    case COF_TOKEN_FLEET:
        return !cof_uuid_equal(workspace, &cof_uuid_zero);
    case COF_TOKEN_SYSTEM:
        return true;
    }
    return false;
}

static cof_code make_address(struct call *call, const struct cof_uuid *workspace, struct cof_slice environment,
                             struct cof_slice name, const struct address **ret_address)
{
    struct address *address = cof_arena_alloc(call->arena, sizeof *address);
    if (address == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *address = (struct address){*workspace, environment, name};
    *ret_address = address;
    return COF_OK;
}

static struct cof_slice environment_or_default(const char *environment)
{
    return cof_slice_text(environment[0] == '\0' ? COF_DEFAULT_ENVIRONMENT : environment);
}

const struct cof_uuid *address_workspace(const struct address *address)
{
    return &address->workspace;
}

struct cof_slice address_environment(const struct address *address)
{
    return address->environment;
}

struct cof_slice address_name(const struct address *address)
{
    return address->name;
}

cof_code authorize_stateless(struct call *call, const char *workspace, cof_permission permission,
                             struct cof_uuid *ret_workspace)
{
    TRY(read_workspace(call, workspace, ret_workspace));
    call->workspace = *ret_workspace;
    call->has_workspace = true;
    if (!kind_reaches(call->caller, ret_workspace)) {
        return deny_kind(call, permission);
    }
    if (!caller_permits_somewhere(call->caller, permission, ret_workspace)) {
        return deny(call, permission, "this workspace", (struct cof_slice){NULL, 0});
    }
    return COF_OK;
}

cof_code authorize_run(struct call *call, const Coffer__V1__RunContext *run)
{
    const struct cof_slice workflow_id = cof_slice_text(run == NULL ? "" : run->workflow_id);
    const struct cof_slice run_id = cof_slice_text(run == NULL ? "" : run->run_id);
    if (caller_permits_run(call->caller, workflow_id, run_id)) {
        return COF_OK;
    }
    return cof_fail_field(
        call->err, COF_REASON_PERMISSION_DENIED, "run",
        "the token is narrowed to another workflow or run than run names; use the one that was made "
        "for it");
}

/* That of the caller's own workspace was looked at when he was authenticated. A write looks at it in its own
 * transaction, which costs it no round trip and leaves no time in between. */
static cof_code check_state(struct call *call, const struct cof_uuid *workspace)
{
    struct workspace_state_row state;
    if (cof_uuid_equal(workspace, &call->caller->workspace)) {
        return COF_OK;
    }
    if (call->writes) {
        assert(!call->state_due || cof_uuid_equal(&call->state_workspace, workspace));
        call->state_due = true;
        call->state_workspace = *workspace;
        return COF_OK;
    }
    TRY(workspace_state_read(call, workspace, &state));
    return workspace_state_permits(call, call->caller->kind, &state);
}

cof_code authorize_workspace(struct call *call, const char *workspace, cof_permission permission,
                             struct cof_uuid *ret_workspace)
{
    TRY(authorize_stateless(call, workspace, permission, ret_workspace));
    return check_state(call, ret_workspace);
}

cof_code authorize_whole(struct call *call, const char *workspace, cof_permission permission,
                         const struct address **ret_address)
{
    struct cof_uuid uuid;
    const struct cof_slice none = {NULL, 0};
    TRY(authorize_workspace(call, workspace, permission, &uuid));
    return make_address(call, &uuid, none, none, ret_address);
}

cof_code authorize_environment(struct call *call, const char *workspace, const char *environment,
                               cof_permission permission, const struct address **ret_address)
{
    struct cof_uuid uuid;
    const struct cof_slice name = environment_or_default(environment);
    const struct cof_slice none = {NULL, 0};
    TRY(cof_name_check(COF_NAME_ENVIRONMENT, name, "environment", call->err));
    TRY(authorize_workspace(call, workspace, permission, &uuid));
    if (!authorize_sees(call, &uuid, name, none, permission)) {
        return deny(call, permission, "environment", name);
    }
    return make_address(call, &uuid, name, none, ret_address);
}

cof_code authorize_secret(struct call *call, const char *workspace, const char *environment, const char *name,
                          cof_permission permission, const struct address **ret_address)
{
    struct cof_uuid uuid;
    const struct cof_slice where = environment_or_default(environment);
    const struct cof_slice what = cof_slice_text(name);
    TRY(cof_name_check(COF_NAME_ENVIRONMENT, where, "environment", call->err));
    TRY(cof_name_check(COF_NAME_SECRET, what, "name", call->err));
    TRY(authorize_workspace(call, workspace, permission, &uuid));
    if (!authorize_sees(call, &uuid, where, what, permission)) {
        cof_ignore(deny(call, permission, "secret", what));
        return cof_error_fact(call->err, "environment", "%.*s", (int) where.len, (const char *) where.data);
    }
    return make_address(call, &uuid, where, what, ret_address);
}

/* No environment is called so, and of patterns only the one for all matches it. */
#define EVERY_ENVIRONMENT "*"

static bool permits_for_all(struct call *call, const struct cof_uuid *workspace, struct cof_slice name,
                            cof_permission permission)
{
    const struct cof_slice every = cof_slice_text(EVERY_ENVIRONMENT);
    const struct cof_slice some = {NULL, 0};
    if (permission == COF_PERMISSION_CONNECTION_READ) {
        return authorize_sees(call, workspace, some, name, permission);
    }
    return authorize_sees(call, workspace, every, name, permission) &&
           authorize_sees(call, workspace, every, name, COF_PERMISSION_CONNECTION_MANAGE_ALL);
}

cof_code authorize_connection(struct call *call, const char *workspace, const char *environment,
                              const char *provider, cof_permission permission, const struct address **ret_address)
{
    struct cof_uuid uuid;
    const bool all = environment == NULL;
    const struct cof_slice where = all ? cof_slice_text(EVERY_ENVIRONMENT) : environment_or_default(environment);
    const char *text = cof_arena_format(call->arena, "%s_oauth", provider);
    if (text == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const struct cof_slice name = cof_slice_text(text);
    TRY(cof_name_check(COF_NAME_SECRET, cof_slice_text(provider), "provider", call->err));
    TRY(cof_name_check(COF_NAME_SECRET, name, "provider", call->err));
    TRY(all ? COF_OK : cof_name_check(COF_NAME_ENVIRONMENT, where, "environment", call->err));
    TRY(authorize_workspace(call, workspace, permission, &uuid));
    if (all ? !permits_for_all(call, &uuid, name, permission)
            : !authorize_sees(call, &uuid, where, name, permission)) {
        cof_ignore(deny(call, permission, all ? "connection of all environments" : "connection", name));
        return cof_error_fact(call->err, "environment", "%.*s", (int) where.len, (const char *) where.data);
    }
    return make_address(call, &uuid, where, name, ret_address);
}

bool authorize_sees(const struct call *call, const struct cof_uuid *workspace, struct cof_slice environment,
                    struct cof_slice name, cof_permission permission)
{
    const struct right right = {permission, *workspace, environment, name};
    return kind_reaches(call->caller, workspace) && caller_permits(call->caller, &right);
}
