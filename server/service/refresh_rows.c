#include "server/service/refresh_rows.h"

#include <string.h>

#include "common/encode.h"
#include "server/service/guard.h"
#include "server/service/token_clock.h"
#include "server/service/write.h"

enum { LEASE_LOOK_PARAMS = 4 };

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cof_code not_found(struct call *call)
{
    return cof_fail(call->err, COF_REASON_CONNECTION_NOT_FOUND, "%s; %s",
                    cof_reason_meaning(COF_REASON_CONNECTION_NOT_FOUND),
                    cof_reason_next_step(COF_REASON_CONNECTION_NOT_FOUND));
}

static cof_code check(struct call *call, const struct refresh_rows *rows)
{
    const struct cof_uuid *workspace = &rows->row.workspace_id;
    TRY(guard_check_row(call, &connection_row_type, workspace, &rows->row));
    TRY(guard_check_row(call, &connection_token_row_type, workspace, &rows->token));
    if (rows->token.config_generation == rows->row.config_generation) {
        return COF_OK;
    }
    return cof_fail(call->err, COF_REASON_CORRUPTED,
                    "the stored tokens of a connection are of another configuration; %s",
                    cof_reason_next_step(COF_REASON_CORRUPTED));
}

static size_t token_column(void)
{
    return connection_row_type.count;
}

static size_t lease_column(void)
{
    return token_column() + connection_token_row_type.count;
}

static size_t time_column(void)
{
    return lease_column() + connection_lease_row_type.count;
}

size_t refresh_rows_provider(void)
{
    return time_column() + 1;
}

static cof_code take(struct call *call, const struct rows *found, size_t index, struct refresh_rows *rows)
{
    TRY(row_read(&connection_row_type, found, index, 0, call->arena, &rows->row, call->err));
    TRY(row_read(&connection_token_row_type, found, index, token_column(), call->arena, &rows->token, call->err));
    TRY(row_read(&connection_lease_row_type, found, index, lease_column(), call->arena, &rows->lease, call->err));
    rows->database_time = rows_time(found, index, time_column());
    rows->time = token_clock_time(call->service->token_clock, cof_clock_monotonic(call->service->clock),
                                  rows->database_time);
    TRY(row_keep(&connection_row_type, call->arena, &rows->row, call->err));
    TRY(row_keep(&connection_token_row_type, call->arena, &rows->token, call->err));
    TRY(row_keep(&connection_lease_row_type, call->arena, &rows->lease, call->err));
    TRY(guard_load_keys(call, &rows->row.workspace_id));
    return check(call, rows);
}

