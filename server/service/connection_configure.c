/* What a connection is: how it comes to tokens, its client, and what it adds to its provider's entry. */
#include "server/service/connection_configure.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/name.h"
#include "common/wire.h"
#include "server/service/authorizations.h"
#include "server/service/connection_change.h"
#include "server/service/connection_credential.h"
#include "server/service/connections.h"
#include "server/service/expected_uid.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

#define GRANT(name) COFFER__V1__CONNECTION_GRANT__CONNECTION_GRANT_##name
#define AUTHENTICATION(name) COFFER__V1__CLIENT_AUTHENTICATION__CLIENT_AUTHENTICATION_##name

enum { CLIENT_ID_MAX = 512, TEXT_MAX = 2048, SUBJECT_MAX = 256, EXTRA_NAME_MAX = 100 };

struct configuration {
    struct connection_change change;
    const Coffer__V1__ConfigureConnectionRequest *request;
    Coffer__V1__ConfigureConnectionResponse *response;
    const struct provider *provider; /* of the change */
    struct connection_row wanted;    /* as the request has it */
    Coffer__Stored__V1__Credential *credential;
    const struct connection_registered *registered; /* NULL: the client was there before */
    Coffer__Stored__V1__Registration registration;
};

/* --- The request ---------------------------------------------------------------------------------------------- */

static int class_of(Coffer__V1__ConnectionGrant grant)
{
    switch ((int) grant) {
    case GRANT(AUTHORIZATION_CODE):
    case GRANT(DEVICE_CODE):
    case GRANT(REFRESH_TOKEN):
        return CONNECTION_USER;
    case GRANT(CLIENT_CREDENTIALS):
    case GRANT(JWT_BEARER):
        return CONNECTION_SERVICE;
    default:
        return 0;
    }
}

static cof_code invalid(struct call *call, const char *field, const char *what)
{
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, field, "%s %s", field, what);
}

static cof_code check_grant(struct call *call, const struct configuration *configuration)
{
    const struct provider *provider = configuration->provider;
    const bool service = class_of(configuration->request->grant) == CONNECTION_SERVICE;
    const struct provider_side *side = &provider->sides[service ? PROVIDER_SERVICE : PROVIDER_USER];
    if (!side->offered) {
        return invalid(call, "grant",
                       service ? "is of a service token, which the provider does not offer"
                               : "is of a user's token, which the provider does not offer");
    }
    if (service && side->jwt_bearer != (configuration->request->grant == GRANT(JWT_BEARER))) {
        return invalid(call, "grant",
                       side->jwt_bearer ? "has to be JWT_BEARER for a service token of this provider"
                                        : "has to be CLIENT_CREDENTIALS for a service token of this "
                                          "provider");
    }
    if (configuration->request->grant == GRANT(DEVICE_CODE) && provider->device_endpoint[0] == '\0') {
        return invalid(call, "grant", "is DEVICE_CODE, which the provider does not offer");
    }
    return COF_OK;
}

struct authentication {
    int sent;
    unsigned provider;
};

static const struct authentication authentications[] = {
    {AUTHENTICATION(SECRET_BASIC), PROVIDER_AUTH_BASIC},
    {AUTHENTICATION(SECRET_POST), PROVIDER_AUTH_POST},
    {AUTHENTICATION(NONE), PROVIDER_AUTH_NONE},
    {AUTHENTICATION(PRIVATE_KEY_JWT), PROVIDER_AUTH_PRIVATE_KEY_JWT},
};

/* The assertion of a JWT bearer says who asks. */
static cof_code read_authentication(struct call *call, struct configuration *configuration)
{
    const int sent = (int) configuration->request->client_authentication;
    const bool bearer = configuration->request->grant == GRANT(JWT_BEARER);
    if (bearer && (sent == AUTHENTICATION(UNSPECIFIED) || sent == AUTHENTICATION(NONE))) {
        configuration->wanted.client_authentication = AUTHENTICATION(NONE);
        return COF_OK;
    }
    for (size_t i = 0; i < COF_COUNT(authentications) && !bearer; i++) {
        const struct authentication *known = &authentications[i];
        const bool usual =
            sent == AUTHENTICATION(UNSPECIFIED) && known->provider == configuration->provider->client_auth;
        if (usual || (sent == known->sent && (configuration->provider->client_auths & known->provider) != 0)) {
            configuration->wanted.client_authentication = known->sent;
            return COF_OK;
        }
    }
    return invalid(call, "client_authentication",
                   "is not one that the provider takes for this grant; leave it out");
}

