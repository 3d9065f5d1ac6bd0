#include "client/cli/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/preflight.h>

#include "client/cli/message.h"
#include "client/cli/page.h"
#include "client/cli/progress.h"
#include "client/cli/resolve.h"
#include "client/cli/trace.h"
#include "common/name.h"

/* Commands about the actions of a workspace. */

enum { TEXT = 400, REFERENCE_TEXT = COF_SECRET_NAME_MAX + COF_KEY_NAME_MAX + 2 };

/* --- What an action needs, as text ------------------------------------------------------------------------------ */

static void add(char *text, size_t room, const char *one)
{
    const size_t length = strlen(text);
    (void) snprintf(text + length, room - length, "%s%s", length == 0 ? "" : ", ", one);
}

static const char *grant_end(Coffer__V1__OAuthGrant grant)
{
    return grant == COFFER__V1__OAUTH_GRANT__OAUTH_GRANT_CLIENT_CREDENTIALS ? "service token" : "user token";
}

/* "slack, jira?, github user token"; a question mark for what may be missing. */
static const char *needs_text(const Coffer__V1__ActionDeclarations *needs, char *text, size_t room)
{
    char one[REFERENCE_TEXT + 16];
    text[0] = '\0';
    for (size_t i = 0; needs != NULL && i < needs->n_secrets; i++) {
        (void) snprintf(one, sizeof one, "%s%s", needs->secrets[i]->name, needs->secrets[i]->optional ? "?" : "");
        add(text, room, one);
    }
    for (size_t i = 0; needs != NULL && i < needs->n_oauth; i++) {
        (void) snprintf(one, sizeof one, "%s %s%s", needs->oauth[i]->provider, grant_end(needs->oauth[i]->grant),
                        needs->oauth[i]->optional ? "?" : "");
        add(text, room, one);
    }
    return text;
}

static const char *names_text(char *const *names, size_t count, char *text, size_t room)
{
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        add(text, room, names[i]);
    }
    return text;
}

/* --- list and show ---------------------------------------------------------------------------------------------- */

static void action_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__Action *action = (const Coffer__V1__Action *) (const void *) item;
    char text[TEXT];
    cli_table_add(table, action->name);
    cli_table_add(table, action->corrupted ? "corrupted" : needs_text(action->declarations, text, sizeof text));
    cli_table_add(table, names_text(action->steps, action->n_steps, text, sizeof text));
    cli_table_add(table, cli_time(action->update_time));
}

cli_exit cmd_registry_list(struct cli *cli)
{
    static const char *const headers[] = {"ACTION", "DECLARES", "CALLS", "CHANGED"};
    static const struct list list = {
        .method = INTEGRATION_SERVICE "ListActions",
        .response = &coffer__v1__list_actions_response__descriptor,
        .items = "actions",
        .headers = headers,
        .columns = COF_COUNT(headers),
        .row = action_row,
        .none = "no action is registered; coffer registry import PATH registers those of template files"};
    Coffer__V1__ListActionsRequest request;
    coffer__v1__list_actions_request__init(&request);
    request.workspace = cli_workspace(cli);
    if (cli->prefix != NULL) {
        request.name_prefix = cli->prefix;
    }
    return list_all(cli, &list, &request.base);
}

static void add_keys(struct cli_table *table, const Coffer__V1__SecretDeclaration *secret, char *const *keys,
                     size_t count, const char *need)
{
    for (size_t i = 0; i < count; i++) {
        cli_table_add(table, secret->name);
        cli_table_add(table, keys[i]);
        cli_table_add(table, need);
        cli_table_add(table, secret->optional ? "may be missing" : "required");
    }
}

static void add_oauth(struct cli_table *table, const Coffer__V1__OAuthDeclaration *oauth)
{
    char name[REFERENCE_TEXT];
    (void) snprintf(name, sizeof name, "%s_oauth", oauth->provider);
    cli_table_add(table, name);
    cli_table_add(table, grant_end(oauth->grant));
    cli_table_add(table, oauth->optional ? "optional" : "required");
    cli_table_add(table, oauth->optional ? "may be missing" : "required");
}

static void show_action(const struct cli *cli, const ProtobufCMessage *answer)
{
    static const char *const headers[] = {"SECRET", "KEY", "THE KEY IS", "THE SECRET IS"};
    const Coffer__V1__GetActionResponse *response = (const Coffer__V1__GetActionResponse *) (const void *) answer;
    const Coffer__V1__ActionDeclarations *needs = response->needs;
    struct cli_table *table = cli_table_new(headers, COF_COUNT(headers));
    char text[TEXT];
    (void) cli;
    for (size_t i = 0; needs != NULL && i < needs->n_secrets; i++) {
        const Coffer__V1__SecretDeclaration *secret = needs->secrets[i];
        add_keys(table, secret, secret->keys, secret->n_keys, "required");
        add_keys(table, secret, secret->optional_keys, secret->n_optional_keys, "optional");
    }
    for (size_t i = 0; needs != NULL && i < needs->n_oauth; i++) {
        add_oauth(table, needs->oauth[i]);
    }
    cli_table_print(table);
    if (response->n_unregistered_steps > 0) {
        cli_note("coffer: note: it calls actions that are not registered: %s",
                 names_text(response->unregistered_steps, response->n_unregistered_steps, text, sizeof text));
    }
}

