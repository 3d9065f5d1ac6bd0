#include <stdio.h>
#include <string.h>

#include <coffer/v1/connection.pb-c.h>

#include "client/cli/command.h"
#include "client/cli/message.h"
#include "client/cli/moment.h"
#include "client/cli/oauth.h"
#include "client/cli/page.h"
#include "client/cli/rpc.h"

/* Commands about OAuth connections. */

#define SERVICE "coffer.v1.ConnectionService/"
#define CLASS(name) COFFER__V1__CONNECTION_CLASS__CONNECTION_CLASS_##name
#define GRANT(name) COFFER__V1__CONNECTION_GRANT__CONNECTION_GRANT_##name
#define RESULT(name) COFFER__V1__REFRESH_RESULT__REFRESH_RESULT_##name
#define CREDENTIAL(name) COFFER__V1__CLIENT_CREDENTIAL__CREDENTIAL_##name

/* The server takes fewer parameters. */
enum { TEXT = 400, PARAMETERS_MAX = 32 };

static const char every_environment[] = "*";

/* --- Which connection a command means --------------------------------------------------------------------------- */

static cli_exit class_read(const char *text, Coffer__V1__ConnectionClass *ret_class)
{
    const bool service = text != NULL && strcmp(text, "service") == 0;
    if (text != NULL && !service && strcmp(text, "user") != 0) {
        return cli_usage("--type user or --type service", "a connection has no type %s", text);
    }
    *ret_class = service ? CLASS(SERVICE) : CLASS(USER);
    return CLI_OK;
}

char *oauth_environment(const struct cli *cli)
{
    char *environment = cli_environment(cli);
    return environment[0] == '\0' || strcmp(environment, every_environment) == 0 ? NULL : environment;
}

/* --- Connections as text ---------------------------------------------------------------------------------------- */

static const char *name_of(const ProtobufCEnumDescriptor *descriptor, int value, const char *prefix)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(descriptor, value);
    return known == NULL || value == 0 ? "" : known->name + strlen(prefix);
}

static const char *status_text(const Coffer__V1__Connection *connection)
{
    return connection->corrupted ? "corrupted"
                                 : name_of(&coffer__v1__connection_status__descriptor, (int) connection->status,
                                           "CONNECTION_STATUS_");
}

static const char *class_text(const Coffer__V1__Connection *connection)
{
    return connection->connection_class == CLASS(SERVICE) ? "service" : "user";
}

static const char *where(const Coffer__V1__Connection *connection)
{
    return connection->scope_case == COFFER__V1__CONNECTION__SCOPE_ENVIRONMENT ? connection->environment
                                                                               : "all environments";
}

static void print_texts(const char *label, char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cli_print_field(label, texts[i]);
    }
}

static void print_text(const char *label, const char *text)
{
    if (text[0] != '\0') {
        cli_print_field(label, text);
    }
}

static void print_time(const char *label, const Google__Protobuf__Timestamp *time)
{
    if (time != NULL) {
        cli_print_field(label, cli_time(time));
    }
}

static void print_pairs(const char *label, Coffer__V1__ConnectionParameter *const *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[TEXT];
        (void) snprintf(text, sizeof text, "%s=%s", pairs[i]->name, pairs[i]->value);
        cli_print_field(label, text);
    }
}

static void print_settings(const Coffer__V1__ConnectionSettings *settings)
{
    if (settings == NULL) {
        return;
    }
    print_pairs("parameter", settings->parameters, settings->n_parameters);
    print_pairs("extra", settings->extra_parameters, settings->n_extra_parameters);
    print_text("resource", settings->resource);
    print_text("audience", settings->audience);
    print_text("subject", settings->subject);
}

static void print_credentials(const Coffer__V1__Connection *connection)
{
    for (size_t i = 0; i < connection->n_credentials; i++) {
        const Coffer__V1__CredentialFacts *facts = connection->credentials[i];
        char text[TEXT];
        (void) snprintf(text, sizeof text, "%s%s%s%s%s, stored %s%s%s%s%s",
                        name_of(&coffer__v1__credential_kind__descriptor, (int) facts->kind, "CREDENTIAL_KIND_"),
                        facts->key_id[0] == '\0' ? "" : " ", facts->key_id,
                        facts->service_account[0] == '\0' ? "" : " of ", facts->service_account,
                        cli_time(facts->create_time), facts->retire_time == NULL ? "" : ", used until ",
                        facts->retire_time == NULL ? "" : cli_time(facts->retire_time),
                        facts->expire_time == NULL ? "" : ", expires ",
                        facts->expire_time == NULL ? "" : cli_time(facts->expire_time));
        cli_print_field("credential", text);
    }
}