static cof_code read_client_id(struct call *call, struct configuration *configuration)
{
    const struct cof_slice id = cof_slice_text(configuration->request->client_id);
    if (id.len > CLIENT_ID_MAX) {
        return invalid(call, "client_id", "is longer than 512 bytes");
    }
    for (size_t i = 0; i < id.len; i++) {
        if (id.data[i] < 0x20 || id.data[i] == 0x7f) {
            return invalid(call, "client_id", "has a control character in it; copy it again");
        }
    }
    configuration->wanted.client_id = id;
    return COF_OK;
}

/* RFC 6749, appendix A.4. */
static bool scope_valid(struct cof_slice scope)
{
    for (size_t i = 0; i < scope.len; i++) {
        const uint8_t byte = scope.data[i];
        if (byte < 0x21 || byte > 0x7e || byte == '"' || byte == '\\') {
            return false;
        }
    }
    return scope.len > 0 && scope.len <= PROVIDER_SCOPE_MAX;
}

static int compare_slices(const void *a, const void *b)
{
    return cof_slice_compare(*(const struct cof_slice *) a, *(const struct cof_slice *) b);
}

static cof_code read_scopes(struct call *call, struct configuration *configuration)
{
    const Coffer__V1__ConfigureConnectionRequest *request = configuration->request;
    struct row_texts *scopes = &configuration->wanted.scopes;
    if (request->n_scopes > ROW_TEXTS_MAX) {
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, "scopes",
                              "at most %d scopes are allowed, not %zu", ROW_TEXTS_MAX, request->n_scopes);
    }
    scopes->items = cof_arena_array(call->arena, request->n_scopes, sizeof *scopes->items);
    if (scopes->items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < request->n_scopes; i++) {
        char field[COF_ERROR_FIELD_SIZE];
        (void) snprintf(field, sizeof field, "scopes[%zu]", i);
        scopes->items[i] = cof_slice_text(request->scopes[i]);
        if (!scope_valid(scopes->items[i])) {
            return invalid(call, field, "is no scope: 1 to 512 printable characters without space, \" and \\");
        }
    }
    qsort(scopes->items, request->n_scopes, sizeof *scopes->items, compare_slices);
    for (size_t i = 0; i < request->n_scopes; i++) {
        if (scopes->count == 0 || !cof_slice_equal(scopes->items[scopes->count - 1], scopes->items[i])) {
            scopes->items[scopes->count++] = scopes->items[i];
        }
    }
    return COF_OK;
}

/* --- Settings ------------------------------------------------------------------------------------------------- */

static int compare_parameters(const void *a, const void *b)
{
    return strcmp((*(Coffer__V1__ConnectionParameter *const *) a)->name,
                  (*(Coffer__V1__ConnectionParameter *const *) b)->name);
}

/* Sorted, so that the same settings are the same bytes. */
static cof_code sort_parameters(struct call *call, const char *field, Coffer__V1__ConnectionParameter **items,
                                size_t count, size_t limit)
{
    if (count > limit) {
        return cof_fail_field(call->err, COF_REASON_LIMIT_EXCEEDED, field, "at most %zu are allowed, not %zu",
                              limit, count);
    }
    if (count > 0) {
        qsort(items, count, sizeof(Coffer__V1__ConnectionParameter *), compare_parameters);
    }
    for (size_t i = 1; i < count; i++) {
        if (strcmp(items[i - 1]->name, items[i]->name) == 0) {
            return invalid(call, field, "has a name twice; give each once");
        }
    }
    return COF_OK;
}

