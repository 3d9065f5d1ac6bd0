#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <coffer/mask.h>

#include "client/cli/resolve.h"
#include "client/cli/variables.h"

/* `coffer run`: a program with values in its environment, and its output with the values masked. */

enum { OUTPUTS = 2, PIECE = 65536, SIGNAL_BASE = 128 };

/* --- Signals ---------------------------------------------------------------------------------------------------- */

static const int forwarded[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};

static atomic_int child; /* 0: there is none */
static atomic_int kept;  /* a signal that came before there was one; 0: none did */

/* What the terminal sends, it sends to the program, too; what another process sends, only this one gets. Any thread runs
 * it: the library has some of its own. */
static void forward(int number, siginfo_t *info, void *context)
{
    (void) context;
    if (info->si_code > 0) {
        return;
    }
    atomic_store(&kept, number);
    const int pid = atomic_load(&child);
    if (pid > 0 && atomic_exchange(&kept, 0) != 0) {
        (void) kill(pid, number);
    }
}

/* What is ignored stays so, for the program as well. */
static void begin_forwarding(void)
{
    struct sigaction action = {.sa_sigaction = forward, .sa_flags = SA_SIGINFO | SA_RESTART};
    (void) sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < COF_COUNT(forwarded); i++) {
        struct sigaction before;
        if (sigaction(forwarded[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            (void) sigaction(forwarded[i], &action, NULL);
        }
    }
}

static void forward_to(pid_t pid)
{
    atomic_store(&child, (int) pid);
    const int number = atomic_exchange(&kept, 0);
    if (number != 0) {
        (void) kill(pid, number);
    }
}

/* --- Output ----------------------------------------------------------------------------------------------------- */

struct output {
    coffer_mask_stream *stream;
    int from;
    int to;
};

static bool write_all(const void *data, size_t length, void *context)
{
    const struct output *output = context;
    const char *at = data;
    while (length > 0) {
        const ssize_t wrote = write(output->to, at, length);
        if (wrote < 0 && errno != EINTR) {
            return false;
        }
        at += wrote > 0 ? wrote : 0;
        length -= wrote > 0 ? (size_t) wrote : 0;
    }
    return true;
}

static void close_output(struct output *output)
{
    if (output->from >= 0) {
        (void) close(output->from);
    }
    output->from = -1;
}

/* What the program wrote; at its end, or when nobody reads it, the pipe is closed, as it would be without masking. */
static void move(struct output *output)
{
    static char piece[PIECE];
    const ssize_t got = read(output->from, piece, sizeof piece);
    if (got < 0 && errno == EINTR) {
        return;
    }
    if (got <= 0) {
        (void) !coffer_mask_stream_flush(output->stream);
        close_output(output);
    } else if (coffer_mask_stream_feed(output->stream, piece, (size_t) got) != COFFER_OK) {
        close_output(output);
    }
    explicit_bzero(piece, got > 0 ? (size_t) got : 0);
}

static void move_all(struct output outputs[OUTPUTS])
{
    while (outputs[0].from >= 0 || outputs[1].from >= 0) {
        struct pollfd waiting[OUTPUTS] = {{outputs[0].from, POLLIN, 0}, {outputs[1].from, POLLIN, 0}};
        if (poll(waiting, OUTPUTS, -1) < 0) {
            continue;
        }
        for (size_t i = 0; i < OUTPUTS; i++) {
            if (waiting[i].revents != 0) {
                move(&outputs[i]);
            }
        }
    }
}

/* --- The program ------------------------------------------------------------------------------------------------ */

struct program {
    char **words;
    char **environment;
    int ends[OUTPUTS][2]; /* of pipes; -1: the program writes where this one does */
    struct output outputs[OUTPUTS];
    const int *files; /* that it inherits under the same numbers */
    size_t file_count;
};

static bool open_pipes(struct program *program)
{
    for (size_t i = 0; i < OUTPUTS; i++) {
        if (pipe2(program->ends[i], O_CLOEXEC) != 0) {
            return false;
        }
        program->outputs[i].from = program->ends[i][0];
    }
    return true;
}

/* The actions that give the program its outputs and files; the ends of the pipes close themselves, and what is put in its own
 * place does not. */
static int spawn_with(const struct program *program, const posix_spawnattr_t *attributes, pid_t *ret_child)
{
    posix_spawn_file_actions_t actions;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed != 0) {
        return failed;
    }
    for (int i = 0; i < OUTPUTS; i++) {
        if (failed == 0 && program->ends[i][1] >= 0) {
            failed = posix_spawn_file_actions_adddup2(&actions, program->ends[i][1], STDOUT_FILENO + i);
        }
    }
    for (size_t i = 0; failed == 0 && i < program->file_count; i++) {
        failed = posix_spawn_file_actions_adddup2(&actions, program->files[i], program->files[i]);
    }
    if (failed == 0) {
        failed =
            posix_spawnp(ret_child, program->words[0], &actions, attributes, program->words, program->environment);
    }
    (void) posix_spawn_file_actions_destroy(&actions);
    return failed;
}

