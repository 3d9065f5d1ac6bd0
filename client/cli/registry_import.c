#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/cli/message.h"
#include "client/cli/progress.h"
#include "client/cli/registry.h"
#include "common/import/action_template.h"

/* `coffer registry import`: templates of actions, from files and folders, into the registry. */

enum { MEMORY = 256 << 20, FILES_MAX = 10000, MESSAGE_ROOM = 1024 };

struct import {
    struct cof_pool *pool;
    struct cof_arena arena;
    char **paths; /* sorted */
    size_t path_count;
    Coffer__V1__NewAction **actions;
    char **sources; /* the file of each action */
    size_t action_count;
    size_t bad;
    size_t others;
    size_t warnings;
};

/* --- Files ------------------------------------------------------------------------------------------------------ */

static cli_exit bad_file(struct import *import, const char *path, const char *problem)
{
    char message[MESSAGE_ROOM];
    import->bad++;
    (void) snprintf(message, sizeof message, "%s: %s", path, problem);
    (void) cli_report(&(struct cli_report){.message = message, .reason = "FILE_INVALID", .code = CLI_REJECTED});
    return CLI_OK;
}

static bool is_template(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
}

static cli_exit add_path(struct import *import, const char *path)
{
    if (import->path_count == FILES_MAX) {
        return cli_refuse(CLI_LIMIT, "import them folder by folder", "there are more than %d files", FILES_MAX);
    }
    import->paths[import->path_count] = cof_arena_text(&import->arena, cof_slice_text(path));
    return import->paths[import->path_count++] == NULL ? cli_no_memory() : CLI_OK;
}

/* Folders are gone through one after the other; those found on the way come behind. Links to folders are not followed, so
 * there is no end without end. */
static cli_exit add_entry(struct import *import, char **folders, size_t *count, const char *folder,
                          const char *name)
{
    struct stat about;
    char *path = name[0] == '.' ? NULL : cof_arena_format(&import->arena, "%s/%s", folder, name);
    if (path == NULL) {
        return name[0] == '.' ? CLI_OK : cli_no_memory();
    }
    if (lstat(path, &about) != 0 || !S_ISDIR(about.st_mode)) {
        return is_template(name) ? add_path(import, path) : CLI_OK;
    }
    if (*count == FILES_MAX) {
        return cli_refuse(CLI_LIMIT, "import them folder by folder", "there are more than %d folders", FILES_MAX);
    }
    folders[(*count)++] = path;
    return CLI_OK;
}

static cli_exit read_folder(struct import *import, char **folders, size_t *count, const char *folder)
{
    cli_exit code = CLI_OK;
    DIR *open = opendir(folder);
    if (open == NULL) {
        return cli_refuse(CLI_ERROR, NULL, "%s: %s", folder, strerror(errno));
    }
    for (const struct dirent *entry = readdir(open); entry != NULL && code == CLI_OK; entry = readdir(open)) {
        code = add_entry(import, folders, count, folder, entry->d_name);
    }
    (void) closedir(open);
    return code;
}

