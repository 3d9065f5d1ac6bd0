/* Connections as they are shown. */
#include <inttypes.h>

#include "common/name.h"
#include "server/service/connection_credential.h"
#include "server/service/connection_place.h"
#include "server/service/text.h"
#include "server/service/token_clock.h"

#define STATUS(name) COFFER__V1__CONNECTION_STATUS__CONNECTION_STATUS_##name

/* Before the end of a refresh token, in microseconds. */
static const int64_t SOON_US = (int64_t) 7 * 24 * 3600 * 1000000;

static cof_code texts(struct call *call, const struct row_texts *from, char ***ret_texts, size_t *ret_count)
{
    *ret_texts = cof_arena_array(call->arena, from->count, sizeof **ret_texts);
    *ret_count = 0;
    if (*ret_texts == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < from->count; i++) {
        char *text = text_of(call->arena, from->items[i]);
        if (text == NULL) {
            return cof_arena_exhausted(call->err);
        }
        (*ret_texts)[(*ret_count)++] = text;
    }
    return COF_OK;
}

static bool has_text(const struct row_texts *list, struct cof_slice text)
{
    for (size_t i = 0; i < list->count; i++) {
        if (cof_slice_equal(list->items[i], text)) {
            return true;
        }
    }
    return false;
}

/* Providers that give a refresh token for a scope of its own need not list that scope. */
static bool was_granted(const struct connection *connection, struct cof_slice scope)
{
    return has_text(&connection->token.scopes, scope) ||
           (connection->token.refresh_token.len > 0 && cof_slice_equal(scope, cof_slice_text("offline_access")));
}

static cof_code scopes(struct call *call, const struct connection *connection, Coffer__V1__Connection *message)
{
    const struct row_texts *own = &connection->row.scopes;
    const struct row_texts *granted = &connection->token.scopes;
    const struct row_texts *asked = own->count > 0 ? own : &connection->usual_scopes;
    struct row_texts list = {cof_arena_array(call->arena, asked->count, sizeof(struct cof_slice)), 0};
    if (list.items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < asked->count && granted->count > 0; i++) {
        if (!was_granted(connection, asked->items[i])) {
            list.items[list.count++] = asked->items[i];
        }
    }
    TRY(texts(call, own, &message->scopes, &message->n_scopes));
    TRY(texts(call, granted, &message->granted_scopes, &message->n_granted_scopes));
    return texts(call, &list, &message->missing_scopes, &message->n_missing_scopes);
}

/* Until then somebody has to authorise it anew, or it stops: a week is long enough to find that person. */
static const char *end_of(const struct connection_token_row *token, int64_t now)
{
    const int64_t end = token->refresh_expire_time;
    if (token->refresh_token.len == 0 || end == ROW_NO_TIME || end > now + SOON_US) {
        return "";
    }
    return end > now ? "its refresh token ends within a week; connect it anew before that"
                     : "its refresh token should have ended; connect it anew";
}

/* What is wrong with a connection, and what to do next. */
static Coffer__V1__ConnectionStatus status_of(const struct connection *connection, int64_t now,
                                              const char **ret_message)
{
    *ret_message = "";
    if (!connection->has_provider) {
        *ret_message =
            "its provider is not there any more, or damaged; look at the provider, or delete the connection";
        return STATUS(NOT_CONFIGURED);
    }
    if (connection->provider_generation != connection->row.provider_generation) {
        *ret_message = "its provider has changed since it was configured; configure it anew, with its credential";
        return STATUS(NOT_CONFIGURED);
    }
    switch (connection->token.state) {
    case CONNECTION_CONNECTED:
        *ret_message = end_of(&connection->token, now);
        return STATUS(CONNECTED);
    case CONNECTION_REAUTH_REQUIRED:
        *ret_message = "the provider takes its tokens no more; connect it anew";
        return STATUS(REAUTH_REQUIRED);
    case CONNECTION_ERROR:
        *ret_message =
            "the provider refuses what it is configured with; correct the client, its credential or the scopes";
        return STATUS(ERROR);
    default:
        *ret_message = "it has no tokens yet; connect it, or set its tokens";
        return STATUS(CONFIGURED);
    }
}

