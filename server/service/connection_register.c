/*
 * Dynamic client registration (RFC 7591). It asks the provider first, once, and then configures the connection with what it
 * answered; both in one call, which waits between them and begins anew (docs/decisions/0028-discovery.md).
 */
#include <string.h>

#include "common/attr.h"
#include "common/encode.h"
#include "server/providers/registration.h"
#include "server/service/asks.h"
#include "server/service/authorizations.h"
#include "server/service/connection_configure.h"
#include "server/service/connection_place.h"
#include "server/service/connections.h"
#include "server/service/guard.h"
#include "server/service/providers.h"
#include "server/service/text.h"

#define GRANT(name) COFFER__V1__CONNECTION_GRANT__CONNECTION_GRANT_##name
#define AUTHENTICATION(name) COFFER__V1__CLIENT_AUTHENTICATION__CLIENT_AUTHENTICATION_##name

enum {
    SECOND = 1000000,
    MILLISECOND = 1000,
    YOUNG_MS = 60000,
    REQUEST_TIME_SHIFT = 16, /* of a UUIDv7 */
    STATUS_OK = 200,
    STATUS_CREATED = 201,
    STATUS_ERRORS = 500,
    STATUS_NOT_TAKEN = 503
};

struct registering {
    struct call *call;
    const Coffer__V1__RegisterClientRequest *request;
    Coffer__V1__RegisterClientResponse *response;
    struct connection_place place;
    struct write intent; /* its workspace, and whether it was intended */
    struct provider_found *provider;
    const char *url;
    const char *own_page[1]; /* the redirect URI of a request that has none */
    struct registration_wish wish;
    struct outbound_header headers[3];
    size_t header_count;
    struct ask ask;
    struct outbound_answer_view answer;
    struct registration_found found;
};

static cof_code invalid(struct call *call, const char *field, const char *what)
{
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field, "%s %s", field, what);
}

/* --- What is asked for ---------------------------------------------------------------------------------------- */

static cof_code read_grant(struct registering *registering)
{
    static const char *const code[] = {"authorization_code", "refresh_token"};
    static const char *const device[] = {"urn:ietf:params:oauth:grant-type:device_code", "refresh_token"};
    static const char *const own[] = {"client_credentials"};
    struct registration_wish *wish = &registering->wish;
    switch ((int) registering->request->grant) {
    case GRANT(AUTHORIZATION_CODE):
        wish->grants = (struct provider_texts){code, COF_COUNT(code)};
        return COF_OK;
    case GRANT(DEVICE_CODE):
        wish->grants = (struct provider_texts){device, COF_COUNT(device)};
        return COF_OK;
    case GRANT(CLIENT_CREDENTIALS):
        wish->grants = (struct provider_texts){own, COF_COUNT(own)};
        return COF_OK;
    default:
        return invalid(
            registering->call, "grant",
            "has to be AUTHORIZATION_CODE, DEVICE_CODE or CLIENT_CREDENTIALS for a client that is registered");
    }
}

/* https, or a listener on the person's own machine (RFC 8252); fragments are not allowed (RFC 6749, 3.1.2). */
/* Without any it is the server's own page, where it has one. */
static cof_code take_own_page(struct registering *registering)
{
    TRY(authorization_own_page(registering->call, registering->own_page));
    if (registering->own_page[0][0] == '\0') {
        return cof_fail_field(registering->call->err, COF_REASON_FIELD_REQUIRED, "redirect_uris",
                              "redirect_uris is empty, and this server has no page of its own for browsers, since "
                              "http.public_url is not set; say where people may be sent back to");
    }
    registering->wish.redirect_uris = (struct provider_texts){registering->own_page, 1};
    return COF_OK;
}

static cof_code read_redirects(struct registering *registering)
{
    const Coffer__V1__RegisterClientRequest *request = registering->request;
    const bool needed = request->grant == GRANT(AUTHORIZATION_CODE);
    if (needed && request->n_redirect_uris == 0) {
        return take_own_page(registering);
    }
    if (request->n_redirect_uris > REGISTRATION_URIS_MAX || (!needed && request->n_redirect_uris > 0)) {
        return invalid(registering->call, "redirect_uris",
                       "has too many; give at most 8, and none with other grants");
    }
    for (size_t i = 0; i < request->n_redirect_uris; i++) {
        if (!flow_redirect_fits(request->redirect_uris[i])) {
            return invalid(
                registering->call, "redirect_uris",
                "has one that is neither https nor http on a loopback address, or has a user or a fragment");
        }
    }
    registering->wish.redirect_uris =
        (struct provider_texts){(const char *const *) request->redirect_uris, request->n_redirect_uris};
    return COF_OK;
}

