#include "server/service/device_authorization.h"

#include <assert.h>
#include <string.h>

#include "common/encode.h"
#include "server/crypto/crypto.h"
#include "server/providers/device.h"
#include "server/providers/registration.h"
#include "server/service/asks.h"
#include "server/service/authorization_flow.h"
#include "server/service/connection_exchange.h"
#include "server/service/guard.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

#define GRANT(name) COFFER__V1__CONNECTION_GRANT__CONNECTION_GRANT_##name
#define STATE(name) COFFER__V1__AUTHORIZATION_STATE__AUTHORIZATION_STATE_##name

enum {
    SECOND = 1000000,
    STATUS_OK = 200,
    CLAIM_US = 45000000, /* after which whoever has claimed has not come back: longer than an exchange takes */
};

static const char question[] = "device";

/* --- Starting ------------------------------------------------------------------------------------------------- */

struct starting {
    struct authorization_start base;
    const Coffer__V1__StartDeviceAuthorizationRequest *request;
    Coffer__V1__StartDeviceAuthorizationResponse *response;
    struct refresh_rows rows; /* as they were when the provider was asked */
    struct device_start start;
    const char *verifier; /* of PKCE; empty: without */
};

static cof_code find_rows(struct call *call, struct starting *starting, const struct provider **ret_provider)
{
    bool found = false;
    const struct connection_place *place = &starting->base.change.place;
    const struct refresh_place asked = {place->environment, place->provider, CONNECTION_USER};
    TRY(refresh_rows_find(call, address_workspace(place->address), &asked, &found, &starting->rows));
    if (!found || !cof_slice_equal(starting->rows.row.environment, place->environment)) {
        return connection_not_found(call, place);
    }
    if (starting->rows.row.grant_kind != GRANT(DEVICE_CODE)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "provider",
                              "the connection comes to its tokens in another way; configure it with the grant "
                              "DEVICE_CODE");
    }
    TRY(connection_exchange_provider(call, &starting->rows, ret_provider));
    return *ret_provider != NULL && (*ret_provider)->device_endpoint[0] != '\0'
               ? COF_OK
               : cof_fail(call->err, COF_REASON_CONNECTION_NOT_FOUND,
                          "the provider has changed since the connection was configured, or offers no device flow; "
                          "configure it anew");
}

static cof_code refused(struct call *call, const struct outbound_answer_view *answer)
{
    char words[REGISTRATION_WORDS_MAX + 1];
    registration_refusal(answer->body, call->arena, words);
    return cof_fail(call->err, COF_REASON_AUTHORIZATION_REFUSED,
                    "the provider begins no device flow (%d)%s%s; correct what it names", answer->status,
                    words[0] == '\0' ? "" : ": ", words);
}

static cof_code read_start(struct call *call, const struct outbound_answer_view *answer, const char *url,
                           struct device_start *ret_start)
{
    struct cof_error problem = {0};
    TRY(asks_arrived(call, answer, url));
    if (answer->status != STATUS_OK) {
        return refused(call, answer);
    }
    if (device_start_read(answer->body, call->arena, ret_start, &problem) == COF_OK) {
        return COF_OK;
    }
    return problem.reason == COF_REASON_OUT_OF_MEMORY
               ? cof_arena_exhausted(call->err)
               : cof_fail(call->err, COF_REASON_AUTHORIZATION_REFUSED, "%s: %s", url, problem.message);
}

/* RFC 8628 says nothing of PKCE, and a server ignores what it does not know (RFC 6749, 3.1); some demand it. The answer comes
 * to a later attempt of the request, which has to have the same verifier. */