static void print_tokens(const Coffer__V1__Connection *connection)
{
    print_texts("granted", connection->granted_scopes, connection->n_granted_scopes);
    print_texts("not granted", connection->missing_scopes, connection->n_missing_scopes);
    print_time("obtained", connection->obtain_time);
    print_time("expires", connection->expire_time);
    if (connection->has_refresh_token) {
        cli_print_field("refresh token", connection->refresh_expire_time == NULL
                                             ? "yes"
                                             : cli_time(connection->refresh_expire_time));
    }
    print_time("refreshed", connection->refresh_time);
    print_time("failed", connection->error_time);
    print_text("failure", connection->error_reason);
    print_text("provider said", connection->error_text);
}

static void print_connection(const Coffer__V1__Connection *connection)
{
    cli_print_field("provider", connection->provider);
    cli_print_field("type", class_text(connection));
    cli_print_field("environment", where(connection));
    cli_print_field("status", status_text(connection));
    print_text("", connection->status_message);
    if (connection->uid[0] == '\0' || connection->corrupted) {
        return;
    }
    cli_print_field(
        "grant", name_of(&coffer__v1__connection_grant__descriptor, (int) connection->grant, "CONNECTION_GRANT_"));
    cli_print_field("client", connection->client_id);
    cli_print_field("authenticates", name_of(&coffer__v1__client_authentication__descriptor,
                                             (int) connection->client_authentication, "CLIENT_AUTHENTICATION_"));
    print_credentials(connection);
    print_texts("scope", connection->scopes, connection->n_scopes);
    print_settings(connection->settings);
    print_tokens(connection);
    print_time("changed", connection->update_time);
    cli_print_field("etag", connection->etag);
}

/* What has to be registered at the provider: its own people ask for it before there is a client's ID. */
static void print_redirect_uri(const Coffer__V1__Connection *connection, const char *own_page)
{
    if (connection->corrupted || connection->connection_class != CLASS(USER) ||
        (connection->grant != GRANT(AUTHORIZATION_CODE) && connection->grant != GRANT(UNSPECIFIED))) {
        return;
    }
    print_text("redirect URI", own_page);
    cli_print_field("redirect URI", "http://127.0.0.1:PORT/callback for coffer oauth connect without --page");
}

static void note(const char *what, const Coffer__V1__Connection *connection)
{
    cli_note("%s: %s for %s, %s", connection->provider, what, where(connection), status_text(connection));
}

/* --- list, show ------------------------------------------------------------------------------------------------- */

/* Who is about to connect it, and until when; or that it will stop by itself, which its message says as well. */
static const char *note_text(const Coffer__V1__Connection *connection, char text[TEXT])
{
    const bool connected = connection->status == COFFER__V1__CONNECTION_STATUS__CONNECTION_STATUS_CONNECTED;
    if (connection->n_pending_authorizations == 0) {
        const bool ends = connected && connection->status_message[0] != '\0';
        (void) snprintf(text, TEXT, "%s%s", ends ? "refresh token ends " : "",
                        ends ? cli_time(connection->refresh_expire_time) : "");
        return text;
    }
    const Coffer__V1__Authorization *start = connection->pending_authorizations[0];
    (void) snprintf(text, TEXT, "%s connects it, ends %s",
                    start->account[0] == '\0' ? start->principal : start->account, cli_time(start->expire_time));
    return text;
}

static void connection_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__Connection *connection = (const Coffer__V1__Connection *) (const void *) item;
    const bool all = connection->scope_case != COFFER__V1__CONNECTION__SCOPE_ENVIRONMENT;
    char text[TEXT];
    cli_table_add(table, connection->provider);
    cli_table_add(table, class_text(connection));
    cli_table_add(table, all ? every_environment : connection->environment);
    cli_table_add(table, status_text(connection));
    cli_table_add(table, connection->client_id);
    cli_table_add(table, connection->expire_time == NULL ? "" : cli_time(connection->expire_time));
    cli_table_add(table, note_text(connection, text));
}

