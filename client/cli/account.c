#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/v1/identity.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/grant.h"
#include "client/cli/moment.h"
#include "client/cli/page.h"

enum { SUMMARY_TEXT = 64, QUESTION_TEXT = 256 };

#define SERVICE "coffer.v1.ServiceAccountService/"

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
    if (account->delete_time != NULL) {
        cli_print_field("state", "deleted: none of its tokens works any more");
    } else if (account->disabled) {
        cli_print_field("state", "disabled: none of its tokens works");
    }
    cli_print_field("expires", cli_time(account->expire_time));
    if (account->last_use_time != NULL) {
        cli_print_field("last use", cli_time(account->last_use_time));
    }
    grant_print_list("networks", account->networks, account->n_networks);
    for (size_t i = 0; i < account->n_grants; i++) {
        grant_print("may", account->grants[i]);
    }
}

static void show_caller(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__GetCallerResponse *caller = (const Coffer__V1__GetCallerResponse *) (const void *) answer;
    (void) cli;
    print_account(caller->service_account);
    cli_print_field("token", caller->token->uid);
    cli_print_field("  expires", cli_time(caller->token->expire_time));
    for (size_t i = 0; i < caller->token->n_restrictions; i++) {
        grant_print("  only", caller->token->restrictions[i]);
    }
}

cli_exit cmd_whoami(struct cli *cli)
{
    static const struct cli_method method = {"coffer.v1.TokenService/GetCaller",
                                             &coffer__v1__get_caller_response__descriptor, show_caller};
    Coffer__V1__GetCallerRequest request;
    coffer__v1__get_caller_request__init(&request);
    return cli_do(cli, &method, &request.base);
}

/* --- Create --------------------------------------------------------------------------------------------------- */

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

static void show_created(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__ServiceAccount *account =
        ((const Coffer__V1__CreateServiceAccountResponse *) (const void *) answer)->service_account;
    (void) cli;
    cli_note("%s: created, a %s account", account->name, kind_name(account->kind));
    cli_note("  hint: coffer token issue %s --out %s.token makes a token of it", account->name, account->name);
}

static bool any_network(const struct cli *cli)
{
    return cli->networks.count == 1 && strcmp(cli->networks.items[0], "any") == 0;
}

static cli_exit create(struct cli *cli, struct grants *grants)
{
    static const struct cli_method method = {
        SERVICE "CreateServiceAccount", &coffer__v1__create_service_account_response__descriptor, show_created};
    Coffer__V1__CreateServiceAccountRequest request;
    Google__Protobuf__Timestamp expires;
    bool never = true;
    coffer__v1__create_service_account_request__init(&request);
    if (!kind_of(cli->kind, &request.kind)) {
        return cli_usage("without --kind it is an account of the workspace", "--kind is fleet or system");
    }
    if (grants->count == 0) {
        return cli_usage("coffer sa create runner --grant resolve@prod", "at least one --grant is needed");
    }
    if (cli->expires != NULL) {
        const cli_exit code = moment_read("expires", cli->expires, &expires, &never);
        if (code != CLI_OK) {
            return code;
        }
    }
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    request.grants = grants->list;
    request.n_grants = grants->count;
    request.networks = cli->networks.items;
    request.n_networks = any_network(cli) ? 0 : cli->networks.count;
    request.expire_time = never ? NULL : &expires;
    if (cli->description != NULL) {
        request.description = cli->description;
    }
    return cli_do(cli, &method, &request.base);
}

static cli_exit with_grants(struct cli *cli, cli_exit (*what)(struct cli *cli, struct grants *grants))
{
    struct grants *grants = calloc(1, sizeof *grants);
    if (grants == NULL) {
        return cli_no_memory();
    }
    cli_exit code = grants_read(cli, grants);
    if (code == CLI_OK) {
        code = what(cli, grants);
    }
    grants_done(grants);
    free(grants);
    return code;
}

cli_exit cmd_sa_create(struct cli *cli)
{
    return with_grants(cli, create);
}

/* --- List and show -------------------------------------------------------------------------------------------- */

static const char *state_of(const Coffer__V1__ServiceAccount *account)
{
    if (account->corrupted) {
        return "corrupted";
    }
    if (account->delete_time != NULL) {
        return "deleted";
    }
    if (account->disabled) {
        return "disabled";
    }
    return account->expire_time != NULL && cli_is_past(account->expire_time) ? "expired" : "";
}

/* The first permission, and how many more there are over all grants. */
static void account_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__ServiceAccount *account = (const Coffer__V1__ServiceAccount *) (const void *) item;
    char text[SUMMARY_TEXT] = "";
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
    cli_table_add(table, cli_time(account->expire_time));
    cli_table_add(table, state_of(account));
}

