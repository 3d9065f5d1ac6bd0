#include <stdio.h>
#include <string.h>

#include <coffer/rpc/v1/server.pb-c.h>
#include <coffer/v1/environment.pb-c.h>
#include <coffer/v1/workspace.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>

#include "client/cli/cli.h"
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
    if (code == CLI_OK) {
        cli_print_field("server", ready ? "ready" : "not ready: the database is out of reach, or it drains");
        cli_print_field("version", ((Coffer__Rpc__V1__GetServerInfoResponse *) (void *) answer)->version);
        code = ready ? CLI_OK : CLI_UNAVAILABLE;
    }
    cli_free_message(answer);
    return code;
}

/* --- Workspaces ----------------------------------------------------------------------------------------------- */

cli_exit cmd_workspace_create(struct cli *cli)
{
    Coffer__V1__CreateWorkspaceRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__create_workspace_request__init(&request);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, "coffer.v1.WorkspaceService/CreateWorkspace", &request.base,
                                   &coffer__v1__create_workspace_response__descriptor, &answer);
    if (code == CLI_OK) {
        puts(((Coffer__V1__CreateWorkspaceResponse *) (void *) answer)->workspace->uid);
    }
    cli_free_message(answer);
    return code;
}

static cli_exit workspace_page(struct cli *cli, struct cli_table *table, struct page *page)
{
    Coffer__V1__ListWorkspacesRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_workspaces_request__init(&request);
    request.page_size = PAGE_SIZE;
    request.page_token = page->token;
    const cli_exit code = cli_call(cli, "coffer.v1.WorkspaceService/ListWorkspaces", &request.base,
                                   &coffer__v1__list_workspaces_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListWorkspacesResponse *got =
            (const Coffer__V1__ListWorkspacesResponse *) (void *) answer;
        for (size_t i = 0; i < got->n_workspaces; i++) {
            cli_table_add(table, got->workspaces[i]->name);
            cli_table_add(table, got->workspaces[i]->uid);
            cli_table_add(table, cli_time(got->workspaces[i]->create_time));
        }
        page_next(page, got->next_page_token);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_workspace_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "WORKSPACE", "CREATED"};
    return page_all(cli, headers, COF_COUNT(headers), workspace_page);
}

/* --- Environments --------------------------------------------------------------------------------------------- */

cli_exit cmd_env_create(struct cli *cli)
{
    Coffer__V1__CreateEnvironmentRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__create_environment_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, "coffer.v1.EnvironmentService/CreateEnvironment", &request.base,
                                   &coffer__v1__create_environment_response__descriptor, &answer);
    if (code == CLI_OK) {
        fprintf(stderr, "%s: created\n", cli->arguments[0]);
    }
    cli_free_message(answer);
    return code;
}

static cli_exit environment_page(struct cli *cli, struct cli_table *table, struct page *page)
{
    Coffer__V1__ListEnvironmentsRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_environments_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.page_size = PAGE_SIZE;
    request.page_token = page->token;
    const cli_exit code = cli_call(cli, "coffer.v1.EnvironmentService/ListEnvironments", &request.base,
                                   &coffer__v1__list_environments_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListEnvironmentsResponse *got =
            (const Coffer__V1__ListEnvironmentsResponse *) (void *) answer;
        for (size_t i = 0; i < got->n_environments; i++) {
            cli_table_add(table, got->environments[i]->name);
            cli_table_add(table, cli_time(got->environments[i]->create_time));
        }
        page_next(page, got->next_page_token);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_env_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "CREATED"};
    return page_all(cli, headers, COF_COUNT(headers), environment_page);
}

cli_exit cmd_env_delete(struct cli *cli)
{
    Coffer__V1__DeleteEnvironmentRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__delete_environment_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, "coffer.v1.EnvironmentService/DeleteEnvironment", &request.base,
                                   &coffer__v1__delete_environment_response__descriptor, &answer);
    if (code == CLI_OK) {
        fprintf(stderr, "%s: deleted\n", cli->arguments[0]);
    }
    cli_free_message(answer);
    return code;
}