cli_exit cmd_oauth_list(struct cli *cli)
{
    static const char *const headers[] = {"PROVIDER", "TYPE", "ENVIRONMENT", "STATUS", "CLIENT", "EXPIRES", "NOTE"};
    static const struct list list = {.method = SERVICE "ListConnections",
                                     .response = &coffer__v1__list_connections_response__descriptor,
                                     .items = "connections",
                                     .headers = headers,
                                     .columns = COF_COUNT(headers),
                                     .row = connection_row,
                                     .none = "there is no connection there; coffer oauth providers lists what can "
                                             "be connected, coffer help oauth says how"};
    Coffer__V1__ListConnectionsRequest request;
    coffer__v1__list_connections_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.provider = cli->argument_count > 0 ? cli->arguments[0] : request.provider;
    request.environments = cli->environments.items;
    request.n_environments = cli->environments.count;
    return list_all(cli, &list, &request.base);
}

/* What was started lately, and how it went. */
static void print_authorizations(const Coffer__V1__GetConnectionResponse *found)
{
    for (size_t i = 0; i < found->n_authorizations; i++) {
        const Coffer__V1__Authorization *start = found->authorizations[i];
        char text[TEXT];
        const bool pending = start->state == COFFER__V1__AUTHORIZATION_STATE__AUTHORIZATION_STATE_PENDING;
        (void) snprintf(
            text, sizeof text, "%s, started %s by %s%s%s%s%s",
            name_of(&coffer__v1__authorization_state__descriptor, (int) start->state, "AUTHORIZATION_STATE_"),
            cli_time(start->create_time), start->account[0] == '\0' ? start->principal : start->account,
            pending ? ", ends " : "", pending ? cli_time(start->expire_time) : "",
            start->error_text[0] == '\0' ? "" : ": ", start->error_text);
        cli_print_field("authorization", text);
    }
}

static void show_connection(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__GetConnectionResponse *found =
        (const Coffer__V1__GetConnectionResponse *) (const void *) answer;
    (void) cli;
    print_connection(found->connection);
    print_redirect_uri(found->connection, found->redirect_uri);
    print_authorizations(found);
}

cli_exit cmd_oauth_show(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "GetConnection",
                                             &coffer__v1__get_connection_response__descriptor, show_connection};
    Coffer__V1__GetConnectionRequest request;
    coffer__v1__get_connection_request__init(&request);
    OAUTH_NAME(&request, GET_CONNECTION_REQUEST);
    const cli_exit code = class_read(cli->type, &request.connection_class);
    return code == CLI_OK ? cli_do(cli, &method, &request.base) : code;
}

/* --- The client's credential ------------------------------------------------------------------------------------ */

/* Whether the argument at `index` is KIND, KIND=@FILE or KIND=- of one of the kinds, before anybody is asked for a value. */
static cli_exit check_kind(const struct cli *cli, size_t index, const char *const *kinds, const char *what,
                           const char *hint)
{
    const size_t length = strcspn(cli->arguments[index], "=");
    for (size_t i = 0; kinds[i] != NULL; i++) {
        if (strlen(kinds[i]) == length && strncmp(kinds[i], cli->arguments[index], length) == 0) {
            return CLI_OK;
        }
    }
    return cli_usage(hint, "argument %zu names no %s", index + 1, what);
}

static cli_exit check_credential(const struct cli *cli, size_t index)
{
    static const char *const kinds[] = {"CLIENT_SECRET", "PRIVATE_KEY", "SERVICE_ACCOUNT", NULL};
    return check_kind(cli, index, kinds, "credential", "CLIENT_SECRET, PRIVATE_KEY or SERVICE_ACCOUNT");
}

