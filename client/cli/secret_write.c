#include <stdio.h>
#include <string.h>

#include "client/cli/moment.h"
#include "client/cli/secret.h"

/* Commands that make secrets and change what they hold. */

/* --- Create ----------------------------------------------------------------------------------------------------- */

static void show_created(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__CreateSecretResponse *created =
        (const Coffer__V1__CreateSecretResponse *) (const void *) answer;
    (void) cli;
    secret_note("created", created->secret);
    secret_warn(created->warnings, created->n_warnings);
}

struct creation {
    Coffer__V1__CreateSecretRequest request;
    Google__Protobuf__Timestamp expires;
};

/* All but the values, so that nobody is asked for one before something else is wrong. */
static cli_exit creation_read(struct cli *cli, char *name, struct creation *creation)
{
    Coffer__V1__CreateSecretRequest *request = &creation->request;
    bool never = true;
    coffer__v1__create_secret_request__init(request);
    cli_exit code = secret_type_read(cli->type, &request->type);
    if (code == CLI_OK && cli->expires != NULL) {
        code = moment_read("expires", cli->expires, &creation->expires, &never);
    }
    request->workspace = cli_workspace(cli);
    request->environment = cli_environment(cli);
    request->name = name;
    request->tags = cli->tags.items;
    request->n_tags = cli->tags.count;
    request->expire_time = never ? NULL : &creation->expires;
    request->block_when_expired = cli->block;
    if (cli->description != NULL) {
        request->description = cli->description;
    }
    return code;
}

static cli_exit create(struct cli *cli, struct creation *creation, struct pairs *pairs)
{
    static const struct cli_method method = {SECRET_SERVICE "CreateSecret",
                                             &coffer__v1__create_secret_response__descriptor, show_created};
    creation->request.values = pairs->list;
    creation->request.n_values = pairs->count;
    return cli_do(cli, &method, &creation->request.base);
}

cli_exit cmd_secret_create(struct cli *cli)
{
    struct creation creation;
    struct pairs *pairs = pairs_new();
    if (pairs == NULL) {
        return cli_no_memory();
    }
    cli_exit code = creation_read(cli, cli->arguments[0], &creation);
    if (code == CLI_OK) {
        code = pairs_read(cli, cli->arguments[0], 1, pairs);
    }
    if (code == CLI_OK && pairs->count == 0) {
        code = cli_usage("coffer secret create slack SLACK_BOT_TOKEN", "secret create needs a key, or --file");
    }
    if (code == CLI_OK) {
        code = create(cli, &creation, pairs);
    }
    pairs_free(pairs);
    return code;
}

/* --- Values ----------------------------------------------------------------------------------------------------- */

static void show_changed(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__UpdateSecretValuesResponse *changed =
        (const Coffer__V1__UpdateSecretValuesResponse *) (const void *) answer;
    (void) cli;
    secret_note("changed", changed->secret);
    secret_warn(changed->warnings, changed->n_warnings);
}

static const struct cli_method change_method = {
    SECRET_SERVICE "UpdateSecretValues", &coffer__v1__update_secret_values_response__descriptor, show_changed};

/* A change of single keys, or with --replace of all. */
struct change {
    Coffer__V1__UpdateSecretValuesRequest request;
    Coffer__V1__PatchValues patch;
    Coffer__V1__ReplaceValues replace;
};

