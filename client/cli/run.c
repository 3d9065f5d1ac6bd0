#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/follow.h"
#include "client/cli/moment.h"
#include "client/cli/program.h"
#include "client/cli/progress.h"
#include "client/cli/resolve.h"
#include "client/cli/variables.h"

/*
 * `coffer run`: a program with values in its environment, and its output with the values masked. With --watch it begins anew
 * when they change.
 */

enum { GRACE_S = 10, MS = 1000 };

/* --- Values ----------------------------------------------------------------------------------------------------- */

/* What one program is given. */
struct given {
    struct variables variables;
    coffer_request *request;
    coffer_result *result;
};

static void given_free(struct given *given)
{
    if (given == NULL) {
        return;
    }
    variables_done(&given->variables);
    coffer_result_free(given->result);
    coffer_request_free(given->request);
    free(given);
}

static cli_exit ask(struct cli *cli, struct given *given)
{
    cli_exit code = variables_read(cli, &given->variables);
    if (code == CLI_OK) {
        code = variables_ask(cli, given->request, &given->variables);
    }
    if (code == CLI_OK) {
        code = resolve_all(cli, given->request, &given->result);
    }
    if (code == CLI_OK && cli->action != NULL) {
        code = variables_add_action(&given->variables, given->result);
    }
    return code == CLI_OK ? variables_fill(&given->variables, given->result) : code;
}

static cli_exit given_new(struct cli *cli, struct given **ret_given)
{
    struct given *given = calloc(1, sizeof *given);
    if (given == NULL) {
        return cli_no_memory();
    }
    given->request = coffer_request_new();
    const cli_exit code = ask(cli, given);
    if (code == CLI_OK) {
        *ret_given = given;
    } else {
        given_free(given);
    }
    return code;
}

static coffer_bytes value_at(const struct given *given, size_t i)
{
    const struct variable *one = &given->variables.items[i];
    return coffer_item_value(coffer_result_item(given->result, given->variables.places[i]), one->from.name,
                             one->from.key);
}

/* The first variable that is not the same in both, by its name; NULL if there is none. */
static const char *difference(const struct given *a, const struct given *b)
{
    size_t i = 0;
    for (; i < a->variables.count && i < b->variables.count; i++) {
        const coffer_bytes one = value_at(a, i);
        const coffer_bytes other = value_at(b, i);
        const char *name = a->variables.items[i].name;
        assert(name != NULL && b->variables.items[i].name != NULL);
        if (strcmp(name, b->variables.items[i].name) != 0 || one.length != other.length ||
            (one.length > 0 && memcmp(one.data, other.data, one.length) != 0)) {
            return b->variables.items[i].name;
        }
    }
    const struct variables *longer = i < a->variables.count ? &a->variables : &b->variables;
    return i < longer->count ? longer->items[i].name : NULL;
}

/* --- New values ------------------------------------------------------------------------------------------------- */

struct run {
    struct cli *cli;
    struct follow *follow; /* NULL without --watch */
    int64_t grace_ms;
    int news; /* readable when there are new ones; -1 without --watch */
    pthread_mutex_t lock;
    struct given *next; /* behind the lock; NULL: there are none */
};

/* On the thread that follows. */
static cli_exit renew(const char *state, void *context)
{
    const uint64_t one = 1;
    struct run *run = context;
    struct given *given = NULL;
    run->cli->state = state;
    const cli_exit code = given_new(run->cli, &given);
    run->cli->state = NULL;
    if (code != CLI_OK) {
        cli_note("coffer: note: the program goes on with the values that it has");
        return code;
    }
    (void) pthread_mutex_lock(&run->lock);
    given_free(run->next);
    run->next = given;
    (void) pthread_mutex_unlock(&run->lock);
    return write(run->news, &one, sizeof one) == (ssize_t) sizeof one ? CLI_OK : CLI_ERROR;
}

static struct given *take_next(struct run *run)
{
    uint64_t times = 0;
    (void) !read(run->news, &times, sizeof times);
    (void) pthread_mutex_lock(&run->lock);
    struct given *given = run->next;
    run->next = NULL;
    (void) pthread_mutex_unlock(&run->lock);
    return given;
}

/* A watch is of one workspace. What an action declares may be anything, so then every secret is followed. */
static cli_exit follow_variables(struct run *run, const struct variables *variables)
{
    const char *own = cli_environment(run->cli)[0] == '\0' ? "default" : cli_environment(run->cli);
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < variables->count; i++) {
        const struct reference *from = &variables->items[i].from;
        if (from->workspace != NULL && from->workspace[0] != '\0' &&
            strcmp(from->workspace, cli_workspace(run->cli)) != 0) {
            return cli_usage("coffer:///ENVIRONMENT/NAME/KEY is of the workspace of -w",
                             "--watch follows one workspace, but %s.%s is of another", from->name, from->key);
        }
        code = run->cli->action != NULL
                   ? CLI_OK
                   : follow_add(run->follow, from->environment == NULL ? own : from->environment, from->name);
    }
    return code;
}

