#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/v1/workspace.pb-c.h>

#include "client/cli/cli.h"
#include "client/cli/moment.h"
#include "client/cli/page.h"
#include "common/uuid.h"

#define SERVICE "coffer.v1.WorkspaceService/"

enum { NAMED = 1000, MASK_ROOM = 4, QUESTION_TEXT = 256, SPAN_TEXT = 64 };

static const char *state_name(Coffer__V1__WorkspaceState state)
{
    switch (state) {
    case COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_ACTIVE:
        return "active";
    case COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_DISABLED:
        return "disabled";
    case COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_DELETED:
        return "deleted";
    case COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_PURGING:
        return "purging";
    case COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_PURGED:
        return "purged";
    case COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_CORRUPTED:
        return "corrupted";
    case COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_UNSPECIFIED:
    case _COFFER__V1__WORKSPACE_STATE_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

/* --- Which one ------------------------------------------------------------------------------------------------ */

static bool is_uuid(const char *text)
{
    struct cof_uuid uuid;
    return cof_uuid_parse(cof_slice_text(text), &uuid);
}

/* The one with exactly this name on a page that has all that begin with it; NULL if it is not there. */
static const Coffer__V1__Workspace *with_name(const Coffer__V1__ListWorkspacesResponse *page, const char *name)
{
    for (size_t i = 0; i < page->n_workspaces; i++) {
        if (strcmp(page->workspaces[i]->name, name) == 0) {
            return page->workspaces[i];
        }
    }
    return NULL;
}

/* The UUID of a name, which is the first that begins with it, for lists are sorted. Only system tokens may list. */
static cli_exit find_named(struct cli *cli, char *name, bool deleted, char uid[COF_UUID_TEXT])
{
    Coffer__V1__ListWorkspacesRequest request;
    ProtobufCMessage *answer = NULL;
    coffer__v1__list_workspaces_request__init(&request);
    request.name_prefix = name;
    request.page_size = NAMED;
    request.show_deleted = deleted;
    cli_exit code = cli_call(cli, SERVICE "ListWorkspaces", &request.base,
                             &coffer__v1__list_workspaces_response__descriptor, &answer);
    if (code != CLI_OK) {
        return code;
    }
    const Coffer__V1__Workspace *found =
        with_name((const Coffer__V1__ListWorkspacesResponse *) (const void *) answer, name);
    if (found == NULL) {
        code = cli_refuse(CLI_NOT_FOUND, deleted ? "coffer workspace list --deleted" : "coffer workspace list",
                          "there is no workspace %s", name);
    } else {
        (void) snprintf(uid, COF_UUID_TEXT, "%s", found->uid);
    }
    cli_free_message(answer);
    return code;
}

/* The workspace of the first argument, a UUID or a name; without one that of -w or of the token, which is "". */
static cli_exit find(struct cli *cli, bool deleted, char **ret_uid)
{
    static char uid[COF_UUID_TEXT];
    *ret_uid = cli->argument_count == 0 ? cli_workspace(cli) : cli->arguments[0];
    if (cli->argument_count == 0 || is_uuid(cli->arguments[0])) {
        return CLI_OK;
    }
    *ret_uid = uid;
    return find_named(cli, cli->arguments[0], deleted, uid);
}

/* --- Show and list -------------------------------------------------------------------------------------------- */

static void print_workspace(const Coffer__V1__Workspace *workspace)
{
    cli_print_field("name", workspace->name);
    if (workspace->display_name[0] != '\0') {
        cli_print_field("called", workspace->display_name);
    }
    cli_print_field("workspace", workspace->uid);
    cli_print_field("state", state_name(workspace->state));
    cli_print_field("created", cli_time(workspace->create_time));
    if (workspace->delete_time != NULL) {
        cli_print_field("deleted", cli_time(workspace->delete_time));
        cli_print_field("purged", cli_time(workspace->purge_time));
        return;
    }
    cli_print_field("environments", workspace->strict_environments ? "only those that were created"
                                                                   : "made when something is written there");
    const Google__Protobuf__Duration *lost = workspace->serve_when_database_lost;
    char text[SPAN_TEXT];
    if (lost != NULL && lost->seconds > 0) {
        (void) snprintf(text, sizeof text, "answers are given for %" PRId64 " s", lost->seconds);
        cli_print_field("database lost", text);
    }
    cli_print_field("external id", workspace->external_id);
    cli_print_field("etag", workspace->etag);
}

static void show_workspace(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    print_workspace(((const Coffer__V1__GetWorkspaceResponse *) (const void *) answer)->workspace);
}

cli_exit cmd_workspace_show(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "GetWorkspace",
                                             &coffer__v1__get_workspace_response__descriptor, show_workspace};
    Coffer__V1__GetWorkspaceRequest request;
    coffer__v1__get_workspace_request__init(&request);
    const cli_exit code = find(cli, true, &request.workspace);
    return code == CLI_OK ? cli_do(cli, &method, &request.base) : code;
}

static void workspace_row(struct cli_table *table, const ProtobufCMessage *item)
{
    const Coffer__V1__Workspace *workspace = (const Coffer__V1__Workspace *) (const void *) item;
    cli_table_add(table, workspace->name);
    cli_table_add(table, workspace->uid);
    cli_table_add(table, cli_time(workspace->create_time));
    cli_table_add(table, state_name(workspace->state));
    cli_table_add(table, cli_time(workspace->purge_time));
    cli_table_add(table, workspace->display_name);
}

cli_exit cmd_workspace_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "WORKSPACE", "CREATED", "STATE", "PURGED", "CALLED"};
    static const struct list list = {.method = SERVICE "ListWorkspaces",
                                     .response = &coffer__v1__list_workspaces_response__descriptor,
                                     .items = "workspaces",
                                     .headers = headers,
                                     .columns = COF_COUNT(headers),
                                     .row = workspace_row,
                                     .none = "there is no workspace; coffer workspace create NAME makes one"};
    Coffer__V1__ListWorkspacesRequest request;
    coffer__v1__list_workspaces_request__init(&request);
    request.show_deleted = cli->deleted;
    if (cli->prefix != NULL) {
        request.name_prefix = cli->prefix;
    }
    return list_all(cli, &list, &request.base);
}