/* A key cannot be registered: nobody but the client has it. */
static cof_code read_authentication(struct registering *registering)
{
    static const struct {
        int sent;
        provider_client_auth auth;
    } known[] = {{AUTHENTICATION(SECRET_BASIC), PROVIDER_AUTH_BASIC},
                 {AUTHENTICATION(SECRET_POST), PROVIDER_AUTH_POST},
                 {AUTHENTICATION(NONE), PROVIDER_AUTH_NONE}};
    const struct provider *provider = &registering->provider->provider;
    const int sent = (int) registering->request->client_authentication;
    struct registration_wish *wish = &registering->wish;
    const bool service = registering->request->grant == GRANT(CLIENT_CREDENTIALS);
    wish->auths = provider->client_auths & ~(unsigned) PROVIDER_AUTH_PRIVATE_KEY_JWT &
                  (service ? ~(unsigned) PROVIDER_AUTH_NONE : ~0U);
    const bool has_usual = (wish->auths & (unsigned) provider->client_auth) != 0;
    for (size_t i = 0; i < COF_COUNT(known); i++) {
        const bool taken = (wish->auths & (unsigned) known[i].auth) != 0;
        const bool usual =
            sent == AUTHENTICATION(UNSPECIFIED) && (!has_usual || known[i].auth == provider->client_auth);
        if (taken && (usual || sent == known[i].sent)) {
            wish->auth = known[i].auth;
            return COF_OK;
        }
    }
    return invalid(registering->call, "client_authentication",
                   "is not one that the provider takes of a client that is registered; leave it out");
}

static cof_code read_texts(struct registering *registering)
{
    const Coffer__V1__RegisterClientRequest *request = registering->request;
    struct registration_wish *wish = &registering->wish;
    const struct cof_slice token =
        cof_slice_of(request->initial_access_token.data, request->initial_access_token.len);
    if (strlen(request->client_name) > REGISTRATION_NAME_MAX) {
        return invalid(registering->call, "client_name", "is longer than 200 bytes");
    }
    for (size_t i = 0; i < token.len; i++) {
        if (token.data[i] <= ' ' || token.data[i] > '~' || i >= REGISTRATION_SECRET_MAX) {
            return invalid(registering->call, "initial_access_token",
                           "is no token of at most 4,096 printable characters");
        }
    }
    wish->name = request->client_name[0] == '\0' ? "Coffer" : request->client_name;
    wish->scopes = (struct provider_texts){(const char *const *) request->scopes, request->n_scopes};
    wish->software_id = "coffer";
    wish->software_version = "";
    return COF_OK;
}

static cof_code find_endpoint(struct registering *registering)
{
    struct call *call = registering->call;
    const Coffer__V1__ConnectionSettings *settings = registering->request->settings;
    struct provider_pair pairs[PROVIDER_PARAMETERS_MAX];
    const size_t count = settings == NULL ? 0 : settings->n_parameters;
    const cof_code code = provider_get(call, address_workspace(registering->place.address),
                                       registering->request->provider, registering->provider);
    if (code == COF_NOT_FOUND) {
        return connection_provider_not_found(call, &registering->place);
    }
    TRY(code);
    if (registering->provider->provider.registration_endpoint[0] == '\0') {
        return invalid(call, "provider",
                       "has no registration endpoint; register the client by hand, and configure it");
    }
    if (count > PROVIDER_PARAMETERS_MAX) {
        return invalid(call, "settings.parameters", "has too many");
    }
    for (size_t i = 0; i < count; i++) {
        pairs[i] = (struct provider_pair){settings->parameters[i]->name, settings->parameters[i]->value};
    }
    return provider_expand(&registering->provider->provider, registering->provider->provider.registration_endpoint,
                           (struct provider_pairs){pairs, count}, call->arena, &registering->url, call->err);
}

static void add_header(struct registering *registering, const char *name, const char *value)
{
    registering->headers[registering->header_count++] = (struct outbound_header){name, cof_slice_text(value)};
}

