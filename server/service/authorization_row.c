/* Rows of starts: made, read, and moved from state to state. */
#include <string.h>

#include "common/name.h"
#include "common/wire.h"
#include "server/crypto/crypto.h"
#include "server/service/authorization_flow.h"
#include "server/service/caller.h"
#include "server/service/guard.h"
#include "server/service/text.h"

enum { SECOND = 1000000 };

#define STATE(name) COFFER__V1__AUTHORIZATION_STATE__AUTHORIZATION_STATE_##name

/* --- What is sealed ------------------------------------------------------------------------------------------- */

/* protobuf-c's type has no const; packing only reads. */
static ProtobufCBinaryData bytes_of(const void *data, size_t size)
{
    ProtobufCBinaryData bytes = {.len = size};
    memcpy(&bytes.data, &data, sizeof bytes.data);
    return bytes;
}

static bool same(const ProtobufCBinaryData *bytes, const void *data, size_t size)
{
    return bytes->len == size && memcmp(bytes->data, data, size) == 0;
}

static struct blob_address address_of(const struct connection_authorization_row *row)
{
    return (struct blob_address){BLOB_AUTHORIZATION, row->workspace_id, row->authorization_id, 0};
}

struct sealed_ids {
    struct cof_uuid connection;
    struct cof_uuid principal;
    struct cof_uuid token;
    struct cof_uuid token_workspace;
};

cof_code authorization_new(struct call *call, const struct connection_row *connection, int32_t flow,
                           const uint8_t state_hash[AUTHORIZATION_HASH], struct authorization *ret_authorization)
{
    struct connection_authorization_row *row = &ret_authorization->row;
    Coffer__Stored__V1__Authorization *sealed = cof_arena_alloc(call->arena, sizeof *sealed);
    uint8_t *hash = cof_arena_alloc(call->arena, AUTHORIZATION_HASH);
    struct sealed_ids *ids = cof_arena_alloc(call->arena, sizeof *ids);
    if (sealed == NULL || hash == NULL || ids == NULL) {
        return cof_arena_exhausted(call->err);
    }
    memcpy(hash, state_hash, AUTHORIZATION_HASH);
    *ids = (struct sealed_ids){connection->connection_id, call->caller->principal, call->caller->token.token_id,
                               call->caller->workspace};
    *row = (struct connection_authorization_row){
        .workspace_id = connection->workspace_id,
        .authorization_id = cof_uuid_random(),
        .connection_id = connection->connection_id,
        .flow = flow,
        .state = AUTHORIZATION_PENDING,
        .state_hash = cof_slice_of(hash, AUTHORIZATION_HASH),
        .principal_id = call->caller->principal,
        .create_time = call_now(call),
        .expire_time = call_now(call) + (int64_t) AUTHORIZATION_LIFE_S * SECOND,
        .change_time = call_now(call),
        .error_text = cof_slice_text(""),
    };
    ret_authorization->account = cof_uuid_equal(&call->caller->workspace, &connection->workspace_id)
                                     ? call->caller->account.name
                                     : cof_slice_text("");
    coffer__stored__v1__authorization__init(sealed);
    sealed->connection = bytes_of(ids->connection.bytes, sizeof ids->connection.bytes);
    sealed->principal = bytes_of(ids->principal.bytes, sizeof ids->principal.bytes);
    sealed->token = bytes_of(ids->token.bytes, sizeof ids->token.bytes);
    sealed->token_workspace = bytes_of(ids->token_workspace.bytes, sizeof ids->token_workspace.bytes);
    sealed->state_hash = bytes_of(hash, AUTHORIZATION_HASH);
    sealed->config_generation = connection->config_generation;
    sealed->flow = (uint32_t) flow;
    sealed->expire_time = row->expire_time;
    ret_authorization->sealed = sealed;
    return COF_OK;
}

cof_code authorization_seal(struct call *call, struct authorization *authorization)
{
    const struct blob_address address = address_of(&authorization->row);
    struct cof_slice packed = {NULL, 0};
    TRY(cof_wire_pack(&authorization->sealed->base, call->arena, &packed, call->err));
    uint8_t *blob = cof_arena_alloc(call->arena, packed.len + BLOB_OVERHEAD);
    if (blob == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_seal(call, &address, packed, blob));
    authorization->row.sealed = cof_slice_of(blob, packed.len + BLOB_OVERHEAD);
    return COF_OK;
}

static cof_code corrupted(struct call *call)
{
    return cof_fail(call->err, COF_REASON_CORRUPTED, "a start of an authorization failed its integrity check; %s",
                    cof_reason_next_step(COF_REASON_CORRUPTED));
}