/* --- Create and update ---------------------------------------------------------------------------------------- */

static cli_exit check_strict(const struct cli *cli)
{
    return cli->strict && cli->no_strict ? cli_usage(NULL, "--strict and --no-strict contradict each other")
                                         : CLI_OK;
}

static void show_new(const struct cli *cli, const ProtobufCMessage *answer)
{
    (void) cli;
    puts(((const Coffer__V1__CreateWorkspaceResponse *) (const void *) answer)->workspace->uid);
}

cli_exit cmd_workspace_create(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "CreateWorkspace",
                                             &coffer__v1__create_workspace_response__descriptor, show_new};
    Coffer__V1__CreateWorkspaceRequest request;
    coffer__v1__create_workspace_request__init(&request);
    request.name = cli->arguments[0];
    request.strict_environments = cli->strict;
    if (cli->display_name != NULL) {
        request.display_name = cli->display_name;
    }
    return cli_do(cli, &method, &request.base);
}

struct update {
    Coffer__V1__UpdateWorkspaceRequest request;
    Google__Protobuf__FieldMask mask;
    char *paths[MASK_ROOM];
};

static void update_init(struct update *update)
{
    coffer__v1__update_workspace_request__init(&update->request);
    google__protobuf__field_mask__init(&update->mask);
    update->mask.paths = update->paths;
    update->request.update_mask = &update->mask;
}

static void update_field(struct update *update, char *name)
{
    update->paths[update->mask.n_paths++] = name;
}

static cli_exit update_do(struct cli *cli, struct update *update, cli_show *show)
{
    const struct cli_method method = {SERVICE "UpdateWorkspace", &coffer__v1__update_workspace_response__descriptor,
                                      show};
    const cli_exit code = find(cli, false, &update->request.workspace);
    if (cli->if_etag != NULL) {
        update->request.etag = cli->if_etag;
    }
    return code == CLI_OK ? cli_do(cli, &method, &update->request.base) : code;
}

static void show_updated(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Workspace *workspace =
        ((const Coffer__V1__UpdateWorkspaceResponse *) (const void *) answer)->workspace;
    (void) cli;
    cli_note("%s: changed; its etag is %s", workspace->name, workspace->etag);
}

