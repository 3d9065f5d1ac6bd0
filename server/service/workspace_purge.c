#include "server/service/workspace_purge.h"

#include "server/service/fault.h"
#include "server/service/workspace_state.h"
#include "server/service/write.h"

enum { ROWS_AT_ONCE = 500 };

const struct workspace_due workspace_due_first = {.delete_time = -INT64_C(30000000) * 1000000};

/* Rows go before what they refer to; the workspace's own comes last. */
static const statement row_statements[] = {
    STATEMENT_PURGE_TOKEN,
    STATEMENT_PURGE_TOKEN_USE,
    STATEMENT_PURGE_PRINCIPAL,
    STATEMENT_PURGE_SECRET_VERSION,
    STATEMENT_PURGE_SECRET,
    STATEMENT_PURGE_ENVIRONMENT,
    STATEMENT_PURGE_ACTION,
    STATEMENT_PURGE_REGISTRY,
    STATEMENT_PURGE_PROVIDER,
    STATEMENT_PURGE_REQUEST,
    STATEMENT_PURGE_CONNECTION_LEASE,
    STATEMENT_PURGE_CONNECTION_TOKEN,
    STATEMENT_PURGE_CONNECTION,
    STATEMENT_PURGE_CONNECTION_AUTHORIZATION,
    STATEMENT_PURGE_CHANGE,
    STATEMENT_PURGE_WRITE_CHAIN,
    STATEMENT_PURGE_WORKSPACE,
};

static cof_code take_all(struct call *call, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        TRY(session_next(call->session, NULL, call->err));
    }
    return COF_OK;
}

/* --- Which ---------------------------------------------------------------------------------------------------- */

cof_code workspace_purge_next(struct call *call, const struct workspace_due *after, struct workspace_due *ret_due,
                              bool *ret_found)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct workspace_state_row now = {.delete_time = call_now(call)};
    const int64_t before = now.delete_time - (workspace_purge_time(call, &now) - now.delete_time);
    const struct param params[] = {
        param_time(before),
        param_time(after->delete_time),
        param_uuid(&after->workspace),
        param_i64(1),
    };
    TRY(session_queue(call->session, STATEMENT_WORKSPACES_TO_PURGE, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    *ret_found = rows_count(rows) == 1;
    if (*ret_found) {
        *ret_due = (struct workspace_due){rows_uuid(rows, 0, 0), rows_time(rows, 0, 1)};
    }
    return COF_OK;
}

/* --- The keys ------------------------------------------------------------------------------------------------- */

/* Begins a transaction that holds the workspace's lock, and takes its state. Once the purge has begun there is nothing to
 * lock any more. */
static cof_code lock(struct call *call, const struct cof_uuid *workspace, struct workspace_state_row *ret_state)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(workspace)};
    TRY(workspace_state_load_keys(call));
    TRY(session_begin(call->session, call->err));
    TRY(session_queue(call->session, STATEMENT_REVISION_LOCK, params, COF_COUNT(params), call->err));
    TRY(workspace_state_queue(call, workspace));
    TRY(session_sync(call->session, call->err));
    TRY(take_all(call, 2));
    TRY(session_next(call->session, &rows, call->err));
    TRY(workspace_state_take_locked(call, workspace, rows, ret_state));
    return row_keep(&workspace_state_row_type, call->arena, ret_state, call->err);
}

/* The record of the purge, among the changes of the system workspace: it says that the server did it. */
static cof_code queue_record(struct call *call, const struct workspace_state_row *state)
{
    struct write write = {.workspace = cof_uuid_zero};
    struct cof_slice record;
    Coffer__Audit__V1__Object *object;
    const struct cof_slice none = {NULL, 0};
    TRY(write_object(call, &write, "workspace", &state->workspace_id, none, state->name, &object));
    TRY(write_record(call, &write, &record));
    const struct param params[] = {
        param_uuid(&cof_uuid_zero),
        param_time(call_now(call)),
        param_text(cof_slice_of(write.object_ids, write.object_count * sizeof(struct cof_uuid))),
        param_text(record),
    };
    return session_queue(call->session, STATEMENT_REVISION_RAISE, params, COF_COUNT(params), call->err);
}