static cof_code make_verifier(struct call *call, struct starting *starting, const struct provider *provider,
                              char challenge[AUTHORIZATION_CHALLENGE])
{
    uint8_t secret[ASK_SECRET];
    char text[COF_BASE64URL_SIZE(ASK_SECRET)] = "";
    assert(provider != NULL);
    challenge[0] = '\0';
    if (provider->pkce == PROVIDER_PKCE_USED) {
        TRY(asks_secret(call, address_workspace(starting->base.change.place.address), question, secret));
        cof_base64url_encode(cof_slice_of(secret, sizeof secret), text);
        TRY(authorization_challenge(text, challenge, call->err));
    }
    starting->verifier = text_of(call->arena, cof_slice_text(text));
    return starting->verifier == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* The codes, which the provider gives anew for each request; those of a request that failed end by themselves. */
static cof_code ask_provider(struct call *call, struct starting *starting)
{
    struct connection_exchange exchange;
    struct outbound_header headers[CONNECTION_EXCHANGE_HEADERS];
    struct outbound_answer_view answer;
    const struct provider *provider = NULL;
    char challenge[AUTHORIZATION_CHALLENGE];
    TRY(find_rows(call, starting, &provider));
    TRY(make_verifier(call, starting, provider, challenge));
    TRY(connection_exchange_make_device(call, &starting->rows, provider, cof_slice_text(challenge), &exchange));
    const struct ask ask = {
        .name = question,
        .workspace = address_workspace(starting->base.change.place.address),
        .group = exchange.group,
        .method = "POST",
        .url = exchange.url,
        .headers = headers,
        .header_count = connection_exchange_headers(&exchange, headers),
        .body = exchange.request.body,
    };
    TRY(asks_ask(call, &ask, &answer));
    const cof_code code = read_start(call, &answer, exchange.url, &starting->start);
    if (code != COF_OK) {
        asks_forget(call, &ask);
    }
    return code;
}

/* It has no state: its hash is of nothing that anybody has. */
static cof_code make(struct call *call, struct starting *starting)
{
    uint8_t hash[AUTHORIZATION_HASH];
    struct authorization *authorization = &starting->base.authorization;
    const struct device_start *start = &starting->start;
    TRY(crypto_random(hash, sizeof hash, call->err));
    TRY(authorization_new(call, &starting->base.change.connection.row, AUTHORIZATION_DEVICE, hash, authorization));
    authorization->row.expire_time = call_now(call) + start->life_s * SECOND;
    authorization->sealed->expire_time = authorization->row.expire_time;
    authorization->sealed->interval = start->interval_s;
    authorization->sealed->device_code = text_of(call->arena, cof_slice_text(start->device_code));
    authorization->sealed->code_verifier = text_of(call->arena, cof_slice_text(starting->verifier));
    return authorization->sealed->device_code == NULL || authorization->sealed->code_verifier == NULL
               ? cof_arena_exhausted(call->err)
               : authorization_seal(call, authorization);
}

static cof_code answer_start(struct call *call, struct starting *starting)
{
    Coffer__V1__StartDeviceAuthorizationResponse *response = starting->response;
    const struct device_start *start = &starting->start;
    response->user_code = text_of(call->arena, cof_slice_text(start->user_code));
    response->verification_uri = text_of(call->arena, cof_slice_text(start->verification_uri));
    response->verification_uri_complete = text_of(call->arena, cof_slice_text(start->complete_uri));
    response->interval_seconds = (uint32_t) start->interval_s;
    return response->user_code == NULL || response->verification_uri == NULL ||
                   response->verification_uri_complete == NULL
               ? cof_arena_exhausted(call->err)
               : authorization_message(call, &starting->base.authorization, &response->authorization);
}

static cof_code decide_start(struct call *call, void *context)
{
    struct starting *starting = context;
    TRY(authorization_start_take(call, &starting->base));
    if (starting->base.change.connection.row.config_generation != starting->rows.row.config_generation) {
        return cof_fail(call->err, COF_REASON_CONFLICT,
                        "the connection was configured anew while the provider was asked; start anew");
    }
    TRY(make(call, starting));
    TRY(answer_start(call, starting));
    return authorization_start_record(call, &starting->base);
}

cof_code connection_start_device(struct call *call, const Coffer__V1__StartDeviceAuthorizationRequest *request,
                                 Coffer__V1__StartDeviceAuthorizationResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, CONNECTION_USER);
    struct starting starting = {
        .base.change.expected_uid = request->expected_uid, .request = request, .response = response};
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &starting.base.change.place));
    TRY(guard_load_keys(call, address_workspace(starting.base.change.place.address)));
    TRY(ask_provider(call, &starting));
    authorization_start_init(&starting.base, decide_start, &response->base);
    return write_run(call, &starting.base.change.write);
}

/* --- Asking how it goes --------------------------------------------------------------------------------------- */

struct polling {
    struct cof_uuid workspace;
    const Coffer__V1__PollDeviceAuthorizationRequest *request;
    Coffer__V1__PollDeviceAuthorizationResponse *response;
    struct authorization authorization;
    struct refresh_rows rows;
};