static cof_code name_it(struct call *call, const struct connection_row *row, Coffer__V1__Connection *message)
{
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->uid = text_of_uuid(call->arena, &row->connection_id);
    message->provider = text_of(call->arena, row->provider);
    message->connection_class = (Coffer__V1__ConnectionClass) row->class;
    if (row->environment.len == 0) {
        message->scope_case = COFFER__V1__CONNECTION__SCOPE_ALL_ENVIRONMENTS;
        message->all_environments = true;
    } else {
        message->scope_case = COFFER__V1__CONNECTION__SCOPE_ENVIRONMENT;
        message->environment = text_of(call->arena, row->environment);
    }
    return message->workspace == NULL || message->uid == NULL || message->provider == NULL ||
                   (row->environment.len > 0 && message->environment == NULL)
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

static cof_code set_time(struct call *call, int64_t time, Google__Protobuf__Timestamp **ret_time)
{
    *ret_time = time_of(call->arena, time);
    return *ret_time == NULL && time != ROW_NO_TIME ? cof_arena_exhausted(call->err) : COF_OK;
}

/* One of the clock that tokens live by. */
static cof_code set_token_time(struct call *call, int64_t time, Google__Protobuf__Timestamp **ret_time)
{
    const int64_t ahead = time == ROW_NO_TIME ? 0 : token_clock_ahead(call->service->token_clock);
    return set_time(call, time - ahead, ret_time);
}

static cof_code times(struct call *call, const struct connection *connection, Coffer__V1__Connection *message)
{
    TRY(set_token_time(call, connection->token.obtain_time, &message->obtain_time));
    TRY(set_token_time(call, connection->token.expire_time, &message->expire_time));
    TRY(set_time(call, connection->token.refresh_expire_time, &message->refresh_expire_time));
    TRY(set_time(call, connection->token.connect_time, &message->connect_time));
    TRY(set_time(call, connection->lease.refresh_time, &message->refresh_time));
    TRY(set_time(call, connection->lease.error_time, &message->error_time));
    TRY(set_time(call, connection->row.create_time, &message->create_time));
    return set_time(call, connection->row.update_time, &message->update_time);
}

/* The lease has no MAC, so what stands in it is taken for nothing but words. */
static cof_code failure(struct call *call, const struct connection_lease_row *lease,
                        Coffer__V1__Connection *message)
{
    if (lease->error_time == ROW_NO_TIME) {
        return COF_OK;
    }
    const char *reason = cof_reason_name((cof_reason) lease->error_reason);
    message->error_reason = text_of(call->arena, cof_slice_text(reason));
    message->error_text =
        text_of(call->arena, cof_text_valid(lease->error_text) ? lease->error_text : cof_slice_text(""));
    return message->error_reason == NULL || message->error_text == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code fill(struct call *call, const struct connection *connection, Coffer__V1__Connection *message)
{
    const char *words;
    message->status = status_of(connection, call_now(call), &words);
    message->status_message = text_of(call->arena, cof_slice_text(words));
    message->grant = (Coffer__V1__ConnectionGrant) connection->row.grant_kind;
    message->client_authentication = (Coffer__V1__ClientAuthentication) connection->row.client_authentication;
    message->client_id = text_of(call->arena, connection->row.client_id);
    message->token_generation = (uint64_t) connection->token.generation;
    message->has_refresh_token = connection->token.refresh_token.len > 0;
    message->etag = cof_arena_format(call->arena, "%" PRId64, connection->row.version);
    if (message->status_message == NULL || message->client_id == NULL || message->etag == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(scopes(call, connection, message));
    TRY(times(call, connection, message));
    TRY(failure(call, &connection->lease, message));
    TRY(connection_settings(call, &connection->row, &message->settings));
    return credential_facts(call, &connection->row, message);
}

cof_code connection_message(struct call *call, const struct connection *connection,
                            Coffer__V1__Connection **ret_message)
{
    Coffer__V1__Connection *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__connection__init(message);
    TRY(name_it(call, &connection->row, message));
    TRY(fill(call, connection, message));
    *ret_message = message;
    return COF_OK;
}

cof_code connection_damaged(struct call *call, const struct connection_row *row,
                            Coffer__V1__Connection **ret_message)
{
    Coffer__V1__Connection *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__connection__init(message);
    TRY(name_it(call, row, message));
    message->corrupted = true;
    *ret_message = message;
    return COF_OK;
}
