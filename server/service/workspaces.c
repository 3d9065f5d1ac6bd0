#include "server/service/workspaces.h"

#include "common/encode.h"
#include "common/name.h"
#include "server/service/authorize.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/text.h"
#include "server/service/workspace_view.h"
#include "server/service/write.h"

enum { FIRST_GENERATION = 1, FIRST_REVISION = 1 };

cof_code workspace_read_display_name(struct call *call, const char *text, struct cof_slice *ret_name)
{
    if (strlen(text) > WORKSPACE_DISPLAY_NAME_MAX) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "display_name",
                              "display_name has more than %d bytes", WORKSPACE_DISPLAY_NAME_MAX);
    }
    *ret_name = cof_slice_text(text);
    return COF_OK;
}

cof_code workspace_not_found(struct call *call)
{
    return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace; %s",
                    cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
}

cof_code workspace_exists(struct call *call, struct cof_slice name)
{
    return cof_fail(call->err, COF_REASON_WORKSPACE_EXISTS, "a workspace \"%.*s\" exists; choose another name",
                    (int) name.len, (const char *) name.data);
}

/* --- Create --------------------------------------------------------------------------------------------------- */

struct creation {
    struct write write;
    Coffer__V1__CreateWorkspaceResponse *response;
    struct workspace_row row;
    char external_id[33];
    uint8_t wrapped[WRAPPED_KEY_SIZE];
};

/* Keeps the root key from being replaced until the end of the transaction. */
static cof_code look_create(struct call *call, void *context)
{
    (void) context;
    return session_queue(call->session, STATEMENT_INSTANCE_KEEP_ROOT, NULL, 0, call->err);
}

/* The new key has to be under the root key that wraps now, or a rotation of it would have passed it by. */
static cof_code take_root(struct call *call)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 1 && keyring_wrap_with(call->service->keyring, rows_bytes(rows, 0, 0))) {
        return COF_OK;
    }
    return cof_fail_internal(
        call->err, COF_ORIGIN_OWN, NULL,
        "the root key was replaced by one that this server was not given; restart it with that one");
}

/* The row is guarded by the new workspace's own key, which therefore is installed first. A creation that fails
 * leaves an opened key behind that nothing was sealed with, until the keyring drops it. */
static cof_code decide_create(struct call *call, void *context)
{
    struct creation *creation = context;
    struct workspace_row *row = &creation->row;
    struct keyring *keyring = call->service->keyring;
    Coffer__Audit__V1__Object *object;
    const struct cof_slice none = {NULL, 0};
    TRY(take_root(call));
    row->workspace_id = cof_uuid_random();
    row->create_time = call_now(call);
    cof_hex_encode(cof_slice_of(row->workspace_id.bytes, 16), creation->external_id);
    row->external_id = cof_slice_text(creation->external_id);
    TRY(keyring_generate(keyring, &row->workspace_id, FIRST_GENERATION, creation->wrapped, call->err));
    TRY(keyring_install(keyring, &row->workspace_id, FIRST_GENERATION,
                        cof_slice_of(creation->wrapped, sizeof creation->wrapped), call->err));
    TRY(guard_seal_row(call, &workspace_row_type, &row->workspace_id, row));
    const struct workspace_state_row active = {.state = WORKSPACE_ACTIVE, .delete_time = ROW_NO_TIME};
    TRY(workspace_message(call, row, &active, &creation->response->workspace));
    return write_object(call, &creation->write, "workspace", &row->workspace_id, none, row->name, &object);
}

static cof_code apply_create(struct call *call, void *context)
{
    struct creation *creation = context;
    const struct workspace_row *row = &creation->row;
    const struct param directory[] = {param_uuid(&row->workspace_id), param_text(row->name)};
    const struct param revision[] = {param_uuid(&row->workspace_id), param_i64(FIRST_REVISION),
                                     param_i32(FIRST_GENERATION)};
    const struct param key[] = {
        param_uuid(&row->workspace_id),
        param_i32(FIRST_GENERATION),
        param_text(cof_slice_of(creation->wrapped, sizeof creation->wrapped)),
        param_time(row->create_time),
    };
    TRY(write_queue(call, &creation->write, STATEMENT_DIRECTORY_INSERT, directory, COF_COUNT(directory)));
    TRY(write_queue(call, &creation->write, STATEMENT_KEY_INSERT, key, COF_COUNT(key)));
    TRY(write_queue(call, &creation->write, STATEMENT_REVISION_INSERT, revision, COF_COUNT(revision)));
    return write_queue_row(call, &creation->write, STATEMENT_WORKSPACE_INSERT, &workspace_row_type, row);
}

static cof_code conflict_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    if (!session_unique_violation(call->session, "workspace_directory_name_key")) {
        return call->err->code;
    }
    return workspace_exists(call, creation->row.name);
}

cof_code workspace_create(struct call *call, const Coffer__V1__CreateWorkspaceRequest *request,
                          Coffer__V1__CreateWorkspaceResponse *response)
{
    struct creation creation = {.response = response};
    char system[COF_UUID_TEXT];
    cof_uuid_format(&cof_uuid_zero, system);
    TRY(cof_name_check(COF_NAME_WORKSPACE, cof_slice_text(request->name), "name", call->err));
    TRY(authorize_workspace(call, system, COF_PERMISSION_WORKSPACE_CREATE, &creation.write.workspace));
    TRY(workspace_read_display_name(call, request->display_name, &creation.row.display_name));
    creation.row.name = cof_slice_text(request->name);
    creation.row.strict_environments = request->strict_environments;
    creation.write.look = look_create;
    creation.write.decide = decide_create;
    creation.write.apply = apply_create;
    creation.write.conflict = conflict_create;
    creation.write.context = &creation;
    creation.write.answer = &response->base;
    creation.write.token_revision = FIRST_REVISION;
    return write_run(call, &creation.write);
}

