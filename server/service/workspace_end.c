/* Workspaces that go, and come back. */
#include "server/service/authorize.h"
#include "server/service/text.h"
#include "server/service/workspace_view.h"
#include "server/service/workspaces.h"
#include "server/service/write.h"

/*
 * The write belongs to the system workspace: its record, its audit record and its sealed answer outlive the workspace,
 * and the workspace's key is not opened for it. The workspace's own revision is raised in the same transaction, with the
 * same audit record, so that whoever holds something of it learns of the change.
 */
struct ending {
    struct write write;
    struct cof_uuid workspace;
    struct workspace_state_row state;
    int64_t revision; /* of the workspace, as it was locked */
    Coffer__V1__Workspace **answer;
    Google__Protobuf__Timestamp **answer_copies;
};

/* --- What is there -------------------------------------------------------------------------------------------- */

static cof_code look(struct call *call, void *context)
{
    const struct ending *ending = context;
    const struct param workspace[] = {param_uuid(&ending->workspace)};
    TRY(session_queue(call->session, STATEMENT_REVISION_LOCK, workspace, COF_COUNT(workspace), call->err));
    TRY(workspace_state_queue(call, &ending->workspace));
    return session_queue(call->session, STATEMENT_DIRECTORY_GET, workspace, COF_COUNT(workspace), call->err);
}

/* The name is the directory's: of a workspace whose rows are damaged, too, there has to be an end. */
static cof_code take(struct call *call, struct ending *ending)
{
    AUTO(rows_cleanup) struct rows *revision = NULL;
    AUTO(rows_cleanup) struct rows *state = NULL;
    AUTO(rows_cleanup) struct rows *directory = NULL;
    TRY(session_next(call->session, &revision, call->err));
    TRY(session_next(call->session, &state, call->err));
    TRY(session_next(call->session, &directory, call->err));
    if (rows_count(revision) == 0 || rows_count(directory) == 0) {
        return workspace_not_found(call);
    }
    TRY(workspace_state_take_locked(call, &ending->workspace, state, &ending->state));
    ending->revision = rows_i64(revision, 0, 0);
    return text_keep(call->arena, rows_bytes(directory, 0, 0), &ending->state.name, call->err);
}

static cof_code finish(struct call *call, struct ending *ending)
{
    const struct cof_slice none = {NULL, 0};
    Coffer__Audit__V1__Object *object;
    TRY(workspace_state_seal(call, &ending->state));
    TRY(workspace_message_of_state(call, &ending->state, ending->answer));
    ending->write.token_revision = ending->revision + 1;
    TRY(write_object(call, &ending->write, "workspace", &ending->workspace, none, ending->state.name, &object));
    object->effect = ending->state.state == WORKSPACE_ACTIVE ? COFFER__AUDIT__V1__EFFECT__EFFECT_RESTORED
                                                             : COFFER__AUDIT__V1__EFFECT__EFFECT_DELETED;
    return COF_OK;
}

/* --- Both ----------------------------------------------------------------------------------------------------- */

static cof_code apply(struct call *call, void *context)
{
    struct ending *ending = context;
    struct write *write = &ending->write;
    struct cof_slice record;
    TRY(write_record(call, write, &record));
    const struct param directory[] = {
        param_uuid(&ending->workspace),
        param_bool(ending->state.state == WORKSPACE_ACTIVE),
    };
    const struct param raised[] = {
        param_uuid(&ending->workspace),
        param_time(call_now(call)),
        param_text(cof_slice_of(write->object_ids, write->object_count * sizeof(struct cof_uuid))),
        param_text(record),
    };
    TRY(write_queue_row(call, write, STATEMENT_WORKSPACE_STATE_PUT, &workspace_state_row_type, &ending->state));
    TRY(write_queue(call, write, STATEMENT_DIRECTORY_SET_LIVE, directory, COF_COUNT(directory)));
    return write_queue(call, write, STATEMENT_REVISION_RAISE, raised, COF_COUNT(raised));
}

cof_code workspace_is_system(struct call *call)
{
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "workspace",
                          "the system workspace cannot be disabled or deleted");
}

