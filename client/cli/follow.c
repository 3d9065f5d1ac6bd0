#include "client/cli/follow.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/watch.h>

#include "common/condition.h"

enum { PAUSE_S = 1, PAUSE_MAX_S = 60, US_PER_S = 1000000 };

struct followed {
    char *environment;
    char *name;
};

struct follow {
    struct cli *cli;
    coffer_watch *watch;
    struct followed *secrets;
    size_t count;
    follow_renew *renew;
    void *context;
    pthread_t thread;
    bool started;
    /* Behind the lock. */
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool over;
    bool waiting; /* the watch; then it is not touched */
    coffer_changes *changes;
    coffer_error *error;
};

/* --- What is followed ------------------------------------------------------------------------------------------- */

cli_exit follow_add(struct follow *follow, const char *environment, const char *name)
{
    struct followed *secrets = realloc(follow->secrets, (follow->count + 1) * sizeof *secrets);
    if (secrets == NULL) {
        return cli_no_memory();
    }
    follow->secrets = secrets;
    secrets[follow->count] = (struct followed){strdup(environment), strdup(name)};
    follow->count++;
    const struct followed *added = &secrets[follow->count - 1];
    return added->environment == NULL || added->name == NULL ? cli_no_memory() : CLI_OK;
}

static bool concerns(const struct follow *follow, const coffer_change *change)
{
    const char *environment = coffer_change_environment(change);
    for (size_t i = 0; i < follow->count; i++) {
        const struct followed *one = &follow->secrets[i];
        if (strcmp(one->environment, environment) == 0 &&
            (strcmp(one->name, coffer_change_name(change)) == 0 ||
             strcmp(one->name, coffer_change_old_name(change)) == 0)) {
            return true;
        }
    }
    return follow->count == 0;
}

static bool concerns_any(const struct follow *follow, const coffer_changes *changes)
{
    const size_t count = coffer_changes_count(changes);
    for (size_t i = 0; i < count; i++) {
        if (concerns(follow, coffer_changes_at(changes, i))) {
            return true;
        }
    }
    return false;
}

/* --- The thread ------------------------------------------------------------------------------------------------- */

static void drop_watch(struct follow *follow)
{
    coffer_watch_free(follow->watch);
    follow->watch = NULL;
}

/* On a thread of the library. The last one comes when the client is closed, before which the watch has to be freed. */
static void tell(coffer_changes *changes, coffer_error *error, void *context)
{
    struct follow *follow = context;
    (void) pthread_mutex_lock(&follow->lock);
    if (follow->over) {
        drop_watch(follow);
    }
    follow->waiting = false;
    follow->changes = changes;
    follow->error = error;
    (void) pthread_cond_signal(&follow->told);
    (void) pthread_mutex_unlock(&follow->lock);
}

/* Waits for the next changes, or why there are none; false at the end. The caller frees both. */
static bool next(struct follow *follow, coffer_changes **ret_changes, coffer_error **ret_error)
{
    coffer_error *error = NULL;
    (void) pthread_mutex_lock(&follow->lock);
    const bool begin = !follow->over;
    follow->waiting = begin;
    (void) pthread_mutex_unlock(&follow->lock);
    if (begin && coffer_watch_start(follow->watch, tell, follow, &error) != COFFER_OK) {
        tell(NULL, error, follow);
    }
    (void) pthread_mutex_lock(&follow->lock);
    while (!follow->over && follow->waiting) {
        (void) pthread_cond_wait(&follow->told, &follow->lock);
    }
    const bool going = !follow->over;
    if (going) {
        *ret_changes = follow->changes;
        *ret_error = follow->error;
        follow->changes = NULL;
        follow->error = NULL;
    }
    (void) pthread_mutex_unlock(&follow->lock);
    return going;
}

/* Whether it goes on. Each time in a row takes twice as long. */
static bool pause_a_while(struct follow *follow, int64_t *seconds)
{
    const struct timespec end = cof_condition_in(*seconds * US_PER_S);
    *seconds = *seconds * 2 > PAUSE_MAX_S ? PAUSE_MAX_S : *seconds * 2;
    (void) pthread_mutex_lock(&follow->lock);
    while (!follow->over && pthread_cond_timedwait(&follow->told, &follow->lock, &end) == 0) {
    }
    const bool going = !follow->over;
    (void) pthread_mutex_unlock(&follow->lock);
    return going;
}

