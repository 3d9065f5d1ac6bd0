#include <stdio.h>
#include <string.h>

#include <coffer/rpc/v1/server.pb-c.h>
#include <coffer/v1/environment.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/message.h"
#include "client/cli/page.h"

/* --- Server --------------------------------------------------------------------------------------------------- */

static cli_exit server_ready(struct cli *cli, bool *ret_ready)
{
    Grpc__Health__V1__HealthCheckRequest request;
    ProtobufCMessage *answer = NULL;
    char service[] = "readiness";
    grpc__health__v1__health_check_request__init(&request);
    request.service = service;
    const cli_exit code = cli_call(cli, "grpc.health.v1.Health/Check", &request.base,
                                   &grpc__health__v1__health_check_response__descriptor, &answer);
    *ret_ready = code == CLI_OK && ((Grpc__Health__V1__HealthCheckResponse *) (void *) answer)->status ==
                                       GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    cli_free_message(answer);
    return code;
}

cli_exit cmd_status(struct cli *cli)
{
    Coffer__Rpc__V1__GetServerInfoRequest request;
    ProtobufCMessage *answer = NULL;
    bool ready = false;
    coffer__rpc__v1__get_server_info_request__init(&request);
    cli_exit code = cli_call(cli, "coffer.rpc.v1.ServerService/GetServerInfo", &request.base,
                             &coffer__rpc__v1__get_server_info_response__descriptor, &answer);
    if (code == CLI_OK) {
        code = server_ready(cli, &ready);
    }
    if (code == CLI_OK && cli->json) {
        printf("{\n  \"ready\": %s,", ready ? "true" : "false");
        cli_json_members(stdout, answer);
        puts("\n}");
    } else if (code == CLI_OK) {
        cli_print_field("server", ready ? "ready" : "not ready: the database is out of reach, or it drains");
        cli_print_field("version", ((Coffer__Rpc__V1__GetServerInfoResponse *) (void *) answer)->version);
    }
    cli_free_message(answer);
    return code == CLI_OK && !ready ? CLI_UNAVAILABLE : code;
}

/* --- Environments --------------------------------------------------------------------------------------------- */

static void show_created(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) answer;
    cli_note("%s: created", cli->arguments[0]);
}

cli_exit cmd_env_create(struct cli *cli)
{
    static const struct cli_method method = {"coffer.v1.EnvironmentService/CreateEnvironment",
                                             &coffer__v1__create_environment_response__descriptor, show_created};
    Coffer__V1__CreateEnvironmentRequest request;
    coffer__v1__create_environment_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}

static void environment_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__Environment *environment = (const Coffer__V1__Environment *) (const void *) item;
    cli_table_add(table, environment->name);
    cli_table_add(table, cli_time(environment->create_time));
}

cli_exit cmd_env_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "CREATED"};
    static const struct list list = {
        .method = "coffer.v1.EnvironmentService/ListEnvironments",
        .response = &coffer__v1__list_environments_response__descriptor,
        .items = "environments",
        .headers = headers,
        .columns = COF_COUNT(headers),
        .row = environment_row,
        .none =
            "there is no environment yet; the first secret of one makes it, and so does coffer env create NAME"};
    Coffer__V1__ListEnvironmentsRequest request;
    coffer__v1__list_environments_request__init(&request);
    request.workspace = cli_workspace(cli);
    return list_all(cli, &list, &request.base);
}

static void show_deleted(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) answer;
    cli_note("%s: deleted", cli->arguments[0]);
}

cli_exit cmd_env_delete(struct cli *cli)
{
    static const struct cli_method method = {"coffer.v1.EnvironmentService/DeleteEnvironment",
                                             &coffer__v1__delete_environment_response__descriptor, show_deleted};
    Coffer__V1__DeleteEnvironmentRequest request;
    coffer__v1__delete_environment_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}
