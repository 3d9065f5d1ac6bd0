#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <coffer/v1/provider.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/page.h"
#include "client/cli/rpc.h"

/* Commands about OAuth providers. */

#define SERVICE "coffer.v1.ProviderService/"

enum { TEXT = 400 };

/* --- Providers as text ---------------------------------------------------------------------------------------- */

static const char *kinds_text(const Coffer__V1__ProviderDefinition *definition)
{
    if (definition == NULL) {
        return "";
    }
    return definition->user == NULL ? "service" : definition->service == NULL ? "user" : "user, service";
}

static void add(char *text, size_t room, const char *one)
{
    const size_t length = strlen(text);
    (void) snprintf(text + length, room - length, "%s%s", length == 0 ? "" : " ", one);
}

static void print_names(const char *label, char *const *names, size_t count)
{
    char text[TEXT] = "";
    for (size_t i = 0; i < count; i++) {
        add(text, sizeof text, names[i]);
    }
    if (count > 0) {
        cli_print_field(label, text);
    }
}

static void print_url(const char *label, const char *url)
{
    if (url[0] != '\0') {
        cli_print_field(label, url);
    }
}

static void print_parameters(const Coffer__V1__ProviderDefinition *definition)
{
    for (size_t i = 0; i < definition->n_parameters; i++) {
        const Coffer__V1__ProviderParameter *parameter = definition->parameters[i];
        char text[TEXT];
        (void) snprintf(text, sizeof text, "%s%s%s%s%s", parameter->name, parameter->value[0] == '\0' ? "" : "=",
                        parameter->value, parameter->help[0] == '\0' ? "" : ": ", parameter->help);
        cli_print_field("parameter", text);
    }
}

static void print_definition(const Coffer__V1__ProviderDefinition *definition)
{
    cli_print_field("tokens of", kinds_text(definition));
    print_url("authorization", definition->authorization_endpoint);
    print_url("token", definition->token_endpoint);
    print_url("device", definition->device_endpoint);
    print_url("revocation", definition->revocation_endpoint);
    print_url("registration", definition->registration_endpoint);
    print_url("issuer", definition->issuer);
    print_url("mcp server", definition->mcp_server);
    print_parameters(definition);
    if (definition->user != NULL) {
        print_names("user scopes", definition->user->scopes, definition->user->n_scopes);
    }
    if (definition->service != NULL) {
        print_names("service scopes", definition->service->scopes, definition->service->n_scopes);
    }
    print_url("documentation", definition->documentation);
}

static void print_provider(const Coffer__V1__Provider *provider)
{
    cli_print_field("provider", provider->id);
    if (provider->corrupted) {
        cli_print_field("state", "corrupted");
        return;
    }
    cli_print_field("name", provider->name);
    cli_print_field("belongs to", provider->uid[0] == '\0' ? "all workspaces" : "this workspace");
    if (provider->definition != NULL) {
        print_definition(provider->definition);
    }
    if (provider->uid[0] != '\0') {
        cli_print_field("changed", cli_time(provider->update_time));
    }
}

/* --- providers ------------------------------------------------------------------------------------------------ */

static void provider_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__Provider *provider = (const Coffer__V1__Provider *) (const void *) item;
    cli_table_add(table, provider->id);
    cli_table_add(table, provider->corrupted ? "corrupted" : provider->name);
    cli_table_add(table, kinds_text(provider->definition));
    cli_table_add(table, provider->uid[0] == '\0' ? "built in" : "this workspace");
}

cli_exit cmd_oauth_providers(struct cli *cli)
{
    static const char *const headers[] = {"PROVIDER", "NAME", "TOKENS OF", "BELONGS TO"};
    static const struct list list = {.method = SERVICE "ListProviders",
                                     .response = &coffer__v1__list_providers_response__descriptor,
                                     .items = "providers",
                                     .headers = headers,
                                     .columns = COF_COUNT(headers),
                                     .row = provider_row,
                                     .none = "there is no provider like that"};
    Coffer__V1__ListProvidersRequest request;
    coffer__v1__list_providers_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.own_only = cli->own;
    return list_all(cli, &list, &request.base);
}

/* --- provider ... --------------------------------------------------------------------------------------------- */

static void show_provider(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    print_provider(((const Coffer__V1__GetProviderResponse *) (const void *) answer)->provider);
}

static cli_exit show(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "GetProvider", &coffer__v1__get_provider_response__descriptor,
                                             show_provider};
    Coffer__V1__GetProviderRequest request;
    coffer__v1__get_provider_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.id = cli->arguments[1];
    return cli_do(cli, &method, &request.base);
}

static void show_created(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Provider *provider =
        ((const Coffer__V1__CreateProviderResponse *) (const void *) answer)->provider;
    (void) cli;
    print_provider(provider);
    cli_note("%s: created", provider->id);
}

