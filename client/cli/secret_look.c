#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/message.h"
#include "client/cli/page.h"
#include "client/cli/secret.h"
#include "common/secret.h"

/* Commands that look at secrets: lists, one secret, two environments, and values. */

enum { TEXT = 200, NUMBER_TEXT = 24 };

/* --- List and show ---------------------------------------------------------------------------------------------- */

static const char *tags_text(const Coffer__V1__Secret *secret, char *text)
{
    (void) snprintf(text, TEXT, "%.120s", secret->n_tags > 0 ? secret->tags[0] : "");
    if (secret->n_tags > 1) {
        const size_t used = strlen(text);
        (void) snprintf(text + used, TEXT - used, ", +%zu", secret->n_tags - 1);
    }
    return text;
}

static void secret_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__Secret *secret = (const Coffer__V1__Secret *) (const void *) item;
    char version[NUMBER_TEXT];
    char text[TEXT];
    (void) snprintf(version, sizeof version, "%" PRIu64, secret->version);
    cli_table_add(table, secret->name);
    cli_table_add(table, secret->environment);
    cli_table_add(table, secret_type_name(secret->type));
    cli_table_add(table, secret_keys_text(secret->keys, secret->n_keys, text, sizeof text));
    cli_table_add(table, version);
    cli_table_add(table, cli_time(secret->update_time));
    cli_table_add(table, cli_time(secret->expire_time));
    cli_table_add(table, tags_text(secret, text));
    cli_table_add(table, secret_state_name(secret));
}

cli_exit cmd_secret_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME",    "ENVIRONMENT", "TYPE", "KEYS", "VERSION",
                                          "UPDATED", "EXPIRES",     "TAGS", "STATE"};
    static const struct list list = {.method = SECRET_SERVICE "ListSecrets",
                                     .response = &coffer__v1__list_secrets_response__descriptor,
                                     .items = "secrets",
                                     .headers = headers,
                                     .columns = COF_COUNT(headers),
                                     .row = secret_row,
                                     .none = "there is no secret there; coffer set NAME.KEY -e ENVIRONMENT stores "
                                             "one, coffer import FILE those of a file"};
    Coffer__V1__ListSecretsRequest request;
    Coffer__V1__SecretType type;
    const cli_exit code = secret_type_read(cli->type, &type);
    if (code != CLI_OK) {
        return code;
    }
    coffer__v1__list_secrets_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environments = cli->environments.items;
    request.n_environments = cli->environments.count;
    request.types = &type;
    request.n_types = cli->type == NULL ? 0 : 1;
    request.tags = cli->tags.items;
    request.n_tags = cli->tags.count;
    request.show_deleted = cli->deleted;
    if (cli->prefix != NULL) {
        request.name_prefix = cli->prefix;
    }
    return list_all(cli, &list, &request.base);
}

static void show_secret(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    secret_print(((const Coffer__V1__GetSecretResponse *) (const void *) answer)->secret);
}

cli_exit cmd_secret_show(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "GetSecret",
                                             &coffer__v1__get_secret_response__descriptor, show_secret};
    Coffer__V1__GetSecretRequest request;
    coffer__v1__get_secret_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}

/* --- Compare ---------------------------------------------------------------------------------------------------- */

