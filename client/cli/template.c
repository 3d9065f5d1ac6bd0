#include "client/cli/template.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/reference.h"
#include "client/cli/resolve.h"

enum { FIRST_ROOM = 65536, ROOM_MAX = 64 << 20 };

/* --- Reading ---------------------------------------------------------------------------------------------------- */

struct text {
    char *data;
    size_t length;
    size_t room;
};

static bool grow(struct text *text)
{
    if (text->length < text->room) {
        return true;
    }
    const size_t room = text->room == 0 ? FIRST_ROOM : text->room * 2;
    char *grown = room > ROOM_MAX ? NULL : realloc(text->data, room);
    if (grown == NULL) {
        return false;
    }
    text->data = grown;
    text->room = room;
    return true;
}

static cli_exit read_all(int fd, const char *from, struct text *text)
{
    ssize_t got = 1;
    while (got > 0) {
        if (!grow(text)) {
            return cli_refuse(CLI_LIMIT, NULL, "%s is too large for a template", from);
        }
        got = read(fd, text->data + text->length, text->room - text->length);
        text->length += got > 0 ? (size_t) got : 0;
    }
    return got == 0 ? CLI_OK : cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", from, strerror(errno));
}

static bool ends_in(const char *path, const char *ending)
{
    const size_t length = path == NULL ? 0 : strlen(path);
    return length > strlen(ending) && strcmp(path + length - strlen(ending), ending) == 0;
}

static cli_exit kind_of(const char *path, const char *format, coffer_template_kind *ret_kind)
{
    static const struct {
        const char *name;
        const char *ending;
        coffer_template_kind kind;
    } kinds[] = {{"json", ".json", COFFER_TEMPLATE_JSON},
                 {"yaml", ".yaml", COFFER_TEMPLATE_YAML},
                 {"yaml", ".yml", COFFER_TEMPLATE_YAML},
                 {"text", "", COFFER_TEMPLATE_TEXT}};
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        if (format == NULL ? kinds[i].ending[0] == '\0' || ends_in(path, kinds[i].ending)
                           : strcmp(format, kinds[i].name) == 0) {
            *ret_kind = kinds[i].kind;
            return CLI_OK;
        }
    }
    return cli_usage("text, json or yaml; without it the file's ending says it", "--format is none of the formats");
}

cli_exit template_parse(struct template *template, coffer_template_kind kind)
{
    coffer_error *error = NULL;
    cli_exit code = CLI_OK;
    if (coffer_template_new(kind, template->text, template->length, NULL, &template->parsed, &error) != COFFER_OK) {
        code = template_fail(template->from, error);
        coffer_error_free(error);
    }
    return code;
}

cli_exit template_read(const char *path, const char *format, struct template *ret_template)
{
    const char *from = path == NULL ? "standard input" : path;
    coffer_template_kind kind = COFFER_TEMPLATE_TEXT;
    struct text text = {NULL, 0, 0};
    *ret_template = (struct template){.from = from};
    cli_exit code = kind_of(path, format, &kind);
    const int fd = path == NULL || code != CLI_OK ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be opened: %s", path, strerror(errno));
    }
    if (code == CLI_OK) {
        code = read_all(fd, from, &text);
    }
    if (fd != STDIN_FILENO) {
        (void) close(fd);
    }
    ret_template->text = text.data;
    ret_template->length = text.length;
    ret_template->owned = text.data;
    return code == CLI_OK ? template_parse(ret_template, kind) : code;
}

void template_done(struct template *template)
{
    coffer_template_free(template->parsed);
    free(template->owned);
}

/* --- Failures --------------------------------------------------------------------------------------------------- */

static cli_exit report(const char *from, const coffer_error *error, const char *said, coffer_reason reason)
{
    char *message = NULL;
    if (asprintf(&message, "%s: %s", from, said) < 0) {
        return cli_no_memory();
    }
    const cli_exit code = cli_report(&(struct cli_report){
        .message = message,
        .reason = coffer_reason_name(reason),
        .code = cli_exit_of(coffer_error_status(error)),
    });
    free(message);
    return code;
}

