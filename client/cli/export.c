#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/import_file.h"
#include "client/cli/message.h"
#include "client/cli/progress.h"
#include "client/cli/secret.h"
#include "common/name.h"
#include "common/secret.h"

enum { PAGE_SIZE = 1000, PATH_ROOM = 2048 };

/* --- What the server gives ------------------------------------------------------------------------------------ */

/* All pages, and what stands in them as one answer. */
struct exported {
    ProtobufCMessage **pages;
    size_t page_count;
    Coffer__V1__ExportSecretsResponse all;
    bool moved; /* something was written while the pages came */
};

static void exported_done(struct exported *exported)
{
    for (size_t i = 0; i < exported->page_count; i++) {
        const Coffer__V1__ExportSecretsResponse *page =
            (const Coffer__V1__ExportSecretsResponse *) (const void *) exported->pages[i];
        for (size_t s = 0; s < page->n_secrets; s++) {
            for (size_t v = 0; v < page->secrets[s]->n_values; v++) {
                cof_wipe(page->secrets[s]->values[v]->value.data, page->secrets[s]->values[v]->value.len);
            }
        }
        cli_free_message(exported->pages[i]);
    }
    free(exported->pages);
    free(exported->all.secrets);
}

/* Keeps the page, whose message it takes over. */
static cli_exit keep_page(struct exported *exported, ProtobufCMessage *message)
{
    const Coffer__V1__ExportSecretsResponse *page =
        (const Coffer__V1__ExportSecretsResponse *) (const void *) message;
    Coffer__V1__ExportSecretsResponse *all = &exported->all;
    ProtobufCMessage **pages = realloc(exported->pages, (exported->page_count + 1) * sizeof(ProtobufCMessage *));
    if (pages == NULL) {
        cli_free_message(message);
        return cli_no_memory();
    }
    exported->pages = pages;
    exported->pages[exported->page_count++] = message;
    const size_t count = all->n_secrets + page->n_secrets;
    Coffer__V1__ExportedSecret **secrets =
        realloc(all->secrets, (count + 1) * sizeof(Coffer__V1__ExportedSecret *));
    if (secrets == NULL) {
        return cli_no_memory();
    }
    all->secrets = secrets;
    for (size_t i = 0; i < page->n_secrets; i++) {
        all->secrets[all->n_secrets++] = page->secrets[i];
    }
    const char *before = all->consistency_token;
    const char *now = page->consistency_token;
    exported->moved = exported->moved || (exported->page_count > 1 && strcmp(before, now) != 0);
    all->consistency_token = page->consistency_token;
    return CLI_OK;
}

static cli_exit ask_all(struct cli *cli, Coffer__V1__ExportSecretsRequest *request, struct exported *exported)
{
    cli_exit code = CLI_OK;
    bool more = true;
    progress_begin("reading secrets");
    while (code == CLI_OK && more) {
        ProtobufCMessage *message = NULL;
        code = cli_call(cli, SECRET_SERVICE "ExportSecrets", &request->base,
                        &coffer__v1__export_secrets_response__descriptor, &message);
        if (code == CLI_OK) {
            request->page_token =
                ((Coffer__V1__ExportSecretsResponse *) (void *) message)->next_page_token; /* lives in the page */
            code = keep_page(exported, message);
            more = code == CLI_OK && request->page_token[0] != '\0';
            progress_count(exported->all.n_secrets, 0);
        }
    }
    progress_end();
    if (code == CLI_OK && exported->moved) {
        cli_note("something was written in the workspace while the pages came; they are not all of one state");
    }
    return code;
}

