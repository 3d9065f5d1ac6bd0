#include "server/service/workspaces.h"

#include "common/encode.h"
#include "common/name.h"
#include "server/service/authorize.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/text.h"
#include "server/service/write.h"

enum { DISPLAY_NAME_MAX = 255, FIRST_GENERATION = 1, FIRST_REVISION = 1 };

static cof_code workspace_message(struct call *call, const struct workspace_row *row,
                                  Coffer__V1__Workspace **ret_message)
{
    Coffer__V1__Workspace *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__workspace__init(message);
    message->uid = text_of_uuid(call->arena, &row->workspace_id);
    message->name = text_of(call->arena, row->name);
    message->display_name = text_of(call->arena, row->display_name);
    message->external_id = text_of(call->arena, row->external_id);
    message->strict_environments = row->strict_environments;
    message->create_time = time_of(call->arena, row->create_time);
    if (message->uid == NULL || message->name == NULL || message->display_name == NULL ||
        message->external_id == NULL || message->create_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_message = message;
    return COF_OK;
}

/* --- Create --------------------------------------------------------------------------------------------------- */

struct creation {
    struct write write;
    const Coffer__V1__CreateWorkspaceRequest *request;
    Coffer__V1__CreateWorkspaceResponse *response;
    struct workspace_row row;
    char external_id[33];
    uint8_t wrapped[WRAPPED_KEY_SIZE];
};

/* The row is guarded by the new workspace's own key, which therefore is installed first. A creation that fails
 * leaves an opened key behind that nothing was sealed with, until the keyring drops it. */
static cof_code decide_create(struct call *call, void *context)
{
    struct creation *creation = context;
    struct workspace_row *row = &creation->row;
    struct keyring *keyring = call->service->keyring;
    Coffer__Audit__V1__Object *object;
    const struct cof_slice none = {NULL, 0};
    row->workspace_id = cof_uuid_random();
    row->create_time = call_now(call);
    cof_hex_encode(cof_slice_of(row->workspace_id.bytes, 16), creation->external_id);
    row->external_id = cof_slice_text(creation->external_id);
    TRY(keyring_generate(keyring, &row->workspace_id, FIRST_GENERATION, creation->wrapped, call->err));
    TRY(keyring_install(keyring, &row->workspace_id, FIRST_GENERATION,
                        cof_slice_of(creation->wrapped, sizeof creation->wrapped), call->err));
    TRY(guard_seal_row(call, &workspace_row_type, &row->workspace_id, row));
    TRY(workspace_message(call, row, &creation->response->workspace));
    return write_object(call, &creation->write, "workspace", &row->workspace_id, none, row->name, &object);
}

static cof_code apply_create(struct call *call, void *context)
{
    struct creation *creation = context;
    const struct workspace_row *row = &creation->row;
    const struct param directory[] = {param_uuid(&row->workspace_id), param_text(row->name)};
    const struct param revision[] = {param_uuid(&row->workspace_id), param_i64(FIRST_REVISION)};
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
    return cof_fail(call->err, COF_REASON_WORKSPACE_EXISTS, "a workspace \"%s\" exists; choose another name",
                    creation->request->name);
}

cof_code workspace_create(struct call *call, const Coffer__V1__CreateWorkspaceRequest *request,
                          Coffer__V1__CreateWorkspaceResponse *response)
{
    struct creation creation = {.request = request, .response = response};
    char system[COF_UUID_TEXT];
    cof_uuid_format(&cof_uuid_zero, system);
    TRY(cof_name_check(COF_NAME_WORKSPACE, cof_slice_text(request->name), "name", call->err));
    TRY(authorize_workspace(call, system, COF_PERMISSION_WORKSPACE_CREATE, &creation.write.workspace));
    if (strlen(request->display_name) > DISPLAY_NAME_MAX) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "display_name",
                              "display_name has more than %d bytes", DISPLAY_NAME_MAX);
    }
    creation.row.name = cof_slice_text(request->name);
    creation.row.display_name = cof_slice_text(request->display_name);
    creation.row.strict_environments = request->strict_environments;
    creation.write.decide = decide_create;
    creation.write.apply = apply_create;
    creation.write.conflict = conflict_create;
    creation.write.context = &creation;
    creation.write.answer = &response->base;
    creation.write.token_revision = FIRST_REVISION;
    return write_run(call, &creation.write);
}

/* --- Get and list --------------------------------------------------------------------------------------------- */

static cof_code queue_get(struct call *call, const struct cof_uuid *workspace)
{
    const struct param params[] = {param_uuid(workspace)};
    TRY(session_queue(call->session, STATEMENT_WORKSPACE_GET, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

static cof_code read_workspace(struct call *call, const struct cof_uuid *workspace,
                               Coffer__V1__Workspace **ret_message)
{
    struct workspace_row row = {0};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(guard_load_keys(call, workspace));
    TRY(queue_get(call, workspace));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace; %s",
                        cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
    }
    TRY(row_read(&workspace_row_type, rows, 0, 0, call->arena, &row, call->err));
    TRY(guard_check_row(call, &workspace_row_type, workspace, &row));
    return workspace_message(call, &row, ret_message);
}

cof_code workspace_get(struct call *call, const Coffer__V1__GetWorkspaceRequest *request,
                       Coffer__V1__GetWorkspaceResponse *response)
{
    struct cof_uuid workspace;
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_WORKSPACE_READ, &workspace));
    return read_workspace(call, &workspace, &response->workspace);
}

static cof_code queue_directory(struct call *call, const char *prefix, struct cof_slice after, uint32_t count)
{
    const struct param params[] = {param_text(after), param_text(cof_slice_text(prefix)), param_i64(count)};
    TRY(session_queue(call->session, STATEMENT_DIRECTORY_LIST, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
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
    TRY(authorize_workspace(call, system_text, COF_PERMISSION_WORKSPACE_READ, &system));
    TRY(page_read(call, PAGE_WORKSPACES, request->page_token, &position));
    TRY(queue_directory(call, request->name_prefix, position.parts[0], size));
    TRY(session_next(call->session, &rows, call->err));
    response->workspaces = cof_arena_array(call->arena, rows_count(rows), sizeof *response->workspaces);
    if (response->workspaces == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < rows_count(rows); i++) {
        const struct cof_uuid workspace = rows_uuid(rows, i, 0);
        TRY(read_workspace(call, &workspace, &response->workspaces[i]));
        response->n_workspaces++;
    }
    if (rows_count(rows) < size) {
        return COF_OK;
    }
    const struct page_position next = {.parts = {rows_bytes(rows, size - 1, 1)}};
    return page_make(call, PAGE_WORKSPACES, &next, &response->next_page_token);
}