/* The messages of faults have their places. */
cli_exit template_fail(const char *from, const coffer_error *error)
{
    const size_t count = coffer_error_fault_count(error);
    cli_exit code = CLI_ERROR;
    for (size_t i = 0; i < count; i++) {
        code = report(from, error, coffer_error_fault_message(error, i), coffer_error_fault_reason(error, i));
    }
    return count > 0 ? code : report(from, error, coffer_error_message(error), coffer_error_reason(error));
}

/* --- inject ----------------------------------------------------------------------------------------------------- */

/* A file beside the one that is wanted, which takes its place when all is in it. */
static cli_exit replace_file(const char *path, coffer_bytes text)
{
    char *beside = NULL;
    if (asprintf(&beside, "%s.XXXXXX", path) < 0) {
        return cli_no_memory();
    }
    const int fd = mkostemp(beside, O_CLOEXEC);
    bool done = fd >= 0;
    for (size_t written = 0; done && written < text.length;) {
        const ssize_t wrote = write(fd, text.data + written, text.length - written);
        done = wrote > 0;
        written += done ? (size_t) wrote : 0;
    }
    done = done && fsync(fd) == 0 && rename(beside, path) == 0;
    const int why = errno;
    if (fd >= 0) {
        (void) close(fd);
        if (!done) {
            (void) unlink(beside);
        }
    }
    free(beside);
    return done ? CLI_OK : cli_refuse(CLI_ERROR, NULL, "%s cannot be written: %s", path, strerror(why));
}

static cli_exit deliver(const struct cli *cli, coffer_bytes text)
{
    if (cli->out == NULL) {
        return cli_print_value(cli, text);
    }
    const cli_exit code = replace_file(cli->out, text);
    if (code == CLI_OK) {
        cli_note("%s: written, %zu bytes, for its owner only", cli->out, text.length);
    }
    return code;
}

/* What the text is with the values of the result. */
static cli_exit deliver_expanded(struct cli *cli, const struct template *template, const coffer_result *result)
{
    coffer_text *text = NULL;
    coffer_error *error = NULL;
    cli_exit code = CLI_OK;
    if (coffer_template_expand(template->parsed, result, 0, &text, &error) != COFFER_OK) {
        code = template_fail(template->from, error);
        cli_report_request(coffer_result_request_id(result));
        coffer_error_free(error);
    } else if (coffer_text_is_null(text)) {
        cli_note("coffer: note: %s is null", template->from);
    } else {
        code = deliver(cli, coffer_text_bytes(text));
    }
    coffer_text_free(text);
    return code;
}

cli_exit template_print(struct cli *cli, const struct template *template)
{
    coffer_result *result = NULL;
    if (coffer_template_reference_count(template->parsed) == 0) {
        return deliver(cli, (coffer_bytes){(const uint8_t *) template->text, template->length});
    }
    coffer_request *request = coffer_request_new();
    resolve_add_environments(cli, request);
    coffer_request_add_template(request, template->parsed);
    cli_exit code = resolve_ask(cli, request, &result);
    if (code == CLI_OK) {
        code = deliver_expanded(cli, template, result);
    }
    coffer_result_free(result);
    coffer_request_free(request);
    return code;
}

/* A template is for every place; one that names its own would stay as it is, and nobody would notice. */
static cli_exit check_places(const struct template *template)
{
    const char *end = template->text + template->length;
    const char *at = template->text;
    for (; at != NULL && (at = memmem(at, (size_t) (end - at), "${{", 3)) != NULL; at += 3) {
        const char *word = at + 3;
        while (word < end && strchr(" \t\r\n", *word) != NULL && *word != '\0') {
            word++;
        }
        if (reference_is_full(cof_slice_of(word, (size_t) (end - word)))) {
            return cli_usage("${{ SECRETS.slack.SLACK_BOT_TOKEN }} and -e prod; coffer run takes coffer://",
                             "%s: a template names no place, as coffer:// does", template->from);
        }
    }
    return CLI_OK;
}

cli_exit cmd_inject(struct cli *cli)
{
    struct template template = {.from = NULL};
    cli_exit code = template_read(cli->argument_count == 0 ? NULL : cli->arguments[0], cli->format, &template);
    if (code == CLI_OK) {
        code = check_places(&template);
    }
    if (code == CLI_OK) {
        code = template_print(cli, &template);
    }
    template_done(&template);
    return code;
}