cli_exit cmd_registry_show(struct cli *cli)
{
    static const struct cli_method method = {INTEGRATION_SERVICE "GetAction",
                                             &coffer__v1__get_action_response__descriptor, show_action};
    Coffer__V1__GetActionRequest request;
    coffer__v1__get_action_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}

/* --- delete ----------------------------------------------------------------------------------------------------- */

static void show_deleted(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) answer;
    cli_note("%s: deleted", cli->arguments[0]);
}

cli_exit cmd_registry_delete(struct cli *cli)
{
    static const struct cli_method method = {INTEGRATION_SERVICE "DeleteAction",
                                             &coffer__v1__delete_action_response__descriptor, show_deleted};
    Coffer__V1__DeleteActionRequest request;
    const cli_exit confirmed = cli_confirm(cli, "This deletes the action.", cli->arguments[0]);
    if (confirmed != CLI_OK) {
        return confirmed;
    }
    coffer__v1__delete_action_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.name = cli->arguments[0];
    return cli_do(cli, &method, &request.base);
}

/* --- check ------------------------------------------------------------------------------------------------------ */

struct matrix {
    struct cli_table *table; /* NULL: as JSON */
    size_t count;
};

static void add_cells(struct matrix *matrix, const char *const cells[5])
{
    static const char *const names[] = {"action", "environment", "reference", "outcome", "message"};
    if (matrix->table == NULL) {
        fputs(matrix->count++ == 0 ? "\n    {" : ",\n    {", stdout);
    }
    for (size_t i = 0; i < COF_COUNT(names); i++) {
        if (matrix->table == NULL) {
            printf("%s\"%s\": ", i == 0 ? "" : ", ", names[i]);
            cli_json_text(stdout, cells[i]);
        } else if (i + 1 < COF_COUNT(names)) {
            cli_table_add(matrix->table, cells[i]);
        }
    }
    fputs(matrix->table == NULL ? "}" : "", stdout);
}

static void add_item(struct matrix *matrix, const coffer_item *item)
{
    const size_t count = coffer_item_fault_count(item);
    for (size_t i = 0; i < count; i++) {
        const coffer_fault *fault = coffer_item_fault(item, i);
        char reference[REFERENCE_TEXT];
        (void) snprintf(reference, sizeof reference, "%s.%s", coffer_fault_secret(fault), coffer_fault_key(fault));
        add_cells(matrix, (const char *const[]){coffer_item_id(item), coffer_item_environment(item), reference,
                                                coffer_outcome_name(coffer_fault_outcome(fault)),
                                                coffer_fault_message(fault)});
    }
    if (count == 0) {
        add_cells(matrix,
                  (const char *const[]){coffer_item_id(item), coffer_item_environment(item), "",
                                        coffer_outcome_name(coffer_item_outcome(item)), coffer_item_message(item)});
    }
}

static cli_exit print_matrix(const struct cli *cli, coffer_preflight *preflight)
{
    static const char *const headers[] = {"ACTION", "ENVIRONMENT", "REFERENCE", "OUTCOME"};
    struct matrix matrix = {.table = cli->json ? NULL : cli_table_new(headers, COF_COUNT(headers))};
    const coffer_item *item = NULL;
    coffer_error *error = NULL;
    fputs(cli->json ? "{\n  \"missing\": [" : "", stdout);
    size_t seen = 0;
    progress_begin("checking, results so far:");
    coffer_status status = coffer_preflight_next(preflight, &item, &error);
    while (status == COFFER_OK && item != NULL) {
        add_item(&matrix, item);
        progress_count(++seen, 0);
        status = coffer_preflight_next(preflight, &item, &error);
    }
    progress_end();
    if (cli->json) {
        printf("\n  ],\n  \"wouldResolve\": %" PRIu32 ",\n  \"wouldFail\": %" PRIu32 "\n}\n",
               coffer_preflight_would_resolve(preflight), coffer_preflight_would_fail(preflight));
    }
    cli_table_none(matrix.table, "");
    cli_table_print(matrix.table);
    if (status != COFFER_OK) {
        const cli_exit code = cli_fail(error);
        coffer_error_free(error);
        return code;
    }
    cli_note("%" PRIu32 " would be resolved, %" PRIu32 " would fail", coffer_preflight_would_resolve(preflight),
             coffer_preflight_would_fail(preflight));
    return coffer_preflight_would_fail(preflight) == 0 ? CLI_OK : CLI_PARTIAL;
}

static cli_exit run_check(struct cli *cli, coffer_request *request)
{
    coffer_preflight *preflight = NULL;
    coffer_error *error = NULL;
    cli_exit code = cli_connect(cli);
    coffer_request_set_traceparent(request, trace_parent());
    if (code == CLI_OK && coffer_preflight_new(cli->client, request, &preflight, &error) != COFFER_OK) {
        code = cli_fail(error);
        coffer_error_free(error);
    }
    if (code == CLI_OK) {
        code = print_matrix(cli, preflight);
    }
    coffer_preflight_free(preflight);
    return code;
}

cli_exit registry_check(struct cli *cli, char *const *actions, size_t count)
{
    coffer_request *request = coffer_request_new();
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            coffer_request_next_item(request);
        }
        coffer_request_set_action(request, actions[i]);
        coffer_request_set_id(request, strlen(actions[i]) <= 128 ? actions[i] : NULL);
        resolve_add_environments(cli, request);
    }
    const cli_exit code = run_check(cli, request);
    coffer_request_free(request);
    return code;
}

cli_exit cmd_registry_check(struct cli *cli)
{
    return registry_check(cli, cli->arguments, cli->argument_count);
}
