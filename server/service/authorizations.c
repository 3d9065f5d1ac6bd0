/* The methods of authorizations: started, completed by whoever started them, and looked at. */
#include "server/service/authorizations.h"

#include "common/encode.h"
#include "server/crypto/crypto.h"
#include "server/service/authorization_flow.h"
#include "server/service/connection_exchange.h"
#include "server/service/consistency.h"
#include "server/service/guard.h"
#include "server/service/text.h"

#define EFFECT(name) COFFER__AUDIT__V1__EFFECT__EFFECT_##name
#define GRANT(name) COFFER__V1__CONNECTION_GRANT__CONNECTION_GRANT_##name
#define STATE(name) COFFER__V1__AUTHORIZATION_STATE__AUTHORIZATION_STATE_##name

enum { VERIFIER_RANDOM = 32, MICROSECONDS = 1000000 };

/* --- Starting ------------------------------------------------------------------------------------------------- */

struct starting {
    struct authorization_start start;
    const Coffer__V1__StartAuthorizationRequest *request;
    Coffer__V1__StartAuthorizationResponse *response;
    const char *redirect_uri;
    char state[FLOW_STATE_TEXT];
};

cof_code authorization_own_page(struct call *call, const char **ret_uri)
{
    const char *url = call->service->public_url;
    *ret_uri = "";
    if (url == NULL || url[0] == '\0') {
        return COF_OK;
    }
    const char *uri = cof_arena_format(call->arena, "%s/oauth/callback", url);
    if (uri == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_uri = uri;
    return COF_OK;
}

cof_code authorization_tell_page(struct call *call, char **ret_uri)
{
    const char *uri = NULL;
    TRY(authorization_own_page(call, &uri));
    *ret_uri = text_of(call->arena, cof_slice_text(uri));
    return *ret_uri == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code choose_redirect(struct call *call, struct starting *starting)
{
    const char *asked = starting->request->redirect_uri;
    if (asked[0] != '\0') {
        starting->redirect_uri = asked;
        return flow_redirect_fits(asked)
                   ? COF_OK
                   : cof_fail_field(
                         call->err, COF_REASON_FIELD_INVALID, "redirect_uri",
                         "redirect_uri must be an https URL, or http on 127.0.0.1, [::1] or localhost, of at "
                         "most %d printable characters, without a user and a fragment",
                         FLOW_REDIRECT_MAX);
    }
    TRY(authorization_own_page(call, &starting->redirect_uri));
    if (starting->redirect_uri[0] == '\0') {
        return cof_fail_field(
            call->err, COF_REASON_FIELD_REQUIRED, "redirect_uri",
            "this server has no page of its own for browsers, since http.public_url is not set; give "
            "a redirect_uri, or tell the operator");
    }
    return COF_OK;
}

static cof_code check_flow(struct call *call, const struct starting *starting)
{
    const struct provider *provider = &starting->start.change.provider.provider;
    if (starting->start.change.connection.row.grant_kind != GRANT(AUTHORIZATION_CODE)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "provider",
                              "the connection comes to its tokens in another way; configure it with the grant "
                              "AUTHORIZATION_CODE");
    }
    return provider->authorization_endpoint[0] != '\0'
               ? COF_OK
               : cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "provider",
                                "no authorization endpoint of %s is known; nobody can be sent there", provider->id);
}

