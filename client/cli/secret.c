#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/v1/secret.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/page.h"

enum { KEYS_TEXT = 160, VERSION_TEXT = 24 };

#define SERVICE "coffer.v1.SecretService/"

/* --- Values --------------------------------------------------------------------------------------------------- */

struct pairs {
    struct cli_value values[CLI_KEYS_MAX];
    Coffer__V1__KeyValue messages[CLI_KEYS_MAX];
    Coffer__V1__KeyValue *list[CLI_KEYS_MAX];
    size_t count;
};

static void pairs_done(struct pairs *pairs)
{
    for (size_t i = 0; i < pairs->count; i++) {
        cli_value_done(&pairs->values[i]);
    }
}

/* The last `count` of the command's arguments. */
static cli_exit read_pairs(const struct cli *cli, size_t count, struct pairs *pairs)
{
    const size_t before = cli->argument_count - count;
    for (size_t i = 0; i < count; i++) {
        Coffer__V1__KeyValue *message = &pairs->messages[i];
        pairs->count++;
        const cli_exit code = cli_read_value(cli->arguments[before + i], before + i + 1, &pairs->values[i]);
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
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
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
    if (pairs == NULL) {
        return cli_refuse(CLI_ERROR, NULL, "there is no memory left");
    }
    cli_exit code = read_pairs(cli, cli->argument_count - 1, pairs);
    if (code == CLI_OK) {
        code = create(cli, cli->arguments[0], pairs);
    }
    pairs_done(pairs);
    free(pairs);
    return code;
}

/* Sets the keys of a secret that exists; `ret_exists` says whether it does, without a word if not. */
static cli_exit patch(struct cli *cli, char *name, struct pairs *pairs, bool *ret_exists)
{
    Coffer__V1__UpdateSecretValuesRequest request;
    Coffer__V1__PatchValues changes;
    ProtobufCMessage *answer = NULL;
    coffer__v1__update_secret_values_request__init(&request);
    coffer__v1__patch_values__init(&changes);
    changes.set = pairs->list;
    changes.n_set = pairs->count;
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = name;
    request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_PATCH;
    request.patch = &changes;
    const cli_exit code =
        cli_try(cli, SERVICE "UpdateSecretValues", &request.base,
                &coffer__v1__update_secret_values_response__descriptor, COFFER_REASON_SECRET_NOT_FOUND, &answer);
    *ret_exists = answer != NULL;
    if (answer != NULL) {
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
            return cli_usage("coffer set slack.SLACK_BOT_TOKEN", "argument %zu is not of the form NAME.KEY", i + 1);
        }
        if (*ret_name != NULL && strcmp(*ret_name, name) != 0) {
            return cli_usage(NULL, "all keys must be of one secret; that of argument %zu is another", i + 1);
        }
        *ret_name = name;
        cli->arguments[i] = key;
    }
    return CLI_OK;
}

/* Trying the change first asks for no right to read, and leaves no gap between a look and the write. */
static cli_exit change_or_create(struct cli *cli, char *name, struct pairs *pairs)
{
    bool exists = false;
    const cli_exit code = patch(cli, name, pairs, &exists);
    return code == CLI_OK && !exists ? create(cli, name, pairs) : code;
}

cli_exit cmd_set(struct cli *cli)
{
    char *name;
    struct pairs *pairs = calloc(1, sizeof *pairs);
    if (pairs == NULL) {
        return cli_refuse(CLI_ERROR, NULL, "there is no memory left");
    }
    cli_exit code = split_keys(cli, &name);
    if (code == CLI_OK) {
        code = read_pairs(cli, cli->argument_count, pairs);
    }
    if (code == CLI_OK) {
        code = change_or_create(cli, name, pairs);
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
    char keys[KEYS_TEXT];
    char version[VERSION_TEXT];
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

static cli_exit secret_page(struct cli *cli, struct cli_table *table, struct page *page)
{
    Coffer__V1__ListSecretsRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_secrets_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environments = cli->environments.items;
    request.n_environments = cli->environments.count;
    request.page_size = PAGE_SIZE;
    request.page_token = page->token;
    const cli_exit code = cli_call(cli, SERVICE "ListSecrets", &request.base,
                                   &coffer__v1__list_secrets_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListSecretsResponse *got = (const Coffer__V1__ListSecretsResponse *) (void *) answer;
        for (size_t i = 0; i < got->n_secrets; i++) {
            add_secret(table, got->secrets[i]);
        }
        page_next(page, got->next_page_token);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_secret_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "ENVIRONMENT", "KEYS", "VERSION", "UPDATED", "STATE"};
    return page_all(cli, headers, COF_COUNT(headers), secret_page);
}

static void print_secret(const Coffer__V1__Secret *secret)
{
    char version[VERSION_TEXT];
    (void) snprintf(version, sizeof version, "%" PRIu64, secret->version);
    cli_print_field("name", secret->name);
    cli_print_field("environment", secret->environment);
    cli_print_field("uid", secret->uid);
    cli_print_field("version", version);
    if (state_of(secret)[0] != '\0') {
        cli_print_field("state", state_of(secret));
    }
    if (secret->description[0] != '\0') {
        cli_print_field("description", secret->description);
    }
    cli_print_field("created", cli_time(secret->create_time));
    cli_print_field("updated", cli_time(secret->update_time));
    for (size_t i = 0; i < secret->n_keys; i++) {
        printf("%-13s%s  %u byte%s%s\n", i == 0 ? "keys" : "", secret->keys[i]->name, secret->keys[i]->size,
               secret->keys[i]->size == 1 ? "" : "s", secret->keys[i]->blank ? ", blank" : "");
    }
}

cli_exit cmd_secret_show(struct cli *cli)
{
    Coffer__V1__GetSecretRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__get_secret_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    const cli_exit code =
        cli_call(cli, SERVICE "GetSecret", &request.base, &coffer__v1__get_secret_response__descriptor, &answer);
    if (code == CLI_OK) {
        print_secret(((Coffer__V1__GetSecretResponse *) (void *) answer)->secret);
    }
    cli_free_message(answer);
    return code;
}

static cli_exit confirm_delete(const struct cli *cli)
{
    char question[256];
    const char *environment = cli_environment(cli)[0] == '\0' ? "default" : cli_environment(cli);
    (void) snprintf(question, sizeof question, "This deletes the secret \"%.100s\" in \"%.100s\".",
                    cli->arguments[0], environment);
    return cli_confirm(cli, question, cli->arguments[0]);
}

cli_exit cmd_secret_delete(struct cli *cli)
{
    Coffer__V1__DeleteSecretRequest request;
    ProtobufCMessage *answer = NULL;
    const cli_exit confirmed = confirm_delete(cli);
    if (confirmed != CLI_OK) {
        return confirmed;
    }
    coffer__v1__delete_secret_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, SERVICE "DeleteSecret", &request.base,
                                   &coffer__v1__delete_secret_response__descriptor, &answer);
    if (code == CLI_OK) {
        say_version("deleted", ((Coffer__V1__DeleteSecretResponse *) (void *) answer)->secret);
    }
    cli_free_message(answer);
    return code;
}