/* --- Get ------------------------------------------------------------------------------------------------------ */

static cof_code queue_get(struct call *call, const struct cof_uuid *workspace)
{
    const struct param params[] = {param_uuid(workspace)};
    TRY(workspace_state_queue(call, workspace));
    TRY(session_queue(call->session, STATEMENT_WORKSPACE_GET, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

/* A deleted workspace's key stays closed: only its state is told. */
static cof_code read_workspace(struct call *call, const struct cof_uuid *workspace,
                               Coffer__V1__Workspace **ret_message)
{
    struct workspace_row row = {0};
    struct workspace_state_row state;
    AUTO(rows_cleanup) struct rows *states = NULL;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(queue_get(call, workspace));
    TRY(session_next(call->session, &states, call->err));
    TRY(session_next(call->session, &rows, call->err));
    TRY(workspace_state_take(call, workspace, states, 0, 0, &state));
    if (state.state != WORKSPACE_ACTIVE) {
        return workspace_message_of_state(call, &state, ret_message);
    }
    if (rows_count(rows) == 0) {
        return workspace_not_found(call);
    }
    TRY(guard_load_keys(call, workspace));
    TRY(row_read(&workspace_row_type, rows, 0, 0, call->arena, &row, call->err));
    TRY(guard_check_row(call, &workspace_row_type, workspace, &row));
    return workspace_message(call, &row, &state, ret_message);
}

/* System administration looks at a workspace whatever its state is. */
cof_code workspace_get(struct call *call, const Coffer__V1__GetWorkspaceRequest *request,
                       Coffer__V1__GetWorkspaceResponse *response)
{
    struct cof_uuid workspace;
    TRY(call->caller->kind == COF_TOKEN_SYSTEM
            ? authorize_stateless(call, request->workspace, COF_PERMISSION_WORKSPACE_READ, &workspace)
            : authorize_workspace(call, request->workspace, COF_PERMISSION_WORKSPACE_READ, &workspace));
    return read_workspace(call, &workspace, &response->workspace);
}

/* --- List ----------------------------------------------------------------------------------------------------- */

static cof_code queue_directory(struct call *call, const Coffer__V1__ListWorkspacesRequest *request,
                                const struct page_position *after, uint32_t count)
{
    struct cof_uuid last = {{0}};
    if (after->parts[1].len > 0 && !cof_uuid_parse(after->parts[1], &last)) {
        return page_invalid(call);
    }
    const struct param params[] = {
        param_text(after->parts[0]),       param_uuid(&last), param_text(cof_slice_text(request->name_prefix)),
        param_bool(request->show_deleted), param_i64(count),
    };
    TRY(session_queue(call->session, STATEMENT_DIRECTORY_LIST, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

/* One that is damaged, or was purged since the directory was read, keeps no other from being shown. */
static cof_code list_one(struct call *call, const struct rows *rows, size_t index,
                         Coffer__V1__ListWorkspacesResponse *response)
{
    const struct cof_uuid workspace = rows_uuid(rows, index, 0);
    Coffer__V1__Workspace **message = &response->workspaces[response->n_workspaces];
    cof_code code = read_workspace(call, &workspace, message);
    if (code == COF_DATA_LOSS) {
        code = workspace_message_corrupted(call, &workspace, rows_bytes(rows, index, 1), message);
    }
    if (code == COF_NOT_FOUND) {
        return COF_OK;
    }
    TRY(code);
    response->n_workspaces++;
    return COF_OK;
}

/* Others would be told that they lack a permission which they may have, but for themselves. */
static cof_code check_lists(struct call *call)
{
    if (call->caller->kind == COF_TOKEN_SYSTEM) {
        return COF_OK;
    }
    cof_ignore(cof_fail(
        call->err, COF_REASON_PERMISSION_DENIED,
        "only system accounts list workspaces; call with a token of one, or read one workspace by its UUID"));
    return cof_error_fact(call->err, "permission", "%s", cof_permission_name(COF_PERMISSION_WORKSPACE_READ));
}

cof_code workspace_list(struct call *call, const Coffer__V1__ListWorkspacesRequest *request,
                        Coffer__V1__ListWorkspacesResponse *response)
{
    struct cof_uuid system;
    struct page_position position;
    char system_text[COF_UUID_TEXT];
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const uint32_t size = page_size(call, request->page_size);
    cof_uuid_format(&cof_uuid_zero, system_text);
    TRY(check_lists(call));
    TRY(authorize_workspace(call, system_text, COF_PERMISSION_WORKSPACE_READ, &system));
    TRY(page_read(call, PAGE_WORKSPACES, request->page_token, &position));
    TRY(queue_directory(call, request, &position, size));
    TRY(session_next(call->session, &rows, call->err));
    response->workspaces = cof_arena_array(call->arena, rows_count(rows), sizeof *response->workspaces);
    if (response->workspaces == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < rows_count(rows); i++) {
        TRY(list_one(call, rows, i, response));
    }
    if (rows_count(rows) < size) {
        return COF_OK;
    }
    char last[COF_UUID_TEXT];
    const struct cof_uuid last_uuid = rows_uuid(rows, size - 1, 0);
    cof_uuid_format(&last_uuid, last);
    const struct page_position next = {.parts = {rows_bytes(rows, size - 1, 1), cof_slice_text(last)}};
    return page_make(call, PAGE_WORKSPACES, &next, &response->next_page_token);
}