/* A file is of one environment; as JSON of the server's answer all can be had. */
static cli_exit collect(struct cli *cli, struct exported *exported)
{
    Coffer__V1__ExportSecretsRequest request;
    char *only = cli_environment(cli);
    char standard[] = COF_DEFAULT_ENVIRONMENT;
    coffer__v1__export_secrets_request__init(&request);
    request.workspace = cli_workspace(cli);
    request.page_size = PAGE_SIZE;
    request.name_patterns = cli->arguments;
    request.n_name_patterns = cli->argument_count;
    request.environments = cli->environments.items;
    request.n_environments = cli->environments.count;
    if (cli->environments.count == 0 && (!cli->json || only[0] != '\0')) {
        only = only[0] == '\0' ? standard : only;
        request.environments = &only;
        request.n_environments = 1;
    }
    return ask_all(cli, &request, exported);
}

/* --- A file --------------------------------------------------------------------------------------------------- */

static size_t count_values(const struct exported *exported)
{
    size_t count = 0;
    for (size_t i = 0; i < exported->all.n_secrets; i++) {
        count += exported->all.secrets[i]->n_values;
    }
    return count;
}

static cli_exit make_file(const struct exported *exported, cof_import_format format, struct import_file *file,
                          struct cof_slice *ret_bytes)
{
    struct cof_error err = {0};
    struct cof_import_entry *entries = cof_arena_array(&file->arena, count_values(exported), sizeof *entries);
    if (entries == NULL) {
        return cli_no_memory();
    }
    file->list = (struct cof_import_list){entries, 0};
    for (size_t i = 0; i < exported->all.n_secrets; i++) {
        const Coffer__V1__ExportedSecret *secret = exported->all.secrets[i];
        for (size_t k = 0; k < secret->n_values; k++) {
            const Coffer__V1__KeyValue *pair = secret->values[k];
            entries[file->list.count++] =
                (struct cof_import_entry){.secret = cof_slice_text(secret->secret->name),
                                          .key = cof_slice_text(pair->key),
                                          .value = cof_slice_of(pair->value.data, pair->value.len)};
        }
    }
    return cof_import_write(format, &file->list, &file->arena, ret_bytes, &err) == COF_OK
               ? CLI_OK
               : import_fail("the export", &err);
}

/* Where it goes: beside its place, so that there is a whole file or none. */
struct place {
    char temporary[PATH_ROOM];
    FILE *out;
};

static cli_exit open_place(const struct cli *cli, struct place *place)
{
    *place = (struct place){.out = stdout};
    if (cli->out == NULL) {
        (void) setvbuf(stdout, NULL, _IONBF, 0);
        return CLI_OK;
    }
    if (!cli->force && access(cli->out, F_OK) == 0) {
        return cli_refuse(CLI_CONFLICT, "--force replaces it", "%s is there already; nothing was exported",
                          cli->out);
    }
    if (snprintf(place->temporary, PATH_ROOM, "%s.XXXXXX", cli->out) >= PATH_ROOM) {
        return cli_usage(NULL, "the name of the file is too long");
    }
    const int fd = mkostemp(place->temporary, O_CLOEXEC); /* of mode 0600 */
    place->out = fd < 0 ? NULL : fdopen(fd, "w");
    if (place->out == NULL) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be made: %s; nothing was exported", cli->out,
                          strerror(errno));
    }
    (void) setvbuf(place->out, NULL, _IONBF, 0); /* no buffer that is not wiped */
    return CLI_OK;
}

/* A link takes no place that is taken. */
static bool put_in_place(const struct cli *cli, const struct place *place)
{
    if (cli->force) {
        return rename(place->temporary, cli->out) == 0;
    }
    return link(place->temporary, cli->out) == 0 && unlink(place->temporary) == 0;
}

static cli_exit close_place(const struct cli *cli, struct place *place, cli_exit code)
{
    if (cli->out == NULL || place->out == NULL) {
        return code;
    }
    const bool whole = fflush(place->out) == 0 && ferror(place->out) == 0 && fsync(fileno(place->out)) == 0;
    const bool closed = fclose(place->out) == 0;
    if (code == CLI_OK && (!whole || !closed || !put_in_place(cli, place))) {
        code = cli_refuse(errno == EEXIST ? CLI_CONFLICT : CLI_ERROR, NULL, "%s cannot be written: %s", cli->out,
                          strerror(errno));
    }
    if (code != CLI_OK) {
        (void) unlink(place->temporary);
    }
    return code;
}