cli_exit cmd_workspace_update(struct cli *cli)
{
    static char display_name[] = "display_name";
    static char strict[] = "strict_environments";
    static char serve_lost[] = "serve_when_database_lost";
    Google__Protobuf__Duration lost = GOOGLE__PROTOBUF__DURATION__INIT;
    struct update update;
    const cli_exit code = check_strict(cli);
    if (code != CLI_OK) {
        return code;
    }
    update_init(&update);
    if (cli->display_name != NULL) {
        update_field(&update, display_name);
        update.request.display_name = cli->display_name;
    }
    if (cli->strict || cli->no_strict) {
        update_field(&update, strict);
        update.request.strict_environments = cli->strict;
    }
    if (cli->serve_lost != NULL) {
        if (!moment_span(cli->serve_lost, &lost.seconds)) {
            return cli_usage(NULL, "--serve-when-database-lost is a time such as 90s or 5min");
        }
        update_field(&update, serve_lost);
        update.request.serve_when_database_lost = &lost;
    }
    if (update.mask.n_paths == 0) {
        return cli_usage("coffer workspace update --display-name 'Acme Ltd'", "nothing is said of what changes");
    }
    return update_do(cli, &update, show_updated);
}

static void show_switched(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Workspace *workspace =
        ((const Coffer__V1__UpdateWorkspaceResponse *) (const void *) answer)->workspace;
    (void) cli;
    cli_note("%s: %s", workspace->name,
             workspace->state == COFFER__V1__WORKSPACE_STATE__WORKSPACE_STATE_DISABLED
                 ? "disabled; its tokens and calls into it are refused"
                 : "enabled; its tokens work");
}

static cli_exit switch_it(struct cli *cli, bool disabled)
{
    static char field[] = "disabled";
    struct update update;
    update_init(&update);
    update_field(&update, field);
    update.request.disabled = disabled;
    return update_do(cli, &update, show_switched);
}

cli_exit cmd_workspace_disable(struct cli *cli)
{
    return switch_it(cli, true);
}

cli_exit cmd_workspace_enable(struct cli *cli)
{
    return switch_it(cli, false);
}

/* --- Delete and restore --------------------------------------------------------------------------------------- */

static void show_deleted(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__DeleteWorkspaceResponse *deleted =
        (const Coffer__V1__DeleteWorkspaceResponse *) (const void *) answer;
    (void) cli;
    cli_note("%s: deleted; coffer workspace restore brings it back until it is purged, %s",
             deleted->workspace->name, cli_time(deleted->workspace->purge_time));
    if (deleted->copies_in_backups_until != NULL) {
        cli_note("backups may hold copies of it, by the server's settings until %s",
                 cli_time(deleted->copies_in_backups_until));
    }
}

/* What has to be typed is what was given: a name, or a UUID. */
static cli_exit confirm(const struct cli *cli)
{
    char question[QUESTION_TEXT];
    (void) snprintf(question, sizeof question,
                    "This ends the workspace %.100s with all of its secrets, accounts and tokens.",
                    cli->arguments[0]);
    return cli_confirm(cli, question, cli->arguments[0]);
}

cli_exit cmd_workspace_delete(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "DeleteWorkspace",
                                             &coffer__v1__delete_workspace_response__descriptor, show_deleted};
    Coffer__V1__DeleteWorkspaceRequest request;
    coffer__v1__delete_workspace_request__init(&request);
    cli_exit code = find(cli, false, &request.workspace);
    if (code == CLI_OK) {
        code = confirm(cli);
    }
    return code == CLI_OK ? cli_do(cli, &method, &request.base) : code;
}

static void show_restored(const struct cli *cli, const ProtobufCMessage *answer)
{
    const Coffer__V1__Workspace *workspace =
        ((const Coffer__V1__RestoreWorkspaceResponse *) (const void *) answer)->workspace;
    (void) cli;
    cli_note("%s: restored, %s", workspace->name, state_name(workspace->state));
}

cli_exit cmd_workspace_restore(struct cli *cli)
{
    static const struct cli_method method = {SERVICE "RestoreWorkspace",
                                             &coffer__v1__restore_workspace_response__descriptor, show_restored};
    Coffer__V1__RestoreWorkspaceRequest request;
    coffer__v1__restore_workspace_request__init(&request);
    const cli_exit code = find(cli, true, &request.workspace);
    return code == CLI_OK ? cli_do(cli, &method, &request.base) : code;
}
