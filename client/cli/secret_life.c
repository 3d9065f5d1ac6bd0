#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/page.h"
#include "client/cli/secret.h"

/* Commands about the life of secrets: names, versions, environments. */

enum { TEXT = 200, NUMBER_TEXT = 24 };

/* --- Delete and restore ----------------------------------------------------------------------------------------- */

static void show_deleted(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Secret *secret = ((const Coffer__V1__DeleteSecretResponse *) (const void *) answer)->secret;
    (void) cli;
    secret_note("deleted", secret);
    cli_note("  hint: coffer secret restore %s -e %s brings it back, for 30 days", secret->name,
             secret->environment);
}

cli_exit cmd_secret_delete(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "DeleteSecret",
                                             &coffer__v1__delete_secret_response__descriptor, show_deleted};
    Coffer__V1__DeleteSecretRequest request;
    const cli_exit confirmed = secret_confirm(cli, "This deletes");
    if (confirmed != CLI_OK) {
        return confirmed;
    }
    coffer__v1__delete_secret_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    if (cli->if_etag != NULL) {
        request.etag = cli->if_etag;
    }
    return cli_do(cli, &method, &request.base);
}

static void show_restored(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    secret_note("restored", ((const Coffer__V1__RestoreSecretResponse *) (const void *) answer)->secret);
}

cli_exit cmd_secret_restore(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "RestoreSecret",
                                             &coffer__v1__restore_secret_response__descriptor, show_restored};
    Coffer__V1__RestoreSecretRequest request;
    coffer__v1__restore_secret_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    if (cli->uid != NULL) {
        request.uid = cli->uid;
    }
    return cli_do(cli, &method, &request.base);
}

/* --- Names and places ------------------------------------------------------------------------------------------- */

static void show_renamed(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Secret *secret = ((const Coffer__V1__RenameSecretResponse *) (const void *) answer)->secret;
    cli_note("%s: is now %s in %s", cli->arguments[0], secret->name, secret->environment);
}

cli_exit cmd_secret_rename(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "RenameSecret",
                                             &coffer__v1__rename_secret_response__descriptor, show_renamed};
    Coffer__V1__RenameSecretRequest request;
    coffer__v1__rename_secret_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    request.new_name = cli->arguments[1];
    if (cli->if_etag != NULL) {
        request.etag = cli->if_etag;
    }
    return cli_do(cli, &method, &request.base);
}

static void show_copied(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    secret_note("copied; now", ((const Coffer__V1__CopySecretResponse *) (const void *) answer)->secret);
}

cli_exit cmd_secret_copy(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "CopySecret",
                                             &coffer__v1__copy_secret_response__descriptor, show_copied};
    Coffer__V1__CopySecretRequest request;
    if (cli->to_env == NULL && cli->to_name == NULL) {
        return cli_usage("coffer secret copy slack -e dev --to-env prod",
                         "secret copy needs --to-env, or --to-name");
    }
    coffer__v1__copy_secret_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    request.target_environment = cli->to_env == NULL ? cli_environment(cli) : cli->to_env;
    request.overwrite = cli->overwrite;
    if (cli->to_name != NULL) {
        request.target_name = cli->to_name;
    }
    return cli_do(cli, &method, &request.base);
}

/* --- Versions --------------------------------------------------------------------------------------------------- */

static const char *version_state(Coffer__V1__SecretVersionState state)
{
    switch (state) {
    case COFFER__V1__SECRET_VERSION_STATE__SECRET_VERSION_STATE_CURRENT:
        return "current";
    case COFFER__V1__SECRET_VERSION_STATE__SECRET_VERSION_STATE_REPLACED:
        return "replaced";
    case COFFER__V1__SECRET_VERSION_STATE__SECRET_VERSION_STATE_DESTROYED:
        return "destroyed";
    case COFFER__V1__SECRET_VERSION_STATE__SECRET_VERSION_STATE_UNSPECIFIED:
    case _COFFER__V1__SECRET_VERSION_STATE_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

static void version_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__SecretVersion *version = (const Coffer__V1__SecretVersion *) (const void *) item;
    char number[NUMBER_TEXT];
    char keys[TEXT];
    (void) snprintf(number, sizeof number, "%" PRIu64, version->version);
    cli_table_add(table, number);
    cli_table_add(table, version_state(version->state));
    cli_table_add(table, secret_keys_text(version->keys, version->n_keys, keys, sizeof keys));
    cli_table_add(table, cli_time(version->create_time));
    cli_table_add(table, version->account[0] == '\0' ? version->principal : version->account);
}

cli_exit cmd_secret_versions(struct cli *cli)
{
    static const char *const headers[] = {"VERSION", "STATE", "KEYS", "WRITTEN", "BY"};
    static const struct list list = {.method = SECRET_SERVICE "ListSecretVersions",
                                     .response = &coffer__v1__list_secret_versions_response__descriptor,
                                     .items = "versions",
                                     .headers = headers,
                                     .columns = COF_COUNT(headers),
                                     .row = version_row,
                                     .none = "there is no version"};
    Coffer__V1__ListSecretVersionsRequest request;
    coffer__v1__list_secret_versions_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    return list_all(cli, &list, &request.base);
}

static void show_rolled_back(const struct cli *cli, const ProtobufCMessage *answer)
{
    char text[TEXT];
    (void) snprintf(text, sizeof text, "has the values of version %.20s again", cli->arguments[1]);
    secret_note(text, ((const Coffer__V1__RollBackSecretResponse *) (const void *) answer)->secret);
}

cli_exit cmd_secret_rollback(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "RollBackSecret",
                                             &coffer__v1__roll_back_secret_response__descriptor, show_rolled_back};
    Coffer__V1__RollBackSecretRequest request;
    coffer__v1__roll_back_secret_request__init(&request);
    cli_exit code = cli_read_number("version", cli->arguments[1], &request.version);
    if (code == CLI_OK && cli->if_version != NULL) {
        code = cli_read_number("version of --if-version", cli->if_version, &request.expected_version);
    }
    if (code != CLI_OK) {
        return code;
    }
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}

static void show_destroyed(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Secret *secret =
        ((const Coffer__V1__DestroySecretVersionResponse *) (const void *) answer)->secret;
    cli_note("%s: version %s in %s is destroyed; backups that were made before still hold it", secret->name,
             cli->arguments[1], secret->environment);
}

cli_exit cmd_secret_destroy_version(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "DestroySecretVersion",
                                             &coffer__v1__destroy_secret_version_response__descriptor,
                                             show_destroyed};
    Coffer__V1__DestroySecretVersionRequest request;
    char what[TEXT];
    coffer__v1__destroy_secret_version_request__init(&request);
    cli_exit code = cli_read_number("version", cli->arguments[1], &request.version);
    if (code == CLI_OK) {
        (void) snprintf(what, sizeof what, "This destroys for ever the values of version %" PRIu64 " of",
                        request.version);
        code = secret_confirm(cli, what);
    }
    if (code != CLI_OK) {
        return code;
    }
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}
