/*
 * A token is asked for because a person says so. The call begins or joins the connection's flight and waits for it, and what
 * came of that lies in the rows: refreshes and failures have times there, and those that are younger than the call are its
 * answer. So the calls of many people cost one request, on whichever servers they are, and one that is repeated because its
 * answer was lost finds the same.
 */
#include "common/name.h"
#include "server/service/connection_change.h"
#include "server/service/connection_exchange.h"
#include "server/service/connections.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"
#include "server/service/token_source.h"

#define RESULT(name) COFFER__V1__REFRESH_RESULT__REFRESH_RESULT_##name

enum { LATER_MS = 1000 };

struct renewal {
    struct connection_change change; /* first */
    struct call *call;
    const struct provider *provider;
    struct refresh_rows rows;
    struct refresh_facts facts;
    int64_t since; /* of the database's clock: when the call came, or a little later */
    Coffer__V1__RefreshResult result;
    const char *message;
    Coffer__V1__RefreshConnectionResponse *response; /* NULL: it is a test */
};

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cof_code provider_changed(struct call *call)
{
    return cof_fail(
        call->err, COF_REASON_CONNECTION_NOT_FOUND,
        "the provider has changed since the connection was configured, or is gone; configure it anew, with the "
        "client's credential");
}

static cof_code read(struct renewal *renewal)
{
    struct call *call = renewal->call;
    struct connection_row row;
    TRY(call_needs_database(call));
    TRY(connection_find(call, &renewal->change.place, renewal->change.expected_uid, &row));
    const int64_t asked = cof_clock_monotonic(call->service->clock);
    TRY(refresh_rows_read(call, &row.workspace_id, &row.connection_id, &renewal->rows));
    TRY(connection_exchange_provider(call, &renewal->rows, &renewal->provider));
    if (renewal->provider == NULL) {
        return provider_changed(call);
    }
    refresh_rows_facts(&renewal->rows, renewal->provider, &renewal->facts);
    renewal->since = renewal->rows.database_time - (asked - call->received_us);
    return COF_OK;
}

/* --- What came of it ------------------------------------------------------------------------------------------ */

static cof_code found(struct renewal *renewal, Coffer__V1__RefreshResult result, const char *message)
{
    renewal->result = result;
    renewal->message = message;
    return message == NULL ? cof_arena_exhausted(renewal->call->err) : COF_OK;
}

/* The lease has no MAC, so what stands in it is taken for nothing but words. */
static const char *said(const struct renewal *renewal)
{
    const struct cof_slice text = renewal->rows.lease.error_text;
    const bool tells = text.len > 0 && cof_text_valid(text);
    return cof_arena_format(renewal->call->arena, "%s%.*s", tells ? ": " : "", tells ? (int) text.len : 0,
                            tells ? (const char *) text.data : "");
}

static cof_code failed(struct renewal *renewal)
{
    struct cof_arena *arena = renewal->call->arena;
    const char *words = said(renewal);
    if (words == NULL) {
        return cof_arena_exhausted(renewal->call->err);
    }
    if (renewal->facts.status == REFRESH_REAUTHORIZE) {
        return found(renewal, RESULT(REAUTH_REQUIRED),
                     cof_arena_format(arena, "the provider takes its tokens no more%s; connect it anew", words));
    }
    if (renewal->facts.status == REFRESH_MISCONFIGURED) {
        return found(renewal, RESULT(CONFIGURATION_REFUSED),
                     cof_arena_format(arena,
                                      "the provider refuses what the connection is configured with%s; "
                                      "correct the client, its credential or the scopes",
                                      words));
    }
    return found(renewal, RESULT(PROVIDER_UNAVAILABLE),
                 cof_arena_format(arena, "the provider gave no token%s; try it again later", words));
}

static cof_code refreshed(struct renewal *renewal)
{
    return found(renewal, RESULT(REFRESHED), "the provider gave a new token");
}

static bool happened(const struct renewal *renewal, int64_t time)
{
    return time != ROW_NO_TIME && time >= renewal->since;
}

/* Too soon after the last time: what came of that. */
static cof_code tell_last(struct renewal *renewal)
{
    const struct connection_lease_row *lease = &renewal->rows.lease;
    if (lease->error_time != ROW_NO_TIME || renewal->facts.status != REFRESH_CONNECTED) {
        return failed(renewal);
    }
    return found(renewal, RESULT(REFRESHED), "the provider gave a new token less than 30 seconds ago");
}

static cof_code not_connected(struct renewal *renewal)
{
    return found(renewal, RESULT(NOT_CONNECTED),
                 refresh_alive(&renewal->facts, renewal->rows.time)
                     ? "it has no refresh token, so its access token is all that there is until it expires"
                     : "it has no tokens yet; connect it, or set its tokens");
}

/* --- Asking --------------------------------------------------------------------------------------------------- */

static cof_code wait_for(struct renewal *renewal, int64_t until_us)
{
    struct call *call = renewal->call;
    struct flight flight;
    TRY(token_flight(call, &renewal->rows, renewal->provider, &flight));
    if (call_may_wait(call, until_us)) {
        call_wait_for_flight(call, CALL_WAIT_PROVIDER, &renewal->rows.row.workspace_id, &flight, until_us);
    }
    cof_ignore(
        cof_fail(call->err, COF_REASON_IN_PROGRESS,
                 "the provider has been asked and has not answered yet; repeat the call with the same request ID"));
    return cof_error_retry_after(call->err, LATER_MS);
}

