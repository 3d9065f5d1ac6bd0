#include "server/service/key_rotation.h"

#include "server/service/fault.h"
#include "server/service/guard.h"
#include "server/service/workspace_state.h"
#include "server/service/write.h"

static cof_code take_all(struct call *call, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        TRY(session_next(call->session, NULL, call->err));
    }
    return COF_OK;
}

static cof_code ask(struct call *call, statement id, const struct param *params, size_t count,
                    struct rows **ret_rows)
{
    TRY(session_queue(call->session, id, params, count, call->err));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, ret_rows, call->err);
}

static cof_code not_found(struct call *call)
{
    return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace; %s",
                    cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
}

/* Begins a transaction that holds the workspace's lock, so that no write is under way, and reads its generations. */
static cof_code lock(struct call *call, const struct cof_uuid *workspace, struct rows **ret_generations)
{
    AUTO(rows_cleanup) struct rows *revision = NULL;
    const struct param params[] = {param_uuid(workspace)};
    TRY(session_begin(call->session, call->err));
    TRY(session_queue(call->session, STATEMENT_REVISION_LOCK, params, COF_COUNT(params), call->err));
    TRY(session_queue(call->session, STATEMENT_GENERATION_LIST, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, NULL, call->err)); /* begin */
    TRY(session_next(call->session, &revision, call->err));
    TRY(session_next(call->session, ret_generations, call->err));
    return rows_count(revision) == 1 && rows_count(*ret_generations) > 0 ? COF_OK : not_found(call);
}

/* A change of the workspace: its revision is raised, and the record says that its key was rotated. */
static cof_code queue_change(struct call *call, const struct cof_uuid *workspace, uint32_t generation)
{
    struct write write = {.workspace = *workspace};
    struct cof_slice record;
    Coffer__Audit__V1__Object *object;
    const struct cof_slice none = {NULL, 0};
    TRY(write_object(call, &write, "workspace_key", workspace, none, none, &object));
    object->version = generation;
    TRY(write_record(call, &write, &record));
    const struct param params[] = {
        param_uuid(workspace),
        param_time(call_now(call)),
        param_text(cof_slice_of(write.object_ids, write.object_count * sizeof(struct cof_uuid))),
        param_text(record),
    };
    return session_queue(call->session, STATEMENT_REVISION_RAISE, params, COF_COUNT(params), call->err);
}

/* --- A new generation ----------------------------------------------------------------------------------------- */

static cof_code queue_new(struct call *call, const struct cof_uuid *workspace, uint32_t generation)
{
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    TRY(keyring_generate(call->service->keyring, workspace, generation, wrapped, call->err));
    const struct param key[] = {
        param_uuid(workspace),
        param_i32((int32_t) generation),
        param_text(cof_slice_of(wrapped, sizeof wrapped)),
        param_time(call_now(call)),
    };
    const struct param use[] = {param_uuid(workspace), param_i32((int32_t) generation)};
    TRY(session_queue(call->session, STATEMENT_GENERATION_NEW, key, COF_COUNT(key), call->err));
    return session_queue(call->session, STATEMENT_GENERATION_USE, use, COF_COUNT(use), call->err);
}

/* The new key has to be under the root key that wraps now (workspaces.c). */
static cof_code keep_root(struct call *call)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(ask(call, STATEMENT_INSTANCE_KEEP_ROOT, NULL, 0, &rows));
    if (rows_count(rows) == 1 && keyring_wrap_with(call->service->keyring, rows_bytes(rows, 0, 0))) {
        return COF_OK;
    }
    return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "the instance's root key was not given");
}

static cof_code begin(struct call *call, const struct cof_uuid *workspace, uint32_t *ret_generation)
{
    AUTO(rows_cleanup) struct rows *generations = NULL;
    TRY(lock(call, workspace, &generations));
    TRY(keep_root(call));
    *ret_generation = (uint32_t) rows_i32(generations, rows_count(generations) - 1, 0) + 1;
    TRY(queue_new(call, workspace, *ret_generation));
    TRY(queue_change(call, workspace, *ret_generation));
    TRY(session_commit(call->session, call->err));
    TRY(session_sync(call->session, call->err));
    FAULT_POINT("rotation.begin.before_commit");
    TRY(take_all(call, 4));
    FAULT_POINT("rotation.begin.after_commit");
    return COF_OK;
}

cof_code key_rotation_begin(struct call *call, const struct cof_uuid *workspace, uint32_t *ret_generation)
{
    struct workspace_state_row state;
    TRY(workspace_state_read(call, workspace, &state));
    if (state.state != WORKSPACE_ACTIVE) {
        return not_found(call);
    }
    const cof_code code = begin(call, workspace, ret_generation);
    session_reset(call->session);
    TRY(code);
    return guard_load_keys_anew(call->service->keyring, call->session, workspace, call->err);
}

