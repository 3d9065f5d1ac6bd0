#include "server/bootstrap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/secret.h"
#include "server/service/accounts.h"
#include "server/service/caller.h"
#include "server/service/instance.h"
#include "server/service/tokens.h"
#include "server/service/workspaces.h"

enum { CALL_MEMORY = 4 << 20, CALL_TIME_US = 60 * 1000000, PATH_SIZE = 1200 };

#define DEV_WORKSPACE "dev"

/* --- Files ---------------------------------------------------------------------------------------------------- */

static cof_code file_failure(struct cof_error *err, const char *path, const char *what)
{
    const int number = errno;
    return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: cannot be %s: %s", path, what, strerror(number));
}

static cof_code write_token(const char *path, struct cof_slice token, struct cof_error *err)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return file_failure(err, path, "made");
    }
    const bool written = write(fd, token.data, token.len) == (ssize_t) token.len && fsync(fd) == 0;
    const cof_code code = written ? COF_OK : file_failure(err, path, "written");
    (void) close(fd);
    return code;
}

static cof_code read_token(const char *path, struct cof_token *ret_token, struct cof_error *err)
{
    char text[COF_TOKEN_TEXT];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return file_failure(err, path, "opened");
    }
    const ssize_t length = read(fd, text, sizeof text);
    (void) close(fd);
    if (length < 0) {
        return file_failure(err, path, "read");
    }
    const cof_code code = cof_token_parse(cof_slice_of(text, (size_t) length), ret_token, err);
    cof_wipe(text, sizeof text);
    return code;
}

/* --- Calls without a socket ----------------------------------------------------------------------------------- */

struct local_call {
    struct cof_arena arena;
    struct call call;
    struct caller caller;
    struct caller_source source;
};

static void local_begin(struct server_core *core, struct local_call *local, struct cof_error *err)
{
    struct service *service = server_core_service(core);
    cof_error_clear(err);
    cof_arena_init(&local->arena, server_core_pool(core), CALL_MEMORY);
    local->source = (struct caller_source){0};
    local->call = (struct call){
        .service = service,
        .session = server_core_session(core),
        .arena = &local->arena,
        .err = err,
        .peer = "cofferd",
        .request_id = cof_uuid_time(service->clock),
        .received_us = cof_clock_monotonic(service->clock),
        .deadline_us = cof_clock_monotonic(service->clock) + CALL_TIME_US,
    };
}

static void local_end(struct local_call *local)
{
    caller_source_done(&local->source);
    session_reset(local->call.session);
    cof_arena_reset(&local->arena);
}

static cof_code authenticate(struct local_call *local, const struct cof_token *token)
{
    struct call *call = &local->call;
    local->caller = (struct caller){.kind = token->kind};
    TRY(caller_queue(call, token, &local->source));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &local->source.rows, call->err));
    TRY(caller_read(call, token, &local->source, &local->caller));
    call->caller = &local->caller;
    return COF_OK;
}

/* Every write needs a request of its own: the packed request is what its identity is checked with. */
static void next_request(struct local_call *local, const char *method)
{
    local->call.request_id = cof_uuid_time(local->call.service->clock);
    local->call.method = method;
    local->call.payload = cof_slice_text(method);
}

/* --- The instance --------------------------------------------------------------------------------------------- */

cof_code bootstrap_instance(struct server_core *core, const char *token_file, struct cof_error *err)
{
    struct local_call local;
    struct cof_slice token;
    local_begin(core, &local, err);
    cof_code code = instance_create(&local.call, &token);
    if (code == COF_OK) {
        code = write_token(token_file, token, err);
    }
    local_end(&local);
    return code;
}

/* --- Development ---------------------------------------------------------------------------------------------- */

static cof_code make_workspace(struct local_call *local, char workspace[BOOTSTRAP_UUID_TEXT])
{
    Coffer__V1__CreateWorkspaceRequest request;
    Coffer__V1__CreateWorkspaceResponse response;
    char name[] = DEV_WORKSPACE;
    coffer__v1__create_workspace_request__init(&request);
    coffer__v1__create_workspace_response__init(&response);
    request.name = name;
    next_request(local, "coffer.v1.WorkspaceService/CreateWorkspace");
    TRY(workspace_create(&local->call, &request, &response));
    (void) snprintf(workspace, BOOTSTRAP_UUID_TEXT, "%s", response.workspace->uid);
    return COF_OK;
}