cli_exit cmd_sa_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "KIND", "PERMISSIONS", "CREATED", "EXPIRES", "STATE"};
    static const struct list list = {.method = SERVICE "ListServiceAccounts",
                                     .response = &coffer__v1__list_service_accounts_response__descriptor,
                                     .items = "service_accounts",
                                     .headers = headers,
                                     .columns = COF_COUNT(headers),
                                     .row = account_row,
                                     .none = "there is no service account; coffer sa create NAME makes one"};
    Coffer__V1__ListServiceAccountsRequest request;
    coffer__v1__list_service_accounts_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.show_deleted = cli->deleted;
    return list_all(cli, &list, &request.base);
}

static void show_account(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    print_account(((const Coffer__V1__GetServiceAccountResponse *) (const void *) answer)->service_account);
}

cli_exit cmd_sa_show(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "GetServiceAccount",
                                             &coffer__v1__get_service_account_response__descriptor, show_account};
    Coffer__V1__GetServiceAccountRequest request;
    coffer__v1__get_service_account_request__init(&request);
    request.workspace = cli_workspace(cli);
    if ((cli->uid != NULL) == (cli->argument_count > 0)) {
        return cli_usage("coffer sa list", "sa show needs a name, or --uid");
    }
    if (cli->uid != NULL) {
        request.uid = cli->uid;
    } else {
        request.name = cli->arguments[0];
    }
    return cli_do(cli, &method, &request.base);
}

/* --- Update --------------------------------------------------------------------------------------------------- */

struct update {
    Coffer__V1__UpdateServiceAccountRequest request;
    Google__Protobuf__FieldMask mask;
    Google__Protobuf__Timestamp expires;
    char *paths[5];
};

/* What the options change: the mask's paths and the request's fields. */
static void fill_update(struct cli *cli, struct update *update)
{
    static char description[] = "description";
    static char networks[] = "networks";
    static char disabled[] = "disabled";
    Coffer__V1__UpdateServiceAccountRequest *request = &update->request;
    if (cli->description != NULL) {
        request->description = cli->description;
        update->paths[update->mask.n_paths++] = description;
    }
    if (cli->networks.count > 0) {
        request->networks = cli->networks.items;
        request->n_networks = any_network(cli) ? 0 : cli->networks.count;
        update->paths[update->mask.n_paths++] = networks;
    }
    if (cli->disable || cli->enable) {
        request->disabled = cli->disable;
        update->paths[update->mask.n_paths++] = disabled;
    }
}

static cli_exit fill_end(struct cli *cli, struct update *update)
{
    static char expire_time[] = "expire_time";
    bool never = true;
    if (cli->expires == NULL) {
        return CLI_OK;
    }
    const cli_exit code = moment_read("expires", cli->expires, &update->expires, &never);
    update->request.expire_time = never ? NULL : &update->expires;
    update->paths[update->mask.n_paths++] = expire_time;
    return code;
}

static void show_updated(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    print_account(((const Coffer__V1__UpdateServiceAccountResponse *) (const void *) answer)->service_account);
}

static cli_exit update_account(struct cli *cli, struct grants *grants)
{
    static const struct cli_method method = {
        SERVICE "UpdateServiceAccount", &coffer__v1__update_service_account_response__descriptor, show_updated};
    static char path[] = "grants";
    struct update update = {.paths = {NULL}};
    coffer__v1__update_service_account_request__init(&update.request);
    google__protobuf__field_mask__init(&update.mask);
    update.mask.paths = update.paths;
    update.request.workspace = cli_workspace(cli);
    update.request.name = cli->arguments[0];
    update.request.update_mask = &update.mask;
    if (grants->count > 0) {
        update.request.grants = grants->list;
        update.request.n_grants = grants->count;
        update.paths[update.mask.n_paths++] = path;
    }
    fill_update(cli, &update);
    const cli_exit code = fill_end(cli, &update);
    if (code != CLI_OK) {
        return code;
    }
    if (update.mask.n_paths == 0) {
        return cli_usage("coffer sa update --help", "sa update needs what changes");
    }
    return cli_do(cli, &method, &update.request.base);
}

cli_exit cmd_sa_update(struct cli *cli)
{
    if (cli->disable && cli->enable) {
        return cli_usage("coffer sa update --help", "only one of --disable and --enable can be given");
    }
    return with_grants(cli, update_account);
}

/* --- Delete --------------------------------------------------------------------------------------------------- */

static void show_deleted(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    cli_note("%s: deleted, and none of its tokens works any more",
             ((const Coffer__V1__DeleteServiceAccountResponse *) (const void *) answer)->service_account->name);
}

cli_exit cmd_sa_delete(struct cli *cli)
{
    static const struct cli_method method = {
        SERVICE "DeleteServiceAccount", &coffer__v1__delete_service_account_response__descriptor, show_deleted};
    Coffer__V1__DeleteServiceAccountRequest request;
    char question[QUESTION_TEXT];
    (void) snprintf(question, sizeof question, "This deletes the service account \"%.100s\" and all of its tokens.",
                    cli->arguments[0]);
    const cli_exit confirmed = cli_confirm(cli, question, cli->arguments[0]);
    if (confirmed != CLI_OK) {
        return confirmed;
    }
    coffer__v1__delete_service_account_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}