/* Until it is done, or failed in a way that only another change can mend. */
static bool renew(struct follow *follow, const coffer_changes *changes)
{
    const char *state = coffer_changes_consistency_token(changes);
    int64_t seconds = PAUSE_S;
    bool going = true;
    for (bool again = true; going && again;) {
        const cli_exit code = follow->renew(state, follow->context);
        again = code == CLI_UNAVAILABLE || code == CLI_LIMIT;
        going = !again || pause_a_while(follow, &seconds);
    }
    return going;
}

/* Whether the watch can go on, perhaps from another position; then something may have been missed until it does. */
static bool recover(struct follow *follow, const coffer_error *error, bool *missed)
{
    if (coffer_error_reason(error) == COFFER_REASON_WATCH_EXPIRED) {
        coffer_watch_set_resume_token(follow->watch, NULL);
        *missed = true;
        return true;
    }
    const cli_exit code = cli_exit_of(coffer_error_status(error));
    return code == CLI_UNAVAILABLE || code == CLI_LIMIT;
}

static void *work(void *context)
{
    struct follow *follow = context;
    coffer_changes *changes = NULL;
    coffer_error *error = NULL;
    int64_t seconds = PAUSE_S;
    bool missed = false;
    bool going = true;
    while (going && next(follow, &changes, &error)) {
        if (error == NULL) {
            seconds = PAUSE_S;
            going = !(missed || concerns_any(follow, changes)) || renew(follow, changes);
            missed = false;
        } else if (recover(follow, error, &missed)) {
            going = pause_a_while(follow, &seconds);
        } else {
            (void) cli_fail(error);
            cli_note("coffer: warning: changes are followed no longer");
            going = false;
        }
        coffer_changes_free(changes);
        coffer_error_free(error);
    }
    return NULL;
}

/* --- Begin and end ---------------------------------------------------------------------------------------------- */

static cli_exit take_position(struct follow *follow)
{
    coffer_changes *changes = NULL;
    coffer_error *error = NULL;
    const char *workspace = cli_workspace(follow->cli);
    if (workspace[0] != '\0') {
        coffer_watch_set_workspace(follow->watch, workspace);
    }
    cli_exit code = CLI_OK;
    if (coffer_watch_next(follow->watch, &changes, &error) != COFFER_OK) {
        code = cli_fail(error);
    }
    coffer_changes_free(changes);
    coffer_error_free(error);
    return code;
}

cli_exit follow_new(struct cli *cli, struct follow **ret_follow)
{
    const cli_exit connected = cli_connect(cli);
    if (connected != CLI_OK) {
        return connected;
    }
    struct follow *follow = calloc(1, sizeof *follow);
    if (follow == NULL) {
        return cli_no_memory();
    }
    (void) pthread_mutex_init(&follow->lock, NULL);
    cof_condition_init(&follow->told);
    follow->cli = cli;
    follow->watch = coffer_watch_new(cli->client);
    const cli_exit code = follow->watch == NULL ? cli_no_memory() : take_position(follow);
    if (code == CLI_OK) {
        *ret_follow = follow;
    } else {
        follow_free(follow);
    }
    return code;
}

/* Signals are for the main thread, which hands them on. */
cli_exit follow_start(struct follow *follow, follow_renew *renew_values, void *context)
{
    sigset_t all;
    sigset_t before;
    follow->renew = renew_values;
    follow->context = context;
    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &before);
    follow->started = pthread_create(&follow->thread, NULL, work, follow) == 0;
    (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
    return follow->started ? CLI_OK : cli_refuse(CLI_ERROR, NULL, "a thread cannot be started");
}

/* A watch that waits is ended by the end of its client. */
static void end(struct follow *follow)
{
    (void) pthread_mutex_lock(&follow->lock);
    follow->over = true;
    if (!follow->waiting) {
        drop_watch(follow);
    }
    (void) pthread_cond_signal(&follow->told);
    (void) pthread_mutex_unlock(&follow->lock);
    if (follow->started) {
        (void) pthread_join(follow->thread, NULL);
    }
    coffer_client_close(follow->cli->client);
    follow->cli->client = NULL;
}

void follow_free(struct follow *follow)
{
    if (follow == NULL) {
        return;
    }
    end(follow);
    coffer_changes_free(follow->changes);
    coffer_error_free(follow->error);
    for (size_t i = 0; i < follow->count; i++) {
        free(follow->secrets[i].environment);
        free(follow->secrets[i].name);
    }
    free(follow->secrets);
    (void) pthread_cond_destroy(&follow->told);
    (void) pthread_mutex_destroy(&follow->lock);
    free(follow);
}