static cli_exit begin_following(struct run *run, const struct given *given)
{
    cli_exit code = follow_variables(run, &given->variables);
    if (code == CLI_OK) {
        progress_allow(false);
        code = follow_start(run->follow, renew, run);
    }
    return code;
}

/* Files of variables are read again with each change, when nothing is left of a pipe. */
static cli_exit check_files(const struct cli_list *files)
{
    for (size_t i = 0; i < files->count; i++) {
        struct stat found;
        if (stat(files->items[i], &found) == 0 && !S_ISREG(found.st_mode)) {
            return cli_usage("--env-file with the path of a file",
                             "%s is no file that can be read again, as --watch does", files->items[i]);
        }
    }
    return CLI_OK;
}

static cli_exit check_options(const struct cli *cli, int64_t *ret_grace_s)
{
    if (cli->grace != NULL && !cli->watch) {
        return cli_usage("coffer run --watch --grace 30s ...", "--grace belongs to --watch");
    }
    if (cli->grace != NULL && !moment_span(cli->grace, ret_grace_s)) {
        return cli_usage("30s, or 2min", "--grace %s is no time", cli->grace);
    }
    return cli->watch ? check_files(&cli->env_files) : CLI_OK;
}

/* The position comes before the values, so that no change between the two is missed. */
static cli_exit open_watch(struct run *run)
{
    int64_t seconds = GRACE_S;
    const cli_exit checked = check_options(run->cli, &seconds);
    if (checked != CLI_OK || !run->cli->watch) {
        return checked;
    }
    run->grace_ms = seconds * MS;
    run->news = eventfd(0, EFD_CLOEXEC);
    return run->news < 0 ? cli_refuse(CLI_ERROR, NULL, "an event cannot be made: %s", strerror(errno))
                         : follow_new(run->cli, &run->follow);
}

/* --- Programs --------------------------------------------------------------------------------------------------- */

/* Until the values are others: true, and `given` are the new ones, or the program has ended. */
static bool await(struct run *run, struct program *program, struct given **given)
{
    while (!program_wait(program, run->news)) {
        struct given *next = take_next(run);
        const char *changed = next == NULL ? NULL : difference(*given, next);
        if (changed == NULL || program_is_ending()) {
            given_free(next);
            continue;
        }
        cli_note("coffer: %s has changed; the program starts anew", changed);
        const bool again = program_stop(program, run->grace_ms);
        given_free(*given);
        *given = next;
        return again;
    }
    return false;
}

/* One program; whether another follows it. */
static cli_exit run_once(struct run *run, struct given **given, bool *ret_again)
{
    assert(*given != NULL);
    struct program program = {
        .words = run->cli->arguments,
        .environment = (*given)->variables.environment,
        .files = (*given)->variables.files,
        .file_count = (*given)->variables.file_count,
        .masked = run->cli->no_mask ? NULL : (*given)->result,
    };
    cli_exit code = program_start(&program);
    *ret_again = false;
    if (code == CLI_OK) {
        *ret_again = await(run, &program, given);
        code = program_exit(&program);
    }
    program_done(&program);
    return code;
}

/* Without --watch no thread and no connection of the client is left when the program runs. */
static cli_exit run_with(struct run *run, struct given **given)
{
    bool again = true;
    assert(*given != NULL);
    cli_exit code = run->follow == NULL ? CLI_OK : begin_following(run, *given);
    if (code != CLI_OK) {
        return CLI_NOT_RUN;
    }
    if (run->follow == NULL) {
        coffer_client_close(run->cli->client);
        run->cli->client = NULL;
    }
    program_signals();
    while (again) {
        code = run_once(run, given, &again);
    }
    return code;
}

cli_exit cmd_run(struct cli *cli)
{
    struct run run = {.cli = cli, .news = -1, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct given *given = NULL;
    cli_exit code = check_templates(cli);
    if (code == CLI_OK) {
        code = open_watch(&run);
    }
    if (code == CLI_OK) {
        code = given_new(cli, &given);
    }
    code = code == CLI_OK ? run_with(&run, &given) : CLI_NOT_RUN;
    follow_free(run.follow);
    given_free(given);
    given_free(run.next);
    if (run.news >= 0) {
        (void) close(run.news);
    }
    return code;
}
