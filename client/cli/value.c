#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "client/cli/cli.h"

enum { VALUE_MAX = 65536, PROMPT_MAX = 8192 };

void cli_value_done(struct cli_value *value)
{
    if (value->data != NULL) {
        explicit_bzero(value->data, VALUE_MAX + 1);
        free(value->data);
    }
    value->data = NULL;
}

static cli_exit read_all(int fd, const char *from, struct cli_value *value)
{
    ssize_t got = 1;
    while (got > 0 && value->length <= VALUE_MAX) {
        got = read(fd, value->data + value->length, VALUE_MAX + 1 - value->length);
        value->length += got > 0 ? (size_t) got : 0;
    }
    if (got < 0) {
        fprintf(stderr, "coffer: %s: cannot be read: %s\n", from, strerror(errno));
        return CLI_ERROR;
    }
    if (value->length > VALUE_MAX) {
        fprintf(stderr, "coffer: %s: is larger than 64 KiB, the most that a value may have\n", from);
        return CLI_LIMIT;
    }
    return CLI_OK;
}

static cli_exit read_file(const char *path, struct cli_value *value)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "coffer: %s: cannot be opened: %s\n", path, strerror(errno));
        return CLI_ERROR;
    }
    const cli_exit code = read_all(fd, path, value);
    (void) close(fd);
    return code;
}

/* Reads one line from the terminal without showing it. */
static cli_exit ask(const char *key, struct cli_value *value)
{
    struct termios shown;
    struct termios hidden;
    if (isatty(STDIN_FILENO) != 1 || tcgetattr(STDIN_FILENO, &shown) != 0) {
        return cli_usage("write KEY=- to read it from standard input, or KEY=@FILE",
                         "there is no terminal to ask for the value of \"%s\"", key);
    }
    fprintf(stderr, "%s (hidden): ", key);
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t) ECHO;
    (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    const ssize_t got = read(STDIN_FILENO, value->data, PROMPT_MAX);
    (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    fputc('\n', stderr);
    if (got <= 0) {
        return cli_usage(NULL, "no value was given for \"%s\"", key);
    }
    value->length = (size_t) got;
    value->length -= value->data[value->length - 1] == '\n';
    return CLI_OK;
}

cli_exit cli_read_value(char *argument, struct cli_value *ret_value)
{
    char *equals = strchr(argument, '=');
    *ret_value = (struct cli_value){.key = argument, .data = malloc(VALUE_MAX + 1)};
    if (ret_value->data == NULL) {
        fputs("coffer: there is no memory left\n", stderr);
        return CLI_ERROR;
    }
    if (equals == NULL) {
        return ask(argument, ret_value);
    }
    *equals = '\0';
    if (strcmp(equals + 1, "-") == 0) {
        return read_all(STDIN_FILENO, "standard input", ret_value);
    }
    if (equals[1] == '@') {
        return read_file(equals + 2, ret_value);
    }
    return cli_usage("leave the value out to be asked for it, or write =@FILE, or =- for standard input",
                     "refusing the value of \"%s\" on the command line: other users can see it in the process list",
                     argument);
}

static char *trim(char *text)
{
    char *end = text + strlen(text);
    while (end > text && (end[-1] == ' ' || end[-1] == '}')) {
        *--end = '\0';
    }
    return text + strspn(text, " ");
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
