#include "server/service/connection_revoke.h"

#include <string.h>

#include "server/service/asks.h"
#include "server/service/connection_exchange.h"
#include "server/service/text.h"
#include "server/service/token_source.h"

#define REVOCATION(name) COFFER__V1__REVOCATION__REVOCATION_##name

enum { SETTLE_US = 5000000, SUCCESS = 200, REDIRECTION = 300 };

struct revoking {
    struct call *call;
    struct refresh_rows rows;
    const struct provider *provider;
    struct revocation *revocation;
};

/* --- What became of it ---------------------------------------------------------------------------------------- */

static cof_code ends(struct revoking *revoking, Coffer__V1__Revocation result, const char *message)
{
    *revoking->revocation = (struct revocation){result, message, revoking->rows.token.generation};
    return message == NULL ? cof_arena_exhausted(revoking->call->err) : COF_OK;
}

/* The failure's own words; the tokens are dropped all the same. Only memory that runs out ends the call. */
static cof_code fails(struct revoking *revoking)
{
    struct call *call = revoking->call;
    if (call->err->reason == COF_REASON_OUT_OF_MEMORY) {
        return call->err->code;
    }
    const char *message = cof_arena_format(call->arena, "%s", call->err->message);
    cof_error_clear(call->err);
    return ends(revoking, REVOCATION(FAILED), message);
}

/* --- One token ------------------------------------------------------------------------------------------------ */

/* A token that the provider does not know (any more) is as good as revoked. */
static bool unknown_token(const struct token_found *found)
{
    return strcmp(found->code, "invalid_token") == 0;
}

static cof_code read_answer(struct revoking *revoking, const struct connection_exchange *exchange,
                            const struct outbound_answer_view *view, bool is_refresh_token)
{
    struct call *call = revoking->call;
    const struct token_reply reply = {
        .end = TOKEN_END_WHOLE, .status = view->status, .body = view->body, .now_us = view->received_us};
    const char *what = is_refresh_token ? "refresh" : "access";
    struct token_found found;
    if (view->end != OUTBOUND_ANSWERED) {
        return ends(revoking, REVOCATION(FAILED),
                    cof_arena_format(call->arena,
                                     "the provider was asked to revoke the %s token and gave no answer: %s", what,
                                     view->what));
    }
    TRY(token_answer_read(&exchange->question, &reply, call->arena, &found, call->err));
    const bool said = found.code[0] != '\0' || found.description[0] != '\0';
    if ((view->status >= SUCCESS && view->status < REDIRECTION && !said) || unknown_token(&found)) {
        return ends(revoking, REVOCATION(REVOKED), "the provider has revoked its tokens");
    }
    if (!is_refresh_token && strcmp(found.code, "unsupported_token_type") == 0) {
        return ends(revoking, REVOCATION(NOT_SUPPORTED),
                    "the provider revokes no access tokens; it lives until it expires");
    }
    return ends(revoking, REVOCATION(FAILED),
                cof_arena_format(call->arena, "the provider did not revoke the %s token: status %d%s%s%s%s", what,
                                 view->status, said ? ", " : "", found.code,
                                 found.code[0] != '\0' && found.description[0] != '\0' ? ": " : "",
                                 found.description));
}

static cof_code ask(struct revoking *revoking, const struct connection_exchange *exchange, const char *name,
                    struct outbound_answer_view *ret_answer)
{
    struct outbound_header headers[CONNECTION_EXCHANGE_HEADERS];
    const struct ask ask = {
        .name = name,
        .workspace = &revoking->rows.row.workspace_id,
        .group = exchange->group,
        .method = "POST",
        .url = exchange->url,
        .headers = headers,
        .header_count = connection_exchange_headers(exchange, headers),
        .body = exchange->request.body,
    };
    return asks_ask(revoking->call, &ask, ret_answer);
}