/* The argument at `index` names the kind and says where the credential is; `credential` may have a key ID already. */
static cli_exit credential_read(struct cli *cli, size_t index, struct cli_value *value,
                                Coffer__V1__ClientCredential *credential)
{
    const cli_exit known = check_credential(cli, index);
    if (known != CLI_OK) {
        return known;
    }
    const cli_exit code = cli_read_line_value(cli->arguments[index], index + 1, value);
    if (code != CLI_OK) {
        return code;
    }
    const ProtobufCBinaryData bytes = {value->length, value->data};
    if (strcmp(value->key, "CLIENT_SECRET") == 0) {
        credential->credential_case = CREDENTIAL(CLIENT_SECRET);
        credential->client_secret = bytes;
    } else if (strcmp(value->key, "PRIVATE_KEY") == 0) {
        credential->credential_case = CREDENTIAL(PRIVATE_KEY);
        credential->private_key = bytes;
    } else {
        credential->credential_case = CREDENTIAL(SERVICE_ACCOUNT);
        credential->service_account = bytes;
    }
    return CLI_OK;
}

/* --- configure -------------------------------------------------------------------------------------------------- */

/* What the command line says in place of what --data does. */
struct configuration {
    Coffer__V1__ConfigureConnectionRequest request;
    Coffer__V1__ConnectionSettings settings;
    Coffer__V1__ClientCredential credential;
    Coffer__V1__ConnectionParameter parameters[PARAMETERS_MAX];
    Coffer__V1__ConnectionParameter *list[PARAMETERS_MAX];
    struct cli_value value;
};

static cli_exit take_parameters(struct cli *cli, struct configuration *configuration)
{
    if (cli->variables.count > PARAMETERS_MAX) {
        return cli_usage(NULL, "--set is given more than %d times", (int) PARAMETERS_MAX);
    }
    for (size_t i = 0; i < cli->variables.count; i++) {
        char *equals = strchr(cli->variables.items[i], '=');
        if (equals == NULL) {
            return cli_usage("--set tenant=contoso.example", "--set takes PARAMETER=VALUE");
        }
        *equals = '\0';
        coffer__v1__connection_parameter__init(&configuration->parameters[i]);
        configuration->parameters[i].name = cli->variables.items[i];
        configuration->parameters[i].value = equals + 1;
        configuration->list[i] = &configuration->parameters[i];
    }
    if (cli->variables.count > 0) {
        configuration->settings.parameters = configuration->list;
        configuration->settings.n_parameters = cli->variables.count;
        configuration->request.settings = &configuration->settings;
    }
    return CLI_OK;
}

/* The file of a service account says who it is; of any other client somebody has to, before the credential is asked for. */
static cli_exit check_client(const struct cli *cli, const Coffer__V1__ConfigureConnectionRequest *request)
{
    const bool named = request->client_id[0] != '\0' || request->grant == GRANT(JWT_BEARER);
    const bool asks = strchr(cli->arguments[1], '=') == NULL && strcmp(cli->arguments[1], "SERVICE_ACCOUNT") != 0;
    const cli_exit code = check_credential(cli, 1);
    return code != CLI_OK || named || !asks
               ? code
               : cli_usage("--client-id ID, as the provider shows it beside the secret",
                           "oauth configure needs the client's ID for that credential");
}

/* The usual way to tokens of this type. */
static void take_grant(Coffer__V1__ConnectionClass token_class, struct configuration *configuration)
{
    if (configuration->request.grant != GRANT(UNSPECIFIED)) {
        return;
    }
    const bool account = configuration->credential.credential_case == CREDENTIAL(SERVICE_ACCOUNT);
    configuration->request.grant = token_class == CLASS(USER) ? GRANT(AUTHORIZATION_CODE)
                                   : account                  ? GRANT(JWT_BEARER)
                                                              : GRANT(CLIENT_CREDENTIALS);
}

static cli_exit take_options(struct cli *cli, struct configuration *configuration)
{
    Coffer__V1__ConfigureConnectionRequest *request = &configuration->request;
    Coffer__V1__ConnectionClass token_class = CLASS(USER);
    cli_exit code = class_read(cli->type, &token_class);
    if (code != CLI_OK) {
        return code;
    }
    OAUTH_NAME(request, CONFIGURE_CONNECTION_REQUEST);
    request->client_id = cli->client_id == NULL ? request->client_id : cli->client_id;
    request->etag = cli->if_etag == NULL ? request->etag : cli->if_etag;
    if (cli->scopes.count > 0) {
        request->scopes = cli->scopes.items;
        request->n_scopes = cli->scopes.count;
    }
    code = take_parameters(cli, configuration);
    if (code == CLI_OK && cli->argument_count > 1) {
        code = check_client(cli, request);
    }
    if (code == CLI_OK && cli->argument_count > 1) {
        code = credential_read(cli, 1, &configuration->value, &configuration->credential);
        request->credential = &configuration->credential;
    }
    take_grant(token_class, configuration);
    return code;
}