static cof_code busy(struct call *call)
{
    cof_ignore(cof_fail(call->err, COF_REASON_SERVER_BUSY, "this server refreshes too many tokens; %s",
                        cof_reason_next_step(COF_REASON_SERVER_BUSY)));
    return cof_error_retry_after(call->err, LATER_MS);
}

/* Fails, and the call waits. */
static cof_code fetch(struct renewal *renewal)
{
    struct call *call = renewal->call;
    const struct connection_row *row = &renewal->rows.row;
    const struct token_source *source = call->service->tokens;
    const struct refresh_wish wish = {.want = REFRESH_WANT_NOW};
    const int64_t until_us = call_wait_end(call, call->deadline_us);
    struct flight flight;
    if (source == NULL) {
        return cof_fail(call->err, COF_REASON_NOT_AVAILABLE, "this server refreshes no tokens; %s",
                        cof_reason_next_step(COF_REASON_NOT_AVAILABLE));
    }
    TRY(token_flight(call, &renewal->rows, renewal->provider, &flight));
    if (flights_begin(call->service->flights, &flight.key) == FLIGHT_FULL) {
        return busy(call);
    }
    if (!source->want(source->context, &row->workspace_id, &row->connection_id, &wish, until_us)) {
        flights_land_if_any(call->service->flights, &flight.key);
        return busy(call);
    }
    return wait_for(renewal, until_us);
}

static bool held(const struct renewal *renewal)
{
    const int64_t until = renewal->rows.lease.lease_until;
    return until != ROW_NO_TIME && until > renewal->rows.time;
}

static cof_code decide(struct renewal *renewal)
{
    const struct refresh_wish wish = {.want = REFRESH_WANT_NOW};
    const struct connection_lease_row *lease = &renewal->rows.lease;
    if (happened(renewal, lease->refresh_time)) {
        return refreshed(renewal);
    }
    if (happened(renewal, lease->error_time)) {
        return failed(renewal);
    }
    switch (refresh_need_of(&renewal->facts, &wish, renewal->rows.time)) {
    case REFRESH_FETCH:
        return fetch(renewal);
    case REFRESH_FORCED_OFTEN:
        return held(renewal) ? fetch(renewal) : tell_last(renewal);
    case REFRESH_USE:
    case REFRESH_LATER:
    case REFRESH_PERSON:
    case REFRESH_IN_DOUBT:
    case REFRESH_NOT_AT_ALL:
        break;
    }
    return not_connected(renewal);
}

/* --- Refresh -------------------------------------------------------------------------------------------------- */

static cof_code fill(struct call *call, const struct renewal *renewal, Coffer__V1__RefreshResult *ret_result,
                     char **ret_message)
{
    *ret_result = renewal->result;
    *ret_message = text_of(call->arena, cof_slice_text(renewal->message));
    return *ret_message == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* Only what has an effect happens once, and is on record as this caller's; a failure is tried again by who repeats it. */
static cof_code decide_refresh(struct call *call, void *context)
{
    struct renewal *renewal = context;
    Coffer__V1__RefreshConnectionResponse *response = renewal->response;
    TRY(connection_change_take_whole(call, &renewal->change));
    TRY(connection_message(call, &renewal->change.connection, &response->connection));
    TRY(fill(call, renewal, &response->result, &response->message));
    renewal->change.write.nothing = renewal->result != RESULT(REFRESHED);
    return connection_change_record(call, &renewal->change, EFFECT(VALUES_CHANGED));
}

cof_code connection_refresh(struct call *call, const Coffer__V1__RefreshConnectionRequest *request,
                            Coffer__V1__RefreshConnectionResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, request->connection_class);
    struct renewal renewal = {
        .change = {.expected_uid = request->expected_uid}, .call = call, .response = response};
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &renewal.change.place));
    TRY(read(&renewal));
    TRY(decide(&renewal));
    connection_change_init(&renewal.change, decide_refresh, &response->base);
    return write_run(call, &renewal.change.write);
}

/* --- Test ----------------------------------------------------------------------------------------------------- */

/* What is known without asking the provider. */
static cof_code tell_current(struct renewal *renewal)
{
    if (renewal->facts.status != REFRESH_CONNECTED) {
        return failed(renewal);
    }
    return found(renewal, RESULT(CURRENT),
                 "its token is good; the provider was not asked for another one, since that could end this one");
}

static cof_code check(struct renewal *renewal)
{
    const struct connection_lease_row *lease = &renewal->rows.lease;
    const bool asked = happened(renewal, lease->refresh_time) || happened(renewal, lease->error_time);
    return asked || refresh_harmless(&renewal->facts, renewal->rows.time) ? decide(renewal) : tell_current(renewal);
}

static cof_code show(struct renewal *renewal, Coffer__V1__Connection **ret_message)
{
    const struct connection connection = {
        .row = renewal->rows.row,
        .token = renewal->rows.token,
        .lease = renewal->rows.lease,
        .has_provider = true,
        .provider_generation = renewal->rows.row.provider_generation,
    };
    return connection_message(renewal->call, &connection, ret_message);
}

cof_code connection_test(struct call *call, const Coffer__V1__TestConnectionRequest *request,
                         Coffer__V1__TestConnectionResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, request->connection_class);
    struct renewal renewal = {.change = {.expected_uid = request->expected_uid}, .call = call};
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &renewal.change.place));
    TRY(read(&renewal));
    TRY(check(&renewal));
    TRY(show(&renewal, &response->connection));
    return fill(call, &renewal, &response->result, &response->message);
}
