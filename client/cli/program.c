#include "client/cli/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 65536, SIGNAL_BASE = 128, MS = 1000, NS_IN_MS = 1000000 };

/* --- Signals ---------------------------------------------------------------------------------------------------- */

static const int forwarded[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};

static atomic_int child;        /* 0: there is none */
static atomic_int forwarding;   /* how many are about to send something to the child that they have seen */
static atomic_int kept;         /* a signal that came before there was one; 0: none did */
static atomic_bool told_to_end; /* by one of those that end a program which does not heed them */
static atomic_bool terminated;  /* by TERM, which asks for the end whatever the program does with the others */

static void pass_on(int number)
{
    const int before = errno;
    atomic_store(&kept, number);
    (void) atomic_fetch_add(&forwarding, 1);
    const int pid = atomic_load(&child);
    if (pid > 0 && atomic_exchange(&kept, 0) != 0) {
        (void) kill(pid, number);
    }
    (void) atomic_fetch_sub(&forwarding, 1);
    errno = before;
}

/* What the terminal sends, it sends to the program, too; what another process sends, only this one gets. Any thread runs
 * it: the library has some of its own. */
static void forward(int number, siginfo_t *info, void *context)
{
    (void) context;
    if (number != SIGUSR1 && number != SIGUSR2) {
        atomic_store(&told_to_end, true);
    }
    if (number == SIGTERM) {
        atomic_store(&terminated, true);
    }
    if (info->si_code <= 0) {
        pass_on(number);
    }
}