static void show_configured(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__ConfigureConnectionResponse *configured =
        (const Coffer__V1__ConfigureConnectionResponse *) (const void *) answer;
    (void) cli;
    print_connection(configured->connection);
    print_redirect_uri(configured->connection, configured->redirect_uri);
    note(configured->created ? "configured" : "changed", configured->connection);
    if (configured->tokens_dropped) {
        cli_note("its tokens were dropped: they belong to the configuration of before");
    }
}

/* The messages of --data stay its own: what is changed are copies. */
static cli_exit configure(struct cli *cli, const Coffer__V1__ConfigureConnectionRequest *data)
{
    static const struct cli_method method = {
        SERVICE "ConfigureConnection", &coffer__v1__configure_connection_response__descriptor, show_configured};
    struct configuration configuration = {.value = {.data = NULL}};
    coffer__v1__configure_connection_request__init(&configuration.request);
    coffer__v1__connection_settings__init(&configuration.settings);
    coffer__v1__client_credential__init(&configuration.credential);
    if (data != NULL) {
        configuration.request = *data;
    }
    if (data != NULL && data->settings != NULL) {
        configuration.settings = *data->settings;
    }
    if (data != NULL && data->credential != NULL) {
        configuration.credential = *data->credential;
    }
    cli_exit code = take_options(cli, &configuration);
    if (code == CLI_OK) {
        code = cli_do(cli, &method, &configuration.request.base);
    }
    cli_value_done(&configuration.value);
    return code;
}

cli_exit cmd_oauth_configure(struct cli *cli)
{
    ProtobufCMessage *data = NULL;
    cli_exit code = CLI_OK;
    if (cli->data != NULL) {
        code = rpc_read_data(cli, &coffer__v1__configure_connection_request__descriptor, &data);
    }
    if (code == CLI_OK) {
        code = configure(cli, (const Coffer__V1__ConfigureConnectionRequest *) (const void *) data);
    }
    cli_free_message(data);
    return code;
}

/* --- register --------------------------------------------------------------------------------------------------- */

static void show_registered(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__RegisterClientResponse *registered =
        (const Coffer__V1__RegisterClientResponse *) (const void *) answer;
    (void) cli;
    print_connection(registered->connection);
    note("registered a client", registered->connection);
    if (registered->tokens_dropped) {
        cli_note("its tokens were dropped: they belong to the client of before");
    }
}

static cli_exit take_registration(struct cli *cli, Coffer__V1__RegisterClientRequest *request,
                                  struct cli_value *value)
{
    static const char *const kinds[] = {"INITIAL_ACCESS_TOKEN", NULL};
    Coffer__V1__ConnectionClass token_class = CLASS(USER);
    cli_exit code = class_read(cli->type, &token_class);
    OAUTH_NAME(request, REGISTER_CLIENT_REQUEST);
    if (request->grant == GRANT(UNSPECIFIED)) {
        request->grant = token_class == CLASS(USER) ? GRANT(AUTHORIZATION_CODE) : GRANT(CLIENT_CREDENTIALS);
    }
    if (cli->redirect_uris.count > 0) {
        request->redirect_uris = cli->redirect_uris.items;
        request->n_redirect_uris = cli->redirect_uris.count;
    }
    if (cli->scopes.count > 0) {
        request->scopes = cli->scopes.items;
        request->n_scopes = cli->scopes.count;
    }
    request->etag = cli->if_etag == NULL ? request->etag : cli->if_etag;
    if (code == CLI_OK && cli->argument_count > 1) {
        code = check_kind(cli, 1, kinds, "token", kinds[0]);
        code = code == CLI_OK ? cli_read_line_value(cli->arguments[1], 2, value) : code;
        request->initial_access_token = (ProtobufCBinaryData){value->length, value->data};
    }
    return code;
}

