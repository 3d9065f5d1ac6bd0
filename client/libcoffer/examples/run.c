/*
 * Runs a program with values of secrets in its environment, and masks them in what it prints. The program gets PATH
 * and the values, and nothing else of this process's environment: so not the token.
 *
 *     export COFFER_ADDR=ipc:///run/coffer/coffer.sock COFFER_TOKEN_FILE=/run/credentials/token
 *     run prod crowdstrike.CROWDSTRIKE_CLIENT_ID -- sh -c 'echo "I am $CROWDSTRIKE_CLIENT_ID"'
 *
 *     cc run.c $(pkg-config --cflags --libs coffer) -o run
 */

#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <coffer/coffer.h>
#include <coffer/mask.h>
#include <coffer/view.h>

#define FAILED 125

struct run {
    coffer_client *client;
    coffer_request *request;
    coffer_result *result;
    coffer_view *view;
    coffer_masker *masker;
    coffer_mask_stream *stream;
    coffer_error *error;
};

static void run_done(struct run *run)
{
    coffer_mask_stream_free(run->stream);
    coffer_masker_free(run->masker);
    coffer_view_free(run->view);
    coffer_result_free(run->result);
    coffer_request_free(run->request);
    coffer_client_close(run->client);
    coffer_error_free(run->error);
}

/* NAME.KEY: cut at the last dot, as names may have dots and these keys have none. */
static void ask_for(coffer_request *request, char *reference)
{
    char *dot = strrchr(reference, '.');
    if (dot != NULL) {
        *dot = '\0';
    }
    coffer_request_add_reference(request, reference, dot == NULL ? "" : dot + 1);
}

static bool print(const void *data, size_t length, void *context)
{
    (void) context;
    return fwrite(data, 1, length, stdout) == length;
}

/* Whether the values are there. */
static bool resolve(struct run *run)
{
    const coffer_item *item;
    if (coffer_client_open(NULL, &run->client, &run->error) != COFFER_OK ||
        coffer_resolve(run->client, run->request, &run->result, &run->error) != COFFER_OK) {
        return false;
    }
    item = coffer_result_item(run->result, 0);
    if (coffer_item_status(item) != COFFER_OK) {
        fprintf(stderr, "run: %s\n", coffer_item_message(item));
        return false;
    }
    return true;
}

/* Whether there is an environment for the program, and a stream that its output goes through. */
static bool prepare(struct run *run)
{
    return coffer_view_new(run->result, 0, &run->view, &run->error) == COFFER_OK &&
           coffer_masker_new(run->result, NULL, 0, &run->masker, &run->error) == COFFER_OK &&
           coffer_mask_stream_new(run->masker, print, NULL, &run->stream, &run->error) == COFFER_OK;
}

/* Starts the program, whose output and errors go into the pipe. */
static int spawn(const struct run *run, char **command, const int ends[2], pid_t *ret_child)
{
    const char *path = getenv("PATH");
    const size_t count = coffer_view_count(run->view);
    char **environment = calloc(count + 2, sizeof *environment);
    char line[4096];
    posix_spawn_file_actions_t actions;
    int failed = environment == NULL || posix_spawn_file_actions_init(&actions) != 0;
    if (failed) {
        free(environment);
        return failed;
    }
    snprintf(line, sizeof line, "PATH=%s", path == NULL ? "/usr/bin:/bin" : path);
    memcpy(environment, coffer_view_strings(run->view), count * sizeof *environment);
    environment[count] = line;
    failed = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) != 0 ||
             posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO) != 0 ||
             posix_spawn_file_actions_addclose(&actions, ends[0]) != 0 ||
             posix_spawn_file_actions_addclose(&actions, ends[1]) != 0 ||
             posix_spawnp(ret_child, command[0], &actions, NULL, command, environment) != 0;
    posix_spawn_file_actions_destroy(&actions);
    free(environment);
    return failed;
}

static bool mask_output(const struct run *run, int from)
{
    char buffer[4096];
    ssize_t length;
    while ((length = read(from, buffer, sizeof buffer)) > 0) {
        if (coffer_mask_stream_feed(run->stream, buffer, (size_t) length) != COFFER_OK) {
            return false;
        }
    }
    return coffer_mask_stream_flush(run->stream) == COFFER_OK && fflush(stdout) == 0;
}

/* The program's exit code. */
static int execute(const struct run *run, char **command)
{
    int ends[2];
    int status = 0;
    pid_t child = 0;
    bool printed;
    if (pipe(ends) != 0) {
        return FAILED;
    }
    if (spawn(run, command, ends, &child) != 0) {
        fprintf(stderr, "run: %s cannot be started\n", command[0]);
        close(ends[0]);
        close(ends[1]);
        return FAILED;
    }
    close(ends[1]);
    printed = mask_output(run, ends[0]);
    close(ends[0]);
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || !printed) {
        return FAILED;
    }
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    struct run run = {NULL, NULL, NULL, NULL, NULL, NULL, NULL};
    int status = FAILED;
    int at = 2;
    run.request = coffer_request_new();
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        ask_for(run.request, argv[at]);
    }
    if (at + 1 >= argc) {
        coffer_request_free(run.request);
        fprintf(stderr, "usage: run ENVIRONMENT NAME.KEY... -- PROGRAM [ARGUMENT...]\n");
        return FAILED;
    }
    coffer_request_add_environment(run.request, coffer_environment_choose(argv[1], getenv("WORKFLOW_ENVIRONMENT")));
    if (resolve(&run) && prepare(&run)) {
        status = execute(&run, argv + at + 1);
    } else if (run.error != NULL) {
        fprintf(stderr, "run: %s\n", coffer_error_message(run.error));
    }
    run_done(&run);
    return status;
}