/* That the endpoint can be made of them says that all are there, known, and of their form. */
static cof_code check_parameters(struct call *call, const struct provider *provider,
                                 const Coffer__V1__ConnectionSettings *settings)
{
    struct provider_pair pairs[PROVIDER_PARAMETERS_MAX];
    const char *url;
    for (size_t i = 0; i < settings->n_parameters; i++) {
        pairs[i] = (struct provider_pair){settings->parameters[i]->name, settings->parameters[i]->value};
    }
    return provider_expand(provider, provider->token_endpoint,
                           (struct provider_pairs){pairs, settings->n_parameters}, call->arena, &url, call->err);
}

static cof_code check_extra(struct call *call, const Coffer__V1__ConnectionParameter *extra, const char *field)
{
    static const char *const own[] = {
        "grant_type", "client_id",     "client_secret", "client_assertion", "client_assertion_type", "assertion",
        "code",       "code_verifier", "redirect_uri",  "refresh_token",    "device_code",           "scope",
        "user_scope", "resource",      "token",         "token_type_hint",  "access_token",
    };
    const size_t length = strlen(extra->name);
    bool fits = length > 0 && length <= EXTRA_NAME_MAX && strlen(extra->value) <= TEXT_MAX;
    for (size_t i = 0; i < length; i++) {
        fits = fits && extra->name[i] > ' ' && extra->name[i] < 0x7f;
    }
    if (!fits) {
        return invalid(call, field,
                       "is no parameter: a name of 1 to 100 printable characters, a value of at most 2,048 "
                       "bytes");
    }
    for (size_t i = 0; i < COF_COUNT(own); i++) {
        if (strcmp(extra->name, own[i]) == 0) {
            return invalid(call, field, "takes the place of what OAuth itself sends");
        }
    }
    return COF_OK;
}

static cof_code check_text(struct call *call, const char *text, size_t limit, const char *field)
{
    const struct cof_slice bytes = cof_slice_text(text);
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.data[i] <= ' ' || bytes.data[i] == 0x7f) {
            return invalid(call, field, "has a space or a control character in it");
        }
    }
    return bytes.len <= limit ? COF_OK : invalid(call, field, "is too long");
}

static cof_code check_settings(struct call *call, const struct configuration *configuration,
                               Coffer__V1__ConnectionSettings *settings)
{
    TRY(sort_parameters(call, "settings.parameters", settings->parameters, settings->n_parameters,
                        PROVIDER_PARAMETERS_MAX));
    TRY(sort_parameters(call, "settings.extra_parameters", settings->extra_parameters, settings->n_extra_parameters,
                        PROVIDER_EXTRAS_MAX));
    TRY(check_parameters(call, configuration->provider, settings));
    for (size_t i = 0; i < settings->n_extra_parameters; i++) {
        char field[COF_ERROR_FIELD_SIZE];
        (void) snprintf(field, sizeof field, "settings.extra_parameters[%zu]", i);
        TRY(check_extra(call, settings->extra_parameters[i], field));
    }
    TRY(check_text(call, settings->resource, TEXT_MAX, "settings.resource"));
    TRY(check_text(call, settings->audience, TEXT_MAX, "settings.audience"));
    TRY(check_text(call, settings->subject, SUBJECT_MAX, "settings.subject"));
    return settings->subject[0] == '\0' || configuration->request->grant == GRANT(JWT_BEARER)
               ? COF_OK
               : invalid(call, "settings.subject", "is for JWT_BEARER alone");
}

static cof_code read_settings(struct call *call, struct configuration *configuration)
{
    Coffer__V1__ConnectionSettings none;
    Coffer__V1__ConnectionSettings *settings = configuration->request->settings;
    coffer__v1__connection_settings__init(&none);
    settings = settings == NULL ? &none : settings;
    TRY(check_settings(call, configuration, settings));
    return cof_wire_pack(&settings->base, call->arena, &configuration->wanted.settings, call->err);
}