/* The message of --data stays its own: what is changed is a copy. */
cli_exit cmd_oauth_register(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "RegisterClient",
                                             &coffer__v1__register_client_response__descriptor, show_registered};
    Coffer__V1__RegisterClientRequest request;
    ProtobufCMessage *data = NULL;
    struct cli_value value = {.data = NULL};
    cli_exit code = CLI_OK;
    coffer__v1__register_client_request__init(&request);
    if (cli->data != NULL) {
        code = rpc_read_data(cli, &coffer__v1__register_client_request__descriptor, &data);
    }
    if (data != NULL) {
        request = *(const Coffer__V1__RegisterClientRequest *) (const void *) data;
    }
    if (code == CLI_OK) {
        code = take_registration(cli, &request, &value);
    }
    if (code == CLI_OK) {
        code = cli_do(cli, &method, &request.base);
    }
    cli_value_done(&value);
    cli_free_message(data);
    return code;
}

/* --- rotate ----------------------------------------------------------------------------------------------------- */

static void show_rotated(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__RotateClientCredentialResponse *rotated =
        (const Coffer__V1__RotateClientCredentialResponse *) (const void *) answer;
    (void) cli;
    print_connection(rotated->connection);
    note("has a new credential", rotated->connection);
}

static cli_exit rotate(struct cli *cli, Coffer__V1__RotateClientCredentialRequest *request,
                       Coffer__V1__ClientCredential *credential)
{
    static const struct cli_method method = {
        SERVICE "RotateClientCredential", &coffer__v1__rotate_client_credential_response__descriptor, show_rotated};
    Google__Protobuf__Duration overlap;
    struct cli_value value = {.data = NULL};
    google__protobuf__duration__init(&overlap);
    cli_exit code = class_read(cli->type, &request->connection_class);
    if (code == CLI_OK && cli->overlap != NULL && !moment_span(cli->overlap, &overlap.seconds)) {
        code = cli_usage("coffer oauth rotate github CLIENT_SECRET --overlap 24h", "--overlap %s is no time",
                         cli->overlap);
    }
    if (code == CLI_OK) {
        code = credential_read(cli, 1, &value, credential);
    }
    if (code == CLI_OK) {
        request->overlap = cli->overlap == NULL ? NULL : &overlap;
        request->credential = credential;
        code = cli_do(cli, &method, &request->base);
    }
    cli_value_done(&value);
    return code;
}

/* --data holds what is to be said of the credential. */
cli_exit cmd_oauth_rotate(struct cli *cli)
{
    Coffer__V1__RotateClientCredentialRequest request;
    Coffer__V1__ClientCredential credential;
    ProtobufCMessage *data = NULL;
    cli_exit code = CLI_OK;
    coffer__v1__rotate_client_credential_request__init(&request);
    coffer__v1__client_credential__init(&credential);
    OAUTH_NAME(&request, ROTATE_CLIENT_CREDENTIAL_REQUEST);
    if (cli->data != NULL) {
        code = rpc_read_data(cli, &coffer__v1__client_credential__descriptor, &data);
    }
    if (data != NULL) {
        credential = *(const Coffer__V1__ClientCredential *) (const void *) data;
    }
    if (code == CLI_OK) {
        code = rotate(cli, &request, &credential);
    }
    cli_free_message(data);
    return code;
}

/* --- set-tokens ------------------------------------------------------------------------------------------------- */

struct tokens {
    Coffer__V1__SetConnectionTokensRequest request;
    Google__Protobuf__Timestamp expires;
    struct cli_value values[2];
};

static cli_exit take_token(struct cli *cli, size_t index, struct tokens *tokens)
{
    static const char *const kinds[] = {"REFRESH_TOKEN", "ACCESS_TOKEN", NULL};
    struct cli_value *value = &tokens->values[index - 1];
    cli_exit code = check_kind(cli, index, kinds, "token", "REFRESH_TOKEN or ACCESS_TOKEN");
    if (code == CLI_OK) {
        code = cli_read_line_value(cli->arguments[index], index + 1, value);
    }
    if (code != CLI_OK) {
        return code;
    }
    const ProtobufCBinaryData bytes = {value->length, value->data};
    if (strcmp(value->key, "REFRESH_TOKEN") == 0) {
        tokens->request.refresh_token = bytes;
    } else {
        tokens->request.access_token = bytes;
    }
    return CLI_OK;
}