/* The program begins with the signals as they were when this one began: what this one handles is as usual there. */
static int spawn(const struct program *program, pid_t *ret_child)
{
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int failed = posix_spawnattr_init(&attributes);
    if (failed != 0) {
        return failed;
    }
    (void) sigemptyset(&defaults);
    (void) sigaddset(&defaults, SIGPIPE);
    (void) posix_spawnattr_setsigdefault(&attributes, &defaults);
    (void) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    failed = spawn_with(program, &attributes, ret_child);
    (void) posix_spawnattr_destroy(&attributes);
    return failed;
}

static void close_ends(struct program *program, size_t side)
{
    for (size_t i = 0; i < OUTPUTS; i++) {
        if (program->ends[i][side] >= 0) {
            (void) close(program->ends[i][side]);
        }
        program->ends[i][side] = -1;
    }
}

static cli_exit exit_of(int status)
{
    return (cli_exit) (WIFEXITED(status) ? WEXITSTATUS(status) : SIGNAL_BASE + WTERMSIG(status));
}

/* The exit code of the program, or why it could not be started. */
static cli_exit execute(struct program *program)
{
    pid_t pid = 0;
    int status = 0;
    (void) signal(SIGPIPE, SIG_IGN);
    begin_forwarding();
    const int failed = spawn(program, &pid);
    close_ends(program, 1);
    if (failed != 0) {
        return cli_refuse(failed == ENOENT ? CLI_NO_PROGRAM : CLI_NOT_EXECUTABLE, NULL, "%s cannot be started: %s",
                          program->words[0], strerror(failed));
    }
    forward_to(pid);
    move_all(program->outputs);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    atomic_store(&child, 0);
    return exit_of(status);
}

/* --- Masking ---------------------------------------------------------------------------------------------------- */

static cli_exit open_masks(const coffer_masker *masker, struct program *program)
{
    coffer_error *error = NULL;
    for (size_t i = 0; i < OUTPUTS; i++) {
        struct output *output = &program->outputs[i];
        output->to = STDOUT_FILENO + (int) i;
        if (coffer_mask_stream_new(masker, write_all, output, &output->stream, &error) != COFFER_OK) {
            const cli_exit code = cli_fail(error);
            coffer_error_free(error);
            return code;
        }
    }
    return open_pipes(program) ? CLI_OK : cli_refuse(CLI_ERROR, NULL, "a pipe cannot be made: %s", strerror(errno));
}

static void tell_unmasked(size_t count)
{
    if (count > 0) {
        cli_note("coffer: note: %zu value%s of less than 4 bytes cannot be masked", count, count == 1 ? "" : "s");
    }
}

static cli_exit execute_masked(struct program *program, const coffer_result *result)
{
    coffer_masker *masker = NULL;
    coffer_error *error = NULL;
    if (coffer_masker_new(result, NULL, 0, &masker, &error) != COFFER_OK) {
        (void) cli_fail(error);
        coffer_error_free(error);
        return CLI_NOT_RUN;
    }
    tell_unmasked(coffer_masker_unmasked(masker));
    cli_exit code = open_masks(masker, program) == CLI_OK ? execute(program) : CLI_NOT_RUN;
    close_ends(program, 1);
    for (size_t i = 0; i < OUTPUTS; i++) {
        close_output(&program->outputs[i]);
        coffer_mask_stream_free(program->outputs[i].stream);
    }
    coffer_masker_free(masker);
    return code;
}

/* --- Command ---------------------------------------------------------------------------------------------------- */

/* No thread and no connection of the client is left when the program runs. */
static cli_exit run_with(struct cli *cli, struct variables *variables, const coffer_result *result)
{
    struct program program = {
        .words = cli->arguments, .ends = {{-1, -1}, {-1, -1}}, .outputs = {{.from = -1}, {.from = -1}}};
    if (cli->action != NULL && variables_add_action(variables, result) != CLI_OK) {
        return CLI_NOT_RUN;
    }
    if (variables_fill(variables, result) != CLI_OK) {
        return CLI_NOT_RUN;
    }
    coffer_client_close(cli->client);
    cli->client = NULL;
    program.environment = variables->environment;
    program.files = variables->files;
    program.file_count = variables->file_count;
    return cli->no_mask ? execute(&program) : execute_masked(&program, result);
}

cli_exit cmd_run(struct cli *cli)
{
    struct variables variables = {.count = 0};
    coffer_request *request = coffer_request_new();
    coffer_result *result = NULL;
    cli_exit code = check_templates(cli);
    if (code == CLI_OK) {
        code = variables_read(cli, &variables);
    }
    if (code == CLI_OK) {
        code = variables_ask(cli, request, &variables);
    }
    if (code == CLI_OK) {
        code = resolve_all(cli, request, &result);
    }
    code = code == CLI_OK ? run_with(cli, &variables, result) : CLI_NOT_RUN;
    variables_done(&variables);
    coffer_result_free(result);
    coffer_request_free(request);
    return code;
}