/* What the row says besides must be what was sealed. */
static bool agree(const struct connection_authorization_row *row, const Coffer__Stored__V1__Authorization *sealed)
{
    return same(&sealed->connection, row->connection_id.bytes, sizeof row->connection_id.bytes) &&
           same(&sealed->principal, row->principal_id.bytes, sizeof row->principal_id.bytes) &&
           same(&sealed->state_hash, row->state_hash.data, row->state_hash.len) &&
           (int32_t) sealed->flow == row->flow && sealed->expire_time == row->expire_time;
}

static cof_code open_sealed(struct call *call, struct authorization *authorization)
{
    const struct connection_authorization_row *row = &authorization->row;
    const struct blob_address address = address_of(row);
    ProtobufCMessage *message = NULL;
    uint8_t *packed = cof_arena_alloc(call->arena, row->sealed.len);
    if (packed == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_open(call, &address, row->sealed, packed));
    TRY(cof_wire_unpack(&coffer__stored__v1__authorization__descriptor,
                        cof_slice_of(packed, row->sealed.len - BLOB_OVERHEAD), call->arena, &message, call->err));
    authorization->sealed = (Coffer__Stored__V1__Authorization *) (void *) message;
    return agree(row, authorization->sealed) ? COF_OK : corrupted(call);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* What stands in the clear, in the arena. */
static cof_code read_clear(struct call *call, const struct rows *rows, size_t index,
                           struct authorization *ret_authorization)
{
    struct connection_authorization_row *row = &ret_authorization->row;
    const char *account = text_of(call->arena, rows_bytes(rows, index, connection_authorization_row_type.count));
    if (account == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_authorization = (struct authorization){.account = cof_slice_text(account)};
    TRY(row_read(&connection_authorization_row_type, rows, index, 0, call->arena, row, call->err));
    return row_keep(&connection_authorization_row_type, call->arena, row, call->err);
}

cof_code authorization_read(struct call *call, const struct rows *rows, size_t index,
                            struct authorization *ret_authorization)
{
    const struct connection_authorization_row *row = &ret_authorization->row;
    TRY(read_clear(call, rows, index, ret_authorization));
    if (row->state == AUTHORIZATION_CONNECTED || row->state == AUTHORIZATION_FAILED) {
        return COF_OK;
    }
    return open_sealed(call, ret_authorization);
}

static cof_code read_one(struct call *call, const struct cof_uuid *workspace, statement id, struct param key,
                         struct authorization *ret_authorization)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(workspace), key};
    TRY(session_queue(call->session, id, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) != 1) {
        return authorization_not_found(call);
    }
    TRY(guard_load_keys(call, workspace));
    return authorization_read(call, rows, 0, ret_authorization);
}

cof_code authorization_get(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *id,
                           struct authorization *ret_authorization)
{
    return read_one(call, workspace, STATEMENT_AUTHORIZATION_GET, param_uuid(id), ret_authorization);
}

cof_code authorization_find(struct call *call, const struct cof_uuid *workspace,
                            const uint8_t state_hash[AUTHORIZATION_HASH], struct authorization *ret_authorization)
{
    return read_one(call, workspace, STATEMENT_AUTHORIZATION_FIND,
                    param_text(cof_slice_of(state_hash, AUTHORIZATION_HASH)), ret_authorization);
}

cof_code authorization_check_pending(struct call *call, const struct authorization *authorization)
{
    if (authorization->row.state == AUTHORIZATION_PENDING && authorization->row.expire_time > call_now(call)) {
        return COF_OK;
    }
    return cof_fail(call->err, COF_REASON_AUTHORIZATION_OVER, "%s; %s",
                    cof_reason_meaning(COF_REASON_AUTHORIZATION_OVER),
                    cof_reason_next_step(COF_REASON_AUTHORIZATION_OVER));
}

/* --- From state to state -------------------------------------------------------------------------------------- */

