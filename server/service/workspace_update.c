/* Changing a workspace's settings, and disabling it. */
#include "server/service/authorize.h"
#include "server/service/field_mask.h"
#include "server/service/guard.h"
#include "server/service/workspace_view.h"
#include "server/service/workspaces.h"
#include "server/service/write.h"

enum workspace_field {
    FIELD_DISPLAY_NAME = 1 << 0,
    FIELD_STRICT_ENVIRONMENTS = 1 << 1,
    FIELD_DISABLED = 1 << 2,
    FIELD_SERVE_LOST = 1 << 3,
    FIELDS_OF_STATE = FIELD_DISABLED | FIELD_SERVE_LOST,
};

enum { SERVE_LOST_MAX_S = CACHE_OLDEST_US / 1000000, NANOS = 1000000000, NANOS_PER_MS = 1000000 };

static const struct mask_field fields[] = {
    {"display_name", FIELD_DISPLAY_NAME},
    {"strict_environments", FIELD_STRICT_ENVIRONMENTS},
    {"disabled", FIELD_DISABLED},
    {"serve_when_database_lost", FIELD_SERVE_LOST},
};

struct change {
    struct write write;
    const Coffer__V1__UpdateWorkspaceRequest *request;
    Coffer__V1__UpdateWorkspaceResponse *response;
    unsigned mask;
    struct cof_slice display_name;
    int32_t serve_lost_ms;
    struct workspace_row row;
    struct workspace_state_row state;
};

/* --- What is there -------------------------------------------------------------------------------------------- */

static cof_code look(struct call *call, void *context)
{
    const struct change *change = context;
    const struct param workspace[] = {param_uuid(&change->write.workspace)};
    TRY(session_queue(call->session, STATEMENT_REVISION_LOCK, workspace, COF_COUNT(workspace), call->err));
    TRY(workspace_state_queue(call, &change->write.workspace));
    return session_queue(call->session, STATEMENT_WORKSPACE_LOCK, workspace, COF_COUNT(workspace), call->err);
}

static cof_code take_state(struct call *call, struct change *change)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, NULL, call->err)); /* the lock */
    TRY(session_next(call->session, &rows, call->err));
    TRY(workspace_state_take_locked(call, &change->write.workspace, rows, &change->state));
    TRY(row_keep(&workspace_state_row_type, call->arena, &change->state, call->err));
    return workspace_state_permits(call, call->caller->kind, &change->state);
}

static cof_code take_row(struct call *call, struct change *change)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return workspace_not_found(call);
    }
    TRY(row_read(&workspace_row_type, rows, 0, 0, call->arena, &change->row, call->err));
    TRY(guard_check_row(call, &workspace_row_type, &change->write.workspace, &change->row));
    return row_keep(&workspace_row_type, call->arena, &change->row, call->err);
}

static cof_code check_etag(struct call *call, const struct change *change)
{
    char *etag;
    TRY(workspace_etag(call, &change->row, &change->state, &etag));
    if (change->request->etag[0] != '\0' && strcmp(change->request->etag, etag) != 0) {
        return cof_fail(call->err, COF_REASON_ETAG_MISMATCH, "%s; %s", cof_reason_meaning(COF_REASON_ETAG_MISMATCH),
                        cof_reason_next_step(COF_REASON_ETAG_MISMATCH));
    }
    return COF_OK;
}

/* --- The change ----------------------------------------------------------------------------------------------- */

static cof_code set_fields(struct call *call, struct change *change)
{
    struct workspace_row *row = &change->row;
    row->display_name = (change->mask & FIELD_DISPLAY_NAME) != 0 ? change->display_name : row->display_name;
    if ((change->mask & FIELD_STRICT_ENVIRONMENTS) != 0) {
        row->strict_environments = change->request->strict_environments;
    }
    TRY(guard_seal_row(call, &workspace_row_type, &change->write.workspace, row));
    if ((change->mask & FIELDS_OF_STATE) == 0) {
        return COF_OK;
    }
    if ((change->mask & FIELD_DISABLED) != 0) {
        change->state.disabled = change->request->disabled;
    }
    if ((change->mask & FIELD_SERVE_LOST) != 0) {
        change->state.serve_lost_ms = change->serve_lost_ms;
    }
    change->state.name = row->name;
    return workspace_state_seal(call, &change->state);
}