/* In the transaction: what makes sense depends on the provider, which cannot change there. */
static cof_code read_request(struct call *call, struct configuration *configuration)
{
    const Coffer__V1__ConfigureConnectionRequest *request = configuration->request;
    struct connection_row *wanted = &configuration->wanted;
    TRY(connection_change_provider(call, &configuration->change));
    configuration->provider = &configuration->change.provider.provider;
    *wanted = (struct connection_row){
        .provider_generation = (int64_t) configuration->change.provider.generation,
    };
    TRY(check_grant(call, configuration));
    wanted->class = class_of(request->grant);
    wanted->grant_kind = (int32_t) request->grant;
    TRY(read_authentication(call, configuration));
    TRY(read_client_id(call, configuration));
    TRY(read_scopes(call, configuration));
    TRY(read_settings(call, configuration));
    TRY(credential_read(call, request->credential, wanted->grant_kind, wanted->client_authentication,
                        &configuration->credential));
    if (configuration->registered != NULL && configuration->credential != NULL) {
        configuration->credential->expire_time = configuration->registered->secret_expire_us;
    }
    const bool account = configuration->credential != NULL && configuration->credential->service_account[0] != '\0';
    return wanted->client_id.len > 0 || account || wanted->grant_kind == GRANT(JWT_BEARER)
               ? COF_OK
               : cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "client_id",
                                "client_id is empty; give the ID that the provider gave the client");
}

/* --- The write ------------------------------------------------------------------------------------------------ */

static cof_code configure_look(struct call *call, void *context)
{
    struct configuration *configuration = context;
    if (configuration->change.place.environment.len > 0) {
        TRY(secret_place_queue(call, configuration->change.place.address));
    }
    return connection_change_look(call, context);
}

static cof_code check_guards(struct call *call, const struct configuration *configuration)
{
    const struct connection_change *change = &configuration->change;
    const char *etag = configuration->request->etag;
    char current[24] = "-";
    if (change->found) {
        TRY(expected_uid_check(call, change->expected_uid, &change->connection.row.connection_id));
        (void) snprintf(current, sizeof current, "%" PRId64, change->connection.row.version);
    } else if (change->expected_uid[0] != '\0') {
        return connection_not_found(call, &change->place);
    }
    return etag[0] == '\0' || strcmp(etag, current) == 0 ? COF_OK
                                                         : cof_fail(call->err, COF_REASON_ETAG_MISMATCH, "%s; %s",
                                                                    cof_reason_meaning(COF_REASON_ETAG_MISMATCH),
                                                                    cof_reason_next_step(COF_REASON_ETAG_MISMATCH));
}

/* Where credentials are sent, by whom, and how he says who he is. Ways in which a user authorises it may change. */
static bool same_client(const struct connection_row *old, const struct connection_row *wanted)
{
    return old->provider_generation == wanted->provider_generation &&
           old->client_authentication == wanted->client_authentication &&
           (old->grant_kind == wanted->grant_kind || wanted->class == CONNECTION_USER) &&
           cof_slice_equal(old->client_id, wanted->client_id) && cof_slice_equal(old->settings, wanted->settings);
}

static bool same_scopes(const struct row_texts *a, const struct row_texts *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = cof_slice_equal(a->items[i], b->items[i]);
    }
    return same;
}

static cof_code credential_missing(struct call *call, const struct configuration *configuration)
{
    return cof_fail_field(
        call->err, COF_REASON_FIELD_REQUIRED, "credential",
        configuration->change.found
            ? "the client, its authentication or a setting changes, which drops tokens and credentials; "
              "send the client's credential with the same request"
            : "a new connection needs the client's credential; send its secret or key");
}

static void begin_row(struct call *call, struct configuration *configuration)
{
    struct connection_row *row = &configuration->change.connection.row;
    *row = (struct connection_row){
        .workspace_id = configuration->change.write.workspace,
        .connection_id = cof_uuid_random(),
        .environment = configuration->change.place.environment,
        .provider = configuration->change.place.provider,
        .class = configuration->wanted.class,
        .credentials = cof_slice_text(""),
        .create_time = call_now(call),
    };
    configuration->change.connection.has_provider = true;
    configuration->change.connection.provider_generation = configuration->wanted.provider_generation;
    configuration->response->created = true;
}

static void take_over(struct call *call, struct connection_row *row, const struct connection_row *wanted)
{
    row->provider_generation = wanted->provider_generation;
    row->grant_kind = wanted->grant_kind;
    row->client_authentication = wanted->client_authentication;
    row->client_id = wanted->client_id;
    row->scopes = wanted->scopes;
    row->settings = wanted->settings;
    row->version++;
    row->update_time = call_now(call);
}