cof_code authorization_consume(struct call *call, const struct authorization *authorization, bool *ret_consumed)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {
        param_uuid(&authorization->row.workspace_id),
        param_text(authorization->row.state_hash),
        param_time(call_now(call)),
    };
    TRY(session_queue(call->session, STATEMENT_AUTHORIZATION_CONSUME, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    *ret_consumed = rows_count(rows) == 1;
    return COF_OK;
}

cof_code authorization_fail(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *id,
                            cof_reason reason, struct cof_slice text)
{
    const struct param params[] = {
        param_uuid(workspace),       param_uuid(id),   param_i32(AUTHORIZATION_FAILED), param_time(call_now(call)),
        param_i32((int32_t) reason), param_text(text),
    };
    TRY(session_queue(call->session, STATEMENT_AUTHORIZATION_END, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, NULL, call->err);
}

/* --- Showing -------------------------------------------------------------------------------------------------- */

/* What nobody has written down: time that is over, and a server that ended in the middle. */
static Coffer__V1__AuthorizationState state_of(const struct call *call,
                                               const struct connection_authorization_row *row)
{
    const int64_t now = call_now(call);
    switch (row->state) {
    case AUTHORIZATION_PENDING:
        return row->expire_time > now ? STATE(PENDING) : STATE(EXPIRED);
    case AUTHORIZATION_EXCHANGING:
        return row->change_time + (int64_t) AUTHORIZATION_LOST_S * SECOND > now ? STATE(EXCHANGING) : STATE(FAILED);
    case AUTHORIZATION_CONNECTED:
        return STATE(CONNECTED);
    default:
        return STATE(FAILED);
    }
}

static cof_code failure(struct call *call, const struct connection_authorization_row *row,
                        Coffer__V1__Authorization *message)
{
    const bool lost = row->state == AUTHORIZATION_EXCHANGING;
    const cof_reason reason = lost ? COF_REASON_PROVIDER_UNAVAILABLE : (cof_reason) row->error_reason;
    const struct cof_slice text =
        lost ? cof_slice_text("the provider's answer was lost; start anew") : row->error_text;
    message->error_reason = text_of(call->arena, cof_slice_text(cof_reason_name(reason)));
    message->error_text = text_of(call->arena, cof_text_valid(text) ? text : cof_slice_text(""));
    return message->error_reason == NULL || message->error_text == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code authorization_message(struct call *call, const struct authorization *authorization,
                               Coffer__V1__Authorization **ret_message)
{
    const struct connection_authorization_row *row = &authorization->row;
    Coffer__V1__Authorization *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__authorization__init(message);
    message->uid = text_of_uuid(call->arena, &row->authorization_id);
    message->connection_uid = text_of_uuid(call->arena, &row->connection_id);
    message->principal = text_of_uuid(call->arena, &row->principal_id);
    message->account = text_of(call->arena, authorization->account);
    message->flow = (Coffer__V1__AuthorizationFlow) row->flow;
    message->state = state_of(call, row);
    message->create_time = time_of(call->arena, row->create_time);
    message->expire_time = time_of(call->arena, row->expire_time);
    message->change_time = time_of(call->arena, row->change_time);
    if (message->uid == NULL || message->connection_uid == NULL || message->principal == NULL ||
        message->account == NULL || message->create_time == NULL || message->expire_time == NULL ||
        message->change_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_message = message;
    return message->state == STATE(FAILED) ? failure(call, row, message) : COF_OK;
}

cof_code authorization_list_next(struct call *call, Coffer__V1__Authorization ***ret_list, size_t *ret_count)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    const size_t count = rows_count(rows);
    Coffer__V1__Authorization **list = cof_arena_array(call->arena, count, sizeof(Coffer__V1__Authorization *));
    if (list == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        struct authorization authorization;
        TRY(read_clear(call, rows, i, &authorization));
        TRY(authorization_message(call, &authorization, &list[i]));
    }
    *ret_list = list;
    *ret_count = count;
    return COF_OK;
}

cof_code authorization_list(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                            Coffer__V1__Authorization ***ret_list, size_t *ret_count)
{
    const struct param params[] = {param_uuid(workspace), param_uuid(connection), param_i64(AUTHORIZATION_SHOWN)};
    TRY(session_queue(call->session, STATEMENT_AUTHORIZATION_LIST, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    return authorization_list_next(call, ret_list, ret_count);
}

cof_code authorization_queue_pending(struct call *call, const struct cof_uuid *workspace)
{
    const struct param params[] = {param_uuid(workspace), param_time(call_now(call)),
                                   param_i64(call->service->limits.authorizations_per_workspace)};
    return session_queue(call->session, STATEMENT_AUTHORIZATION_LIST_PENDING, params, COF_COUNT(params), call->err);
}

cof_code authorization_flight_key(const struct cof_uuid *authorization, struct flight_key *ret_key,
                                  struct cof_error *err)
{
    uint8_t text[sizeof "authorization" + sizeof authorization->bytes] = "authorization";
    memcpy(text + sizeof "authorization", authorization->bytes, sizeof authorization->bytes);
    return crypto_sha256(cof_slice_of(text, sizeof text), ret_key->bytes, err);
}