static cof_code make_account(struct local_call *local, char *workspace, char *name, cof_permission_set permissions)
{
    Coffer__V1__CreateServiceAccountRequest request;
    Coffer__V1__CreateServiceAccountResponse response;
    Coffer__V1__Rule rule;
    Coffer__V1__Rule *rules[] = {&rule};
    char *names[COF_PERMISSION_COUNT];
    coffer__v1__create_service_account_request__init(&request);
    coffer__v1__create_service_account_response__init(&response);
    coffer__v1__rule__init(&rule);
    rule.permissions = names;
    for (int i = 0; i < COF_PERMISSION_COUNT; i++) {
        if ((permissions & COF_PERMISSION_BIT(i)) == 0) {
            continue;
        }
        const char *permission = cof_permission_name((cof_permission) i);
        names[rule.n_permissions] = cof_arena_text(&local->arena, cof_slice_text(permission));
        if (names[rule.n_permissions++] == NULL) {
            return cof_arena_exhausted(local->call.err);
        }
    }
    request.workspace = workspace;
    request.name = name;
    request.grants = rules;
    request.n_grants = 1;
    next_request(local, "coffer.v1.ServiceAccountService/CreateServiceAccount");
    return account_create(&local->call, &request, &response);
}

static cof_code issue_token(struct local_call *local, char *workspace, char *account, const char *directory,
                            const char *file)
{
    Coffer__V1__IssueTokenRequest request;
    Coffer__V1__IssueTokenResponse response;
    char path[PATH_SIZE];
    coffer__v1__issue_token_request__init(&request);
    coffer__v1__issue_token_response__init(&response);
    request.workspace = workspace;
    request.service_account = account;
    (void) snprintf(path, sizeof path, "%s/%s", directory, file);
    next_request(local, "coffer.v1.TokenService/IssueToken");
    TRY(token_issue(&local->call, &request, &response));
    return write_token(path, cof_slice_of(response.secret_text.data, response.secret_text.len), local->call.err);
}

static cof_code login(struct local_call *local, const char *directory, const char *file)
{
    struct cof_token token;
    char path[PATH_SIZE];
    (void) snprintf(path, sizeof path, "%s/%s", directory, file);
    TRY(read_token(path, &token, local->call.err));
    const cof_code code = authenticate(local, &token);
    cof_wipe(&token, sizeof token);
    return code;
}

/* As the system's administrator: the workspace and its first account. */
static cof_code as_system(struct local_call *local, const char *directory, char *workspace)
{
    char admin[] = "admin";
    TRY(login(local, directory, BOOTSTRAP_SYSTEM_TOKEN));
    TRY(make_workspace(local, workspace));
    TRY(make_account(local, workspace, admin, cof_permission_usable(COF_TOKEN_WORKSPACE)));
    return issue_token(local, workspace, admin, directory, BOOTSTRAP_ADMIN_TOKEN);
}

/* As the workspace's administrator: the account that executors use. */
static cof_code as_admin(struct local_call *local, const char *directory, char *workspace)
{
    char executor[] = "executor";
    TRY(login(local, directory, BOOTSTRAP_ADMIN_TOKEN));
    TRY(make_account(local, workspace, executor, COF_PERMISSION_BIT(COF_PERMISSION_RESOLVE)));
    return issue_token(local, workspace, executor, directory, BOOTSTRAP_EXECUTOR_TOKEN);
}

cof_code bootstrap_development(struct server_core *core, const char *directory, char workspace[BOOTSTRAP_UUID_TEXT],
                               struct cof_error *err)
{
    struct local_call local;
    local_begin(core, &local, err);
    cof_code code = as_system(&local, directory, workspace);
    local_end(&local);
    if (code != COF_OK) {
        return code;
    }
    local_begin(core, &local, err);
    code = as_admin(&local, directory, workspace);
    local_end(&local);
    return code;
}
