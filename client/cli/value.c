#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/message.h"
#include "common/name.h"

enum { VALUE_MAX = 65536 };

void cli_value_done(struct cli_value *value)
{
    if (value->data != NULL) {
        explicit_bzero(value->data, VALUE_MAX + 1);
        free(value->data);
    }
    value->data = NULL;
}

/* Whether the value is a line with its newline, as echo makes it; in a text of several lines it belongs there. */
static bool ends_by_accident(const struct cli_value *value)
{
    const uint8_t *newline = value->length == 0 ? NULL : memchr(value->data, '\n', value->length);
    return newline != NULL && newline == value->data + value->length - 1;
}

static cli_exit read_all(int fd, const char *from, struct cli_value *value)
{
    ssize_t got = 1;
    while (got > 0 && value->length <= VALUE_MAX) {
        got = read(fd, value->data + value->length, VALUE_MAX + 1 - value->length);
        value->length += got > 0 ? (size_t) got : 0;
    }
    if (got < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be read: %s", from, strerror(errno));
    }
    if (value->length > VALUE_MAX) {
        return cli_refuse(CLI_LIMIT, NULL, "%s holds more than 64 KiB, the most that a value may have", from);
    }
    if (value->line && value->length > 0 && value->data[value->length - 1] == '\n') {
        value->length--;
        return CLI_OK;
    }
    if (ends_by_accident(value)) {
        cli_note(
            "coffer: note: the value from %s ends with a newline, which is stored with it; printf '%%s' writes "
            "none",
            from);
    }
    return CLI_OK;
}

/* A second argument would find standard input at its end, and would store an empty value. */
static cli_exit read_input(struct cli_value *value)
{
    static bool taken;
    if (taken) {
        return cli_usage("give the others as KEY=@FILE", "only one value can come from standard input");
    }
    taken = true;
    return read_all(STDIN_FILENO, "standard input", value);
}

static cli_exit read_file(const char *path, struct cli_value *value)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cli_refuse(CLI_ERROR, NULL, "%s cannot be opened: %s", path, strerror(errno));
    }
    const cli_exit code = read_all(fd, path, value);
    (void) close(fd);
    return code;
}

static cli_exit read_value(char *argument, size_t place, bool line, struct cli_value *ret_value)
{
    char *equals = strchr(argument, '=');
    *ret_value = (struct cli_value){.key = argument, .data = malloc(VALUE_MAX + 1), .line = line};
    if (ret_value->data == NULL) {
        return cli_no_memory();
    }
    if (equals == NULL) {
        return cli_prompt_hidden(argument, "KEY=- takes it from standard input, KEY=@FILE from a file",
                                 ret_value->data, &ret_value->length);
    }
    *equals = '\0';
    if (strcmp(equals + 1, "-") == 0) {
        return read_input(ret_value);
    }
    if (equals[1] == '@') {
        return read_file(equals + 2, ret_value);
    }
    return cli_usage(
        "KEY alone asks for it without showing it, KEY=@FILE takes a file, KEY=- standard input",
        "refusing the value on the command line in argument %zu: other users can see it in the process "
        "list",
        place);
}

cli_exit cli_read_value(char *argument, size_t place, struct cli_value *ret_value)
{
    return read_value(argument, place, false, ret_value);
}

cli_exit cli_read_line_value(char *argument, size_t place, struct cli_value *ret_value)
{
    return read_value(argument, place, true, ret_value);
}

cli_exit cli_read_file_value(char *argument, struct cli_value *ret_value)
{
    char *equals = strchr(argument, '=');
    *ret_value = (struct cli_value){.key = argument, .data = malloc(VALUE_MAX + 1)};
    if (ret_value->data == NULL) {
        return cli_no_memory();
    }
    if (equals == NULL || equals[1] == '\0') {
        return cli_usage("--file PRIVATE_KEY=id_ed25519", "--file takes KEY=PATH");
    }
    *equals = '\0';
    return strcmp(equals + 1, "-") == 0 ? read_input(ret_value) : read_file(equals + 1, ret_value);
}

cli_exit cli_read_number(const char *what, const char *text, uint64_t *ret_number)
{
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && number < UINT32_MAX; at++) {
        number = number * 10 + (uint64_t) (*at - '0');
    }
    if (at == text || *at != '\0' || number == 0) {
        return cli_usage("a whole number, 1 or more", "the %s is no number", what);
    }
    *ret_number = number;
    return CLI_OK;
}

