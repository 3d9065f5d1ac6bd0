#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <coffer/rpc/v1/server.pb-c.h>
#include <coffer/v1/environment.pb-c.h>
#include <coffer/v1/identity.pb-c.h>
#include <coffer/v1/workspace.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>

#include "client/cli/cli.h"

static char nothing[] = "";

static char *workspace_of(const struct cli *cli)
{
    char *given = cli->workspace != NULL ? cli->workspace : getenv("COFFER_WORKSPACE");
    return given == NULL ? nothing : given;
}

/* --- Server and caller ---------------------------------------------------------------------------------------- */

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
        const Coffer__Rpc__V1__GetServerInfoResponse *info =
            (const Coffer__Rpc__V1__GetServerInfoResponse *) (void *) answer;
        printf("server    %s  coffer %s\n",
               ready ? "ready" : "not ready: the database is out of reach, or it drains", info->version);
        code = ready ? CLI_OK : CLI_UNAVAILABLE;
    }
    cli_free_message(answer);
    return code;
}

static void print_rule(const Coffer__V1__Rule *rule)
{
    const struct {
        const char *label;
        char **items;
        size_t count;
    } lists[] = {
        {"may", rule->permissions, rule->n_permissions},
        {"  environments", rule->environments, rule->n_environments},
        {"  names", rule->names, rule->n_names},
        {"  workspaces", rule->workspaces, rule->n_workspaces},
    };
    for (size_t i = 0; i < COF_COUNT(lists); i++) {
        for (size_t k = 0; k < lists[i].count; k++) {
            printf(k == 0 ? "%-15s %s" : "%.0s, %s", lists[i].label, lists[i].items[k]);
        }
        if (lists[i].count > 0) {
            putchar('\n');
        }
    }
}

cli_exit cmd_whoami(struct cli *cli)
{
    Coffer__V1__GetCallerRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__get_caller_request__init(&request);
    const cli_exit code = cli_call(cli, "coffer.v1.TokenService/GetCaller", &request.base,
                                   &coffer__v1__get_caller_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__GetCallerResponse *caller = (const Coffer__V1__GetCallerResponse *) (void *) answer;
        printf("account         %s\nworkspace       %s\ntoken           %s\nexpires         %s\n",
               caller->service_account->name, caller->service_account->workspace, caller->token->uid,
               cli_time(caller->token->expire_time));
        for (size_t i = 0; i < caller->service_account->n_grants; i++) {
            print_rule(caller->service_account->grants[i]);
        }
        for (size_t i = 0; i < caller->token->n_restrictions; i++) {
            puts("restricted to");
            print_rule(caller->token->restrictions[i]);
        }
    }
    cli_free_message(answer);
    return code;
}

/* --- Workspaces and environments ------------------------------------------------------------------------------ */

cli_exit cmd_workspace_create(struct cli *cli)
{
    Coffer__V1__CreateWorkspaceRequest request;
    ProtobufCMessage *answer = NULL;
    if (cli->argument_count != 1) {
        return cli_usage("coffer workspace create NAME", "one name is needed");
    }
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

cli_exit cmd_workspace_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "WORKSPACE", "CREATED"};
    Coffer__V1__ListWorkspacesRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_workspaces_request__init(&request);
    request.page_size = 1000;
    const cli_exit code = cli_call(cli, "coffer.v1.WorkspaceService/ListWorkspaces", &request.base,
                                   &coffer__v1__list_workspaces_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListWorkspacesResponse *page =
            (const Coffer__V1__ListWorkspacesResponse *) (void *) answer;
        struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
        for (size_t i = 0; i < page->n_workspaces; i++) {
            cli_table_add(table, page->workspaces[i]->name);
            cli_table_add(table, page->workspaces[i]->uid);
            cli_table_add(table, cli_time(page->workspaces[i]->create_time));
        }
        cli_table_print(table);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_env_create(struct cli *cli)
{
    Coffer__V1__CreateEnvironmentRequest request;
    ProtobufCMessage *answer = NULL;
    if (cli->argument_count != 1) {
        return cli_usage("coffer env create NAME", "one name is needed");
    }
    coffer__v1__create_environment_request__init(&request);
    request.workspace = workspace_of(cli);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, "coffer.v1.EnvironmentService/CreateEnvironment", &request.base,
                                   &coffer__v1__create_environment_response__descriptor, &answer);
    cli_free_message(answer);
    return code;
}

