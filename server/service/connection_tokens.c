/* Tokens that somebody has already. */
#include <stdio.h>

#include "server/outbound/token_answer.h"
#include "server/service/connection_change.h"
#include "server/service/connections.h"
#include "server/service/guard.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"
#include "server/service/token_clock.h"

enum { SECOND = 1000000 };

struct setting {
    struct connection_change change;
    const Coffer__V1__SetConnectionTokensRequest *request;
    Coffer__V1__SetConnectionTokensResponse *response;
    struct cof_slice access_token;
    struct cof_slice refresh_token;
    int64_t expire_time;
    int64_t refresh_expire_time;
    struct row_texts scopes;
};

/* --- The request ---------------------------------------------------------------------------------------------- */

/* RFC 6749, appendix A. Anything else would end up in a header of somebody's request. */
static cof_code read_token(struct call *call, const ProtobufCBinaryData *sent, const char *field,
                           struct cof_slice *ret_token)
{
    for (size_t i = 0; i < sent->len; i++) {
        if (sent->data[i] <= ' ' || sent->data[i] > '~') {
            return cof_fail_field(
                call->err, COF_REASON_FIELD_INVALID, field,
                "%s has a space, a line end or another byte in it that no token has; copy it again", field);
        }
    }
    if (sent->len > TOKEN_TEXT_MAX) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field, "%s is longer than %d bytes", field,
                              TOKEN_TEXT_MAX);
    }
    *ret_token = cof_slice_of(sent->data, sent->len);
    return COF_OK;
}

static cof_code read_time(struct call *call, const Google__Protobuf__Timestamp *time, const char *field,
                          int64_t *ret_time)
{
    if (!time_read(time, ret_time)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field,
                              "%s is no time between the years 1 and 9999", field);
    }
    return COF_OK;
}

static cof_code read_scopes(struct call *call, struct setting *setting)
{
    const Coffer__V1__SetConnectionTokensRequest *request = setting->request;
    if (request->n_granted_scopes > ROW_TEXTS_MAX) {
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "granted_scopes",
                              "at most %d scopes are allowed, not %zu", ROW_TEXTS_MAX, request->n_granted_scopes);
    }
    setting->scopes.items = cof_arena_array(call->arena, request->n_granted_scopes, sizeof *setting->scopes.items);
    if (setting->scopes.items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < request->n_granted_scopes; i++) {
        setting->scopes.items[setting->scopes.count++] = cof_slice_text(request->granted_scopes[i]);
        if (setting->scopes.items[i].len > PROVIDER_SCOPE_MAX) {
            return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "granted_scopes",
                                  "granted_scopes has one of more than %d bytes", PROVIDER_SCOPE_MAX);
        }
    }
    return COF_OK;
}

static cof_code read_request(struct call *call, struct setting *setting)
{
    const Coffer__V1__SetConnectionTokensRequest *request = setting->request;
    TRY(read_token(call, &request->refresh_token, "refresh_token", &setting->refresh_token));
    TRY(read_token(call, &request->access_token, "access_token", &setting->access_token));
    if (setting->refresh_token.len == 0 && setting->access_token.len == 0) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "refresh_token",
                              "neither a refresh_token nor an access_token is given; give one of them, or both");
    }
    TRY(read_time(call, request->expire_time, "expire_time", &setting->expire_time));
    TRY(read_time(call, request->refresh_expire_time, "refresh_expire_time", &setting->refresh_expire_time));
    return read_scopes(call, setting);
}

/* --- The write ------------------------------------------------------------------------------------------------ */

/* Sealed at the tokens' generation; empty stays empty. */
static cof_code seal(struct call *call, const struct connection_token_row *row, blob_kind kind,
                     struct cof_slice token, struct cof_slice *ret_sealed)
{
    const struct blob_address address = {kind, row->workspace_id, row->connection_id, (uint64_t) row->generation};
    *ret_sealed = cof_slice_text("");
    if (token.len == 0) {
        return COF_OK;
    }
    uint8_t *sealed = cof_arena_alloc(call->arena, token.len + BLOB_OVERHEAD);
    if (sealed == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_seal(call, &address, token, sealed));
    *ret_sealed = cof_slice_of(sealed, token.len + BLOB_OVERHEAD);
    return COF_OK;
}

/* What is said of it, by everybody's clock, or what the provider's entry says of a token without a time. */
static int64_t end_of(const struct call *call, const struct setting *setting, int64_t now)
{
    const struct provider *provider = &setting->change.provider.provider;
    if (setting->expire_time != ROW_NO_TIME) {
        return setting->expire_time + token_clock_ahead(call->service->token_clock);
    }
    if (setting->access_token.len == 0) {
        return ROW_NO_TIME;
    }
    return provider->token_never_expires ? ROW_NO_TIME : now + (int64_t) provider->token_life_s * SECOND;
}

/* By the clock that tokens live by. */
static int64_t token_now(const struct call *call)
{
    int64_t time = 0;
    return call_token_time(call, &time) ? time : call_now(call);
}

static cof_code decide_tokens(struct call *call, void *context)
{
    struct setting *setting = context;
    struct connection_change *change = &setting->change;
    struct connection_token_row *row = &change->connection.token;
    TRY(connection_change_take_current(call, change));
    connection_drop_tokens(change);
    row->state = CONNECTION_CONNECTED;
    row->token_type = cof_slice_text("bearer");
    row->scopes = setting->scopes;
    row->obtain_time = token_now(call);
    row->connect_time = call_now(call);
    row->expire_time = end_of(call, setting, row->obtain_time);
    row->refresh_expire_time = setting->refresh_expire_time;
    row->principal_id = call->caller->principal;
    TRY(seal(call, row, BLOB_ACCESS_TOKEN, setting->access_token, &row->access_token));
    TRY(seal(call, row, BLOB_REFRESH_TOKEN, setting->refresh_token, &row->refresh_token));
    change->next_time = row->obtain_time;
    return connection_change_seal(call, change, EFFECT(VALUES_CHANGED), &setting->response->connection);
}

cof_code connection_set_tokens(struct call *call, const Coffer__V1__SetConnectionTokensRequest *request,
                               Coffer__V1__SetConnectionTokensResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, CONNECTION_USER);
    struct setting setting = {
        .change = {.expected_uid = request->expected_uid}, .request = request, .response = response};
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &setting.change.place));
    TRY(read_request(call, &setting));
    connection_change_init(&setting.change, decide_tokens, &response->base);
    return write_run(call, &setting.change.write);
}
