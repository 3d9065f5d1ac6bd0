#include <inttypes.h>

#include "client/cli/message.h"
#include "client/cli/secret.h"

/* `coffer secret diff`: what two versions of a secret have in common, key by key, without values. */

static void show_differences(const struct cli *cli, const ProtobufCMessage *answer)
{
    static const char *const headers[] = {"KEY", "DIFFERENCE"};
    const Coffer__V1__CompareVersionsResponse *told =
        (const Coffer__V1__CompareVersionsResponse *) (const void *) answer;
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    bool hidden = false;
    for (size_t i = 0; i < told->n_keys; i++) {
        const Coffer__V1__KeyDifference *key = told->keys[i];
        hidden = hidden || key->difference == COFFER__V1__DIFFERENCE__DIFFERENCE_PRESENT;
        cli_table_add(table, key->key);
        cli_table_add(table, secret_difference(key->difference, "removed", "added"));
    }
    cli_note("%s: from version %" PRIu64 " to %" PRIu64 "%s", cli->arguments[0], told->version, told->other_version,
             told->difference == COFFER__V1__DIFFERENCE__DIFFERENCE_SAME ? ", which are the same" : "");
    cli_table_print(table);
    if (hidden) {
        cli_note("whether values are the same is told to who may reveal them (secret:reveal)");
    }
}

cli_exit cmd_secret_diff(struct cli *cli)
{
    static const struct cli_method method = {SECRET_SERVICE "CompareVersions",
                                             &coffer__v1__compare_versions_response__descriptor, show_differences};
    Coffer__V1__CompareVersionsRequest request;
    coffer__v1__compare_versions_request__init(&request);
    cli_exit code = cli_read_number("version of argument 2", cli->arguments[1], &request.version);
    if (code == CLI_OK && cli->argument_count > 2) {
        code = cli_read_number("version of argument 3", cli->arguments[2], &request.other_version);
    }
    if (code != CLI_OK) {
        return code;
    }
    request.workspace = cli_workspace(cli);
    request.environment = cli_environment(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}