cli_exit cmd_env_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "CREATED"};
    Coffer__V1__ListEnvironmentsRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_environments_request__init(&request);
    request.workspace = workspace_of(cli);
    request.page_size = 1000;
    const cli_exit code = cli_call(cli, "coffer.v1.EnvironmentService/ListEnvironments", &request.base,
                                   &coffer__v1__list_environments_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListEnvironmentsResponse *page =
            (const Coffer__V1__ListEnvironmentsResponse *) (void *) answer;
        struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
        for (size_t i = 0; i < page->n_environments; i++) {
            cli_table_add(table, page->environments[i]->name);
            cli_table_add(table, cli_time(page->environments[i]->create_time));
        }
        cli_table_print(table);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_env_delete(struct cli *cli)
{
    Coffer__V1__DeleteEnvironmentRequest request;
    ProtobufCMessage *answer = NULL;
    if (cli->argument_count != 1) {
        return cli_usage("coffer env delete NAME", "one name is needed");
    }
    coffer__v1__delete_environment_request__init(&request);
    request.workspace = workspace_of(cli);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, "coffer.v1.EnvironmentService/DeleteEnvironment", &request.base,
                                   &coffer__v1__delete_environment_response__descriptor, &answer);
    cli_free_message(answer);
    return code;
}

/* --- Accounts ------------------------------------------------------------------------------------------------- */

static bool kind_of(const char *text, Coffer__V1__TokenKind *ret_kind)
{
    *ret_kind = COFFER__V1__TOKEN_KIND__TOKEN_KIND_UNSPECIFIED;
    if (text == NULL) {
        return true;
    }
    if (strcmp(text, "fleet") == 0) {
        *ret_kind = COFFER__V1__TOKEN_KIND__TOKEN_KIND_FLEET;
    } else if (strcmp(text, "system") == 0) {
        *ret_kind = COFFER__V1__TOKEN_KIND__TOKEN_KIND_SYSTEM;
    } else {
        return false;
    }
    return true;
}

static void fill_rule(struct cli *cli, Coffer__V1__Rule *rule)
{
    coffer__v1__rule__init(rule);
    rule->permissions = cli->permissions.items;
    rule->n_permissions = cli->permissions.count;
    rule->environments = cli->environments.items;
    rule->n_environments = cli->environments.count;
    rule->names = cli->names.items;
    rule->n_names = cli->names.count;
    rule->workspaces = cli->workspaces.items;
    rule->n_workspaces = cli->workspaces.count;
}

cli_exit cmd_sa_create(struct cli *cli)
{
    Coffer__V1__CreateServiceAccountRequest request;
    Coffer__V1__Rule rule;
    Coffer__V1__Rule *rules[] = {&rule};
    ProtobufCMessage *answer = NULL;
    coffer__v1__create_service_account_request__init(&request);
    if (cli->argument_count != 1 || cli->permissions.count == 0 || !kind_of(cli->kind, &request.kind)) {
        return cli_usage("coffer sa create NAME --permission resolve [--kind fleet|system]",
                         "one name and at least one permission are needed");
    }
    fill_rule(cli, &rule);
    request.workspace = workspace_of(cli);
    request.name = cli->arguments[0];
    request.grants = rules;
    request.n_grants = 1;
    const cli_exit code = cli_call(cli, "coffer.v1.ServiceAccountService/CreateServiceAccount", &request.base,
                                   &coffer__v1__create_service_account_response__descriptor, &answer);
    cli_free_message(answer);
    return code;
}