static cof_code make_ask(struct registering *registering)
{
    struct call *call = registering->call;
    const ProtobufCBinaryData *token = &registering->request->initial_access_token;
    struct cof_slice body;
    TRY(registration_write(&registering->wish, call->arena, &body, call->err));
    add_header(registering, "Content-Type", "application/json");
    add_header(registering, "Accept", "application/json");
    if (token->len > 0) {
        const char *value =
            cof_arena_format(call->arena, "Bearer %.*s", (int) token->len, (const char *) token->data);
        if (value == NULL) {
            return cof_arena_exhausted(call->err);
        }
        add_header(registering, "Authorization", value);
    }
    registering->ask = (struct ask){
        .name = "register",
        .workspace = address_workspace(registering->place.address),
        .group = asks_group(call, address_workspace(registering->place.address), registering->url),
        .method = "POST",
        .url = registering->url,
        .headers = registering->headers,
        .header_count = registering->header_count,
        .body = body,
    };
    return registering->ask.group == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code prepare(struct registering *registering)
{
    struct call *call = registering->call;
    const bool service = registering->request->grant == GRANT(CLIENT_CREDENTIALS);
    struct connection_name name =
        CONNECTION_NAME(registering->request, service ? CONNECTION_SERVICE : CONNECTION_USER);
    name.class_field = "grant";
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &registering->place));
    TRY(read_grant(registering));
    registering->intent.workspace = *address_workspace(registering->place.address);
    registering->provider = cof_arena_alloc(call->arena, sizeof *registering->provider);
    if (registering->provider == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(guard_load_keys(call, &registering->intent.workspace));
    TRY(find_endpoint(registering));
    TRY(read_redirects(registering));
    TRY(read_authentication(registering));
    TRY(read_texts(registering));
    return make_ask(registering);
}

/* --- What it says --------------------------------------------------------------------------------------------- */

/* Nobody knows whether there is a client: that is told, also to whoever repeats the request. */
static cof_code unknown(struct registering *registering)
{
    return cof_fail(registering->call->err, COF_REASON_REGISTRATION_UNKNOWN,
                    "the answer of %s was lost, so it may have registered a client that nobody knows; %s",
                    registering->url, cof_reason_next_step(COF_REASON_REGISTRATION_UNKNOWN));
}

/* The failure stands, unless it cannot be written down that nothing was registered. */
static cof_code nothing_registered(struct registering *registering, cof_code code)
{
    struct cof_error ignored = {0};
    struct call call = *registering->call;
    call.err = &ignored;
    asks_forget(registering->call, &registering->ask);
    cof_ignore(write_unintend(&call, &registering->intent));
    return code;
}

static cof_code refused(struct registering *registering)
{
    char words[REGISTRATION_WORDS_MAX + 1];
    const struct outbound_answer_view *answer = &registering->answer;
    registration_refusal(answer->body, registering->call->arena, words);
    const cof_code code = cof_fail(
        registering->call->err, COF_REASON_REGISTRATION_REFUSED, "%s refuses (%d)%s%s; %s", registering->url,
        answer->status, words[0] == '\0' ? "" : ": ", words, cof_reason_next_step(COF_REASON_REGISTRATION_REFUSED));
    return nothing_registered(registering, code);
}

/* A client that cannot be used is there all the same, and whoever asked for it is told. */
static cof_code read_client(struct registering *registering)
{
    struct cof_error problem = {0};
    struct call *call = registering->call;
    const cof_code code =
        registration_read(registering->answer.body, &registering->wish, call->arena, &registering->found, &problem);
    if (code == COF_OK) {
        return COF_OK;
    }
    if (problem.reason == COF_REASON_OUT_OF_MEMORY) {
        return cof_arena_exhausted(call->err);
    }
    return cof_fail(call->err, COF_REASON_REGISTRATION_REFUSED, "%s registered a client that is not used: %s; %s",
                    registering->url, problem.message, cof_reason_next_step(COF_REASON_REGISTRATION_REFUSED));
}

static cof_code judge(struct registering *registering)
{
    const struct outbound_answer_view *answer = &registering->answer;
    if (answer->end != OUTBOUND_ANSWERED && !answer->sent) {
        return nothing_registered(registering, asks_arrived(registering->call, answer, registering->url));
    }
    const bool maybe = answer->status >= STATUS_ERRORS && answer->status != STATUS_NOT_TAKEN;
    if (answer->end != OUTBOUND_ANSWERED || maybe) {
        return unknown(registering);
    }
    return answer->status == STATUS_OK || answer->status == STATUS_CREATED ? read_client(registering)
                                                                           : refused(registering);
}

/* --- The configuration ---------------------------------------------------------------------------------------- */

static void configured(void *context, const Coffer__V1__ConfigureConnectionResponse *from)
{
    Coffer__V1__RegisterClientResponse *response = context;
    response->connection = from->connection;
    response->created = from->created;
    response->tokens_dropped = from->tokens_dropped;
}

static Coffer__V1__ClientAuthentication sent_auth(provider_client_auth auth)
{
    switch (auth) {
    case PROVIDER_AUTH_BASIC:
        return AUTHENTICATION(SECRET_BASIC);
    case PROVIDER_AUTH_POST:
        return AUTHENTICATION(SECRET_POST);
    case PROVIDER_AUTH_NONE:
    case PROVIDER_AUTH_PRIVATE_KEY_JWT:
        break;
    }
    return AUTHENTICATION(NONE);
}

