#include "server/service/authorization_flow.h"

#include <string.h>

#include "server/crypto/crypto.h"
#include "server/service/connection_exchange.h"
#include "server/service/text.h"

#define EFFECT(name) COFFER__AUDIT__V1__EFFECT__EFFECT_##name

/* --- Starting ------------------------------------------------------------------------------------------------- */

static cof_code look(struct call *call, void *context)
{
    const struct authorization_start *start = context;
    const struct param params[] = {param_uuid(&start->change.write.workspace), param_time(call_now(call))};
    TRY(connection_change_look(call, context));
    return session_queue(call->session, STATEMENT_AUTHORIZATION_PENDING, params, COF_COUNT(params), call->err);
}

static cof_code apply(struct call *call, void *context)
{
    struct authorization_start *start = context;
    return write_queue_row(call, &start->change.write, STATEMENT_AUTHORIZATION_INSERT,
                           &connection_authorization_row_type, &start->authorization.row);
}

void authorization_start_init(struct authorization_start *start,
                              cof_code (*decide)(struct call *call, void *context), const ProtobufCMessage *answer)
{
    connection_change_init(&start->change, decide, answer);
    start->change.write.look = look;
    start->change.write.apply = apply;
}

static cof_code check_pending(struct call *call)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const uint32_t limit = call->service->limits.authorizations_per_workspace;
    TRY(session_next(call->session, &rows, call->err));
    return rows_i64(rows, 0, 0) < (int64_t) limit
               ? COF_OK
               : cof_fail_field(
                     call->err, COF_REASON_LIMIT_EXCEEDED, "provider",
                     "%u authorizations are pending in this workspace; complete some, or wait until they end",
                     limit);
}

cof_code authorization_start_take(struct call *call, struct authorization_start *start)
{
    TRY(connection_change_take_current(call, &start->change));
    return check_pending(call);
}

cof_code authorization_start_record(struct call *call, struct authorization_start *start)
{
    const struct connection_place *place = &start->change.place;
    Coffer__Audit__V1__Object *object = NULL;
    TRY(write_object(call, &start->change.write, "authorization", &start->authorization.row.authorization_id,
                     address_environment(place->address), place->provider, &object));
    object->effect = EFFECT(CREATED);
    return COF_OK;
}

/* --- Finding -------------------------------------------------------------------------------------------------- */

cof_code authorization_not_found(struct call *call)
{
    return cof_fail_field(call->err, COF_REASON_AUTHORIZATION_NOT_FOUND, "authorization", "%s; %s",
                          cof_reason_meaning(COF_REASON_AUTHORIZATION_NOT_FOUND),
                          cof_reason_next_step(COF_REASON_AUTHORIZATION_NOT_FOUND));
}

cof_code authorization_open(struct call *call, const struct cof_uuid *workspace, const char *uid,
                            struct authorization *ret_authorization, struct refresh_rows *ret_rows)
{
    struct cof_uuid id;
    if (!cof_uuid_parse(cof_slice_text(uid), &id)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "authorization",
                              "authorization is no UUID in lower case");
    }
    TRY(authorization_get(call, workspace, &id, ret_authorization));
    const cof_code code = refresh_rows_read(call, workspace, &ret_authorization->row.connection_id, ret_rows);
    return code == COF_NOT_FOUND ? authorization_not_found(call) : code;
}

cof_code authorization_may_write(struct call *call, const char *workspace, const struct connection_row *row)
{
    const struct address *address = NULL;
    const char *provider = text_of(call->arena, row->provider);
    const char *environment = row->environment.len == 0 ? NULL : text_of(call->arena, row->environment);
    if (provider == NULL || (row->environment.len > 0 && environment == NULL)) {
        return cof_arena_exhausted(call->err);
    }
    return authorize_connection(call, workspace, environment, provider, COF_PERMISSION_CONNECTION_WRITE, &address);
}

static bool read_uuid(const ProtobufCBinaryData *bytes, struct cof_uuid *ret_uuid)
{
    if (bytes->len != sizeof ret_uuid->bytes) {
        return false;
    }
    memcpy(ret_uuid->bytes, bytes->data, sizeof ret_uuid->bytes);
    return true;
}

static cof_code read_starter(struct call *call, const struct authorization *authorization,
                             struct caller *ret_starter)
{
    struct cof_uuid workspace;
    struct cof_uuid token;
    if (!read_uuid(&authorization->sealed->token_workspace, &workspace) ||
        !read_uuid(&authorization->sealed->token, &token)) {
        return cof_fail(call->err, COF_REASON_TOKEN_INVALID, "it is not known who started this");
    }
    TRY(caller_of_token(call, &workspace, &token, ret_starter));
    return cof_uuid_equal(&ret_starter->principal, &authorization->row.principal_id)
               ? COF_OK
               : cof_fail(call->err, COF_REASON_CORRUPTED, "the token is another account's");
}

/* What the starter may do is asked as if he called. */
static cof_code check_starter(struct call *call, const struct authorization *authorization,
                              const struct connection_row *row, struct caller *ret_starter)
{
    const struct caller *caller = call->caller;
    const char *workspace = text_of_uuid(call->arena, &row->workspace_id);
    if (workspace == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(read_starter(call, authorization, ret_starter));
    call->caller = ret_starter;
    const cof_code code = authorization_may_write(call, workspace, row);
    call->caller = caller;
    return code;
}

/* What is not about the starter is given on: somebody tries again. */
static bool is_about_starter(cof_reason reason)
{
    switch (reason) {
    case COF_REASON_TOKEN_INVALID:
    case COF_REASON_TOKEN_EXPIRED:
    case COF_REASON_ACCOUNT_DISABLED:
    case COF_REASON_PERMISSION_DENIED:
    case COF_REASON_CORRUPTED:
    case COF_REASON_WORKSPACE_DISABLED:
    case COF_REASON_WORKSPACE_DELETED:
    case COF_REASON_WORKSPACE_NOT_FOUND:
        return true;
    default:
        return false;
    }
}

cof_code authorization_check_starter(struct call *call, const struct authorization *authorization,
                                     const struct connection_row *row, struct caller *ret_starter)
{
    const cof_code code = check_starter(call, authorization, row, ret_starter);
    if (code == COF_OK || !is_about_starter(call->err->reason)) {
        return code;
    }
    cof_error_clear(call->err);
    return cof_fail(
        call->err, COF_REASON_AUTHORIZATION_REFUSED,
        "the token that started this authorization is no longer good, or its account may no longer write "
        "this connection; nothing was stored; start anew");
}

/* --- Exchanging ----------------------------------------------------------------------------------------------- */

cof_code authorization_flight(struct call *call, const struct connection_authorization_row *row,
                              const struct provider *provider, struct flight *ret_flight)
{
    uint8_t digest[CRYPTO_DIGEST];
    const char *group = provider == NULL ? "" : connection_group(call, &row->workspace_id, provider);
    if (group == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(crypto_sha256(cof_slice_text(group), digest, call->err));
    memcpy(ret_flight->group.bytes, digest, sizeof ret_flight->group.bytes);
    return authorization_flight_key(&row->authorization_id, &ret_flight->key, call->err);
}

cof_code authorization_exchange(struct call *call, const struct connection_authorization_row *row,
                                struct cof_slice code, const struct flight *flight)
{
    const struct authorization_source *source = call->service->authorizations;
    (void) flights_begin(call->service->flights, &flight->key);
    if (source->exchange(source->context, &row->workspace_id, &row->authorization_id, code)) {
        return COF_OK;
    }
    flights_land_if_any(call->service->flights, &flight->key);
    return cof_arena_exhausted(call->err);
}