static cli_exit take_expiry(const struct cli *cli, struct tokens *tokens)
{
    bool never = false;
    if (cli->expires == NULL) {
        return CLI_OK;
    }
    const cli_exit code = moment_read("expires", cli->expires, &tokens->expires, &never);
    if (code == CLI_OK && never) {
        return cli_usage("without --expires it is as the provider's entry says", "--expires has to be a time here");
    }
    tokens->request.expire_time = &tokens->expires;
    return code;
}

static void show_set(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__SetConnectionTokensResponse *set =
        (const Coffer__V1__SetConnectionTokensResponse *) (const void *) answer;
    (void) cli;
    print_connection(set->connection);
    note("has these tokens", set->connection);
}

cli_exit cmd_oauth_set_tokens(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "SetConnectionTokens",
                                             &coffer__v1__set_connection_tokens_response__descriptor, show_set};
    struct tokens tokens = {.values = {{.data = NULL}}};
    coffer__v1__set_connection_tokens_request__init(&tokens.request);
    OAUTH_NAME(&tokens.request, SET_CONNECTION_TOKENS_REQUEST);
    tokens.request.granted_scopes = cli->scopes.items;
    tokens.request.n_granted_scopes = cli->scopes.count;
    cli_exit code = take_expiry(cli, &tokens);
    for (size_t i = 1; code == CLI_OK && i < cli->argument_count; i++) {
        code = take_token(cli, i, &tokens);
    }
    if (code == CLI_OK) {
        code = cli_do(cli, &method, &tokens.request.base);
    }
    for (size_t i = 0; i < COF_COUNT(tokens.values); i++) {
        cli_value_done(&tokens.values[i]);
    }
    return code;
}

/* --- refresh, test ---------------------------------------------------------------------------------------------- */

/* What came of it, as words and as an exit code. */
static cli_exit result_told(Coffer__V1__RefreshResult result, const char *message,
                            const Coffer__V1__Connection *connection)
{
    const bool works = result == RESULT(REFRESHED) || result == RESULT(CURRENT);
    if (works) {
        cli_note("%s: %s", connection->provider, message);
        return CLI_OK;
    }
    const bool again = result == RESULT(REAUTH_REQUIRED) || result == RESULT(NOT_CONNECTED);
    const bool user = connection->connection_class == CLASS(USER);
    return cli_refuse(result == RESULT(PROVIDER_UNAVAILABLE) ? CLI_UNAVAILABLE
                      : again                                ? CLI_REAUTH
                                                             : CLI_CONFLICT,
                      again && user ? "coffer oauth connect PROVIDER" : NULL, "%s for %s: %s", connection->provider,
                      where(connection), message);
}

static cli_exit result_shown(const struct cli *cli, const ProtobufCMessage *answer,
                             Coffer__V1__RefreshResult result, const char *message,
                             const Coffer__V1__Connection *connection)
{
    if (cli->json) {
        cli_json_message(stdout, answer);
    } else {
        cli_print_field("result",
                        name_of(&coffer__v1__refresh_result__descriptor, (int) result, "REFRESH_RESULT_"));
        print_connection(connection);
    }
    return result_told(result, message, connection);
}