/* The state, whose random bytes only the URL has, and the verifier, which only the row has. */
static cof_code make(struct call *call, struct starting *starting)
{
    uint8_t random[FLOW_STATE_RANDOM + VERIFIER_RANDOM];
    uint8_t hash[AUTHORIZATION_HASH];
    struct authorization *authorization = &starting->start.authorization;
    char *verifier = cof_arena_alloc(call->arena, COF_BASE64URL_SIZE(VERIFIER_RANDOM));
    if (verifier == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(crypto_random(random, sizeof random, call->err));
    TRY(crypto_sha256(cof_slice_of(random, FLOW_STATE_RANDOM), hash, call->err));
    flow_state_make(&starting->start.change.write.workspace, random, starting->state);
    cof_base64url_encode(cof_slice_of(random + FLOW_STATE_RANDOM, VERIFIER_RANDOM), verifier);
    TRY(authorization_new(call, &starting->start.change.connection.row, AUTHORIZATION_CODE, hash, authorization));
    authorization->sealed->redirect_uri = text_of(call->arena, cof_slice_text(starting->redirect_uri));
    authorization->sealed->own_pages = starting->request->redirect_uri[0] == '\0';
    authorization->sealed->code_verifier = verifier;
    return authorization->sealed->redirect_uri == NULL ? cof_arena_exhausted(call->err)
                                                       : authorization_seal(call, authorization);
}

static cof_code list_scopes(struct call *call, struct starting *starting)
{
    const struct row_texts *asked = &starting->start.change.connection.row.scopes;
    const struct provider_texts *usual = &starting->start.change.provider.provider.sides[PROVIDER_USER].scopes;
    Coffer__V1__StartAuthorizationResponse *response = starting->response;
    const size_t count = asked->count > 0 ? asked->count : usual->count;
    response->scopes = cof_arena_array(call->arena, count, sizeof *response->scopes);
    response->n_scopes = 0;
    while (response->scopes != NULL && response->n_scopes < count) {
        const size_t i = response->n_scopes;
        char *text = text_of(call->arena, asked->count > 0 ? asked->items[i] : cof_slice_text(usual->items[i]));
        if (text == NULL) {
            return cof_arena_exhausted(call->err);
        }
        response->scopes[response->n_scopes++] = text;
    }
    return response->scopes == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* The provider's URL is made in any case: what is wrong with it shows before somebody is sent anywhere. */
static cof_code answer_start(struct call *call, struct starting *starting)
{
    Coffer__V1__StartAuthorizationResponse *response = starting->response;
    const char *url = NULL;
    TRY(authorization_url(call, &starting->start.change.connection.row, &starting->start.change.provider.provider,
                          &starting->start.authorization, starting->state, &url));
    if (starting->start.authorization.sealed->own_pages) {
        url = cof_arena_format(call->arena, "%s/oauth/start?state=%s", call->service->public_url, starting->state);
    }
    response->url = url == NULL ? NULL : text_of(call->arena, cof_slice_text(url));
    response->redirect_uri = starting->start.authorization.sealed->redirect_uri;
    if (response->url == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(list_scopes(call, starting));
    return authorization_message(call, &starting->start.authorization, &response->authorization);
}

static cof_code decide_start(struct call *call, void *context)
{
    struct starting *starting = context;
    TRY(authorization_start_take(call, &starting->start));
    TRY(check_flow(call, starting));
    TRY(make(call, starting));
    TRY(answer_start(call, starting));
    return authorization_start_record(call, &starting->start);
}

cof_code connection_start_authorization(struct call *call, const Coffer__V1__StartAuthorizationRequest *request,
                                        Coffer__V1__StartAuthorizationResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, CONNECTION_USER);
    struct starting starting = {
        .start.change.expected_uid = request->expected_uid, .request = request, .response = response};
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &starting.start.change.place));
    TRY(choose_redirect(call, &starting));
    authorization_start_init(&starting.start, decide_start, &response->base);
    return write_run(call, &starting.start.change.write);
}

/* --- Looking -------------------------------------------------------------------------------------------------- */

/* A start, with the connection that it is of, if the caller has the permission there: else there is none for him. */
static cof_code find(struct call *call, const struct cof_uuid *workspace, const char *uid,
                     cof_permission permission, struct authorization *ret_authorization,
                     struct refresh_rows *ret_rows)
{
    TRY(authorization_open(call, workspace, uid, ret_authorization, ret_rows));
    const char *name = cof_arena_format(call->arena, "%.*s_oauth", (int) ret_rows->row.provider.len,
                                        (const char *) ret_rows->row.provider.data);
    if (name == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return authorize_sees(call, workspace, ret_rows->row.environment, cof_slice_text(name), permission)
               ? COF_OK
               : authorization_not_found(call);
}

/* As it is now, by its place. */
static cof_code show_connection(struct call *call, const struct connection_row *row,
                                Coffer__V1__Connection **ret_message)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct connection connection = {0};
    const struct param params[] = {
        param_uuid(&row->workspace_id),
        param_text(row->provider),
        param_text(row->environment),
        param_i32(row->class),
    };
    TRY(session_queue(call->session, STATEMENT_CONNECTION_GET, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) != 1) {
        return authorization_not_found(call);
    }
    TRY(connection_read(call, rows, 0, &connection));
    return connection_message(call, &connection, ret_message);
}