static cof_code decide(struct call *call, void *context)
{
    struct change *change = context;
    const struct cof_slice none = {NULL, 0};
    Coffer__Audit__V1__Object *object;
    TRY(take_state(call, change));
    TRY(take_row(call, change));
    TRY(check_etag(call, change));
    TRY(set_fields(call, change));
    TRY(workspace_message(call, &change->row, &change->state, &change->response->workspace));
    return write_object(call, &change->write, "workspace", &change->write.workspace, none, change->row.name,
                        &object);
}

static cof_code apply(struct call *call, void *context)
{
    struct change *change = context;
    TRY(write_queue_row(call, &change->write, STATEMENT_WORKSPACE_UPDATE, &workspace_row_type, &change->row));
    if ((change->mask & FIELDS_OF_STATE) == 0) {
        return COF_OK;
    }
    return write_queue_row(call, &change->write, STATEMENT_WORKSPACE_STATE_PUT, &workspace_state_row_type,
                           &change->state);
}

/* --- The request ---------------------------------------------------------------------------------------------- */

/* A workspace neither disables itself nor, once disabled, lets anybody in to enable it: that is the system's. */
static cof_code authorise_disabling(struct call *call, const struct change *change)
{
    struct cof_uuid system;
    char text[COF_UUID_TEXT];
    if ((change->mask & FIELD_DISABLED) == 0) {
        return COF_OK;
    }
    cof_uuid_format(&cof_uuid_zero, text);
    return authorize_workspace(call, text, COF_PERMISSION_WORKSPACE_CREATE, &system);
}

static cof_code check_not_system(struct call *call, const struct change *change)
{
    if ((change->mask & FIELDS_OF_STATE) != 0 && cof_uuid_equal(&change->write.workspace, &cof_uuid_zero)) {
        return workspace_is_system(call);
    }
    return COF_OK;
}

static cof_code read_serve_lost(struct call *call, struct change *change)
{
    const Google__Protobuf__Duration *time = change->request->serve_when_database_lost;
    if (time == NULL) {
        return COF_OK;
    }
    const bool in_range = time->seconds >= 0 && time->seconds <= SERVE_LOST_MAX_S && time->nanos >= 0 &&
                          time->nanos < NANOS && (time->seconds < SERVE_LOST_MAX_S || time->nanos == 0);
    if (!in_range) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "serve_when_database_lost",
                              "serve_when_database_lost is not between 0 s and 15 minutes");
    }
    change->serve_lost_ms = (int32_t) (time->seconds * 1000 + time->nanos / NANOS_PER_MS);
    return COF_OK;
}

cof_code workspace_update(struct call *call, const Coffer__V1__UpdateWorkspaceRequest *request,
                          Coffer__V1__UpdateWorkspaceResponse *response)
{
    struct change change = {.request = request, .response = response};
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_WORKSPACE_WRITE, &change.write.workspace));
    TRY(mask_read(call, request->update_mask, fields, COF_COUNT(fields),
                  "display_name, strict_environments, disabled and serve_when_database_lost", &change.mask));
    TRY(authorise_disabling(call, &change));
    TRY(check_not_system(call, &change));
    TRY(workspace_read_display_name(call, request->display_name, &change.display_name));
    TRY(read_serve_lost(call, &change));
    TRY(workspace_state_load_keys(call));
    change.write.look = look;
    change.write.decide = decide;
    change.write.apply = apply;
    change.write.context = &change;
    change.write.answer = &response->base;
    return write_run(call, &change.write);
}