cli_exit cmd_oauth_refresh(struct cli *cli)
{
    Coffer__V1__RefreshConnectionRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__refresh_connection_request__init(&request);
    OAUTH_NAME(&request, REFRESH_CONNECTION_REQUEST);
    cli_exit code = class_read(cli->type, &request.connection_class);
    if (code == CLI_OK) {
        code = cli_call(cli, SERVICE "RefreshConnection", &request.base,
                        &coffer__v1__refresh_connection_response__descriptor, &answer);
    }
    if (code == CLI_OK) {
        const Coffer__V1__RefreshConnectionResponse *told =
            (const Coffer__V1__RefreshConnectionResponse *) (const void *) answer;
        code = result_shown(cli, answer, told->result, told->message, told->connection);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_oauth_test(struct cli *cli)
{
    Coffer__V1__TestConnectionRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__test_connection_request__init(&request);
    OAUTH_NAME(&request, TEST_CONNECTION_REQUEST);
    cli_exit code = class_read(cli->type, &request.connection_class);
    if (code == CLI_OK) {
        code = cli_call(cli, SERVICE "TestConnection", &request.base,
                        &coffer__v1__test_connection_response__descriptor, &answer);
    }
    if (code == CLI_OK) {
        const Coffer__V1__TestConnectionResponse *told =
            (const Coffer__V1__TestConnectionResponse *) (const void *) answer;
        code = result_shown(cli, answer, told->result, told->message, told->connection);
    }
    cli_free_message(answer);
    return code;
}

/* --- token ------------------------------------------------------------------------------------------------------ */

/* The same as `get` with the name that workflows use. */
cli_exit cmd_oauth_token(struct cli *cli)
{
    char text[TEXT];
    char upper[TEXT / 4];
    Coffer__V1__ConnectionClass class = CLASS(USER);
    const char *provider = cli->arguments[0];
    size_t length = strlen(provider);
    const cli_exit code = class_read(cli->type, &class);
    if (code != CLI_OK) {
        return code;
    }
    length = length < sizeof upper ? length : sizeof upper - 1;
    for (size_t i = 0; i < length; i++) {
        upper[i] = (char) (provider[i] >= 'a' && provider[i] <= 'z' ? provider[i] - 'a' + 'A' : provider[i]);
    }
    upper[length] = '\0';
    (void) snprintf(text, sizeof text, "%.*s_oauth.%s_%s_TOKEN", (int) length, provider, upper,
                    class == CLASS(SERVICE) ? "SERVICE" : "USER");
    cli->arguments[0] = text;
    return cmd_get(cli);
}

/* --- disconnect, delete ----------------------------------------------------------------------------------------- */

/* What is left at the provider is told loudest. */
static void note_revocation(Coffer__V1__Revocation revocation, const char *message)
{
    const bool failed = revocation == COFFER__V1__REVOCATION__REVOCATION_FAILED;
    if (message[0] != '\0') {
        cli_note("%s%s", failed ? "coffer: warning: not revoked: " : "", message);
    }
}

static void show_disconnected(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__DisconnectConnectionResponse *told =
        (const Coffer__V1__DisconnectConnectionResponse *) (const void *) answer;
    (void) cli;
    note("disconnected", told->connection);
    note_revocation(told->revocation, told->revocation_message);
}

/* As the question before something is lost. */
static cli_exit confirm(const struct cli *cli, const char *what)
{
    char question[TEXT];
    const char *environment = oauth_environment(cli);
    (void) snprintf(question, sizeof question, "This %s the connection of %.100s for %.100s.", what,
                    cli->arguments[0], environment == NULL ? "all environments" : environment);
    return cli_confirm(cli, question, cli->arguments[0]);
}

cli_exit cmd_oauth_disconnect(struct cli *cli)
{
    static const struct cli_method method = {
        SERVICE "DisconnectConnection", &coffer__v1__disconnect_connection_response__descriptor, show_disconnected};
    Coffer__V1__DisconnectConnectionRequest request;
    coffer__v1__disconnect_connection_request__init(&request);
    OAUTH_NAME(&request, DISCONNECT_CONNECTION_REQUEST);
    cli_exit code = class_read(cli->type, &request.connection_class);
    if (code == CLI_OK) {
        code = confirm(cli, "drops the tokens of");
    }
    return code == CLI_OK ? cli_do(cli, &method, &request.base) : code;
}

static void show_deleted(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__DeleteConnectionResponse *told =
        (const Coffer__V1__DeleteConnectionResponse *) (const void *) answer;
    const char *environment = oauth_environment(cli);
    cli_note("%s: deleted for %s", cli->arguments[0], environment == NULL ? "all environments" : environment);
    note_revocation(told->revocation, told->revocation_message);
}

cli_exit cmd_oauth_delete(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "DeleteConnection",
                                             &coffer__v1__delete_connection_response__descriptor, show_deleted};
    Coffer__V1__DeleteConnectionRequest request;
    coffer__v1__delete_connection_request__init(&request);
    OAUTH_NAME(&request, DELETE_CONNECTION_REQUEST);
    cli_exit code = class_read(cli->type, &request.connection_class);
    if (code == CLI_OK) {
        code = confirm(cli, "deletes");
    }
    return code == CLI_OK ? cli_do(cli, &method, &request.base) : code;
}