/* The credential that was sent is the only one that is left; a client that was registered comes with what manages it. */
static cof_code seal_credential(struct call *call, struct configuration *configuration)
{
    Coffer__Stored__V1__Credentials credentials;
    coffer__stored__v1__credentials__init(&credentials);
    credentials.credentials = &configuration->credential;
    credentials.n_credentials = configuration->credential == NULL ? 0 : 1;
    if (configuration->registered != NULL) {
        coffer__stored__v1__registration__init(&configuration->registration);
        configuration->registration.access_token =
            text_of(call->arena, cof_slice_text(configuration->registered->access_token));
        configuration->registration.client_uri =
            text_of(call->arena, cof_slice_text(configuration->registered->client_uri));
        if (configuration->registration.access_token == NULL || configuration->registration.client_uri == NULL) {
            return cof_arena_exhausted(call->err);
        }
        credentials.registration = &configuration->registration;
    }
    return credential_seal(call, &configuration->change.connection.row, &credentials);
}

/* Everything that was obtained with another client, or from elsewhere, goes. */
static cof_code start_anew(struct call *call, struct configuration *configuration)
{
    struct connection_change *change = &configuration->change;
    configuration->response->tokens_dropped =
        change->connection.token.access_token.len > 0 || change->connection.token.refresh_token.len > 0;
    change->connection.row.config_generation++;
    connection_drop_tokens(change);
    return seal_credential(call, configuration);
}

static cof_code make_change(struct call *call, struct configuration *configuration)
{
    struct connection_change *change = &configuration->change;
    struct connection_row *row = &change->connection.row;
    const struct connection_row *wanted = &configuration->wanted;
    const bool same = change->found && configuration->registered == NULL && same_client(row, wanted);
    const bool needed = credential_needed(wanted->grant_kind, wanted->client_authentication);
    if (!same && needed && configuration->credential == NULL) {
        return credential_missing(call, configuration);
    }
    if (!change->found) {
        begin_row(call, configuration);
    }
    change->write.nothing = same && configuration->credential == NULL &&
                            same_scopes(&row->scopes, &wanted->scopes) && row->grant_kind == wanted->grant_kind;
    if (change->write.nothing) {
        return connection_message(call, &change->connection, &configuration->response->connection);
    }
    change->writes_row = true;
    take_over(call, row, wanted);
    if (!same) {
        TRY(start_anew(call, configuration));
    } else if (configuration->credential != NULL) {
        TRY(seal_credential(call, configuration));
    }
    return connection_change_seal(call, change,
                                  configuration->response->created ? EFFECT(CREATED) : EFFECT(METADATA_CHANGED),
                                  &configuration->response->connection);
}

static cof_code decide_configure(struct call *call, void *context)
{
    struct configuration *configuration = context;
    struct connection_change *change = &configuration->change;
    configuration->response->created = false;
    configuration->response->tokens_dropped = false;
    if (change->place.environment.len > 0) {
        TRY(secret_place_take(call, change->place.address));
    }
    TRY(connection_change_take(call, change));
    TRY(read_request(call, configuration));
    if (change->damaged) {
        return cof_fail(call->err, COF_REASON_CORRUPTED,
                        "a row of the connection failed its integrity check; delete it and "
                        "configure it anew, or restore a backup");
    }
    TRY(check_guards(call, configuration));
    return make_change(call, configuration);
}

/* What was registered at one provider is nobody's client at another. */
static cof_code decide_registered(struct call *call, void *context)
{
    struct configuration *configuration = context;
    const struct connection_registered *registered = configuration->registered;
    TRY(decide_configure(call, context));
    if (configuration->change.provider.generation != registered->provider_generation) {
        return cof_fail(call->err, COF_REASON_CONFLICT,
                        "the provider has changed since it registered the client; register it anew");
    }
    registered->configured(registered->context, configuration->response);
    return COF_OK;
}