static void fill_change(struct cli *cli, char *name, struct pairs *pairs, struct change *change)
{
    coffer__v1__update_secret_values_request__init(&change->request);
    coffer__v1__patch_values__init(&change->patch);
    coffer__v1__replace_values__init(&change->replace);
    change->request.workspace = cli_workspace(cli);
    change->request.environment = cli_environment(cli);
    change->request.name = name;
    if (cli->replace) {
        change->replace.values = pairs->list;
        change->replace.n_values = pairs->count;
        change->request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_REPLACE;
        change->request.replace = &change->replace;
        return;
    }
    change->patch.set = pairs->list;
    change->patch.n_set = pairs->count;
    change->patch.remove = cli->removed.items;
    change->patch.n_remove = cli->removed.count;
    change->request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_PATCH;
    change->request.patch = &change->patch;
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
static cli_exit change_or_create(struct cli *cli, struct creation *creation, struct pairs *pairs)
{
    struct change change;
    bool exists = false;
    fill_change(cli, creation->request.name, pairs, &change);
    const cli_exit code =
        cli_do_try(cli, &change_method, &change.request.base, COFFER_REASON_SECRET_NOT_FOUND, &exists);
    return code == CLI_OK && !exists ? create(cli, creation, pairs) : code;
}

cli_exit cmd_set(struct cli *cli)
{
    char *name = NULL;
    struct creation creation;
    struct pairs *pairs = pairs_new();
    if (pairs == NULL) {
        return cli_no_memory();
    }
    cli_exit code = split_keys(cli, &name);
    if (code == CLI_OK) {
        code = creation_read(cli, name, &creation);
    }
    if (code == CLI_OK) {
        code = pairs_read(cli, name, 0, pairs);
    }
    if (code == CLI_OK) {
        code = change_or_create(cli, &creation, pairs);
    }
    pairs_free(pairs);
    return code;
}

static cli_exit update_values(struct cli *cli)
{
    struct change change;
    struct pairs *pairs = pairs_new();
    if (pairs == NULL) {
        return cli_no_memory();
    }
    uint64_t expected = 0;
    cli_exit code =
        cli->if_version == NULL ? CLI_OK : cli_read_number("version of --if-version", cli->if_version, &expected);
    if (code == CLI_OK) {
        code = pairs_read(cli, cli->arguments[0], 1, pairs);
    }
    if (code == CLI_OK) {
        fill_change(cli, cli->arguments[0], pairs, &change);
        change.request.expected_version = expected;
        code = cli_do(cli, &change_method, &change.request.base);
    }
    pairs_free(pairs);
    return code;
}

/* --- Metadata --------------------------------------------------------------------------------------------------- */

struct metadata {
    Coffer__V1__UpdateSecretRequest request;
    Google__Protobuf__FieldMask mask;
    Google__Protobuf__Timestamp expires;
    char *paths[4];
};

static void show_metadata(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    secret_print(((const Coffer__V1__UpdateSecretResponse *) (const void *) answer)->secret);
}

/* The mask's paths and the request's fields, as options tell. */
static cli_exit fill_metadata(struct cli *cli, struct metadata *metadata)
{
    static char description[] = "description";
    static char tags[] = "tags";
    static char expire_time[] = "expire_time";
    static char block[] = "block_when_expired";
    Coffer__V1__UpdateSecretRequest *request = &metadata->request;
    Google__Protobuf__FieldMask *mask = &metadata->mask;
    bool never = true;
    if (cli->description != NULL) {
        request->description = cli->description;
        mask->paths[mask->n_paths++] = description;
    }
    if (cli->tags.count > 0 || cli->no_tags) {
        request->tags = cli->tags.items;
        request->n_tags = cli->tags.count;
        mask->paths[mask->n_paths++] = tags;
    }
    if (cli->block || cli->no_block) {
        request->block_when_expired = cli->block;
        mask->paths[mask->n_paths++] = block;
    }
    if (cli->expires == NULL) {
        return CLI_OK;
    }
    const cli_exit code = moment_read("expires", cli->expires, &metadata->expires, &never);
    request->expire_time = never ? NULL : &metadata->expires;
    mask->paths[mask->n_paths++] = expire_time;
    return code;
}

static cli_exit update_metadata(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "UpdateSecret",
                                             &coffer__v1__update_secret_response__descriptor, show_metadata};
    struct metadata metadata = {.paths = {NULL}};
    coffer__v1__update_secret_request__init(&metadata.request);
    google__protobuf__field_mask__init(&metadata.mask);
    metadata.mask.paths = metadata.paths;
    metadata.request.workspace = cli_workspace(cli);
    metadata.request.environment = cli_environment(cli);
    metadata.request.name = cli->arguments[0];
    metadata.request.update_mask = &metadata.mask;
    if (cli->if_etag != NULL) {
        metadata.request.etag = cli->if_etag;
    }
    const cli_exit code = fill_metadata(cli, &metadata);
    return code == CLI_OK ? cli_do(cli, &method, &metadata.request.base) : code;
}

/* --- Update ----------------------------------------------------------------------------------------------------- */

static cli_exit check_update(const struct cli *cli, bool values, bool metadata)
{
    static const char hint[] = "coffer secret update --help";
    if (!values && !metadata) {
        return cli_usage(hint, "secret update needs what changes");
    }
    if (values && metadata) {
        return cli_usage(hint, "values and metadata are changed one after the other, by two commands");
    }
    if ((cli->block && cli->no_block) || (cli->no_tags && cli->tags.count > 0)) {
        return cli_usage(hint, "an option and its opposite are given");
    }
    if (cli->replace && cli->removed.count > 0) {
        return cli_usage(hint, "--replace leaves only what is given; --remove has no place beside it");
    }
    if ((metadata && cli->if_version != NULL) || (values && cli->if_etag != NULL)) {
        return cli_usage(hint, "--if-version guards values, --if-etag metadata");
    }
    return CLI_OK;
}

cli_exit cmd_secret_update(struct cli *cli)
{
    const bool values = cli->argument_count > 1 || cli->files.count > 0 || cli->removed.count > 0 || cli->replace;
    const bool metadata = cli->description != NULL || cli->tags.count > 0 || cli->no_tags || cli->expires != NULL ||
                          cli->block || cli->no_block;
    const cli_exit code = check_update(cli, values, metadata);
    if (code != CLI_OK) {
        return code;
    }
    return values ? update_values(cli) : update_metadata(cli);
}
