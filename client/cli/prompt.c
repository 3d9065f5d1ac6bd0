#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "client/cli/cli.h"

/* Signals that would leave a terminal without echo behind. */
static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};

static volatile sig_atomic_t caught;

static void note(int number)
{
    caught = number;
}

static bool never;

void cli_never_ask(void)
{
    never = true;
}

static bool can_ask(void)
{
    return !never && isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1;
}

static void watch(struct sigaction *before)
{
    struct sigaction action = {.sa_handler = note};
    (void) sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < COF_COUNT(watched); i++) {
        (void) sigaction(watched[i], &action, &before[i]);
    }
}

static void unwatch(const struct sigaction *before)
{
    for (size_t i = 0; i < COF_COUNT(watched); i++) {
        (void) sigaction(watched[i], &before[i], NULL);
    }
}

/* One line without echo; -1 if a signal came. The terminal is as before when this returns. */
static ssize_t read_hidden(const char *prompt, uint8_t *line)
{
    struct termios shown;
    struct sigaction before[COF_COUNT(watched)];
    if (tcgetattr(STDIN_FILENO, &shown) != 0) {
        return -1;
    }
    struct termios hidden = shown;
    hidden.c_lflag &= ~(tcflag_t) ECHO;
    caught = 0;
    watch(before);
    ssize_t got = -1;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) ==
        0) { /* before anybody is asked, for what is typed early is shown */
        fprintf(stderr, "%s (hidden): ", prompt);
        got = caught == 0 ? read(STDIN_FILENO, line, CLI_LINE_MAX) : -1;
    }
    (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    fputc('\n', stderr);
    unwatch(before);
    return got;
}

/* A full buffer may have been cut: a terminal drops what is longer. */
static cli_exit take_line(const uint8_t *line, size_t length, size_t *ret_length)
{
    if (length >= CLI_LINE_MAX) {
        return cli_refuse(CLI_LIMIT, "write it into a file and give KEY=@FILE",
                          "a terminal cuts lines of more than %d bytes", CLI_LINE_MAX - 2);
    }
    if (length > 0 && line[length - 1] == '\n') {
        length--;
    }
    if (length == 0) {
        return cli_usage("KEY=@/dev/null stores an empty value", "no value was given");
    }
    *ret_length = length;
    return CLI_OK;
}

cli_exit cli_prompt_hidden(const char *prompt, const char *otherwise, uint8_t *line, size_t *ret_length)
{
    ssize_t got;
    if (!can_ask()) {
        return cli_usage(otherwise, never ? "--no-input or COFFER_NO_INPUT forbids to ask for a value"
                                          : "there is no terminal to ask for a value");
    }
    /* After a stop the question is asked again. */
    while ((got = read_hidden(prompt, line)) < 0 && caught == SIGTSTP) {
        (void) raise(SIGTSTP);
    }
    if (got < 0 && caught != 0) {
        (void) raise(caught);
    }
    return got < 0 ? CLI_INTERRUPTED : take_line(line, (size_t) got, ret_length);
}

cli_exit cli_confirm(const struct cli *cli, const char *question, const char *name)
{
    char line[256];
    if (cli->yes) {
        return CLI_OK;
    }
    if (!can_ask()) {
        return cli_usage("--yes does it without asking",
                         never ? "--no-input or COFFER_NO_INPUT forbids to ask" : "there is no terminal to ask on");
    }
    fprintf(stderr, "%s Type \"%s\" to confirm: ", question, name);
    if (fgets(line, sizeof line, stdin) == NULL) {
        fputc('\n', stderr);
        return cli_usage(NULL, "nothing was typed; nothing is done");
    }
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, name) == 0 ? CLI_OK : cli_usage(NULL, "that is not \"%s\"; nothing is done", name);
}