/* The tokens of one generation are asked for once. */
static cof_code revoke(struct revoking *revoking, struct cof_slice token, bool is_refresh_token)
{
    struct call *call = revoking->call;
    struct connection_exchange exchange;
    struct outbound_answer_view answer;
    const char *name =
        cof_arena_format(call->arena, "revoke %s token %lld", is_refresh_token ? "refresh" : "access",
                         (long long) revoking->rows.token.generation);
    if (name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (connection_exchange_revoke(call, &revoking->rows, revoking->provider, token, is_refresh_token, &exchange) !=
        COF_OK) {
        return fails(revoking);
    }
    const cof_code code = ask(revoking, &exchange, name, &answer);
    if (code != COF_OK) {
        return call->wait.cause == CALL_WAIT_NONE ? fails(revoking) : code;
    }
    return read_answer(revoking, &exchange, &answer, is_refresh_token);
}

static cof_code revoke_tokens(struct revoking *revoking)
{
    struct call *call = revoking->call;
    struct cof_slice refresh_token;
    struct cof_slice access_token;
    if (refresh_rows_refresh_token(call, &revoking->rows, &refresh_token) != COF_OK ||
        refresh_rows_access_token(call, &revoking->rows, &access_token) != COF_OK) {
        return fails(revoking);
    }
    if (refresh_token.len > 0) {
        TRY(revoke(revoking, refresh_token, true));
    }
    if (access_token.len == 0 || (refresh_token.len > 0 && revoking->revocation->result != REVOCATION(REVOKED))) {
        return COF_OK;
    }
    TRY(revoke(revoking, access_token, false));
    if (refresh_token.len > 0 && revoking->revocation->result == REVOCATION(NOT_SUPPORTED)) {
        return ends(revoking, REVOCATION(REVOKED),
                    "the provider has revoked its refresh token; it revokes no access tokens");
    }
    return COF_OK;
}

/* --- The connection ------------------------------------------------------------------------------------------- */

/* A refresh that is under way brings tokens that would be dropped without being revoked. It is waited for as by somebody who
 * wants it now, and not for long: its server may have gone. */
static cof_code wait_for_refresh(struct revoking *revoking)
{
    struct call *call = revoking->call;
    const struct refresh_rows *rows = &revoking->rows;
    const struct token_source *source = call->service->tokens;
    const struct refresh_wish wish = {.want = REFRESH_WANT_NOW};
    const int64_t most_us = call->received_us + SETTLE_US;
    const int64_t end_us = call_wait_end(call, call->deadline_us);
    const int64_t until_us = end_us < most_us ? end_us : most_us;
    struct flight flight;
    if (rows->lease.lease_until == ROW_NO_TIME || rows->lease.lease_until <= rows->time || source == NULL ||
        !call_may_wait(call, until_us)) {
        return COF_OK;
    }
    TRY(token_flight(call, rows, revoking->provider, &flight));
    if (flights_begin(call->service->flights, &flight.key) == FLIGHT_FULL) {
        return COF_OK;
    }
    if (!source->want(source->context, &rows->row.workspace_id, &rows->row.connection_id, &wish, until_us)) {
        flights_land_if_any(call->service->flights, &flight.key);
        return COF_OK;
    }
    call_wait_for_flight(call, CALL_WAIT_PROVIDER, &rows->row.workspace_id, &flight, until_us);
    return cof_fail(call->err, COF_REASON_IN_PROGRESS, "the connection is being refreshed; %s",
                    cof_reason_next_step(COF_REASON_IN_PROGRESS));
}

static cof_code revoke_all(struct revoking *revoking)
{
    const struct connection_token_row *token = &revoking->rows.token;
    if (token->refresh_token.len == 0 && token->access_token.len == 0) {
        return ends(revoking, REVOCATION(NOTHING), "it had no tokens");
    }
    if (revoking->provider == NULL) {
        return ends(revoking, REVOCATION(FAILED),
                    "its provider has changed since it was configured, or is gone, so nobody was asked to revoke "
                    "its tokens");
    }
    if (revoking->provider->revocation_endpoint[0] == '\0') {
        return ends(revoking, REVOCATION(NOT_SUPPORTED),
                    "no revocation endpoint of the provider is known; end the grant there");
    }
    TRY(wait_for_refresh(revoking));
    return revoke_tokens(revoking);
}

/* There is none that this is about, which the write will say. */
static bool is_another(cof_reason reason)
{
    return reason == COF_REASON_CONNECTION_NOT_FOUND || reason == COF_REASON_UID_MISMATCH;
}

cof_code connection_revoke(struct call *call, const struct connection_place *place, const char *expected_uid,
                           struct revocation *ret_revocation)
{
    struct revoking revoking = {.call = call, .revocation = ret_revocation};
    struct connection_row row;
    TRY(ends(&revoking, REVOCATION(NOTHING), "it had no tokens"));
    cof_code code = connection_find(call, place, expected_uid, &row);
    if (code != COF_OK && is_another(call->err->reason)) {
        cof_error_clear(call->err);
        return COF_OK;
    }
    if (code == COF_OK) {
        code = refresh_rows_read(call, &row.workspace_id, &row.connection_id, &revoking.rows);
    }
    if (code == COF_OK) {
        code = connection_exchange_provider(call, &revoking.rows, &revoking.provider);
    }
    if (code == COF_OK) {
        return revoke_all(&revoking);
    }
    /* What is damaged can still be deleted. */
    return code == COF_DATA_LOSS || code == COF_NOT_FOUND ? fails(&revoking) : code;
}

cof_code revocation_told(struct call *call, const struct revocation *revocation,
                         const struct connection_token_row *dropped, Coffer__V1__Revocation *ret_result,
                         char **ret_message)
{
    const bool tokens = dropped->access_token.len > 0 || dropped->refresh_token.len > 0;
    const bool moved = tokens && dropped->generation != revocation->generation;
    *ret_result = moved ? REVOCATION(FAILED) : revocation->result;
    *ret_message =
        text_of(call->arena,
                cof_slice_text(moved ? "its tokens were refreshed meanwhile, and the newest ones were not revoked"
                                     : revocation->message));
    return *ret_message == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}