static cof_code queue_read(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *connection)
{
    const struct param params[] = {param_uuid(workspace), param_uuid(connection)};
    TRY(session_queue(call->session, STATEMENT_REFRESH_READ, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

static cof_code next_read(struct call *call, struct refresh_rows *ret_rows)
{
    AUTO(rows_cleanup) struct rows *found = NULL;
    struct refresh_rows rows = {0};
    TRY(session_next(call->session, &found, call->err));
    if (rows_count(found) != 1) {
        return not_found(call);
    }
    TRY(take(call, found, 0, &rows));
    *ret_rows = rows;
    return COF_OK;
}

cof_code refresh_rows_read(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                           struct refresh_rows *ret_rows)
{
    TRY(queue_read(call, workspace, connection));
    return next_read(call, ret_rows);
}

/* The places as three arrays of texts. */
static cof_code place_params(struct call *call, const struct refresh_place *places, size_t count,
                             struct param params[3])
{
    struct cof_slice *texts = cof_arena_array(call->arena, count, sizeof *texts);
    for (size_t part = 0; texts != NULL && part < 3; part++) {
        for (size_t i = 0; i < count; i++) {
            const struct refresh_place *place = &places[i];
            const struct cof_slice token_class = cof_slice_text(place->token_class == CONNECTION_USER ? "1" : "2");
            texts[i] = part == 0 ? place->environment : part == 1 ? place->provider : token_class;
        }
        uint8_t *room = cof_arena_alloc(call->arena, array_text_size(texts, count));
        if (room == NULL) {
            return cof_arena_exhausted(call->err);
        }
        params[part] = param_text_array(texts, count, room);
    }
    return texts == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code refresh_rows_look(struct call *call, const struct cof_uuid *workspace, const struct refresh_place *places,
                           size_t count, struct rows **ret_found)
{
    struct param params[] = {param_uuid(workspace), param_null(), param_null(), param_null()};
    TRY(place_params(call, places, count, &params[1]));
    TRY(session_queue(call->session, STATEMENT_REFRESH_FIND, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, ret_found, call->err);
}

cof_code refresh_rows_take(struct call *call, const struct rows *found, size_t index, bool *ret_found,
                           struct refresh_rows *ret_rows)
{
    struct refresh_rows rows = {0};
    *ret_found = !rows_null(found, index, 0);
    if (!*ret_found) {
        return COF_OK;
    }
    if (rows_null(found, index, token_column()) || rows_null(found, index, lease_column())) {
        return cof_fail(call->err, COF_REASON_CORRUPTED, "a stored connection has lost a part; %s",
                        cof_reason_next_step(COF_REASON_CORRUPTED));
    }
    TRY(take(call, found, index, &rows));
    *ret_rows = rows;
    return COF_OK;
}

cof_code refresh_rows_find(struct call *call, const struct cof_uuid *workspace, const struct refresh_place *place,
                           bool *ret_found, struct refresh_rows *ret_rows)
{
    AUTO(rows_cleanup) struct rows *found = NULL;
    TRY(refresh_rows_look(call, workspace, place, 1, &found));
    return refresh_rows_take(call, found, 0, ret_found, ret_rows);
}

/* --- The lease ------------------------------------------------------------------------------------------------ */

/* The clock of the server, which may have run on where the database's has just gone back; NULL: it is not known. */
static struct param carried_param(const struct call *call)
{
    int64_t time = 0;
    return call_token_time(call, &time) ? param_time(time) : param_null();
}

static struct param ahead_param(const struct call *call)
{
    return param_i64(token_clock_ahead(call->service->token_clock));
}

static cof_code queue_claim(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                            const struct cof_uuid *holder, int64_t lease_us)
{
    const struct param params[] = {param_uuid(workspace), param_uuid(connection), param_uuid(holder),
                                   ahead_param(call),     param_i64(lease_us),    carried_param(call)};
    TRY(session_queue(call->session, STATEMENT_LEASE_LOOK, params, LEASE_LOOK_PARAMS, call->err));
    TRY(session_queue(call->session, STATEMENT_LEASE_TAKE, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    return queue_read(call, workspace, connection);
}

/* What the lease is to last by; other servers may have noticed something since the job's last look. If the clock has gone
 * back the job's next one says so. */
static cof_code look_at_clock(struct call *call)
{
    AUTO(rows_cleanup) struct rows *time = NULL;
    const struct service *service = call->service;
    const int64_t asked = cof_clock_monotonic(service->clock);
    TRY(session_queue(call->session, STATEMENT_CLOCK_READ, NULL, 0, call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &time, call->err));
    (void) token_clock_look(service->token_clock, asked, cof_clock_monotonic(service->clock), rows_time(time, 0, 0),
                            rows_i64(time, 0, 1));
    return COF_OK;
}

cof_code refresh_rows_claim(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                            const struct cof_uuid *holder, int64_t lease_us, struct refresh_lease *ret_lease,
                            struct refresh_rows *ret_rows)
{
    AUTO(rows_cleanup) struct rows *look = NULL;
    AUTO(rows_cleanup) struct rows *taken = NULL;
    TRY(look_at_clock(call));
    TRY(queue_claim(call, workspace, connection, holder, lease_us));
    TRY(session_next(call->session, &look, call->err));
    TRY(session_next(call->session, &taken, call->err));
    TRY(next_read(call, ret_rows));
    *ret_lease = (struct refresh_lease){
        .taken = rows_count(taken) == 1,
        .lapsed = rows_count(look) == 1 && rows_bool(look, 0, 0),
        .fence = rows_count(taken) == 1 ? rows_i64(taken, 0, 0) : 0,
    };
    return COF_OK;
}

static refresh_rotation rotation_of(const struct provider *provider)
{
    if (provider->refresh_rotates_strictly && provider->refresh_grace_s == 0) {
        return REFRESH_ROTATES_STRICTLY;
    }
    /* What a tenant says of his own provider is no knowledge. */
    return provider->refresh_rotates || provider->custom ? REFRESH_ROTATES_PERHAPS : REFRESH_ROTATES_NEVER;
}

static int64_t time_or(int64_t time, int64_t none)
{
    return time == ROW_NO_TIME ? none : time;
}

void refresh_rows_facts(const struct refresh_rows *rows, const struct provider *provider,
                        struct refresh_facts *ret_facts)
{
    const struct connection_token_row *token = &rows->token;
    const struct connection_lease_row *lease = &rows->lease;
    const bool own = rows->row.class == CONNECTION_SERVICE;
    *ret_facts = (struct refresh_facts){
        .exists = provider != NULL,
        .obtainable = own ? rows->row.credentials.len > 0 : token->refresh_token.len > 0,
        .generation = token->generation,
        .status = (refresh_status) token->state,
        .rotation = provider == NULL ? REFRESH_ROTATES_PERHAPS : rotation_of(provider),
        .own_grant = own,
        .ends_old_access = provider != NULL && provider->refresh_ends_old_access,
        .obtained = time_or(token->obtain_time, 0),
        .expires = token->access_token.len == 0 ? 0 : time_or(token->expire_time, REFRESH_NEVER),
        .tries = lease->generation == token->generation ? lease->tries : 0,
        .failures = lease->failures,
        .next = time_or(lease->next_time, REFRESH_NEVER),
        .forced = time_or(lease->forced_time, 0),
        .spread = cof_get_u64(rows->row.connection_id.bytes),
    };
}

cof_code refresh_rows_record(struct call *call, const struct refresh_rows *rows,
                             const struct refresh_action *action, int64_t lease_us, bool *ret_recorded)
{
    AUTO(rows_cleanup) struct rows *done = NULL;
    const struct param params[] = {
        param_uuid(&rows->row.workspace_id),
        param_uuid(&rows->row.connection_id),
        param_i64(action->fence),
        param_i64(action->generation),
        param_i32(action->tries),
        param_i64(lease_us),
        param_bool(action->forced),
        ahead_param(call),
        carried_param(call),
    };
    TRY(session_queue(call->session, STATEMENT_LEASE_RECORD, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &done, call->err));
    *ret_recorded = rows_affected(done) == 1;
    return COF_OK;
}

/* --- Tokens --------------------------------------------------------------------------------------------------- */

static struct blob_address address_of(const struct connection_token_row *row, blob_kind kind)
{
    return (struct blob_address){kind, row->workspace_id, row->connection_id, (uint64_t) row->generation};
}

static cof_code open_token(struct call *call, const struct connection_token_row *row, blob_kind kind,
                           struct cof_slice blob, struct cof_slice *ret_token)
{
    const struct blob_address address = address_of(row, kind);
    *ret_token = cof_slice_text("");
    if (blob.len == 0) {
        return COF_OK;
    }
    uint8_t *token = cof_arena_alloc(call->arena, blob.len);
    if (token == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_open(call, &address, blob, token));
    *ret_token = cof_slice_of(token, blob.len - BLOB_OVERHEAD);
    return COF_OK;
}

cof_code refresh_rows_access_token(struct call *call, const struct refresh_rows *rows, struct cof_slice *ret_token)
{
    return open_token(call, &rows->token, BLOB_ACCESS_TOKEN, rows->token.access_token, ret_token);
}

cof_code refresh_rows_refresh_token(struct call *call, const struct refresh_rows *rows, struct cof_slice *ret_token)
{
    return open_token(call, &rows->token, BLOB_REFRESH_TOKEN, rows->token.refresh_token, ret_token);
}

/* Empty stays empty. */
static cof_code seal_token(struct call *call, const struct connection_token_row *row, blob_kind kind,
                           struct cof_slice token, struct cof_slice *ret_blob)
{
    const struct blob_address address = address_of(row, kind);
    *ret_blob = cof_slice_text("");
    if (token.len == 0) {
        return COF_OK;
    }
    uint8_t *blob = cof_arena_alloc(call->arena, token.len + BLOB_OVERHEAD);
    if (blob == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_seal(call, &address, token, blob));
    *ret_blob = cof_slice_of(blob, token.len + BLOB_OVERHEAD);
    return COF_OK;
}

static int64_t refresh_end(const struct connection_token_row *before, const struct refresh_tokens *tokens)
{
    if (tokens->refresh_expires == 0) {
        return tokens->refresh_token.len > 0 ? ROW_NO_TIME : before->refresh_expire_time;
    }
    return tokens->refresh_expires == REFRESH_NEVER ? ROW_NO_TIME : tokens->refresh_expires;
}

/* A refresh token that did not come is sealed anew, since it has the generation in its address. */
static cof_code next_token_row(struct call *call, const struct refresh_rows *rows,
                               const struct refresh_action *action, const struct refresh_tokens *tokens,
                               struct connection_token_row *ret_row)
{
    struct connection_token_row row = rows->token;
    struct cof_slice refresh_token = tokens->refresh_token;
    if (refresh_token.len == 0) {
        TRY(refresh_rows_refresh_token(call, rows, &refresh_token));
    }
    row.generation = action->generation + 1;
    row.state = (int32_t) action->status;
    row.obtain_time = action->obtained;
    row.expire_time = action->expires == REFRESH_NEVER ? ROW_NO_TIME : action->expires;
    row.scopes = tokens->scopes.count > 0 ? tokens->scopes : row.scopes;
    row.refresh_expire_time = refresh_end(&row, tokens);
    TRY(seal_token(call, &row, BLOB_ACCESS_TOKEN, tokens->access_token, &row.access_token));
    TRY(seal_token(call, &row, BLOB_REFRESH_TOKEN, refresh_token, &row.refresh_token));
    *ret_row = row;
    return COF_OK;
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

/* Under the row's lock, which is held until the transaction ends; false if the tokens have moved on. */
static cof_code move(struct call *call, struct connection_token_row *row, int64_t from, bool *ret_moved)
{
    AUTO(rows_cleanup) struct rows *moved = NULL;
    const struct row_more more = {.params = {param_i64(from)}, .count = 1};
    TRY(guard_seal_row(call, &connection_token_row_type, &row->workspace_id, row));
    TRY(session_begin(call->session, call->err));
    TRY(row_queue(&connection_token_row_type, row, &more, call->session, STATEMENT_REFRESH_MOVE, call->arena,
                  call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, NULL, call->err)); /* begin */
    TRY(session_next(call->session, &moved, call->err));
    *ret_moved = rows_affected(moved) == 1;
    return COF_OK;
}

/* The record says that the server did it. */
static cof_code queue_change(struct call *call, const struct refresh_rows *rows, int64_t generation,
                             const struct cof_uuid *authorization)
{
    struct write write = {.workspace = rows->row.workspace_id};
    struct cof_slice record;
    Coffer__Audit__V1__Object *object;
    const char *name = cof_arena_format(call->arena, "%.*s_oauth", (int) rows->row.provider.len,
                                        (const char *) rows->row.provider.data);
    if (name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(write_object(call, &write, "connection", &rows->row.connection_id, rows->row.environment,
                     cof_slice_text(name), &object));
    object->version = (uint64_t) generation;
    if (authorization != NULL) {
        TRY(write_object(call, &write, "authorization", authorization, rows->row.environment, cof_slice_text(name),
                         &object));
    }
    TRY(write_record(call, &write, &record));
    const struct param params[] = {
        param_uuid(&rows->row.workspace_id),
        param_time(call_now(call)),
        param_text(cof_slice_of(write.object_ids, write.object_count * sizeof(struct cof_uuid))),
        param_text(record),
    };
    return session_queue(call->session, STATEMENT_REVISION_RAISE, params, COF_COUNT(params), call->err);
}

static cof_code queue_sealed(struct call *call, const struct cof_uuid *workspace)
{
    const struct param params[] = {param_uuid(workspace),
                                   param_i32((int32_t) guard_sealed_generation(call, workspace))};
    return session_queue(call->session, STATEMENT_REVISION_SEALED, params, COF_COUNT(params), call->err);
}

/* Ends a transaction with the statements that were queued since `move`. A newer key that has come meanwhile makes it fail;
 * the next attempt seals under that one. */
static cof_code commit(struct call *call, const struct cof_uuid *workspace, size_t queued)
{
    TRY(session_commit(call->session, call->err));
    TRY(session_sync(call->session, call->err));
    for (size_t i = 0; i < queued + 1; i++) {
        const cof_code code = session_next(call->session, NULL, call->err);
        if (code != COF_OK && session_check_violation(call->session, "workspace_revision_generation", call->err)) {
            session_reset(call->session);
            TRY(guard_reload_keys(call, workspace));
            return cof_fail(call->err, COF_REASON_CONFLICT, "the workspace's key was rotated meanwhile; %s",
                            cof_reason_next_step(COF_REASON_CONFLICT));
        }
        TRY(code);
    }
    return COF_OK;
}

static struct param time_param(int64_t time)
{
    return time == REFRESH_NEVER ? param_null() : param_time(time);
}

static cof_code queue_stored(struct call *call, const struct refresh_rows *rows,
                             const struct refresh_action *action)
{
    const struct param params[] = {
        param_uuid(&rows->row.workspace_id),
        param_uuid(&rows->row.connection_id),
        param_i64(action->fence),
        param_i64(action->generation + 1),
        param_i32(action->tries),
        time_param(action->next),
    };
    return session_queue(call->session, STATEMENT_LEASE_STORED, params, COF_COUNT(params), call->err);
}

cof_code refresh_rows_store(struct call *call, const struct refresh_rows *rows, const struct refresh_action *action,
                            const struct refresh_tokens *tokens, bool *ret_stored)
{
    struct connection_token_row row;
    bool moved = false;
    call->sealed = (struct call_sealed){0};
    TRY(next_token_row(call, rows, action, tokens, &row));
    TRY(move(call, &row, action->generation, &moved));
    if (!moved) {
        session_reset(call->session);
        *ret_stored = false;
        return COF_OK;
    }
    TRY(queue_change(call, rows, row.generation, NULL));
    TRY(queue_sealed(call, &row.workspace_id));
    TRY(queue_stored(call, rows, action));
    TRY(commit(call, &row.workspace_id, 3));
    *ret_stored = true;
    return COF_OK;
}

/* --- Authorizations ------------------------------------------------------------------------------------------- */

/* Nobody has written tokens but refreshes, which leave the time of the connect as it is. */
static bool still_there(const struct refresh_rows *rows, const struct refresh_connect *connect)
{
    const struct connection_token_row *token = &rows->token;
    const bool refreshed = connect->connect_time != ROW_NO_TIME && token->connect_time == connect->connect_time;
    return rows->row.config_generation == connect->config_generation &&
           (token->generation == connect->generation || refreshed);
}

static cof_code connected_row(struct call *call, const struct refresh_rows *rows,
                              const struct refresh_connect *connect, const struct refresh_tokens *tokens,
                              struct connection_token_row *ret_row)
{
    const struct refresh_action action = {
        .generation = rows->token.generation,
        .status = REFRESH_CONNECTED,
        .obtained = connect->obtained,
        .expires = connect->expires,
    };
    TRY(next_token_row(call, rows, &action, tokens, ret_row));
    ret_row->token_type = cof_slice_text("bearer");
    ret_row->scopes = tokens->scopes;
    ret_row->principal_id = connect->principal;
    ret_row->connect_time = call_now(call);
    return COF_OK;
}

/* The lease begins anew, due at once: whoever looks at it then finds out when there is something to do. */
static cof_code queue_connected(struct call *call, const struct connection_token_row *row,
                                const struct refresh_connect *connect)
{
    const struct param lease[] = {
        param_uuid(&row->workspace_id),
        param_uuid(&row->connection_id),
        param_i64(row->generation),
        param_time(call_now(call)),
    };
    const struct param end[] = {
        param_uuid(&row->workspace_id), param_uuid(&connect->authorization), param_i32(AUTHORIZATION_CONNECTED),
        param_time(call_now(call)),     param_i32(COF_REASON_NONE),          param_text(cof_slice_text("")),
    };
    TRY(session_queue(call->session, STATEMENT_CONNECTION_LEASE_RESET, lease, COF_COUNT(lease), call->err));
    return session_queue(call->session, STATEMENT_AUTHORIZATION_END, end, COF_COUNT(end), call->err);
}

cof_code refresh_rows_connect(struct call *call, const struct refresh_rows *rows,
                              const struct refresh_connect *connect, const struct refresh_tokens *tokens,
                              bool *ret_stored)
{
    struct connection_token_row row;
    bool moved = false;
    *ret_stored = false;
    if (!still_there(rows, connect)) {
        return COF_OK;
    }
    call->sealed = (struct call_sealed){0};
    TRY(connected_row(call, rows, connect, tokens, &row));
    TRY(move(call, &row, rows->token.generation, &moved));
    if (!moved) {
        session_reset(call->session);
        return cof_fail(call->err, COF_REASON_CONFLICT, "%s; %s", cof_reason_meaning(COF_REASON_CONFLICT),
                        cof_reason_next_step(COF_REASON_CONFLICT));
    }
    TRY(queue_change(call, rows, row.generation, &connect->authorization));
    TRY(queue_sealed(call, &row.workspace_id));
    TRY(queue_connected(call, &row, connect));
    TRY(commit(call, &row.workspace_id, 4));
    *ret_stored = true;
    return COF_OK;
}

static cof_code queue_release(struct call *call, const struct refresh_rows *rows,
                              const struct refresh_action *action, const struct refresh_failure *failure)
{
    const struct param params[] = {
        param_uuid(&rows->row.workspace_id),
        param_uuid(&rows->row.connection_id),
        param_i64(action->fence),
        param_i64(action->generation),
        param_i32(action->tries),
        param_i32(action->failures),
        time_param(action->next),
        param_i32((int32_t) failure->reason),
        param_text(failure->text),
    };
    return session_queue(call->session, STATEMENT_LEASE_RELEASE, params, COF_COUNT(params), call->err);
}

/* Tokens that have moved on have a state of their own. */
static cof_code change_state(struct call *call, const struct refresh_rows *rows,
                             const struct refresh_action *action, const struct refresh_failure *failure)
{
    struct connection_token_row row = rows->token;
    bool moved = false;
    call->sealed = (struct call_sealed){0};
    row.state = (int32_t) action->status;
    TRY(move(call, &row, action->generation, &moved));
    if (moved) {
        TRY(queue_change(call, rows, row.generation, NULL));
        TRY(queue_sealed(call, &row.workspace_id));
    }
    TRY(queue_release(call, rows, action, failure));
    return commit(call, &row.workspace_id, moved ? 3 : 1);
}

cof_code refresh_rows_release(struct call *call, const struct refresh_rows *rows,
                              const struct refresh_action *action, const struct refresh_failure *failure)
{
    if ((int32_t) action->status != rows->token.state) {
        return change_state(call, rows, action, failure);
    }
    TRY(queue_release(call, rows, action, failure));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, NULL, call->err);
}
