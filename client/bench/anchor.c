#include "client/bench/anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_SIZE = 2048 };

/* Starts the program with its output in the pipe. */
static bool start(const char *program, int output, pid_t *ret_process)
{
    posix_spawn_file_actions_t actions;
    char *copy = NULL;
    bool started = false;
    if (asprintf(&copy, "%s", program) < 0 || posix_spawn_file_actions_init(&actions) != 0) {
        free(copy);
        return false;
    }
    char *const arguments[] = {copy, NULL};
    started = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO) == 0 &&
              posix_spawn(ret_process, program, &actions, NULL, arguments, environ) == 0;
    (void) posix_spawn_file_actions_destroy(&actions);
    free(copy);
    return started;
}

/* Reads to the end and keeps what came last. */
static void read_all(int input, char text[OUTPUT_SIZE])
{
    enum { HALF = OUTPUT_SIZE / 2 };
    size_t used = 0;
    ssize_t got;
    do {
        if (used >= HALF) {
            memmove(text, text + used - HALF / 2, HALF / 2);
            used = HALF / 2;
        }
        got = TEMP_FAILURE_RETRY(read(input, text + used, HALF - 1));
        used += got > 0 ? (size_t) got : 0;
    } while (got > 0);
    text[used] = '\0';
}

static bool last_number(const char *text, double *ret_number)
{
    bool found = false;
    while (*text != '\0') {
        char *end = NULL;
        const bool begins = *text >= '0' && *text <= '9';
        const double number = begins ? strtod(text, &end) : 0;
        found = found || begins;
        *ret_number = begins ? number : *ret_number;
        text = begins ? end : text + 1;
    }
    return found;
}

bool anchor_run(const char *program, double *ret_rate)
{
    char text[OUTPUT_SIZE];
    int ends[2];
    int status = 0;
    pid_t process = -1;
    *ret_rate = 0;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    const bool started = start(program, ends[1], &process);
    (void) close(ends[1]);
    read_all(ends[0], text);
    (void) close(ends[0]);
    if (!started || waitpid(process, &status, 0) != process) {
        return false;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 && last_number(text, ret_rate);
}