cof_code connection_get_authorization(struct call *call, const Coffer__V1__GetAuthorizationRequest *request,
                                      Coffer__V1__GetAuthorizationResponse *response)
{
    struct cof_uuid workspace;
    struct authorization authorization;
    struct refresh_rows rows;
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_CONNECTION_READ, &workspace));
    TRY(call_needs_database(call));
    TRY(find(call, &workspace, request->authorization, COF_PERMISSION_CONNECTION_READ, &authorization, &rows));
    TRY(authorization_message(call, &authorization, &response->authorization));
    return authorization.row.state == AUTHORIZATION_CONNECTED
               ? show_connection(call, &rows.row, &response->connection)
               : COF_OK;
}

/* --- Completing ----------------------------------------------------------------------------------------------- */

struct completing {
    struct write write;
    const Coffer__V1__CompleteAuthorizationRequest *request;
    Coffer__V1__CompleteAuthorizationResponse *response;
    struct authorization authorization;
    struct refresh_rows rows;
    struct caller starter;
    const struct provider *provider;
    struct flow_return back;
    flow_verdict verdict;
    struct cof_slice refusal;
};

static cof_code authorize_completion(struct call *call, const struct completing *completing)
{
    TRY(authorization_may_write(call, completing->request->workspace, &completing->rows.row));
    if (!cof_uuid_equal(&completing->authorization.row.principal_id, &call->caller->principal)) {
        return cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                        "another account has started this authorization, and only that one may complete it");
    }
    return COF_OK;
}

static cof_code refused(struct call *call, const char *why)
{
    return cof_fail_field(call->err, COF_REASON_AUTHORIZATION_REFUSED, "query", "%s", why);
}

/* What is not for this start changes nothing: the right answer may still come. */
static cof_code read_query(struct call *call, struct completing *completing)
{
    const Coffer__V1__CompleteAuthorizationRequest *request = completing->request;
    const struct cof_slice query = {request->query.data, request->query.len};
    uint8_t hash[AUTHORIZATION_HASH];
    struct cof_uuid workspace;
    if (completing->authorization.sealed->own_pages) {
        return refused(call, "this authorization comes back to the server's own page; open its URL in a browser");
    }
    const cof_code code = flow_return_read(query, call->arena, &completing->back, call->err);
    if (code != COF_OK && call->err->reason == COF_REASON_FIELD_INVALID) {
        return cof_fail_field(
            call->err, COF_REASON_FIELD_INVALID, "query",
            "query is not form-encoded, too long, or says the same thing twice; hand over what stands "
            "behind the ? of the redirect URI, as it came");
    }
    TRY(code);
    if (!authorization_state(completing->back.state, &workspace, hash) ||
        !cof_uuid_equal(&workspace, &completing->write.workspace) ||
        !cof_slice_equal(cof_slice_of(hash, sizeof hash), completing->authorization.row.state_hash)) {
        return refused(call, "the state in the query is not that of this authorization; nothing was changed");
    }
    return authorization_judge(call, &completing->rows, completing->provider, &completing->back,
                               &completing->verdict, &completing->refusal);
}

static cof_code look_complete(struct call *call, void *context)
{
    const struct completing *completing = context;
    const struct param params[] = {
        param_uuid(&completing->write.workspace),
        param_text(completing->authorization.row.state_hash),
        param_time(call_now(call)),
    };
    return session_queue(call->session, STATEMENT_AUTHORIZATION_CONSUME, params, COF_COUNT(params), call->err);
}

static cof_code decide_complete(struct call *call, void *context)
{
    struct completing *completing = context;
    Coffer__Audit__V1__Object *object = NULL;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) != 1) {
        return cof_fail_field(call->err, COF_REASON_AUTHORIZATION_OVER, "authorization", "%s; %s",
                              cof_reason_meaning(COF_REASON_AUTHORIZATION_OVER),
                              cof_reason_next_step(COF_REASON_AUTHORIZATION_OVER));
    }
    TRY(write_object(call, &completing->write, "authorization", &completing->authorization.row.authorization_id,
                     completing->rows.row.environment, completing->rows.row.provider, &object));
    object->effect = EFFECT(METADATA_CHANGED);
    return COF_OK;
}

static cof_code apply_complete(struct call *call, void *context)
{
    struct completing *completing = context;
    const struct connection_authorization_row *row = &completing->authorization.row;
    const struct param params[] = {
        param_uuid(&row->workspace_id),
        param_uuid(&row->authorization_id),
        param_i32(AUTHORIZATION_FAILED),
        param_time(call_now(call)),
        param_i32((int32_t) COF_REASON_AUTHORIZATION_REFUSED),
        param_text(completing->refusal),
    };
    return completing->verdict == FLOW_CODE
               ? COF_OK
               : write_queue(call, &completing->write, STATEMENT_AUTHORIZATION_END, params, COF_COUNT(params));
}