static cli_exit add_argument(struct import *import, char *path)
{
    struct stat about;
    if (stat(path, &about) != 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s: %s", path, strerror(errno));
    }
    if (!S_ISDIR(about.st_mode)) {
        return add_path(import, path);
    }
    char **folders = cof_arena_array(&import->arena, FILES_MAX, sizeof *folders);
    size_t count = 1;
    cli_exit code = CLI_OK;
    if (folders == NULL) {
        return cli_no_memory();
    }
    folders[0] = path;
    for (size_t i = 0; code == CLI_OK && i < count; i++) {
        code = read_folder(import, folders, &count, folders[i]);
    }
    return code;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static cli_exit find_files(const struct cli *cli, struct import *import)
{
    cli_exit code = CLI_OK;
    import->paths = cof_arena_array(&import->arena, FILES_MAX, sizeof *import->paths);
    if (import->paths == NULL) {
        return cli_no_memory();
    }
    for (size_t i = 0; code == CLI_OK && i < cli->argument_count; i++) {
        code = add_argument(import, cli->arguments[i]);
    }
    qsort(import->paths, import->path_count, sizeof *import->paths, by_text);
    if (code == CLI_OK && import->path_count == 0) {
        code = cli_refuse(CLI_REJECTED, "they end in .yaml or .yml", "there are no template files");
    }
    return code;
}

/* One byte more than may be is read, so that a file that is too large is known. */
static bool load(struct import *import, const char *path, struct cof_slice *ret_bytes)
{
    FILE *in = fopen(path, "rbe");
    uint8_t *bytes = in == NULL ? NULL : malloc(COF_ACTION_FILE_MAX + 1);
    const size_t length = bytes == NULL ? 0 : fread(bytes, 1, COF_ACTION_FILE_MAX + 1, in);
    const bool good = bytes != NULL && ferror(in) == 0;
    if (in != NULL) {
        (void) fclose(in);
    }
    *ret_bytes = cof_slice_of(good ? cof_arena_text(&import->arena, cof_slice_of(bytes, length)) : NULL, length);
    free(bytes);
    return good && ret_bytes->data != NULL;
}

/* --- Actions ---------------------------------------------------------------------------------------------------- */

static char **texts_of(struct cof_arena *arena, const struct cof_action_texts *texts)
{
    char **all = cof_arena_array(arena, texts->count + 1, sizeof *all);
    for (size_t i = 0; all != NULL && i < texts->count; i++) {
        all[i] = cof_arena_text(arena, texts->items[i]);
    }
    return all;
}

static Coffer__V1__SecretType type_of(struct cof_slice type)
{
    static const char *const types[] = {"", "custom", "ssh_key", "mtls", "ca_cert", "github_app"};
    for (size_t i = 1; i < COF_COUNT(types); i++) {
        if (cof_slice_equal(type, cof_slice_text(types[i]))) {
            return (Coffer__V1__SecretType) i;
        }
    }
    return COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED;
}

static Coffer__V1__SecretDeclaration *make_secret(struct cof_arena *arena, const struct cof_action_secret *from)
{
    Coffer__V1__SecretDeclaration *secret = cof_arena_alloc(arena, sizeof *secret);
    if (secret == NULL) {
        return NULL;
    }
    coffer__v1__secret_declaration__init(secret);
    secret->name = cof_arena_text(arena, from->name);
    secret->keys = texts_of(arena, &from->keys);
    secret->n_keys = from->keys.count;
    secret->optional_keys = texts_of(arena, &from->optional_keys);
    secret->n_optional_keys = from->optional_keys.count;
    secret->optional = from->optional;
    secret->type = type_of(from->type);
    return secret->name == NULL || secret->keys == NULL || secret->optional_keys == NULL ? NULL : secret;
}

static Coffer__V1__OAuthDeclaration *make_oauth(struct cof_arena *arena, const struct cof_action_oauth *from)
{
    Coffer__V1__OAuthDeclaration *oauth = cof_arena_alloc(arena, sizeof *oauth);
    if (oauth == NULL) {
        return NULL;
    }
    coffer__v1__oauth_declaration__init(oauth);
    oauth->provider = cof_arena_text(arena, from->provider);
    oauth->grant = from->service ? COFFER__V1__OAUTH_GRANT__OAUTH_GRANT_CLIENT_CREDENTIALS
                                 : COFFER__V1__OAUTH_GRANT__OAUTH_GRANT_AUTHORIZATION_CODE;
    oauth->optional = from->optional;
    return oauth->provider == NULL ? NULL : oauth;
}

static bool fill_declarations(struct cof_arena *arena, const struct cof_action_template *from,
                              Coffer__V1__ActionDeclarations *to)
{
    bool good = true;
    to->secrets = cof_arena_array(arena, from->secret_count, sizeof *to->secrets);
    to->oauth = cof_arena_array(arena, from->oauth_count, sizeof *to->oauth);
    good = to->secrets != NULL && to->oauth != NULL;
    for (size_t i = 0; good && i < from->secret_count; i++) {
        to->secrets[to->n_secrets++] = make_secret(arena, &from->secrets[i]);
        good = to->secrets[i] != NULL;
    }
    for (size_t i = 0; good && i < from->oauth_count; i++) {
        to->oauth[to->n_oauth++] = make_oauth(arena, &from->oauth[i]);
        good = to->oauth[i] != NULL;
    }
    return good;
}

static cli_exit add_action(struct import *import, char *path, const struct cof_action_template *from)
{
    struct cof_arena *arena = &import->arena;
    Coffer__V1__NewAction *action = cof_arena_alloc(arena, sizeof *action);
    Coffer__V1__ActionDeclarations *declarations = cof_arena_alloc(arena, sizeof *declarations);
    if (action == NULL || declarations == NULL) {
        return cli_no_memory();
    }
    coffer__v1__new_action__init(action);
    coffer__v1__action_declarations__init(declarations);
    action->name = cof_arena_text(arena, from->name);
    action->steps = texts_of(arena, &from->steps);
    action->n_steps = from->steps.count;
    action->declarations = declarations;
    if (action->name == NULL || action->steps == NULL || !fill_declarations(arena, from, declarations)) {
        return cli_no_memory();
    }
    import->actions[import->action_count] = action;
    import->sources[import->action_count++] = path;
    return CLI_OK;
}

static void warn(struct import *import, const char *path, const struct cof_action_template *template)
{
    for (size_t i = 0; i < template->undeclared.count; i++) {
        import->warnings++;
        cli_note("coffer: warning: %s: an expression uses %.*s, which %.*s does not declare", path,
                 (int) template->undeclared.items[i].len, (const char *) template->undeclared.items[i].data,
                 (int) template->name.len, (const char *) template->name.data);
    }
}

static cli_exit read_file(struct import *import, char *path)
{
    struct cof_action_template template;
    struct cof_error err = {0};
    struct cof_slice bytes;
    bool other = false;
    if (!load(import, path, &bytes)) {
        return bad_file(import, path, "it cannot be read");
    }
    if (cof_action_template_read(bytes, &import->arena, &template, &other, &err) != COF_OK) {
        return err.reason == COF_REASON_OUT_OF_MEMORY ? cli_no_memory() : bad_file(import, path, err.message);
    }
    if (other) {
        import->others++;
        return CLI_OK;
    }
    warn(import, path, &template);
    return add_action(import, path, &template);
}

static cli_exit read_files(struct import *import)
{
    cli_exit code = CLI_OK;
    import->actions = cof_arena_array(&import->arena, import->path_count, sizeof *import->actions);
    import->sources = cof_arena_array(&import->arena, import->path_count, sizeof *import->sources);
    if (import->actions == NULL || import->sources == NULL) {
        return cli_no_memory();
    }
    progress_begin("reading templates,");
    for (size_t i = 0; code == CLI_OK && i < import->path_count; i++) {
        progress_count(i, import->path_count);
        code = read_file(import, import->paths[i]);
    }
    progress_end();
    return code;
}

/* --- The server ------------------------------------------------------------------------------------------------- */

static cli_exit call(struct cli *cli, const struct import *import, bool dry_run, ProtobufCMessage **ret_answer)
{
    Coffer__V1__RegisterActionsRequest request;
    coffer__v1__register_actions_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.actions = import->actions;
    request.n_actions = import->action_count;
    request.replace_all = cli->replace;
    request.validate_only = dry_run;
    return cli_call(cli, INTEGRATION_SERVICE "RegisterActions", &request.base,
                    &coffer__v1__register_actions_response__descriptor, ret_answer);
}

static const Coffer__V1__RegisterActionsResponse *response_of(const ProtobufCMessage *answer)
{
    return (const Coffer__V1__RegisterActionsResponse *) (const void *) answer;
}

/* What the server refuses is a bad file, too, and is left out. */
static void drop_refused(struct import *import, const Coffer__V1__RegisterActionsResponse *answer)
{
    size_t kept = 0;
    size_t next = 0;
    for (size_t i = 0; i < import->action_count; i++) {
        if (next < answer->n_refused && answer->refused[next]->index == i) {
            (void) bad_file(import, import->sources[i], answer->refused[next++]->message);
            continue;
        }
        import->actions[kept] = import->actions[i];
        import->sources[kept++] = import->sources[i];
    }
    import->action_count = kept;
}

static void say(const struct cli *cli, const struct import *import, const ProtobufCMessage *answer)
{
    const Coffer__V1__RegisterActionsResponse *response = response_of(answer);
    if (cli->json) {
        cli_json_message(stdout, answer);
    }
    cli_note("%s: %zu file%s: %u created, %u changed, %u unchanged, %u deleted; %zu bad, %zu of other types, %zu "
             "warning%s%s",
             cli->dry_run ? "dry run" : "import", import->path_count, import->path_count == 1 ? "" : "s",
             response->created, response->changed, response->unchanged, response->deleted, import->bad,
             import->others, import->warnings, import->warnings == 1 ? "" : "s",
             response->written ? "" : "; nothing was written");
}

static cli_exit nothing_left(const struct import *import)
{
    return cli_refuse(CLI_REJECTED, "correct the files named", "%zu of %zu files are bad, and nothing was written",
                      import->bad, import->path_count);
}

/* What is refused is left out, and the others are sent again, for the server writes all or nothing. Each time another
 * action may be wrong, so that goes on until nothing is refused. A registry that is replaced would lose the actions of bad
 * files, so nothing is written then. */
static cli_exit register_all(struct cli *cli, struct import *import)
{
    for (;;) {
        ProtobufCMessage *answer = NULL;
        if (((cli->strict || cli->replace) && import->bad > 0) || (import->action_count == 0 && !cli->replace)) {
            return nothing_left(import);
        }
        const cli_exit code = call(cli, import, cli->dry_run, &answer);
        if (code != CLI_OK) {
            return code;
        }
        const bool refused = response_of(answer)->n_refused > 0;
        if (refused) {
            drop_refused(import, response_of(answer));
        } else {
            say(cli, import, answer);
        }
        cli_free_message(answer);
        if (!refused) {
            return import->bad == 0 ? CLI_OK : CLI_PARTIAL;
        }
    }
}

static cli_exit run(struct cli *cli, struct import *import)
{
    cli_exit code = find_files(cli, import);
    if (code == CLI_OK) {
        code = read_files(import);
    }
    return code == CLI_OK ? register_all(cli, import) : code;
}

cli_exit cmd_registry_import(struct cli *cli)
{
    struct import import = {.path_count = 0};
    struct cof_error err = {0};
    if (cof_pool_new(MEMORY, COF_LOCK_NONE, &import.pool, &err) != COF_OK) {
        return cli_no_memory();
    }
    cof_arena_init(&import.arena, import.pool, MEMORY);
    const cli_exit code = run(cli, &import);
    cof_arena_reset(&import.arena);
    cof_pool_free(import.pool);
    return code;
}