/* The state is sealed under the key of the system workspace; behind it comes what refuses an old one. */
static cof_code queue_state(struct call *call, struct workspace_state_row *state)
{
    TRY(workspace_state_seal(call, state));
    const struct param sealed[] = {param_uuid(&cof_uuid_zero), param_i32((int32_t) call->sealed.system)};
    TRY(session_queue(call->session, STATEMENT_REVISION_SEALED, sealed, COF_COUNT(sealed), call->err));
    return row_queue(&workspace_state_row_type, state, NULL, call->session, STATEMENT_WORKSPACE_STATE_PUT,
                     call->arena, call->err);
}

/* What begins the purge, and how many results it has with its commit. */
enum { BEGIN_RESULTS = 7 };

static cof_code destroy_keys(struct call *call, struct workspace_state_row *state)
{
    const struct param workspace[] = {param_uuid(&state->workspace_id)};
    struct session *session = call->session;
    TRY(session_queue(session, STATEMENT_KEY_DELETE, workspace, COF_COUNT(workspace), call->err));
    TRY(session_queue(session, STATEMENT_REVISION_DELETE, workspace, COF_COUNT(workspace), call->err));
    TRY(session_queue(session, STATEMENT_DIRECTORY_FORGET, workspace, COF_COUNT(workspace), call->err));
    TRY(queue_record(call, state));
    state->state = WORKSPACE_PURGING;
    state->name = cof_slice_text("");
    TRY(queue_state(call, state));
    TRY(session_commit(session, call->err));
    TRY(session_sync(session, call->err));
    FAULT_POINT("purge.before_commit");
    TRY(take_all(call, BEGIN_RESULTS));
    FAULT_POINT("purge.keys_gone");
    keyring_evict(call->service->keyring, &state->workspace_id);
    return COF_OK;
}

cof_code workspace_purge_begin(struct call *call, const struct cof_uuid *workspace, bool *ret_begun)
{
    struct workspace_state_row state;
    cof_code code = lock(call, workspace, &state);
    *ret_begun = code == COF_OK && (state.state == WORKSPACE_DELETED || state.state == WORKSPACE_PURGING);
    if (code == COF_OK && state.state == WORKSPACE_DELETED) {
        if (workspace_purge_time(call, &state) > call_now(call)) {
            *ret_begun = false; /* restored, and deleted anew */
        } else {
            code = destroy_keys(call, &state);
        }
    }
    session_reset(call->session);
    return code;
}

/* --- The rows ------------------------------------------------------------------------------------------------- */

static cof_code remove_rows(struct call *call, const struct cof_uuid *workspace, statement id, size_t *ret_removed)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(workspace), param_i64(ROWS_AT_ONCE)};
    TRY(session_queue(call->session, id, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    *ret_removed = rows_affected(rows);
    FAULT_POINT("purge.rows");
    return COF_OK;
}

/* Whichever server does this last writes the same. */
static cof_code finish(struct call *call, const struct cof_uuid *workspace)
{
    struct workspace_state_row state;
    TRY(workspace_state_read(call, workspace, &state));
    if (state.state != WORKSPACE_PURGING) {
        return COF_OK; /* another server was faster */
    }
    state.state = WORKSPACE_PURGED;
    TRY(queue_state(call, &state));
    TRY(session_sync(call->session, call->err));
    return take_all(call, 2);
}

cof_code workspace_purge_some(struct call *call, const struct cof_uuid *workspace, bool *ret_done)
{
    *ret_done = false;
    for (size_t i = 0; i < COF_COUNT(row_statements); i++) {
        size_t removed;
        TRY(remove_rows(call, workspace, row_statements[i], &removed));
        if (removed == ROWS_AT_ONCE) {
            return COF_OK;
        }
    }
    TRY(finish(call, workspace));
    *ret_done = true;
    return COF_OK;
}

/* --- Opened keys ---------------------------------------------------------------------------------------------- */

cof_code workspace_close_keys(struct call *call, int64_t since)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_time(since)};
    TRY(session_queue(call->session, STATEMENT_WORKSPACES_CLOSED, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    for (size_t i = 0; i < rows_count(rows); i++) {
        const struct cof_uuid workspace = rows_uuid(rows, i, 0);
        keyring_evict(call->service->keyring, &workspace);
    }
    return COF_OK;
}