/* Text without control characters, but for those that move on: what a terminal shows and does not obey. */
static bool printable(coffer_bytes value)
{
    const struct cof_slice text = cof_slice_of(value.data, value.length);
    for (size_t i = 0; i < value.length; i++) {
        const uint8_t byte = value.data[i];
        const bool blank = byte == '\n' || byte == '\t' || byte == '\r';
        const bool upper_control =
            byte == 0xc2 && i + 1 < value.length && value.data[i + 1] >= 0x80 && value.data[i + 1] < 0xa0;
        if ((byte < ' ' && !blank) || byte == 0x7f || upper_control) {
            return false;
        }
    }
    return cof_text_valid(text);
}

cli_exit cli_print_value(const struct cli *cli, coffer_bytes value)
{
    const bool terminal = cli_on_terminal();
    if (!cli->json && terminal && !cli->raw && !printable(value)) {
        return cli_refuse(CLI_USAGE, "send it to a file or a program, or say -o raw",
                          "the value holds bytes that a terminal does not show, %zu bytes in all", value.length);
    }
    /* Behind no buffer of stdio, which is not wiped. */
    (void) setvbuf(stdout, NULL, _IONBF, 0);
    if (cli->json) {
        (void) fputc('{', stdout);
        cli_json_bytes(stdout, "value", value.data, value.length);
        fputs("}\n", stdout);
        return CLI_OK;
    }
    if (value.length > 0 && fwrite(value.data, value.length, 1, stdout) != 1) {
        return cli_refuse(CLI_ERROR, NULL, "standard output cannot be written: %s", strerror(errno));
    }
    const bool ended = value.length > 0 && value.data[value.length - 1] == '\n';
    if (terminal && !ended && !cli->no_newline) {
        (void) putchar('\n');
    }
    return CLI_OK;
}

cli_exit cli_print_variable(const char *name, coffer_bytes value)
{
    if (!cli_is_variable(name)) {
        return cli_usage("-o json, or one key without -o", "the key \"%s\" cannot be the name of a variable", name);
    }
    if (value.length > 0 && memchr(value.data, '\0', value.length) != NULL) {
        return cli_refuse(CLI_REJECTED, "coffer get writes it into a file",
                          "the value of %s holds a NUL byte, which a variable cannot", name);
    }
    (void) setvbuf(stdout, NULL, _IONBF, 0);
    printf("%s='", name);
    for (size_t at = 0; at < value.length;) {
        const uint8_t *quote = memchr(value.data + at, '\'', value.length - at);
        const size_t end = quote == NULL ? value.length : (size_t) (quote - value.data);
        (void) fwrite(value.data + at, 1, end - at, stdout);
        fputs(quote == NULL ? "" : "'\\''", stdout);
        at = quote == NULL ? end : end + 1;
    }
    puts("'");
    return CLI_OK;
}

static char *trim(char *text)
{
    char *end = text + strlen(text);
    while (end > text && (end[-1] == ' ' || end[-1] == '}')) {
        *--end = '\0';
    }
    return text + strspn(text, " ");
}

/* One template, in which nothing stands but names: no operator, no text, no blanks between. */
bool cli_is_reference(const char *text)
{
    if (strncmp(text, "${{", 3) != 0) {
        return strstr(text, "${{") == NULL;
    }
    text += 3 + strspn(text + 3, " ");
    if (strncmp(text, "SECRETS.", 8) != 0) {
        return false;
    }
    const char *dot = strchr(text + 8, '.');
    text += strcspn(text, " }|\"'");
    return dot != NULL && dot < text && strcmp(text + strspn(text, " "), "}}") == 0;
}

bool cli_split_reference(char *text, char **ret_name, char **ret_key)
{
    if (strncmp(text, "${{", 3) == 0) {
        text = trim(text + 3);
        text += strncmp(text, "SECRETS.", 8) == 0 ? 8 : 0;
    }
    char *dot = strrchr(text, '.');
    if (dot == NULL || dot == text || dot[1] == '\0') {
        return false;
    }
    *dot = '\0';
    *ret_name = text;
    *ret_key = dot + 1;
    return true;
}