/* The record of the request says that it was consumed; how it went is in the row, which is read in any case. */
static cof_code consume(struct call *call, struct completing *completing)
{
    completing->write.look = look_complete;
    completing->write.decide = decide_complete;
    completing->write.apply = apply_complete;
    completing->write.context = completing;
    completing->write.answer = &completing->response->base;
    TRY(write_run(call, &completing->write));
    call->packed_answer = (struct cof_slice){NULL, 0};
    return COF_OK;
}

/* What was stored meanwhile is in the state that the answer names. */
static cof_code set_token(struct call *call, const struct completing *completing)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    char text[CONSISTENCY_TOKEN_TEXT];
    const struct param params[] = {param_uuid(&completing->write.workspace)};
    TRY(session_queue(call->session, STATEMENT_REVISION_GET, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) != 1) {
        return authorization_not_found(call);
    }
    consistency_format(call->service, (uint64_t) rows_i64(rows, 0, 0), text);
    completing->response->consistency_token = text_of(call->arena, cof_slice_text(text));
    return completing->response->consistency_token == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

/* How it went, for the caller. */
static cof_code report(struct call *call, struct completing *completing, const struct flight *flight)
{
    Coffer__V1__CompleteAuthorizationResponse *response = completing->response;
    const struct connection_authorization_row *row = &completing->authorization.row;
    const int64_t until_us = call_wait_end(call, call->deadline_us);
    TRY(authorization_message(call, &completing->authorization, &response->authorization));
    if (response->authorization->state == STATE(FAILED)) {
        return cof_fail(call->err,
                        (cof_reason) row->error_reason == COF_REASON_NONE ? COF_REASON_PROVIDER_UNAVAILABLE
                                                                          : (cof_reason) row->error_reason,
                        "the connection was not made: %s", response->authorization->error_text);
    }
    if (response->authorization->state == STATE(EXCHANGING) && call_may_wait(call, until_us) &&
        flights_under_way(call->service->flights, &flight->key)) {
        call_wait_for_flight(call, CALL_WAIT_PROVIDER, &completing->write.workspace, flight, until_us);
        return cof_fail(call->err, COF_REASON_PROVIDER_UNAVAILABLE, "the provider has not answered yet");
    }
    return show_connection(call, &completing->rows.row, &response->connection);
}

cof_code connection_complete_authorization(struct call *call,
                                           const Coffer__V1__CompleteAuthorizationRequest *request,
                                           Coffer__V1__CompleteAuthorizationResponse *response)
{
    struct completing completing = {.request = request, .response = response};
    struct flight flight;
    call->writes = call->waits == 0; /* what was waited for is only looked at */
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_CONNECTION_WRITE,
                            &completing.write.workspace));
    TRY(find(call, &completing.write.workspace, request->authorization, COF_PERMISSION_CONNECTION_WRITE,
             &completing.authorization, &completing.rows));
    TRY(authorize_completion(call, &completing));
    if (call->service->authorizations == NULL) {
        return cof_fail(call->err, COF_REASON_PROVIDER_UNAVAILABLE, "this server asks no providers");
    }
    TRY(connection_exchange_provider(call, &completing.rows, &completing.provider));
    TRY(authorization_flight(call, &completing.authorization.row, completing.provider, &flight));
    if (completing.authorization.row.state == AUTHORIZATION_PENDING) {
        TRY(authorization_check_starter(call, &completing.authorization, &completing.rows.row,
                                        &completing.starter));
        TRY(authorization_rows(call, &completing.authorization, &completing.rows, &completing.provider));
        TRY(read_query(call, &completing));
    }
    if (call->waits == 0) {
        TRY(consume(call, &completing));
    }
    if (call->waits == 0 && !call->replayed && completing.verdict == FLOW_CODE) {
        TRY(authorization_exchange(call, &completing.authorization.row, completing.back.code, &flight));
    }
    TRY(authorization_get(call, &completing.write.workspace, &completing.authorization.row.authorization_id,
                          &completing.authorization));
    TRY(report(call, &completing, &flight));
    return set_token(call, &completing);
}