/* What is ignored stays so, for the program as well; but where SIGCHLD is, the system forgets how a program ended. */
void program_signals(void)
{
    struct sigaction action = {.sa_sigaction = forward, .sa_flags = SA_SIGINFO | SA_RESTART};
    (void) sigemptyset(&action.sa_mask);
    (void) signal(SIGPIPE, SIG_IGN);
    (void) signal(SIGCHLD, SIG_DFL);
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

static bool write_all(const void *data, size_t length, void *context)
{
    const struct program_output *output = context;
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

static void close_output(struct program_output *output)
{
    if (output->from >= 0) {
        (void) close(output->from);
    }
    output->from = -1;
}

/* What the program wrote, how many bytes; at its end, or when nobody reads it, the pipe is closed, as it would be without
 * masking. */
static size_t move(struct program_output *output)
{
    static char piece[PIECE];
    const ssize_t got = read(output->from, piece, sizeof piece);
    if (got < 0 && errno == EINTR) {
        return 0;
    }
    if (got <= 0) {
        (void) !coffer_mask_stream_flush(output->stream);
        close_output(output);
    } else if (coffer_mask_stream_feed(output->stream, piece, (size_t) got) != COFFER_OK) {
        close_output(output);
    }
    const size_t moved = got > 0 ? (size_t) got : 0;
    explicit_bzero(piece, moved);
    return moved;
}

/* Moves what is there once something is, or once `other`, a descriptor or -1, can be read, which it tells. */
static bool move_or(struct program *program, int other, int timeout_ms)
{
    struct pollfd waiting[PROGRAM_OUTPUTS + 1] = {
        {program->outputs[0].from, POLLIN, 0}, {program->outputs[1].from, POLLIN, 0}, {other, POLLIN, 0}};
    if (poll(waiting, COF_COUNT(waiting), timeout_ms) <= 0) {
        return false;
    }
    for (size_t i = 0; i < PROGRAM_OUTPUTS; i++) {
        if (waiting[i].revents != 0) {
            (void) move(&program->outputs[i]);
        }
    }
    return waiting[PROGRAM_OUTPUTS].revents != 0;
}

static bool writes(const struct program *program)
{
    return program->outputs[0].from >= 0 || program->outputs[1].from >= 0;
}

/* --- Start ------------------------------------------------------------------------------------------------------ */

/* The actions that give the program its outputs and files; the ends of the pipes close themselves, and what is put in its own
 * place does not. */
static int spawn_with(const struct program *program, const posix_spawnattr_t *attributes, pid_t *ret_child)
{
    posix_spawn_file_actions_t actions;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed != 0) {
        return failed;
    }
    for (int i = 0; i < PROGRAM_OUTPUTS; i++) {
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
static int spawn(struct program *program)
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
    failed = spawn_with(program, &attributes, &program->pid);
    (void) posix_spawnattr_destroy(&attributes);
    return failed;
}

static void close_ends(struct program *program)
{
    for (size_t i = 0; i < PROGRAM_OUTPUTS; i++) {
        if (program->ends[i][1] >= 0) {
            (void) close(program->ends[i][1]);
        }
        program->ends[i][1] = -1;
    }
}

static void tell_unmasked(size_t count)
{
    if (count > 0) {
        cli_note("coffer: note: %zu value%s of less than 4 bytes cannot be masked", count, count == 1 ? "" : "s");
    }
}

static bool open_streams(struct program *program, coffer_error **ret_error)
{
    if (coffer_masker_new(program->masked, NULL, 0, &program->masker, ret_error) != COFFER_OK) {
        return false;
    }
    for (size_t i = 0; i < PROGRAM_OUTPUTS; i++) {
        struct program_output *output = &program->outputs[i];
        output->to = STDOUT_FILENO + (int) i;
        if (coffer_mask_stream_new(program->masker, write_all, output, &output->stream, ret_error) != COFFER_OK) {
            return false;
        }
    }
    return true;
}

static cli_exit open_masks(struct program *program)
{
    coffer_error *error = NULL;
    if (!open_streams(program, &error)) {
        (void) cli_fail(error);
        coffer_error_free(error);
        return CLI_NOT_RUN;
    }
    tell_unmasked(coffer_masker_unmasked(program->masker));
    for (size_t i = 0; i < PROGRAM_OUTPUTS; i++) {
        if (pipe2(program->ends[i], O_CLOEXEC) != 0) {
            return cli_refuse(CLI_NOT_RUN, NULL, "a pipe cannot be made: %s", strerror(errno));
        }
        program->outputs[i].from = program->ends[i][0];
    }
    return CLI_OK;
}

cli_exit program_start(struct program *program)
{
    for (size_t i = 0; i < PROGRAM_OUTPUTS; i++) {
        program->ends[i][1] = -1;
        program->outputs[i] = (struct program_output){.from = -1};
    }
    const cli_exit code = program->masked == NULL ? CLI_OK : open_masks(program);
    const int failed = code == CLI_OK ? spawn(program) : 0;
    close_ends(program);
    if (failed != 0) {
        program->pid = 0;
        return cli_refuse(failed == ENOENT ? CLI_NO_PROGRAM : CLI_NOT_EXECUTABLE, NULL, "%s cannot be started: %s",
                          program->words[0], strerror(failed));
    }
    if (code == CLI_OK) {
        forward_to(program->pid);
    }
    return code;
}

/* --- End -------------------------------------------------------------------------------------------------------- */

/* Waits for its end, which must have come or be near. Its number is free only when nobody sends signals to it any more. */
static void reap(struct program *program)
{
    siginfo_t end;
    while (waitid(P_PID, (id_t) program->pid, &end, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
    }
    atomic_store(&child, 0);
    while (atomic_load(&forwarding) > 0) {
        (void) sched_yield();
    }
    while (waitpid(program->pid, &program->status, 0) < 0 && errno == EINTR) {
    }
    program->pid = 0;
}

static bool readable(int fd)
{
    struct pollfd waiting = {fd, POLLIN, 0};
    return fd >= 0 && poll(&waiting, 1, 0) > 0;
}

/* Moves what it writes until its pipes are closed, false, or there are news while it runs. */
static bool move_until(struct program *program, int ended, int news)
{
    while (writes(program)) {
        if (move_or(program, news, -1)) {
            if (!readable(ended)) {
                return true;
            }
            news = -1;
        }
    }
    return false;
}

/* The same for one that has no pipes of ours. */
static bool wait_until(int ended, int news)
{
    struct pollfd waiting[] = {{ended, POLLIN, 0}, {news, POLLIN, 0}};
    while (ended >= 0 && poll(waiting, COF_COUNT(waiting), -1) < 0) {
    }
    return ended >= 0 && waiting[0].revents == 0;
}

bool program_wait(struct program *program, int news)
{
    const int ended = news < 0 ? -1 : pidfd_open(program->pid, 0);
    const bool told = move_until(program, ended, news) || wait_until(ended, news);
    if (ended >= 0) {
        (void) close(ended);
    }
    if (!told) {
        reap(program);
    }
    return !told;
}

static int64_t now_ms(void)
{
    struct timespec now = {0, 0};
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * MS + now.tv_nsec / NS_IN_MS;
}

/* What it has written already; what others write who have its pipe, perhaps for ever, nobody reads any more. */
static void move_rest(struct program_output *output)
{
    int written = 0;
    if (output->from < 0 || ioctl(output->from, FIONREAD, &written) != 0) {
        return;
    }
    for (size_t left = (size_t) written; output->from >= 0 && left > 0;) {
        const size_t moved = move(output);
        left -= moved < left ? moved : left;
    }
}

static void end_output(struct program_output *output)
{
    move_rest(output);
    if (output->from >= 0) {
        (void) !coffer_mask_stream_flush(output->stream);
        close_output(output);
    }
}

bool program_is_ending(void)
{
    return atomic_load(&terminated);
}

bool program_stop(struct program *program, int64_t grace_ms)
{
    const int ended = pidfd_open(program->pid, 0);
    const int64_t end_ms = now_ms() + grace_ms;
    bool over = readable(ended);
    atomic_store(&told_to_end, over);
    (void) kill(program->pid, SIGTERM);
    for (int64_t left_ms = grace_ms; !over && left_ms > 0; left_ms = end_ms - now_ms()) {
        over = move_or(program, ended, left_ms < INT_MAX ? (int) left_ms : INT_MAX);
    }
    if (!over) {
        (void) kill(program->pid, SIGKILL);
    }
    if (ended >= 0) {
        (void) close(ended);
    }
    reap(program);
    for (size_t i = 0; i < PROGRAM_OUTPUTS; i++) {
        end_output(&program->outputs[i]);
    }
    return !atomic_load(&told_to_end) && !program_is_ending();
}

cli_exit program_exit(const struct program *program)
{
    const int status = program->status;
    return (cli_exit) (WIFEXITED(status) ? WEXITSTATUS(status) : SIGNAL_BASE + WTERMSIG(status));
}

void program_done(struct program *program)
{
    for (size_t i = 0; i < PROGRAM_OUTPUTS; i++) {
        close_output(&program->outputs[i]);
        coffer_mask_stream_free(program->outputs[i].stream);
    }
    coffer_masker_free(program->masker);
}