/* The whole right is one in the system workspace; where it is used is checked by what is found there. */
static cof_code authorise(struct call *call, const char *workspace, struct ending *ending)
{
    char system[COF_UUID_TEXT];
    cof_uuid_format(&cof_uuid_zero, system);
    TRY(authorize_workspace(call, system, COF_PERMISSION_WORKSPACE_CREATE, &ending->write.workspace));
    TRY(authorize_stateless(call, workspace, COF_PERMISSION_WORKSPACE_CREATE, &ending->workspace));
    return cof_uuid_equal(&ending->workspace, &cof_uuid_zero) ? workspace_is_system(call) : COF_OK;
}

/* What was changed is the workspace; its calls are looked at again. */
static cof_code run(struct call *call, struct ending *ending, const ProtobufCMessage *answer)
{
    ending->write.look = look;
    ending->write.apply = apply;
    ending->write.context = ending;
    ending->write.answer = answer;
    TRY(write_run(call, &ending->write));
    if (!call->replayed) {
        call->written_workspace = ending->workspace;
        call->written_revision = (uint64_t) ending->write.token_revision;
    }
    return COF_OK;
}

/* --- Delete --------------------------------------------------------------------------------------------------- */

static cof_code decide_delete(struct call *call, void *context)
{
    struct ending *ending = context;
    TRY(take(call, ending));
    TRY(workspace_state_permits(call, call->caller->kind, &ending->state));
    ending->state.state = WORKSPACE_DELETED;
    ending->state.delete_time = call_now(call);
    TRY(copies_in_backups_until(call, workspace_purge_time(call, &ending->state), ending->answer_copies));
    return finish(call, ending);
}

/* Other servers close the key when they look at what was deleted (server/jobs/offboard.h). */
cof_code workspace_delete(struct call *call, const Coffer__V1__DeleteWorkspaceRequest *request,
                          Coffer__V1__DeleteWorkspaceResponse *response)
{
    struct ending ending = {
        .answer = &response->workspace,
        .answer_copies = &response->copies_in_backups_until,
    };
    TRY(authorise(call, request->workspace, &ending));
    ending.write.decide = decide_delete;
    TRY(run(call, &ending, &response->base));
    keyring_evict(call->service->keyring, &ending.workspace);
    return COF_OK;
}

/* --- Restore -------------------------------------------------------------------------------------------------- */

static cof_code check_deleted(struct call *call, const struct workspace_state_row *state)
{
    if (state->state == WORKSPACE_ACTIVE) {
        return cof_fail(call->err, COF_REASON_WORKSPACE_EXISTS, "the workspace is not deleted; use it");
    }
    if (state->state != WORKSPACE_DELETED || workspace_purge_time(call, state) <= call_now(call)) {
        return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND,
                        "the workspace was deleted too long ago to be restored; %s",
                        cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
    }
    return COF_OK;
}

static cof_code decide_restore(struct call *call, void *context)
{
    struct ending *ending = context;
    TRY(take(call, ending));
    TRY(check_deleted(call, &ending->state));
    ending->state.state = WORKSPACE_ACTIVE;
    ending->state.delete_time = ROW_NO_TIME;
    return finish(call, ending);
}

static cof_code conflict_restore(struct call *call, void *context)
{
    const struct ending *ending = context;
    if (!session_unique_violation(call->session, "workspace_directory_name_key")) {
        return call->err->code;
    }
    return cof_fail(call->err, COF_REASON_WORKSPACE_EXISTS,
                    "another workspace has the name \"%.*s\" now; delete that one first",
                    (int) ending->state.name.len, (const char *) ending->state.name.data);
}

cof_code workspace_restore(struct call *call, const Coffer__V1__RestoreWorkspaceRequest *request,
                           Coffer__V1__RestoreWorkspaceResponse *response)
{
    struct ending ending = {.answer = &response->workspace};
    TRY(authorise(call, request->workspace, &ending));
    ending.write.decide = decide_restore;
    ending.write.conflict = conflict_restore;
    return run(call, &ending, &response->base);
}