static cli_exit write_out(const struct cli *cli, struct exported *exported, cof_import_format format,
                          struct import_file *file, FILE *out)
{
    struct cof_slice bytes = {NULL, 0};
    if (cli->json) {
        cli_json_message(out, &exported->all.base);
        return CLI_OK;
    }
    const cli_exit code = make_file(exported, format, file, &bytes);
    if (code == CLI_OK && bytes.len > 0 && fwrite(bytes.data, bytes.len, 1, out) != 1) {
        return cli_refuse(CLI_ERROR, NULL, "the export cannot be written: %s", strerror(errno));
    }
    return code;
}

/* --- The command ---------------------------------------------------------------------------------------------- */

/* Those that are damaged are told, and what is whole is exported all the same. */
static cli_exit say_damaged(const struct exported *exported)
{
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < exported->all.n_secrets; i++) {
        const Coffer__V1__Secret *secret = exported->all.secrets[i]->secret;
        if (secret->state == COFFER__V1__SECRET_STATE__SECRET_STATE_CORRUPTED) {
            code = cli_refuse(CLI_PARTIAL, NULL, "the secret %s in %s is damaged; the export has no values of it",
                              secret->name, secret->environment);
        }
    }
    return code;
}

static cli_exit check_command(const struct cli *cli, cof_import_format *ret_format)
{
    *ret_format = COF_IMPORT_JSON;
    if (cli->out == NULL && !cli->raw && cli_on_terminal()) {
        return cli_usage("--out FILE makes a file of mode 0600; -o raw shows them all the same",
                         "an export is values, which do not belong on a terminal");
    }
    if (cli->environments.count > 1 && !cli->json) {
        return cli_usage("coffer export -e prod --out prod.yaml",
                         "a file has the secrets of one environment; --json, "
                         "which tells everything, those of several");
    }
    if (cli->json || (cli->out == NULL && cli->format == NULL)) {
        return CLI_OK;
    }
    const cli_exit code = import_format(cli, cli->out == NULL ? "" : cli->out, ret_format);
    if (code == CLI_OK && !cof_import_format_written(*ret_format)) {
        return cli_usage(NULL, "the format %s is only read", cof_import_format_name(*ret_format));
    }
    return code;
}

static cli_exit export_to(struct cli *cli, cof_import_format format, struct exported *exported,
                          struct import_file *file)
{
    struct place place;
    cli_exit code = open_place(cli, &place);
    if (code != CLI_OK) {
        return code;
    }
    code = collect(cli, exported);
    if (code == CLI_OK) {
        code = write_out(cli, exported, format, file, place.out);
    }
    code = close_place(cli, &place, code);
    if (code == CLI_OK) {
        cli_note("exported %zu secret%s%s%s", exported->all.n_secrets, exported->all.n_secrets == 1 ? "" : "s",
                 cli->out == NULL ? "" : " to ", cli->out == NULL ? "" : cli->out);
        if (exported->all.n_secrets == 0) {
            cli_note("  hint: coffer secret list shows what there is, of all environments without -e");
        }
        code = say_damaged(exported);
    }
    return code;
}

cli_exit cmd_export(struct cli *cli)
{
    cof_import_format format;
    struct import_file file;
    struct exported exported = {0};
    static char shell[] = "env";
    coffer__v1__export_secrets_response__init(&exported.all);
    cli->format = cli->shell && cli->format == NULL ? shell : cli->format;
    cli_exit code = check_command(cli, &format);
    if (code != CLI_OK) {
        return code;
    }
    code = import_file_init(&file);
    if (code == CLI_OK) {
        code = export_to(cli, format, &exported, &file);
    }
    exported_done(&exported);
    import_file_done(&file);
    return code;
}