/* Somebody else has made it at the same time: another attempt finds it. */
static cof_code conflict_configure(struct call *call, void *context)
{
    (void) context;
    if (!session_unique_violation(call->session, "connection_identity")) {
        return call->err->code;
    }
    return cof_fail(call->err, COF_REASON_CONFLICT,
                    "the connection was made by another request at the same time; %s",
                    cof_reason_next_step(COF_REASON_CONFLICT));
}

static cof_code configure(struct call *call, const Coffer__V1__ConfigureConnectionRequest *request,
                          Coffer__V1__ConfigureConnectionResponse *response,
                          const struct connection_registered *registered)
{
    struct configuration configuration = {.change = {.expected_uid = request->expected_uid},
                                          .request = request,
                                          .response = response,
                                          .registered = registered};
    struct connection_name name = CONNECTION_NAME(request, class_of(request->grant));
    name.class_field = "grant";
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &configuration.change.place));
    TRY(authorization_tell_page(call, &response->redirect_uri));
    connection_change_init(&configuration.change, registered == NULL ? decide_configure : decide_registered,
                           registered == NULL ? &response->base : registered->answer);
    configuration.change.write.look = configure_look;
    configuration.change.write.conflict = conflict_configure;
    configuration.change.write.intended = registered != NULL && registered->intended;
    return write_run(call, &configuration.change.write);
}

cof_code connection_configure(struct call *call, const Coffer__V1__ConfigureConnectionRequest *request,
                              Coffer__V1__ConfigureConnectionResponse *response)
{
    return configure(call, request, response, NULL);
}

cof_code connection_configure_registered(struct call *call, const Coffer__V1__ConfigureConnectionRequest *request,
                                         Coffer__V1__ConfigureConnectionResponse *response,
                                         const struct connection_registered *registered)
{
    return configure(call, request, response, registered);
}

/* --- Rotation of the client's credential ---------------------------------------------------------------------- */

struct rotation {
    struct connection_change change;
    const Coffer__V1__RotateClientCredentialRequest *request;
    Coffer__V1__RotateClientCredentialResponse *response;
    int64_t overlap_us;
};

static cof_code read_overlap(struct call *call, struct rotation *rotation)
{
    const Google__Protobuf__Duration *overlap = rotation->request->overlap;
    const int64_t seconds = overlap == NULL ? CREDENTIAL_OVERLAP_DEFAULT_S : overlap->seconds;
    if (seconds < 0 || seconds > CREDENTIAL_OVERLAP_MAX_S || (overlap != NULL && overlap->nanos < 0)) {
        return invalid(call, "overlap", "is not between nothing and 30 days");
    }
    rotation->overlap_us = seconds * 1000000;
    return COF_OK;
}

static cof_code decide_rotation(struct call *call, void *context)
{
    struct rotation *rotation = context;
    struct connection_change *change = &rotation->change;
    struct connection_row *row = &change->connection.row;
    Coffer__Stored__V1__Credential *credential;
    Coffer__Stored__V1__Credentials *credentials;
    TRY(connection_change_take_current(call, change));
    TRY(credential_read(call, rotation->request->credential, row->grant_kind, row->client_authentication,
                        &credential));
    TRY(credential_open(call, row, &credentials));
    TRY(credential_put_first(call, credentials, credential, call_now(call) + rotation->overlap_us));
    TRY(credential_seal(call, row, credentials));
    row->version++;
    row->update_time = call_now(call);
    change->writes_row = true;
    return connection_change_seal(call, change, EFFECT(METADATA_CHANGED), &rotation->response->connection);
}

cof_code connection_rotate_credential(struct call *call, const Coffer__V1__RotateClientCredentialRequest *request,
                                      Coffer__V1__RotateClientCredentialResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, request->connection_class);
    struct rotation rotation = {
        .change = {.expected_uid = request->expected_uid}, .request = request, .response = response};
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &rotation.change.place));
    TRY(read_overlap(call, &rotation));
    if (request->credential == NULL) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "credential",
                              "credential is not given; give the client's new secret or key");
    }
    connection_change_init(&rotation.change, decide_rotation, &response->base);
    return write_run(call, &rotation.change.write);
}