static void fill_request(const struct registering *registering, Coffer__V1__ConfigureConnectionRequest *to,
                         Coffer__V1__ClientCredential *credential)
{
    const Coffer__V1__RegisterClientRequest *from = registering->request;
    const struct registration_found *found = &registering->found;
    coffer__v1__configure_connection_request__init(to);
    coffer__v1__client_credential__init(credential);
    to->workspace = from->workspace;
    to->provider = from->provider;
    to->grant = from->grant;
    to->client_id = text_borrow(found->client_id);
    to->client_authentication = sent_auth(found->auth);
    to->scopes = from->scopes;
    to->n_scopes = from->n_scopes;
    to->settings = from->settings;
    to->expected_uid = from->expected_uid;
    to->etag = from->etag;
    if ((int) from->scope_case == CONNECTION_SCOPE_ENVIRONMENT) {
        to->scope_case = COFFER__V1__CONFIGURE_CONNECTION_REQUEST__SCOPE_ENVIRONMENT;
        to->environment = from->environment;
    }
    if (found->client_secret[0] != '\0') {
        credential->credential_case = COFFER__V1__CLIENT_CREDENTIAL__CREDENTIAL_CLIENT_SECRET;
        credential->client_secret =
            (ProtobufCBinaryData){strlen(found->client_secret), (uint8_t *) text_borrow(found->client_secret)};
        to->credential = credential;
    }
}

static cof_code keep(struct registering *registering)
{
    Coffer__V1__ConfigureConnectionRequest request;
    Coffer__V1__ConfigureConnectionResponse response;
    Coffer__V1__ClientCredential credential;
    const struct connection_registered registered = {
        .provider_generation = registering->provider->generation,
        .secret_expire_us = registering->found.secret_expires_s * SECOND,
        .access_token = registering->found.access_token,
        .client_uri = registering->found.client_uri,
        .answer = &registering->response->base,
        .configured = configured,
        .context = registering->response,
        .intended = registering->intent.intended,
    };
    fill_request(registering, &request, &credential);
    coffer__v1__configure_connection_response__init(&response);
    return connection_configure_registered(registering->call, &request, &response, &registered);
}

/* What is registered and not stored is nobody's secret; who looks after the provider can find it by its ID. */
static cof_code keep_or_tell(struct registering *registering)
{
    struct call *call = registering->call;
    const cof_code code = keep(registering);
    if (code == COF_OK) {
        asks_forget(call, &registering->ask);
        return COF_OK;
    }
    return cof_error_fact(call->err, "registered_client_id", "%s", registering->found.client_id);
}

/* --- Once ----------------------------------------------------------------------------------------------------- */

/* The ID says when the request was made: its first attempt may still be at it, on another server. */
static bool is_young(const struct call *call)
{
    const int64_t made_ms = (int64_t) (cof_get_u64(call->request_id.bytes) >> REQUEST_TIME_SHIFT);
    return call_now(call) / MILLISECOND - made_ms < YOUNG_MS;
}

/* Whoever repeats a request whose first attempt is another server's, or was this one's before it started anew. */
static cof_code begun_before(struct registering *registering, write_intent intent)
{
    if (intent == WRITE_DONE) {
        registering->intent.intended = true; /* its record is there, so nothing is stored: the answer is found */
        registering->found = (struct registration_found){.client_id = "-",
                                                         .client_secret = "",
                                                         .access_token = "",
                                                         .client_uri = "",
                                                         .auth = PROVIDER_AUTH_NONE};
        return keep(registering);
    }
    return is_young(registering->call)
               ? cof_fail(registering->call->err, COF_REASON_IN_PROGRESS, "%s; %s",
                          cof_reason_meaning(COF_REASON_IN_PROGRESS), cof_reason_next_step(COF_REASON_IN_PROGRESS))
               : unknown(registering);
}

cof_code connection_register(struct call *call, const Coffer__V1__RegisterClientRequest *request,
                             Coffer__V1__RegisterClientResponse *response)
{
    struct registering registering = {.call = call, .request = request, .response = response};
    write_intent intent = WRITE_INTENDED;
    TRY(prepare(&registering));
    registering.intent.intended = asks_known(call, &registering.ask);
    if (!registering.intent.intended) {
        TRY(write_intend(call, &registering.intent, &intent));
    }
    if (intent != WRITE_INTENDED) {
        return begun_before(&registering, intent);
    }
    TRY(asks_ask(call, &registering.ask, &registering.answer));
    TRY(judge(&registering));
    return keep_or_tell(&registering);
}
