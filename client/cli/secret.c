#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/v1/secret.pb-c.h>

#include "client/cli/cli.h"

enum { KEYS_MAX = 100, KEYS_TEXT = 60 };

#define SERVICE "coffer.v1.SecretService/"

static char nothing[] = "";

static char *workspace_of(const struct cli *cli)
{
    char *given = cli->workspace != NULL ? cli->workspace : getenv("COFFER_WORKSPACE");
    return given == NULL ? nothing : given;
}

static char *environment_of(const struct cli *cli)
{
    char *given = cli->environment[0] != '\0' ? cli->environment : getenv("COFFER_ENVIRONMENT");
    return given == NULL ? nothing : given;
}

/* --- Values --------------------------------------------------------------------------------------------------- */

struct pairs {
    struct cli_value values[KEYS_MAX];
    Coffer__V1__KeyValue messages[KEYS_MAX];
    Coffer__V1__KeyValue *list[KEYS_MAX];
    size_t count;
};

static void pairs_done(struct pairs *pairs)
{
    for (size_t i = 0; i < pairs->count; i++) {
        cli_value_done(&pairs->values[i]);
    }
}

static cli_exit read_pairs(char **arguments, size_t count, struct pairs *pairs)
{
    if (count == 0 || count > KEYS_MAX) {
        return cli_usage("coffer secret create NAME KEY=@FILE", "a secret needs 1 to %d keys", KEYS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        Coffer__V1__KeyValue *message = &pairs->messages[i];
        pairs->count++;
        const cli_exit code = cli_read_value(arguments[i], &pairs->values[i]);
        if (code != CLI_OK) {
            return code;
        }
        coffer__v1__key_value__init(message);
        message->key = pairs->values[i].key;
        message->value = (ProtobufCBinaryData){pairs->values[i].length, pairs->values[i].data};
        pairs->list[i] = message;
    }
    return CLI_OK;
}

static void say_version(const char *what, const Coffer__V1__Secret *secret)
{
    fprintf(stderr, "%s: %s in %s, version %" PRIu64 ", %zu key%s\n", secret->name, what, secret->environment,
            secret->version, secret->n_keys, secret->n_keys == 1 ? "" : "s");
}

/* --- Create and set ------------------------------------------------------------------------------------------- */

static cli_exit create(struct cli *cli, char *name, struct pairs *pairs)
{
    Coffer__V1__CreateSecretRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__create_secret_request__init(&request);
    request.workspace = workspace_of(cli);
    request.environment = environment_of(cli);
    request.name = name;
    request.values = pairs->list;
    request.n_values = pairs->count;
    if (cli->description != NULL) {
        request.description = cli->description;
    }
    const cli_exit code = cli_call(cli, SERVICE "CreateSecret", &request.base,
                                   &coffer__v1__create_secret_response__descriptor, &answer);
    if (code == CLI_OK) {
        say_version("created", ((Coffer__V1__CreateSecretResponse *) (void *) answer)->secret);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_secret_create(struct cli *cli)
{
    struct pairs *pairs = calloc(1, sizeof *pairs);
    if (cli->argument_count < 2 || pairs == NULL) {
        free(pairs);
        return cli_usage("coffer secret create NAME KEY[=@FILE|=-]... [-e ENV]", "a name and keys are needed");
    }
    cli_exit code = read_pairs(cli->arguments + 1, cli->argument_count - 1, pairs);
    if (code == CLI_OK) {
        code = create(cli, cli->arguments[0], pairs);
    }
    pairs_done(pairs);
    free(pairs);
    return code;
}

/* Whether the secret exists; without a word if it does not. */
static cli_exit find(struct cli *cli, char *name, bool *ret_exists)
{
    Coffer__V1__GetSecretRequest request;
    coffer_reply *reply = NULL;
    coffer_error *error = NULL;
    uint8_t packed[512];
    coffer__v1__get_secret_request__init(&request);
    request.workspace = workspace_of(cli);
    request.environment = environment_of(cli);
    request.name = name;
    if (coffer__v1__get_secret_request__get_packed_size(&request) > sizeof packed) {
        return cli_usage(NULL, "the name is too long");
    }
    const size_t length = coffer__v1__get_secret_request__pack(&request, packed);
    const coffer_status status =
        coffer_call(cli->client, SERVICE "GetSecret", packed, length, NULL, &reply, &error);
    *ret_exists = status == COFFER_OK;
    const cli_exit code = status == COFFER_OK || status == COFFER_NOT_FOUND ? CLI_OK : cli_fail(error);
    coffer_reply_free(reply);
    coffer_error_free(error);
    return code;
}

static cli_exit patch(struct cli *cli, char *name, struct pairs *pairs)
{
    Coffer__V1__UpdateSecretValuesRequest request;
    Coffer__V1__PatchValues changes;
    ProtobufCMessage *answer = NULL;
    coffer__v1__update_secret_values_request__init(&request);
    coffer__v1__patch_values__init(&changes);
    changes.set = pairs->list;
    changes.n_set = pairs->count;
    request.workspace = workspace_of(cli);
    request.environment = environment_of(cli);
    request.name = name;
    request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_PATCH;
    request.patch = &changes;
    const cli_exit code = cli_call(cli, SERVICE "UpdateSecretValues", &request.base,
                                   &coffer__v1__update_secret_values_response__descriptor, &answer);
    if (code == CLI_OK) {
        say_version("changed", ((Coffer__V1__UpdateSecretValuesResponse *) (void *) answer)->secret);
    }
    cli_free_message(answer);
    return code;
}

/* Every argument is NAME.KEY with the same name; the names are cut off in place, which leaves the keys. */
static cli_exit split_keys(struct cli *cli, char **ret_name)
{
    *ret_name = NULL;
    for (size_t i = 0; i < cli->argument_count; i++) {
        char *equals = strchr(cli->arguments[i], '=');
        char *end = equals == NULL ? cli->arguments[i] + strlen(cli->arguments[i]) : equals;
        const char held = *end;
        char *name;
        char *key;
        *end = '\0';
        const bool split = cli_split_reference(cli->arguments[i], &name, &key);
        *end = held;
        if (!split) {
            return cli_usage("coffer set slack.SLACK_BOT_TOKEN", "\"%s\" is not of the form NAME.KEY",
                             cli->arguments[i]);
        }
        if (*ret_name != NULL && strcmp(*ret_name, name) != 0) {
            return cli_usage(NULL, "all keys must be of one secret: \"%s\" and \"%s\" are two", *ret_name, name);
        }
        *ret_name = name;
        cli->arguments[i] = key;
    }
    return *ret_name == NULL ? cli_usage("coffer set NAME.KEY", "a key is needed") : CLI_OK;
}

cli_exit cmd_set(struct cli *cli)
{
    char *name;
    bool exists = false;
    struct pairs *pairs = calloc(1, sizeof *pairs);
    if (pairs == NULL) {
        return CLI_ERROR;
    }
    cli_exit code = split_keys(cli, &name);
    if (code == CLI_OK) {
        code = read_pairs(cli->arguments, cli->argument_count, pairs);
    }
    if (code == CLI_OK) {
        code = cli_connect(cli);
    }
    if (code == CLI_OK) {
        code = find(cli, name, &exists);
    }
    if (code == CLI_OK) {
        code = exists ? patch(cli, name, pairs) : create(cli, name, pairs);
    }
    pairs_done(pairs);
    free(pairs);
    return code;
}

/* --- List, show, delete --------------------------------------------------------------------------------------- */

static const char *state_of(const Coffer__V1__Secret *secret)
{
    switch (secret->state) {
    case COFFER__V1__SECRET_STATE__SECRET_STATE_ACTIVE:
        return "";
    case COFFER__V1__SECRET_STATE__SECRET_STATE_DELETED:
        return "deleted";
    case COFFER__V1__SECRET_STATE__SECRET_STATE_CORRUPTED:
        return "corrupted";
    case COFFER__V1__SECRET_STATE__SECRET_STATE_UNSPECIFIED:
    case _COFFER__V1__SECRET_STATE_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

static void add_secret(struct cli_table *table, const Coffer__V1__Secret *secret)
{
    char keys[KEYS_TEXT * 3];
    char version[24];
    (void) snprintf(keys, sizeof keys, "%s", secret->n_keys > 0 ? secret->keys[0]->name : "");
    if (secret->n_keys > 1) {
        const size_t used = strlen(keys);
        (void) snprintf(keys + used, sizeof keys - used, ", +%zu", secret->n_keys - 1);
    }
    (void) snprintf(version, sizeof version, "%" PRIu64, secret->version);
    cli_table_add(table, secret->name);
    cli_table_add(table, secret->environment);
    cli_table_add(table, keys);
    cli_table_add(table, version);
    cli_table_add(table, cli_time(secret->update_time));
    cli_table_add(table, state_of(secret));
}

static cli_exit list_page(struct cli *cli, struct cli_table *table, char **page_token)
{
    Coffer__V1__ListSecretsRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_secrets_request__init(&request);
    request.workspace = workspace_of(cli);
    request.environments = cli->environments.items;
    request.n_environments = cli->environments.count;
    request.page_token = *page_token;
    const cli_exit code = cli_call(cli, SERVICE "ListSecrets", &request.base,
                                   &coffer__v1__list_secrets_response__descriptor, &answer);
    if (*page_token != nothing) {
        free(*page_token);
    }
    *page_token = nothing;
    if (code == CLI_OK) {
        const Coffer__V1__ListSecretsResponse *page = (const Coffer__V1__ListSecretsResponse *) (void *) answer;
        for (size_t i = 0; i < page->n_secrets; i++) {
            add_secret(table, page->secrets[i]);
        }
        if (page->next_page_token[0] != '\0') {
            *page_token = strdup(page->next_page_token);
        }
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_secret_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "ENVIRONMENT", "KEYS", "VERSION", "UPDATED", "STATE"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    char *page_token = nothing;
    cli_exit code = CLI_OK;
    do {
        code = list_page(cli, table, &page_token);
    } while (code == CLI_OK && page_token != NULL && page_token[0] != '\0');
    cli_table_print(table);
    return code;
}

static void print_secret(const Coffer__V1__Secret *secret)
{
    printf("name         %s\nenvironment  %s\nuid          %s\nversion      %" PRIu64 " (etag \"%s\")\n",
           secret->name, secret->environment, secret->uid, secret->version, secret->etag);
    if (state_of(secret)[0] != '\0') {
        printf("state        %s\n", state_of(secret));
    }
    if (secret->description[0] != '\0') {
        printf("description  %s\n", secret->description);
    }
    printf("created      %s\nupdated      %s\n", cli_time(secret->create_time), cli_time(secret->update_time));
    for (size_t i = 0; i < secret->n_keys; i++) {
        printf("%-13s%s  %u bytes%s\n", i == 0 ? "keys" : "", secret->keys[i]->name, secret->keys[i]->size,
               secret->keys[i]->blank ? ", blank" : "");
    }
}

cli_exit cmd_secret_show(struct cli *cli)
{
    Coffer__V1__GetSecretRequest request;
    ProtobufCMessage *answer = NULL;
    if (cli->argument_count != 1) {
        return cli_usage("coffer secret show NAME [-e ENV]", "one name is needed");
    }
    coffer__v1__get_secret_request__init(&request);
    request.workspace = workspace_of(cli);
    request.environment = environment_of(cli);
    request.name = cli->arguments[0];
    const cli_exit code =
        cli_call(cli, SERVICE "GetSecret", &request.base, &coffer__v1__get_secret_response__descriptor, &answer);
    if (code == CLI_OK) {
        print_secret(((Coffer__V1__GetSecretResponse *) (void *) answer)->secret);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_secret_delete(struct cli *cli)
{
    Coffer__V1__DeleteSecretRequest request;
    ProtobufCMessage *answer = NULL;
    if (cli->argument_count != 1) {
        return cli_usage("coffer secret delete NAME [-e ENV]", "one name is needed");
    }
    coffer__v1__delete_secret_request__init(&request);
    request.workspace = workspace_of(cli);
    request.environment = environment_of(cli);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, SERVICE "DeleteSecret", &request.base,
                                   &coffer__v1__delete_secret_response__descriptor, &answer);
    if (code == CLI_OK) {
        say_version("deleted", ((Coffer__V1__DeleteSecretResponse *) (void *) answer)->secret);
    }
    cli_free_message(answer);
    return code;
}

/* --- Resolving ------------------------------------------------------------------------------------------------ */

static cli_exit add_references(struct cli *cli, coffer_request *request)
{
    if (cli->argument_count == 0) {
        return cli_usage("coffer get slack.SLACK_BOT_TOKEN", "a reference is needed");
    }
    if (workspace_of(cli)[0] != '\0') {
        coffer_request_set_workspace(request, workspace_of(cli));
    }
    for (size_t i = 0; i < cli->argument_count; i++) {
        char *name;
        char *key;
        if (!cli_split_reference(cli->arguments[i], &name, &key)) {
            return cli_usage("coffer get slack.SLACK_BOT_TOKEN", "\"%s\" is not of the form NAME.KEY",
                             cli->arguments[i]);
        }
        coffer_request_add_reference(request, name, key);
    }
    return CLI_OK;
}

static void print_faults(const coffer_item *item)
{
    for (size_t i = 0; i < coffer_item_fault_count(item); i++) {
        const coffer_fault *fault = coffer_item_fault(item, i);
        fprintf(stderr, "coffer: %s\n", coffer_fault_message(fault));
        for (size_t k = 0; k < coffer_fault_near_miss_count(fault); k++) {
            fprintf(stderr, "%s%s", k == 0 ? "  did you mean: " : ", ", coffer_fault_near_miss(fault, k));
        }
        if (coffer_fault_near_miss_count(fault) > 0) {
            fputc('\n', stderr);
        }
    }
    if (coffer_item_fault_count(item) == 0) {
        fprintf(stderr, "coffer: %s\n", coffer_item_message(item));
    }
}

static cli_exit print_value(const struct cli *cli, const coffer_result *result)
{
    const coffer_item *item = coffer_result_item(result, 0);
    if (coffer_item_status(item) != COFFER_OK) {
        print_faults(item);
        return coffer_item_status(item) == COFFER_PERMISSION_DENIED ? CLI_DENIED : CLI_NOT_FOUND;
    }
    const coffer_bytes value = coffer_item_value_at(item, 0, NULL, NULL);
    (void) fwrite(value.data, 1, value.length, stdout);
    if (isatty(STDOUT_FILENO) == 1 && !cli->no_newline) {
        putchar('\n');
    }
    return CLI_OK;
}

static cli_exit resolve(struct cli *cli, coffer_request *request, coffer_result **ret_result)
{
    coffer_error *error = NULL;
    cli_exit code = add_references(cli, request);
    if (code == CLI_OK) {
        code = cli_connect(cli);
    }
    if (code == CLI_OK && coffer_resolve(cli->client, request, ret_result, &error) != COFFER_OK) {
        code = cli_fail(error);
        coffer_error_free(error);
    }
    return code;
}

cli_exit cmd_get(struct cli *cli)
{
    coffer_result *result = NULL;
    if (cli->argument_count != 1) {
        return cli_usage("coffer get slack.SLACK_BOT_TOKEN -e prod", "one reference is needed");
    }
    coffer_request *request = coffer_request_new();
    if (environment_of(cli)[0] != '\0') {
        coffer_request_add_environment(request, environment_of(cli));
    }
    cli_exit code = resolve(cli, request, &result);
    if (code == CLI_OK) {
        code = print_value(cli, result);
    }
    coffer_result_free(result);
    coffer_request_free(request);
    return code;
}

static void add_item(struct cli_table *table, const coffer_item *item)
{
    for (size_t i = 0; i < coffer_item_fault_count(item); i++) {
        const coffer_fault *fault = coffer_item_fault(item, i);
        char reference[300];
        (void) snprintf(reference, sizeof reference, "%s.%s", coffer_fault_secret(fault), coffer_fault_key(fault));
        cli_table_add(table, coffer_item_environment(item));
        cli_table_add(table, reference);
        cli_table_add(table, coffer_outcome_name(coffer_fault_outcome(fault)));
        cli_table_add(table, coffer_fault_near_miss_count(fault) > 0 ? coffer_fault_near_miss(fault, 0) : "");
    }
    for (size_t i = 0; i < coffer_item_value_count(item); i++) {
        const char *name;
        const char *key;
        char reference[300];
        (void) coffer_item_value_at(item, i, &name, &key);
        (void) snprintf(reference, sizeof reference, "%s.%s", name, key);
        cli_table_add(table, coffer_item_environment(item));
        cli_table_add(table, reference);
        cli_table_add(table, "RESOLVED");
        cli_table_add(table, "");
    }
}

static cli_exit print_result(const coffer_result *result)
{
    static const char *const headers[] = {"ENVIRONMENT", "REFERENCE", "OUTCOME", "DID YOU MEAN"};
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    for (size_t i = 0; i < coffer_result_count(result); i++) {
        const coffer_item *item = coffer_result_item(result, i);
        if (coffer_item_fault_count(item) + coffer_item_value_count(item) == 0) {
            print_faults(item);
        }
        add_item(table, item);
    }
    cli_table_print(table);
    return coffer_result_failed(result) == 0 ? CLI_OK : CLI_PARTIAL;
}

cli_exit cmd_resolve(struct cli *cli)
{
    coffer_result *result = NULL;
    coffer_request *request = coffer_request_new();
    for (size_t i = 0; i < cli->environments.count; i++) {
        coffer_request_add_environment(request, cli->environments.items[i]);
    }
    cli_exit code = resolve(cli, request, &result);
    if (code == CLI_OK) {
        code = print_result(result);
    }
    coffer_result_free(result);
    coffer_request_free(request);
    return code;
}