static cli_exit create(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "CreateProvider",
                                             &coffer__v1__create_provider_response__descriptor, show_created};
    Coffer__V1__CreateProviderRequest request;
    ProtobufCMessage *definition = NULL;
    if (cli->data == NULL) {
        return cli_usage("coffer oauth provider create \"Acme\" --data @acme.json",
                         "what the provider is comes from --data: a ProviderDefinition in JSON");
    }
    cli_exit code = rpc_read_data(cli, &coffer__v1__provider_definition__descriptor, &definition);
    if (code == CLI_OK) {
        coffer__v1__create_provider_request__init(&request);
        request.workspace = cli_workspace(cli);
        request.name = cli->arguments[1];
        request.definition = (Coffer__V1__ProviderDefinition *) (void *) definition;
        code = cli_do(cli, &method, &request.base);
    }
    cli_free_message(definition);
    return code;
}

static void show_updated(const struct cli *cli, const ProtobufCMessage *answer)
{
    print_provider(((const Coffer__V1__UpdateProviderResponse *) (const void *) answer)->provider);
    cli_note("%s: changed", cli->arguments[1]);
}

static cli_exit update(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "UpdateProvider",
                                             &coffer__v1__update_provider_response__descriptor, show_updated};
    char name[] = "name";
    char whole[] = "definition";
    char *paths[] = {name, whole};
    Google__Protobuf__FieldMask mask;
    Coffer__V1__UpdateProviderRequest request;
    ProtobufCMessage *definition = NULL;
    cli_exit code = CLI_OK;
    if (cli->data == NULL && cli->to_name == NULL) {
        return cli_usage("coffer help oauth provider", "nothing changes: give --to-name, --data or both");
    }
    if (cli->data != NULL) {
        code = rpc_read_data(cli, &coffer__v1__provider_definition__descriptor, &definition);
    }
    if (code == CLI_OK) {
        google__protobuf__field_mask__init(&mask);
        mask.paths = cli->to_name == NULL ? paths + 1 : paths;
        mask.n_paths = (size_t) (cli->to_name != NULL) + (definition != NULL);
        coffer__v1__update_provider_request__init(&request);
        request.workspace = cli_workspace(cli);
        request.id = cli->arguments[1];
        request.update_mask = &mask;
        request.name = cli->to_name == NULL ? request.name : cli->to_name;
        request.definition = (Coffer__V1__ProviderDefinition *) (void *) definition;
        code = cli_do(cli, &method, &request.base);
    }
    cli_free_message(definition);
    return code;
}

static void show_deleted(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) answer;
    cli_note("%s: deleted", cli->arguments[1]);
}

static cli_exit delete (struct cli *cli)
{
    static const struct cli_method method = {SERVICE "DeleteProvider",
                                             &coffer__v1__delete_provider_response__descriptor, show_deleted};
    Coffer__V1__DeleteProviderRequest request;
    const cli_exit confirmed = cli_confirm(cli, "This deletes the provider.", cli->arguments[1]);
    if (confirmed != CLI_OK) {
        return confirmed;
    }
    coffer__v1__delete_provider_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.id = cli->arguments[1];
    return cli_do(cli, &method, &request.base);
}

static void show_discovered(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__DiscoverProviderResponse *response =
        (const Coffer__V1__DiscoverProviderResponse *) (const void *) answer;
    const Coffer__V1__Discovery *found = response->discovery;
    print_provider(response->provider);
    if (found != NULL) {
        print_names("servers", found->authorization_servers, found->n_authorization_servers);
        print_url("found at", found->metadata_url);
    }
    if (response->moved) {
        cli_note("%s: its connections have to be configured anew, with the client's credential",
                 response->provider->id);
    }
    cli_note("%s: %s%s", response->provider->id, cli->dry_run ? "would be " : "",
             response->created ? "created" : "changed");
}

/* A provider that is there is named by its ID, which is no URL. */
static cli_exit discover(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "DiscoverProvider",
                                             &coffer__v1__discover_provider_response__descriptor, show_discovered};
    const bool url = strstr(cli->arguments[1], "://") != NULL;
    Coffer__V1__DiscoverProviderRequest request;
    coffer__v1__discover_provider_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.url = url ? cli->arguments[1] : request.url;
    request.id = url ? request.id : cli->arguments[1];
    request.name = cli->to_name == NULL ? request.name : cli->to_name;
    request.validate_only = cli->dry_run;
    return cli_do(cli, &method, &request.base);
}

cli_exit cmd_oauth_provider(struct cli *cli)
{
    static const struct {
        const char *verb;
        cli_command *run;
    } verbs[] = {
        {"show", show}, {"create", create}, {"update", update}, {"delete", delete}, {"discover", discover}};
    for (size_t i = 0; i < COF_COUNT(verbs); i++) {
        if (strcmp(cli->arguments[0], verbs[i].verb) == 0) {
            return verbs[i].run(cli);
        }
    }
    return cli_usage("coffer help oauth provider",
                     "a provider can be shown, created, updated, deleted or discovered: write show ID, "
                     "create NAME, update ID, delete ID or discover URL");
}
