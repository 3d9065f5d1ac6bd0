#include "client/cli/import_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/import/source.h"

enum { FILE_MEMORY = 256 << 20 };

cli_exit import_fail(const char *path, const struct cof_error *err)
{
    return cli_refuse(cli_exit_of((coffer_status) err->code),
                      err->reason == COF_REASON_FIELD_REQUIRED ? "--secret NAME" : NULL, "%s: %s", path,
                      err->message);
}

cli_exit import_file_init(struct import_file *file)
{
    struct cof_error err = {0};
    *file = (struct import_file){0};
    if (cof_pool_new(FILE_MEMORY, COF_LOCK_BEST_EFFORT, &file->pool, &err) != COF_OK) {
        return cli_no_memory();
    }
    cof_arena_init(&file->arena, file->pool, FILE_MEMORY);
    return CLI_OK;
}

void import_file_done(struct import_file *file)
{
    if (file->pool != NULL) {
        cof_arena_reset(&file->arena);
        cof_pool_free(file->pool);
    }
}

/* --- The format ----------------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

static bool format_of_name(const char *path, cof_import_format *ret_format)
{
    static const struct {
        const char *end;
        cof_import_format format;
    } ends[] = {{".env", COF_IMPORT_DOTENV},
                {".json", COF_IMPORT_JSON},
                {".yaml", COF_IMPORT_YAML},
                {".yml", COF_IMPORT_YAML}};
    const char *slash = strrchr(path, '/');
    if (strncmp(slash == NULL ? path : slash + 1, ".env", 4) == 0) {
        *ret_format = COF_IMPORT_DOTENV;
        return true;
    }
    for (size_t i = 0; i < COF_COUNT(ends); i++) {
        if (ends_with(path, ends[i].end)) {
            *ret_format = ends[i].format;
            return true;
        }
    }
    return false;
}

cli_exit import_format(const struct cli *cli, const char *path, cof_import_format *ret_format)
{
    static const char hint[] = "--format env, json or yaml; vault, infisical and coffer are read, too";
    if (cli->format != NULL) {
        return cof_import_format_find(cli->format, ret_format)
                   ? CLI_OK
                   : cli_usage(hint, "--format names no format that there is");
    }
    return format_of_name(path, ret_format) ? CLI_OK
                                            : cli_usage(hint, "the name of %s does not tell the format", path);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cli_exit read_all(int fd, const char *path, struct import_file *file, struct cof_slice *ret_bytes)
{
    const size_t room = COF_IMPORT_FILE_MAX + 1;
    uint8_t *bytes = cof_arena_alloc(&file->arena, room);
    size_t length = 0;
    ssize_t got = 1;
    if (bytes == NULL) {
        return cli_no_memory();
    }
    while (got > 0 && length < room) {
        got = read(fd, bytes + length, room - length);
        length += got > 0 ? (size_t) got : 0;
    }
    if (got < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", path, strerror(errno));
    }
    *ret_bytes = cof_slice_of(bytes, length);
    return CLI_OK;
}

cli_exit import_file_load(const char *path, struct import_file *file, struct cof_slice *ret_bytes)
{
    if (strcmp(path, "-") == 0) {
        return read_all(STDIN_FILENO, "standard input", file, ret_bytes);
    }
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be opened: %s", path, strerror(errno));
    }
    const cli_exit code = read_all(fd, path, file, ret_bytes);
    (void) close(fd);
    return code;
}

/* --- Names ---------------------------------------------------------------------------------------------------- */

static bool rename_entries(struct cof_import_entry *entries, size_t count, struct cof_slice from,
                           struct cof_slice to, const struct cof_import_list *list)
{
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        if (cof_slice_equal(list->entries[i].secret, from)) {
            entries[i].secret = to;
            found = true;
        }
    }
    return found;
}

/* OLD=NEW: the last "=" parts them, for no name of Coffer's has one. */
static cli_exit rename_secrets(const struct cli *cli, struct import_file *file)
{
    const size_t count = file->list.count;
    struct cof_import_entry *entries = cof_arena_array(&file->arena, count, sizeof *entries);
    if (entries == NULL) {
        return cli_no_memory();
    }
    for (size_t i = 0; i < count; i++) {
        entries[i] = file->list.entries[i];
    }
    for (size_t i = 0; i < cli->renamed.count; i++) {
        const char *text = cli->renamed.items[i];
        const char *equals = strrchr(text, '=');
        if (equals == NULL || equals == text || equals[1] == '\0') {
            return cli_usage("--rename 'my secret=my-secret'", "--rename wants OLD=NEW");
        }
        if (!rename_entries(entries, count, cof_slice_of(text, (size_t) (equals - text)),
                            cof_slice_text(equals + 1), &file->list)) {
            return cli_usage(NULL, "the file has no secret with the name that --rename %zu gives", i + 1);
        }
    }
    file->list.entries = entries;
    return CLI_OK;
}

/* --- The plan ------------------------------------------------------------------------------------------------- */

static void say_problem(const char *problem, cli_exit *code)
{
    if (problem != NULL) {
        *code = cli_refuse(CLI_REJECTED, NULL, "%s", problem);
    }
}

static cli_exit say_problems(const struct cof_import_plan *plan)
{
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < plan->step_count; i++) {
        say_problem(plan->steps[i].problem, &code);
        for (size_t k = 0; k < plan->steps[i].row_count; k++) {
            say_problem(plan->steps[i].rows[k].problem, &code);
        }
    }
    return code;
}

cli_exit import_file_plan(const struct cli *cli, cof_import_format format, struct cof_slice bytes,
                          struct import_file *file)
{
    struct cof_error err = {0};
    const char *path = cli->arguments[0];
    const struct cof_slice secret = cof_slice_text(cli->secrets.count == 0 ? "" : cli->secrets.items[0]);
    if (cof_import_read(format, bytes, secret, &file->arena, &file->list, &err) != COF_OK) {
        return import_fail(path, &err);
    }
    const cli_exit code = rename_secrets(cli, file);
    if (code != CLI_OK) {
        return code;
    }
    if (cof_import_plan(&file->list, NULL, 0, &file->arena, &file->plan, &err) != COF_OK) {
        return import_fail(path, &err);
    }
    return say_problems(&file->plan);
}
