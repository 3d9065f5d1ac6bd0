#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <coffer/v1/identity.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/page.h"

enum { LABEL = 13, LINE = 79 };

/* --- What an account may do ----------------------------------------------------------------------------------- */

/* The items under the label, on one line, or on as many as a terminal needs; nothing for none. */
static void print_list(const char *label, char *const *items, size_t count)
{
    const bool wrap = isatty(STDOUT_FILENO) == 1;
    size_t column = LABEL;
    for (size_t i = 0; i < count; i++) {
        const size_t length = strlen(items[i]) + 2;
        if (i == 0) {
            printf("%-*s", LABEL, label);
        } else if (wrap && column + length > LINE) {
            printf(",\n%*s", LABEL, "");
            column = LABEL;
        } else {
            fputs(", ", stdout);
        }
        fputs(items[i], stdout);
        column += length;
    }
    if (count > 0) {
        (void) putchar('\n');
    }
}

static void print_rule(const char *label, const Coffer__V1__Rule *rule)
{
    print_list(label, rule->permissions, rule->n_permissions);
    print_list("  envs", rule->environments, rule->n_environments);
    print_list("  names", rule->names, rule->n_names);
    print_list("  workspaces", rule->workspaces, rule->n_workspaces);
}

static const char *kind_name(Coffer__V1__TokenKind kind)
{
    switch (kind) {
    case COFFER__V1__TOKEN_KIND__TOKEN_KIND_WORKSPACE:
        return "workspace";
    case COFFER__V1__TOKEN_KIND__TOKEN_KIND_FLEET:
        return "fleet";
    case COFFER__V1__TOKEN_KIND__TOKEN_KIND_SYSTEM:
        return "system";
    case COFFER__V1__TOKEN_KIND__TOKEN_KIND_UNSPECIFIED:
    case _COFFER__V1__TOKEN_KIND_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

static void print_account(const Coffer__V1__ServiceAccount *account)
{
    cli_print_field("account", account->name);
    cli_print_field("uid", account->uid);
    cli_print_field("kind", kind_name(account->kind));
    cli_print_field("workspace", account->workspace);
    if (account->description[0] != '\0') {
        cli_print_field("description", account->description);
    }
    if (account->disabled) {
        cli_print_field("state", "disabled: none of its tokens works");
    }
    cli_print_field("expires", cli_time(account->expire_time));
    print_list("networks", account->networks, account->n_networks);
    for (size_t i = 0; i < account->n_grants; i++) {
        print_rule("may", account->grants[i]);
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
        print_account(caller->service_account);
        cli_print_field("token", caller->token->uid);
        cli_print_field("  expires", cli_time(caller->token->expire_time));
        for (size_t i = 0; i < caller->token->n_restrictions; i++) {
            print_rule("  only", caller->token->restrictions[i]);
        }
    }
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
    rule->environments = cli->environment_patterns.items;
    rule->n_environments = cli->environment_patterns.count;
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
    if (!kind_of(cli->kind, &request.kind)) {
        return cli_usage("without --kind it is an account of the workspace", "--kind is fleet or system");
    }
    if (cli->permissions.count == 0) {
        return cli_usage("coffer sa create runner --permission resolve", "at least one --permission is needed");
    }
    fill_rule(cli, &rule);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    request.grants = rules;
    request.n_grants = 1;
    if (cli->description != NULL) {
        request.description = cli->description;
    }
    const cli_exit code = cli_call(cli, "coffer.v1.ServiceAccountService/CreateServiceAccount", &request.base,
                                   &coffer__v1__create_service_account_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ServiceAccount *account =
            ((Coffer__V1__CreateServiceAccountResponse *) (void *) answer)->service_account;
        fprintf(stderr, "%s: created, a %s account\n", account->name, kind_name(account->kind));
    }
    cli_free_message(answer);
    return code;
}

/* The first permission, and how many more there are over all grants. */
static void add_account(struct cli_table *table, const Coffer__V1__ServiceAccount *account)
{
    char text[64] = "";
    size_t count = 0;
    const char *first = "";
    for (size_t i = 0; i < account->n_grants; i++) {
        first = count == 0 && account->grants[i]->n_permissions > 0 ? account->grants[i]->permissions[0] : first;
        count += account->grants[i]->n_permissions;
    }
    if (count > 1) {
        (void) snprintf(text, sizeof text, "%.40s, +%zu", first, count - 1);
    } else {
        (void) snprintf(text, sizeof text, "%.40s", first);
    }
    cli_table_add(table, account->name);
    cli_table_add(table, kind_name(account->kind));
    cli_table_add(table, text);
    cli_table_add(table, cli_time(account->create_time));
    cli_table_add(table, account->disabled ? "disabled" : "");
}

static cli_exit account_page(struct cli *cli, struct cli_table *table, struct page *page)
{
    Coffer__V1__ListServiceAccountsRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_service_accounts_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.page_size = PAGE_SIZE;
    request.page_token = page->token;
    const cli_exit code = cli_call(cli, "coffer.v1.ServiceAccountService/ListServiceAccounts", &request.base,
                                   &coffer__v1__list_service_accounts_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListServiceAccountsResponse *got =
            (const Coffer__V1__ListServiceAccountsResponse *) (void *) answer;
        for (size_t i = 0; i < got->n_service_accounts; i++) {
            add_account(table, got->service_accounts[i]);
        }
        page_next(page, got->next_page_token);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_sa_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "KIND", "PERMISSIONS", "CREATED", "STATE"};
    return page_all(cli, headers, COF_COUNT(headers), account_page);
}

cli_exit cmd_sa_show(struct cli *cli)
{
    Coffer__V1__GetServiceAccountRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__get_service_account_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, "coffer.v1.ServiceAccountService/GetServiceAccount", &request.base,
                                   &coffer__v1__get_service_account_response__descriptor, &answer);
    if (code == CLI_OK) {
        print_account(((Coffer__V1__GetServiceAccountResponse *) (void *) answer)->service_account);
    }
    cli_free_message(answer);
    return code;
}

/* What the options change: the mask's paths, which are written into `paths`, and the request's fields. */
static size_t fill_update(struct cli *cli, Coffer__V1__UpdateServiceAccountRequest *request, char **paths)
{
    static char description[] = "description";
    static char grants[] = "grants";
    static char networks[] = "networks";
    static char disabled[] = "disabled";
    size_t count = 0;
    if (cli->description != NULL) {
        request->description = cli->description;
        paths[count++] = description;
    }
    if (cli->permissions.count > 0) {
        paths[count++] = grants;
    }
    if (cli->networks.count > 0) {
        const bool any = cli->networks.count == 1 && strcmp(cli->networks.items[0], "any") == 0;
        request->networks = cli->networks.items;
        request->n_networks = any ? 0 : cli->networks.count;
        paths[count++] = networks;
    }
    if (cli->disable || cli->enable) {
        request->disabled = cli->disable;
        paths[count++] = disabled;
    }
    return count;
}

static cli_exit check_update(const struct cli *cli, size_t changes)
{
    const size_t patterns = cli->environment_patterns.count + cli->names.count + cli->workspaces.count;
    if (changes == 0 || (patterns > 0 && cli->permissions.count == 0)) {
        return cli_usage("coffer sa update --help",
                         "sa update needs what changes; patterns belong to permissions, which are given anew");
    }
    if (cli->disable && cli->enable) {
        return cli_usage("coffer sa update --help", "only one of --disable and --enable can be given");
    }
    return CLI_OK;
}

cli_exit cmd_sa_update(struct cli *cli)
{
    Coffer__V1__UpdateServiceAccountRequest request;
    Google__Protobuf__FieldMask mask;
    Coffer__V1__Rule rule;
    Coffer__V1__Rule *rules[] = {&rule};
    char *paths[4];
    ProtobufCMessage *answer = NULL;
    coffer__v1__update_service_account_request__init(&request);
    google__protobuf__field_mask__init(&mask);
    fill_rule(cli, &rule);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    request.update_mask = &mask;
    request.grants = rules;
    request.n_grants = cli->permissions.count > 0 ? 1 : 0;
    mask.paths = paths;
    mask.n_paths = fill_update(cli, &request, paths);
    cli_exit code = check_update(cli, mask.n_paths);
    if (code != CLI_OK) {
        return code;
    }
    code = cli_call(cli, "coffer.v1.ServiceAccountService/UpdateServiceAccount", &request.base,
                    &coffer__v1__update_service_account_response__descriptor, &answer);
    if (code == CLI_OK) {
        print_account(((Coffer__V1__UpdateServiceAccountResponse *) (void *) answer)->service_account);
    }
    cli_free_message(answer);
    return code;
}

static cli_exit confirm_delete(const struct cli *cli)
{
    char question[256];
    (void) snprintf(question, sizeof question, "This deletes the service account \"%.100s\" and all of its tokens.",
                    cli->arguments[0]);
    return cli_confirm(cli, question, cli->arguments[0]);
}

cli_exit cmd_sa_delete(struct cli *cli)
{
    Coffer__V1__DeleteServiceAccountRequest request;
    ProtobufCMessage *answer = NULL;
    const cli_exit confirmed = confirm_delete(cli);
    if (confirmed != CLI_OK) {
        return confirmed;
    }
    coffer__v1__delete_service_account_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    const cli_exit code = cli_call(cli, "coffer.v1.ServiceAccountService/DeleteServiceAccount", &request.base,
                                   &coffer__v1__delete_service_account_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ServiceAccount *account =
            ((Coffer__V1__DeleteServiceAccountResponse *) (void *) answer)->service_account;
        fprintf(stderr, "%s: deleted, and none of its tokens works any more\n", account->name);
    }
    cli_free_message(answer);
    return code;
}

/* --- Tokens --------------------------------------------------------------------------------------------------- */

/* Where a token goes: opened before the token is issued, since it is shown only once. */
static cli_exit open_out(const struct cli *cli, int *ret_fd)
{
    *ret_fd = STDOUT_FILENO;
    if (cli->out == NULL) {
        return CLI_OK;
    }
    *ret_fd = open(cli->out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    return *ret_fd >= 0 ? CLI_OK
                        : cli_refuse(CLI_ERROR, NULL, "%s cannot be made: %s; no token was issued", cli->out,
                                     strerror(errno));
}

static bool write_all(int fd, ProtobufCBinaryData data)
{
    size_t done = 0;
    while (done < data.len) {
        const ssize_t wrote = write(fd, data.data + done, data.len - done);
        if (wrote <= 0) {
            return false;
        }
        done += (size_t) wrote;
    }
    return true;
}

static cli_exit show_token(const struct cli *cli, int fd, ProtobufCBinaryData text, const Coffer__V1__Token *token)
{
    static uint8_t newline[] = "\n";
    const char *to = cli->out == NULL ? "standard output" : cli->out;
    const bool written = write_all(fd, text) && write_all(fd, (ProtobufCBinaryData){1, newline});
    if (!written) {
        return cli_refuse(CLI_ERROR, "coffer token revoke UID", "%s cannot be written: %s; the token %s is lost",
                          to, strerror(errno), token->uid);
    }
    fprintf(stderr, "token %s of %s: %s%s\n", token->uid, token->service_account,
            cli->out == NULL ? "shown above, and never again" : "written to ", cli->out == NULL ? "" : cli->out);
    return CLI_OK;
}

static cli_exit issue(struct cli *cli, int fd)
{
    Coffer__V1__IssueTokenRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__issue_token_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.service_account = cli->arguments[0];
    if (cli->description != NULL) {
        request.description = cli->description;
    }
    cli_exit code = cli_call(cli, "coffer.v1.TokenService/IssueToken", &request.base,
                             &coffer__v1__issue_token_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__IssueTokenResponse *issued = (const Coffer__V1__IssueTokenResponse *) (void *) answer;
        code = show_token(cli, fd, issued->secret_text, issued->token);
        explicit_bzero(issued->secret_text.data, issued->secret_text.len);
    }
    cli_free_message(answer);
    return code;
}

/* A number and its unit; false for anything else. */
static bool read_overlap(const char *text, int64_t *ret_seconds)
{
    static const struct {
        const char *unit;
        int64_t seconds;
    } units[] = {{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};
    int64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && number < INT32_MAX; at++) {
        number = number * 10 + (*at - '0');
    }
    for (size_t i = 0; at != text && i < COF_COUNT(units); i++) {
        if (strcmp(at, units[i].unit) == 0) {
            *ret_seconds = number * units[i].seconds;
            return true;
        }
    }
    return false;
}

static cli_exit rotate(struct cli *cli, int fd)
{
    Coffer__V1__RotateTokenRequest request;
    Google__Protobuf__Duration overlap;
    ProtobufCMessage *answer = NULL;
    coffer__v1__rotate_token_request__init(&request);
    google__protobuf__duration__init(&overlap);
    if (!read_overlap(cli->overlap, &overlap.seconds)) {
        return cli_usage("coffer token rotate UID --overlap 24h", "--overlap %s is no time", cli->overlap);
    }
    request.workspace = cli_workspace(cli);
    request.overlap = &overlap;
    if (cli->argument_count > 0) {
        request.token_uid = cli->arguments[0];
    }
    cli_exit code = cli_call(cli, "coffer.v1.TokenService/RotateToken", &request.base,
                             &coffer__v1__rotate_token_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__RotateTokenResponse *rotated = (const Coffer__V1__RotateTokenResponse *) (void *) answer;
        code = show_token(cli, fd, rotated->secret_text, rotated->token);
        explicit_bzero(rotated->secret_text.data, rotated->secret_text.len);
        fprintf(stderr, "token %s works until %s\n", rotated->predecessor->uid,
                cli_time(rotated->predecessor->expire_time));
    }
    cli_free_message(answer);
    return code;
}

static cli_exit into_out(struct cli *cli, cli_exit (*make)(struct cli *cli, int fd))
{
    int fd = -1;
    cli_exit code = open_out(cli, &fd);
    if (code != CLI_OK) {
        return code;
    }
    code = make(cli, fd);
    if (cli->out != NULL && close(fd) != 0 && code == CLI_OK) {
        code = cli_refuse(CLI_ERROR, "coffer token list ACCOUNT", "%s cannot be written: %s", cli->out,
                          strerror(errno));
    }
    if (cli->out != NULL && code != CLI_OK) {
        (void) unlink(cli->out);
    }
    return code;
}

cli_exit cmd_token_issue(struct cli *cli)
{
    return into_out(cli, issue);
}

cli_exit cmd_token_rotate(struct cli *cli)
{
    if (cli->self == (cli->argument_count > 0) || cli->overlap == NULL) {
        return cli_usage("coffer token list ACCOUNT shows the UIDs",
                         "token rotate needs a UID, or --self, and --overlap");
    }
    return into_out(cli, rotate);
}

static cli_exit token_page(struct cli *cli, struct cli_table *table, struct page *page)
{
    Coffer__V1__ListTokensRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_tokens_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.service_account = cli->arguments[0];
    request.page_size = PAGE_SIZE;
    request.page_token = page->token;
    const cli_exit code = cli_call(cli, "coffer.v1.TokenService/ListTokens", &request.base,
                                   &coffer__v1__list_tokens_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__ListTokensResponse *got = (const Coffer__V1__ListTokensResponse *) (void *) answer;
        for (size_t i = 0; i < got->n_tokens; i++) {
            cli_table_add(table, got->tokens[i]->uid);
            cli_table_add(table, cli_time(got->tokens[i]->create_time));
            cli_table_add(table, cli_time(got->tokens[i]->expire_time));
            cli_table_add(table, cli_time(got->tokens[i]->revoke_time));
            cli_table_add(table, got->tokens[i]->description);
        }
        page_next(page, got->next_page_token);
    }
    cli_free_message(answer);
    return code;
}

cli_exit cmd_token_list(struct cli *cli)
{
    static const char *const headers[] = {"TOKEN", "ISSUED", "EXPIRES", "REVOKED", "DESCRIPTION"};
    return page_all(cli, headers, COF_COUNT(headers), token_page);
}

cli_exit cmd_token_revoke(struct cli *cli)
{
    Coffer__V1__RevokeTokenRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__revoke_token_request__init(&request);
    if (cli->self == (cli->argument_count > 0)) {
        return cli_usage("coffer token list ACCOUNT shows the UIDs", "token revoke needs a UID, or --self");
    }
    request.workspace = cli_workspace(cli);
    if (cli->argument_count > 0) {
        request.token_uid = cli->arguments[0];
    }
    const cli_exit code = cli_call(cli, "coffer.v1.TokenService/RevokeToken", &request.base,
                                   &coffer__v1__revoke_token_response__descriptor, &answer);
    if (code == CLI_OK) {
        const Coffer__V1__Token *token = ((Coffer__V1__RevokeTokenResponse *) (void *) answer)->token;
        fprintf(stderr, "token %s of %s: revoked\n", token->uid, token->service_account);
    }
    cli_free_message(answer);
    return code;
}