/* --- What is next --------------------------------------------------------------------------------------------- */

static bool is_due(const struct rows *generations, size_t index, int64_t kept_us)
{
    return rows_i32(generations, index, 1) == GENERATION_UNUSED &&
           rows_time(generations, index, 3) - rows_time(generations, index, 2) >= kept_us;
}

cof_code key_rotation_look(struct call *call, const struct cof_uuid *workspace, int64_t kept_us,
                           key_rotation_need *ret_need, uint32_t *ret_generation)
{
    AUTO(rows_cleanup) struct rows *generations = NULL;
    struct workspace_state_row state;
    const struct param params[] = {param_uuid(workspace)};
    *ret_need = KEY_ROTATION_NOTHING;
    TRY(workspace_state_read(call, workspace, &state));
    TRY(ask(call, STATEMENT_GENERATION_LIST, params, COF_COUNT(params), &generations));
    for (size_t i = 0; i < rows_count(generations) && state.state == WORKSPACE_ACTIVE; i++) {
        if (rows_i32(generations, i, 1) == GENERATION_OLD) {
            *ret_need = KEY_ROTATION_WALK;
        } else if (is_due(generations, i, kept_us) && *ret_need == KEY_ROTATION_NOTHING) {
            *ret_need = KEY_ROTATION_END;
        }
        *ret_generation = (uint32_t) rows_i32(generations, i, 0);
    }
    return COF_OK;
}

/* --- The end of a generation ---------------------------------------------------------------------------------- */

static cof_code unused(struct call *call, const struct cof_uuid *workspace, uint32_t generation)
{
    AUTO(rows_cleanup) struct rows *generations = NULL;
    const struct param params[] = {param_uuid(workspace), param_i32((int32_t) generation)};
    TRY(lock(call, workspace, &generations));
    TRY(session_queue(call->session, STATEMENT_GENERATION_UNUSED, params, COF_COUNT(params), call->err));
    TRY(queue_change(call, workspace, generation));
    TRY(session_commit(call->session, call->err));
    TRY(session_sync(call->session, call->err));
    FAULT_POINT("rotation.unused.before_commit");
    TRY(take_all(call, 3));
    FAULT_POINT("rotation.unused.after_commit");
    return COF_OK;
}

cof_code key_rotation_unused(struct call *call, const struct cof_uuid *workspace, uint32_t generation)
{
    const cof_code code = unused(call, workspace, generation);
    session_reset(call->session);
    return code;
}

static cof_code queue_retire(struct call *call, const struct cof_uuid *workspace, int32_t generation)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    uint8_t rest[WRAPPED_KEY_SIZE];
    const struct param key[] = {param_uuid(workspace), param_i32(generation)};
    TRY(ask(call, STATEMENT_KEY_GET, key, COF_COUNT(key), &rows));
    if (rows_count(rows) == 0) {
        return not_found(call);
    }
    const struct cof_slice wrapped = rows_bytes(rows, 0, 0);
    TRY(keyring_retire(call->service->keyring, workspace, (uint32_t) generation, wrapped, rest, call->err));
    const struct param params[] = {key[0], key[1], param_text(wrapped),
                                   param_text(cof_slice_of(rest, sizeof rest))};
    TRY(session_queue(call->session, STATEMENT_GENERATION_RETIRE, params, COF_COUNT(params), call->err));
    return session_queue(call->session, STATEMENT_GENERATION_DELETE, key, COF_COUNT(key), call->err);
}

static cof_code destroy(struct call *call, const struct cof_uuid *workspace, int64_t kept_us,
                        uint64_t *ret_destroyed)
{
    AUTO(rows_cleanup) struct rows *generations = NULL;
    TRY(lock(call, workspace, &generations));
    for (size_t i = 0; i < rows_count(generations); i++) {
        if (is_due(generations, i, kept_us)) {
            TRY(queue_retire(call, workspace, rows_i32(generations, i, 0)));
            TRY(take_all(call, 2));
            *ret_destroyed += 1;
        }
    }
    TRY(session_commit(call->session, call->err));
    TRY(session_sync(call->session, call->err));
    FAULT_POINT("rotation.destroy.before_commit");
    TRY(take_all(call, 1));
    FAULT_POINT("rotation.destroy.after_commit");
    for (size_t i = 0; i < rows_count(generations); i++) {
        if (is_due(generations, i, kept_us)) {
            keyring_forget(call->service->keyring, workspace, (uint32_t) rows_i32(generations, i, 0));
        }
    }
    return COF_OK;
}

cof_code key_rotation_destroy(struct call *call, const struct cof_uuid *workspace, int64_t kept_us,
                              uint64_t *ret_destroyed)
{
    *ret_destroyed = 0;
    const cof_code code = destroy(call, workspace, kept_us, ret_destroyed);
    session_reset(call->session);
    return code;
}