/* For whoever may write the connection, and has started it himself. */
static cof_code find(struct call *call, struct polling *polling)
{
    const struct connection_authorization_row *row = &polling->authorization.row;
    TRY(authorization_open(call, &polling->workspace, polling->request->authorization, &polling->authorization,
                           &polling->rows));
    if (row->flow != AUTHORIZATION_DEVICE || !cof_uuid_equal(&row->principal_id, &call->caller->principal)) {
        return authorization_not_found(call);
    }
    return authorization_may_write(call, polling->request->workspace, &polling->rows.row);
}

/* One server at a time, and not before the provider's interval is over. */
static cof_code claim(struct call *call, const struct polling *polling, bool *ret_claimed)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const int64_t now = call_now(call);
    const struct param params[] = {
        param_uuid(&polling->workspace),
        param_uuid(&polling->authorization.row.authorization_id),
        param_time(now),
        param_time(now - polling->authorization.sealed->interval * SECOND),
        param_time(now - CLAIM_US),
    };
    TRY(session_queue(call->session, STATEMENT_DEVICE_CLAIM, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    *ret_claimed = rows_affected(rows) == 1;
    return COF_OK;
}

/* Asks the provider for this call, if it is time; the call then waits, and looks again. */
static cof_code ask_if_due(struct call *call, struct polling *polling)
{
    struct flight flight;
    bool claimed = false;
    struct caller starter;
    const struct provider *provider = NULL;
    const int64_t until_us = call_wait_end(call, call->deadline_us);
    if (call->waits > 0 || call->service->authorizations == NULL || polling->authorization.sealed == NULL) {
        return COF_OK;
    }
    TRY(authorization_check_starter(call, &polling->authorization, &polling->rows.row, &starter));
    TRY(authorization_rows(call, &polling->authorization, &polling->rows, &provider));
    TRY(claim(call, polling, &claimed));
    if (!claimed) {
        return COF_OK;
    }
    TRY(authorization_flight(call, &polling->authorization.row, provider, &flight));
    TRY(authorization_exchange(call, &polling->authorization.row,
                               cof_slice_text(polling->authorization.sealed->device_code), &flight));
    if (!call_may_wait(call, until_us)) {
        return COF_OK;
    }
    call_wait_for_flight(call, CALL_WAIT_PROVIDER, &polling->workspace, &flight, until_us);
    return cof_fail(call->err, COF_REASON_PROVIDER_UNAVAILABLE, "the provider has not answered yet");
}

/* Seconds until it is worth asking again. */
static uint32_t poll_after(const struct call *call, const struct authorization *authorization)
{
    const int64_t due = authorization->row.change_time + authorization->sealed->interval * SECOND;
    const int64_t left = due - call_now(call);
    return left <= 0 ? 1 : (uint32_t) (left / SECOND + 1);
}

static cof_code tell(struct call *call, struct polling *polling)
{
    Coffer__V1__PollDeviceAuthorizationResponse *response = polling->response;
    const struct authorization *authorization = &polling->authorization;
    TRY(authorization_message(call, authorization, &response->authorization));
    const bool goes_on =
        response->authorization->state == STATE(PENDING) || response->authorization->state == STATE(EXCHANGING);
    response->poll_after_seconds = goes_on && authorization->sealed != NULL ? poll_after(call, authorization) : 0;
    return COF_OK;
}

cof_code connection_poll_device(struct call *call, const Coffer__V1__PollDeviceAuthorizationRequest *request,
                                Coffer__V1__PollDeviceAuthorizationResponse *response)
{
    struct polling polling = {.request = request, .response = response};
    TRY(call_needs_database(call));
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_CONNECTION_WRITE, &polling.workspace));
    TRY(find(call, &polling));
    TRY(ask_if_due(call, &polling));
    return tell(call, &polling);
}

/* --- Nothing yet ---------------------------------------------------------------------------------------------- */

cof_code device_authorization_wait(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *id,
                                   bool slower)
{
    struct authorization authorization;
    TRY(authorization_get(call, workspace, id, &authorization));
    if (authorization.row.state != AUTHORIZATION_EXCHANGING) {
        return COF_OK;
    }
    assert(authorization.sealed != NULL);
    authorization.sealed->interval += slower ? DEVICE_SLOWER_S : 0;
    TRY(authorization_seal(call, &authorization));
    const struct param params[] = {
        param_uuid(workspace),
        param_uuid(id),
        param_time(call_now(call)),
        param_text(authorization.row.sealed),
    };
    TRY(session_queue(call->session, STATEMENT_DEVICE_WAIT, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, NULL, call->err);
}
