#include "server/backup/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/secret.h"
#include "server/store/session.h"

enum { VARIABLES = 64, ARGUMENTS = 24, PATH_SIZE = 1024 };

/* Variables as execve takes them: the passwords among them are wiped. */
struct environment {
    char *items[VARIABLES + 1];
    size_t count;
    bool exhausted;
};

static void environment_done(struct environment *environment)
{
    for (size_t i = 0; i < environment->count; i++) {
        cof_wipe(environment->items[i], strlen(environment->items[i]));
        free(environment->items[i]);
    }
}

static void add(struct environment *environment, const char *name, const char *value)
{
    char *item = NULL;
    if (environment->count == VARIABLES || asprintf(&item, "%s=%s", name, value) < 0) {
        environment->exhausted = true;
        return;
    }
    environment->items[environment->count++] = item;
}

static void keep(struct environment *environment, const char *variable)
{
    char *item = environment->count < VARIABLES ? strdup(variable) : NULL;
    if (item == NULL) {
        environment->exhausted = true;
        return;
    }
    environment->items[environment->count++] = item;
}

static bool wanted(const char *variable)
{
    return strncmp(variable, "PATH=", 5) == 0 || strncmp(variable, "HOME=", 5) == 0 ||
           strncmp(variable, "PG", 2) == 0;
}

static void add_setting(const char *name, const char *value, void *context)
{
    add(context, name, value);
}

/* The connection string comes first: of two variables of one name the first one counts. */
static cof_code fill(struct environment *environment, const char *conninfo, struct cof_error *err)
{
    TRY(session_environment(conninfo, add_setting, environment, err));
    for (char **item = environ; *item != NULL; item++) {
        if (wanted(*item)) {
            keep(environment, *item);
        }
    }
    return environment->exhausted ? cof_arena_exhausted(err) : COF_OK;
}

static cof_code not_started(struct cof_error *err, const char *program, int number)
{
    cof_ignore(
        cof_fail(err, COF_REASON_CONFIG_INVALID,
                 "%s cannot be started: %s; install PostgreSQL's client programs, of the server's version or "
                 "newer, or name their directory with --pg-bin",
                 program, strerrordesc_np(number)));
    err->origin = COF_ORIGIN_ERRNO;
    return err->code;
}

static int spawn(const struct child_options *options, const char *path, char *const *arguments,
                 char *const *variables, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    (void) sigemptyset(&none);
    (void) posix_spawnattr_init(&attributes);
    (void) posix_spawnattr_setsigmask(&attributes, &none);
    (void) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    (void) posix_spawn_file_actions_init(&actions);
    if (options->input >= 0) {
        (void) posix_spawn_file_actions_adddup2(&actions, options->input, STDIN_FILENO);
    } else {
        (void) posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    (void) posix_spawn_file_actions_adddup2(&actions, options->output >= 0 ? options->output : STDERR_FILENO,
                                            STDOUT_FILENO);
    const int number = posix_spawnp(ret_pid, path, &actions, &attributes, arguments, variables);
    (void) posix_spawn_file_actions_destroy(&actions);
    (void) posix_spawnattr_destroy(&attributes);
    return number;
}

cof_code child_start(const struct child_options *options, pid_t *ret_pid, struct cof_error *err)
{
    AUTO(environment_done) struct environment environment = {.count = 0};
    char path[PATH_SIZE];
    char *arguments[ARGUMENTS + 2] = {(char *) (uintptr_t) options->program};
    for (size_t i = 0; i < ARGUMENTS && options->arguments[i] != NULL; i++) {
        arguments[i + 1] = (char *) (uintptr_t) options->arguments[i];
    }
    TRY(fill(&environment, options->conninfo, err));
    (void) snprintf(path, sizeof path, "%s%s%s", options->folder == NULL ? "" : options->folder,
                    options->folder == NULL ? "" : "/", options->program);
    const int number = spawn(options, path, arguments, environment.items, ret_pid);
    return number == 0 ? COF_OK : not_started(err, path, number);
}

cof_code child_wait(pid_t pid, const char *program, struct cof_error *err)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return cof_fail_internal(err, COF_ORIGIN_ERRNO, "", "waiting for %s", program);
        }
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return COF_OK;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        return not_started(err, program, ENOENT);
    }
    return cof_fail(err, COF_REASON_INTERNAL, "%s failed; it has told why above", program);
}

void child_end(pid_t pid)
{
    int status;
    (void) kill(pid, SIGTERM);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
}
