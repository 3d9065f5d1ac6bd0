#include "server/service/connection_change.h"

#include "server/service/expected_uid.h"
#include "server/service/guard.h"

void connection_change_init(struct connection_change *change, cof_code (*decide)(struct call *call, void *context),
                            const ProtobufCMessage *answer)
{
    change->write.workspace = *address_workspace(change->place.address);
    change->write.look = connection_change_look;
    change->write.decide = decide;
    change->write.apply = connection_change_apply;
    change->write.context = change;
    change->write.answer = answer;
}

cof_code connection_change_look(struct call *call, void *context)
{
    const struct connection_change *change = context;
    const struct param params[] = {param_uuid(address_workspace(change->place.address)),
                                   param_text(change->place.provider)};
    TRY(session_queue(call->session, STATEMENT_PROVIDER_SHARE, params, COF_COUNT(params), call->err));
    TRY(connection_queue(call, &change->place, STATEMENT_CONNECTION_LOCK));
    return connection_queue(call, &change->place, STATEMENT_CONNECTION_GET);
}

static cof_code keep(struct call *call, struct connection *connection)
{
    TRY(row_keep(&connection_row_type, call->arena, &connection->row, call->err));
    TRY(row_keep(&connection_token_row_type, call->arena, &connection->token, call->err));
    return row_keep(&connection_lease_row_type, call->arena, &connection->lease, call->err);
}

/* Connections of one that is damaged can still be dropped. */
static cof_code take_provider(struct call *call, struct connection_change *change)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    const struct provider_stored stored = {.rows = rows};
    const cof_code code = provider_take(call, &change->write.workspace, &stored,
                                        (const char *) change->place.provider.data, &change->provider);
    change->provider_reason = code == COF_OK ? COF_REASON_NONE : call->err->reason;
    if (code != COF_NOT_FOUND && code != COF_DATA_LOSS) {
        return code;
    }
    cof_error_clear(call->err);
    return COF_OK;
}

cof_code connection_change_provider(struct call *call, const struct connection_change *change)
{
    if (change->provider_reason == COF_REASON_NONE) {
        return COF_OK;
    }
    return change->provider_reason == COF_REASON_PROVIDER_NOT_FOUND
               ? connection_provider_not_found(call, &change->place)
               : cof_fail_field(call->err, change->provider_reason, "provider",
                                "the row of the provider \"%.*s\" failed its integrity check; %s",
                                (int) change->place.provider.len, (const char *) change->place.provider.data,
                                cof_reason_next_step(change->provider_reason));
}

cof_code connection_change_take(struct call *call, struct connection_change *change)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(take_provider(call, change));
    TRY(session_next(call->session, NULL, call->err));
    TRY(session_next(call->session, &rows, call->err));
    change->connection = (struct connection){.lease = {.refresh_time = ROW_NO_TIME, .error_time = ROW_NO_TIME}};
    change->writes_row = false;
    change->writes_tokens = false;
    change->damaged = false;
    change->next_time = ROW_NO_TIME;
    change->found = rows_count(rows) > 0;
    if (!change->found) {
        return COF_OK;
    }
    const cof_code code = connection_read(call, rows, 0, &change->connection);
    if (code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        change->damaged = true;
        return row_keep(&connection_row_type, call->arena, &change->connection.row, call->err);
    }
    TRY(code);
    return keep(call, &change->connection);
}

cof_code connection_change_take_whole(struct call *call, struct connection_change *change)
{
    TRY(connection_change_take(call, change));
    if (!change->found) {
        return connection_not_found(call, &change->place);
    }
    if (change->damaged) {
        return cof_fail(call->err, COF_REASON_CORRUPTED,
                        "a row of the connection failed its integrity check; delete it and "
                        "configure it anew, or restore a backup");
    }
    return expected_uid_check(call, change->expected_uid, &change->connection.row.connection_id);
}

cof_code connection_change_take_current(struct call *call, struct connection_change *change)
{
    TRY(connection_change_take_whole(call, change));
    TRY(connection_change_provider(call, change));
    return (int64_t) change->provider.generation == change->connection.row.provider_generation
               ? COF_OK
               : cof_fail(
                     call->err, COF_REASON_CONNECTION_NOT_FOUND,
                     "the provider has changed since the connection was configured, which counts for nothing now; "
                     "configure it anew, with the client's credential");
}

void connection_drop_tokens(struct connection_change *change)
{
    const struct cof_slice none = cof_slice_text("");
    const struct connection_token_row *old = &change->connection.token;
    change->connection.token = (struct connection_token_row){
        .workspace_id = change->connection.row.workspace_id,
        .connection_id = change->connection.row.connection_id,
        .generation = old->generation + 1,
        .config_generation = change->connection.row.config_generation,
        .state = CONNECTION_WITHOUT_TOKENS,
        .access_token = none,
        .refresh_token = none,
        .token_type = none,
        .obtain_time = ROW_NO_TIME,
        .expire_time = ROW_NO_TIME,
        .refresh_expire_time = ROW_NO_TIME,
        .connect_time = ROW_NO_TIME,
    };
    change->writes_tokens = true;
}

cof_code connection_change_record(struct call *call, struct connection_change *change,
                                  Coffer__Audit__V1__Effect effect)
{
    Coffer__Audit__V1__Object *object;
    TRY(write_object(call, &change->write, "connection", &change->connection.row.connection_id,
                     address_environment(change->place.address), change->place.provider, &object));
    object->effect = effect;
    object->metadata_version = (uint64_t) change->connection.row.version;
    return COF_OK;
}

cof_code connection_change_seal(struct call *call, struct connection_change *change,
                                Coffer__Audit__V1__Effect effect, Coffer__V1__Connection **ret_message)
{
    struct connection *connection = &change->connection;
    if (change->writes_row) {
        TRY(guard_seal_row(call, &connection_row_type, &connection->row.workspace_id, &connection->row));
    }
    if (change->writes_tokens) {
        TRY(guard_seal_row(call, &connection_token_row_type, &connection->row.workspace_id, &connection->token));
        connection->lease.error_time = ROW_NO_TIME;
    }
    TRY(connection_message(call, connection, ret_message));
    return connection_change_record(call, change, effect);
}

static cof_code reset_lease(struct call *call, struct connection_change *change)
{
    const struct connection_token_row *token = &change->connection.token;
    const struct param params[] = {
        param_uuid(&token->workspace_id),
        param_uuid(&token->connection_id),
        param_i64(token->generation),
        change->next_time == ROW_NO_TIME ? param_null() : param_time(change->next_time),
    };
    return write_queue(call, &change->write, STATEMENT_CONNECTION_LEASE_RESET, params, COF_COUNT(params));
}

cof_code connection_change_apply(struct call *call, void *context)
{
    struct connection_change *change = context;
    if (change->writes_row) {
        TRY(write_queue_row(call, &change->write, STATEMENT_CONNECTION_PUT, &connection_row_type,
                            &change->connection.row));
    }
    if (!change->writes_tokens) {
        return COF_OK;
    }
    TRY(write_queue_row(call, &change->write, STATEMENT_CONNECTION_TOKEN_PUT, &connection_token_row_type,
                        &change->connection.token));
    return reset_lease(call, change);
}