const char *secret_difference(Coffer__V1__Difference difference, const char *here, const char *there)
{
    switch (difference) {
    case COFFER__V1__DIFFERENCE__DIFFERENCE_SAME:
        return "same";
    case COFFER__V1__DIFFERENCE__DIFFERENCE_CHANGED:
        return "changed";
    case COFFER__V1__DIFFERENCE__DIFFERENCE_ONLY_HERE:
        return here;
    case COFFER__V1__DIFFERENCE__DIFFERENCE_ONLY_THERE:
        return there;
    case COFFER__V1__DIFFERENCE__DIFFERENCE_PRESENT:
        return "in both";
    case COFFER__V1__DIFFERENCE__DIFFERENCE_CORRUPTED:
        return "corrupted";
    case COFFER__V1__DIFFERENCE__DIFFERENCE_UNSPECIFIED:
    case _COFFER__V1__DIFFERENCE_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

static void difference_add(struct cli_table *table, const char *name, const char *key,
                           Coffer__V1__Difference difference)
{
    cli_table_add(table, name);
    cli_table_add(table, key);
    cli_table_add(table, secret_difference(difference, "only in the first", "only in the second"));
}

/* A row for the secret, and where it differs one for each key. */
static void difference_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__SecretDifference *secret = (const Coffer__V1__SecretDifference *) (const void *) item;
    difference_add(table, secret->name, "", secret->difference);
    for (size_t i = 0; secret->difference == COFFER__V1__DIFFERENCE__DIFFERENCE_CHANGED && i < secret->n_keys;
         i++) {
        difference_add(table, secret->name, secret->keys[i]->key, secret->keys[i]->difference);
    }
}

cli_exit cmd_secret_compare(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "KEY", "DIFFERENCE"};
    static const struct list list = {.method = SECRET_SERVICE "CompareEnvironments",
                                     .response = &coffer__v1__compare_environments_response__descriptor,
                                     .items = "differences",
                                     .headers = headers,
                                     .columns = COF_COUNT(headers),
                                     .row = difference_row,
                                     .none = "neither environment has a secret there"};
    Coffer__V1__CompareEnvironmentsRequest request;
    coffer__v1__compare_environments_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli->arguments[0];
    request.other_environment = cli->arguments[1];
    if (cli->prefix != NULL) {
        request.name_prefix = cli->prefix;
    }
    return list_all(cli, &list, &request.base);
}

/* --- Reveal ----------------------------------------------------------------------------------------------------- */

static cli_exit check_reveal(const struct cli *cli)
{
    static const char hint[] = "coffer secret reveal slack SLACK_BOT_TOKEN --version 2";
    if (cli->argument_count != 2 && !cli->json && !cli->shell) {
        return cli_usage(hint, "secret reveal shows one key, or with -o json or -o env several or all");
    }
    return cli_on_terminal()
               ? secret_confirm(cli, "This shows on the terminal, and records that you saw it, values of")
               : CLI_OK;
}

static cli_exit print_revealed_json(const ProtobufCMessage *answer)
{
    cli_json_message(stdout, answer);
    return CLI_OK;
}

static cli_exit print_revealed(const struct cli *cli, const Coffer__V1__RevealSecretResponse *revealed)
{
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < revealed->n_values; i++) {
        const Coffer__V1__KeyValue *pair = revealed->values[i];
        const coffer_bytes value = {pair->value.data, pair->value.len};
        code = cli->shell ? cli_print_variable(pair->key, value) : cli_print_value(cli, value);
    }
    return code;
}

cli_exit cmd_secret_reveal(struct cli *cli)
{
    Coffer__V1__RevealSecretRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__reveal_secret_request__init(&request);
    cli_exit code =
        cli->version == NULL ? CLI_OK : cli_read_number("version of --version", cli->version, &request.version);
    if (code == CLI_OK) {
        code = check_reveal(cli);
    }
    if (code != CLI_OK) {
        return code;
    }
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    request.keys = cli->arguments + 1;
    request.n_keys = cli->argument_count - 1;
    code = cli_call(cli, SECRET_SERVICE "RevealSecret", &request.base,
                    &coffer__v1__reveal_secret_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__RevealSecretResponse *revealed =
            (const Coffer__V1__RevealSecretResponse *) (const void *) answer;
        (void) setvbuf(stdout, NULL, _IONBF, 0);
        code = cli->json ? print_revealed_json(answer) : print_revealed(cli, revealed);
        for (size_t i = 0; i < revealed->n_values; i++) {
            cof_wipe(revealed->values[i]->value.data, revealed->values[i]->value.len);
        }
    }
    cli_free_message(answer);
    return code;
}