cli_exit cmd_sa_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "PERMISSIONS", "CREATED"};
    Coffer__V1__ListServiceAccountsRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_service_accounts_request__init(&request);
    request.workspace = workspace_of(cli);
    request.page_size = 1000;
    const cli_exit code = cli_call(cli, "coffer.v1.ServiceAccountService/ListServiceAccounts", &request.base,
                                   &coffer__v1__list_service_accounts_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListServiceAccountsResponse *page =
            (const Coffer__V1__ListServiceAccountsResponse *) (void *) answer;
        struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
        for (size_t i = 0; i < page->n_service_accounts; i++) {
            const Coffer__V1__ServiceAccount *account = page->service_accounts[i];
            char permissions[64];
            const size_t count = account->n_grants == 0 ? 0 : account->grants[0]->n_permissions;
            (void) snprintf(permissions, sizeof permissions, count > 1 ? "%.40s, +%zu" : "%.40s",
                            count == 0 ? "" : account->grants[0]->permissions[0], count - 1);
            cli_table_add(table, account->name);
            cli_table_add(table, permissions);
            cli_table_add(table, cli_time(account->create_time));
        }
        cli_table_print(table);
    }
    cli_free_message(answer);
    return code;
}

/* --- Tokens --------------------------------------------------------------------------------------------------- */

static cli_exit write_token(const char *path, ProtobufCBinaryData token)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0 || write(fd, token.data, token.len) != (ssize_t) token.len || close(fd) != 0) {
        fprintf(stderr, "coffer: %s: cannot be written: %s; the token is lost, revoke it\n", path, strerror(errno));
        return CLI_ERROR;
    }
    return CLI_OK;
}

cli_exit cmd_token_issue(struct cli *cli)
{
    Coffer__V1__IssueTokenRequest request;
    ProtobufCMessage *answer = NULL;
    if (cli->argument_count != 1) {
        return cli_usage("coffer token issue ACCOUNT --out FILE", "the name of one account is needed");
    }
    coffer__v1__issue_token_request__init(&request);
    request.workspace = workspace_of(cli);
    request.service_account = cli->arguments[0];
    request.description = cli->description == NULL ? nothing : cli->description;
    cli_exit code = cli_call(cli, "coffer.v1.TokenService/IssueToken", &request.base,
                             &coffer__v1__issue_token_response__descriptor, &answer);
    if (code == CLI_OK) {
        const ProtobufCBinaryData token = ((Coffer__V1__IssueTokenResponse *) (void *) answer)->secret_text;
        if (cli->out != NULL) {
            code = write_token(cli->out, token);
        } else {
            printf("%.*s\n", (int) token.len, (const char *) token.data);
        }
        explicit_bzero(token.data, token.len);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_token_list(struct cli *cli)
{
    static const char *const headers[] = {"TOKEN", "DESCRIPTION", "ISSUED", "EXPIRES", "REVOKED"};
    Coffer__V1__ListTokensRequest request;
    ProtobufCMessage *answer = NULL;
    if (cli->argument_count != 1) {
        return cli_usage("coffer token list ACCOUNT", "the name of one account is needed");
    }
    coffer__v1__list_tokens_request__init(&request);
    request.workspace = workspace_of(cli);
    request.service_account = cli->arguments[0];
    request.page_size = 1000;
    const cli_exit code = cli_call(cli, "coffer.v1.TokenService/ListTokens", &request.base,
                                   &coffer__v1__list_tokens_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListTokensResponse *page = (const Coffer__V1__ListTokensResponse *) (void *) answer;
        struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
        for (size_t i = 0; i < page->n_tokens; i++) {
            cli_table_add(table, page->tokens[i]->uid);
            cli_table_add(table, page->tokens[i]->description);
            cli_table_add(table, cli_time(page->tokens[i]->create_time));
            cli_table_add(table, cli_time(page->tokens[i]->expire_time));
            cli_table_add(table, cli_time(page->tokens[i]->revoke_time));
        }
        cli_table_print(table);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_token_revoke(struct cli *cli)
{
    Coffer__V1__RevokeTokenRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__revoke_token_request__init(&request);
    request.workspace = workspace_of(cli);
    if (cli->argument_count > 0) {
        request.token_uid = cli->arguments[0];
    }
    const cli_exit code = cli_call(cli, "coffer.v1.TokenService/RevokeToken", &request.base,
                                   &coffer__v1__revoke_token_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__Token *token = ((Coffer__V1__RevokeTokenResponse *) (void *) answer)->token;
        fprintf(stderr, "token %s of %s is revoked\n", token->uid, token->service_account);
    }
    cli_free_message(answer);
    return code;
}
