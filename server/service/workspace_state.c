#include "server/service/workspace_state.h"

#include "server/service/guard.h"
#include "server/service/text.h"

#define DAY_US INT64_C(86400000000)

static cof_code refuse(struct call *call, cof_reason reason)
{
    return cof_fail(call->err, reason, "%s; %s", cof_reason_meaning(reason), cof_reason_next_step(reason));
}

cof_code workspace_state_queue(struct call *call, const struct cof_uuid *workspace)
{
    const struct param params[] = {param_uuid(workspace)};
    return session_queue(call->session, STATEMENT_WORKSPACE_STATE_GET, params, COF_COUNT(params), call->err);
}

cof_code workspace_state_load_keys(struct call *call)
{
    return guard_load_keys(call, &cof_uuid_zero);
}

static bool has_row(const struct rows *rows, size_t index, size_t first)
{
    return index < rows_count(rows) && !rows_null(rows, index, first);
}

static cof_code take_row(struct call *call, const struct rows *rows, size_t index, size_t first,
                         struct workspace_state_row *ret_state)
{
    TRY(row_read(&workspace_state_row_type, rows, index, first, call->arena, ret_state, call->err));
    return guard_check_row(call, &workspace_state_row_type, &cof_uuid_zero, ret_state);
}

static struct workspace_state_row active(const struct cof_uuid *workspace)
{
    return (struct workspace_state_row){
        .workspace_id = *workspace, .state = WORKSPACE_ACTIVE, .delete_time = ROW_NO_TIME};
}

cof_code workspace_state_take(struct call *call, const struct cof_uuid *workspace, const struct rows *rows,
                              size_t index, size_t first, struct workspace_state_row *ret_state)
{
    *ret_state = active(workspace);
    if (!has_row(rows, index, first)) {
        return COF_OK;
    }
    TRY(workspace_state_load_keys(call));
    return take_row(call, rows, index, first, ret_state);
}

cof_code workspace_state_take_locked(struct call *call, const struct cof_uuid *workspace, const struct rows *rows,
                                     struct workspace_state_row *ret_state)
{
    *ret_state = active(workspace);
    return has_row(rows, 0, 0) ? take_row(call, rows, 0, 0, ret_state) : COF_OK;
}

cof_code workspace_state_read(struct call *call, const struct cof_uuid *workspace,
                              struct workspace_state_row *ret_state)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(call_needs_database(call));
    TRY(workspace_state_queue(call, workspace));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    TRY(workspace_state_take(call, workspace, rows, 0, 0, ret_state));
    return row_keep(&workspace_state_row_type, call->arena, ret_state, call->err);
}

cof_code workspace_state_permits(struct call *call, cof_token_kind kind, const struct workspace_state_row *state)
{
    const bool administers = kind == COF_TOKEN_SYSTEM;
    if (state->state == WORKSPACE_ACTIVE) {
        return state->disabled && !administers ? refuse(call, COF_REASON_WORKSPACE_DISABLED) : COF_OK;
    }
    return refuse(call, state->state == WORKSPACE_DELETED && administers ? COF_REASON_WORKSPACE_DELETED
                                                                         : COF_REASON_WORKSPACE_NOT_FOUND);
}

cof_code workspace_state_seal(struct call *call, struct workspace_state_row *state)
{
    state->change_time = call_now(call);
    return guard_seal_row(call, &workspace_state_row_type, &cof_uuid_zero, state);
}

int64_t workspace_purge_time(const struct call *call, const struct workspace_state_row *state)
{
    return state->delete_time + (int64_t) call->service->limits.workspace_restorable_ms * 1000;
}

cof_code copies_in_backups_until(struct call *call, int64_t time, Google__Protobuf__Timestamp **ret_until)
{
    const uint32_t days = call->service->limits.backups_kept_days;
    if (days == 0) {
        *ret_until = NULL;
        return COF_OK;
    }
    *ret_until = time_of(call->arena, time + days * DAY_US);
    return *ret_until == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}
