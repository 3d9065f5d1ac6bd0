#include "server/jobs/job.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/arena.h"
#include "common/condition.h"
#include "server/store/backoff.h"

enum { BACKOFF_FIRST_MS = 50, BACKOFF_MAX_MS = 2000 };

struct job {
    struct job_options options;
    struct session *session;
    struct backoff backoff;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool woken;
    bool stopping;
};

static int64_t now_us(const struct job *job)
{
    return cof_clock_monotonic(job->options.session.clock);
}

/* --- The pause ------------------------------------------------------------------------------------------------ */

/* Sleeps to the end of the pause, or until the job is stopped or, if it may be, woken. The lock is held. */
static void sleep_for(struct job *job, int64_t pause_ms, bool until_woken)
{
    const struct timespec end = cof_condition_in(pause_ms * 1000);
    int result = 0;
    while (result == 0 && !job->stopping && !(until_woken && job->woken)) {
        result = pause_ms == JOB_UNTIL_WOKEN ? pthread_cond_wait(&job->changed, &job->lock)
                                             : pthread_cond_timedwait(&job->changed, &job->lock, &end);
    }
}

/* False if the job must end. After a failure it is not woken either: the database would be asked as often as
 * somebody wants something from it. */
static bool pause_before_next(struct job *job, int64_t pause_ms, bool failed)
{
    (void) pthread_mutex_lock(&job->lock);
    sleep_for(job, job->options.least_pause_ms, false);
    sleep_for(job, pause_ms, !failed);
    job->woken = false;
    const bool goes_on = !job->stopping;
    (void) pthread_mutex_unlock(&job->lock);
    return goes_on;
}

/* --- Rounds --------------------------------------------------------------------------------------------------- */

static void tell(const struct job *job, cof_code code, const struct cof_error *err)
{
    if (code == COF_OK) {
        COF_LOG(job->options.log, COF_LOG_INFO, "job", "rounds succeed again",
                cof_log_text("job", job->options.name));
        return;
    }
    COF_LOG(job->options.log, COF_LOG_WARN, "job", "rounds fail", cof_log_text("job", job->options.name),
            cof_log_text("reason", cof_reason_name(err->reason)), cof_log_text("error", err->message),
            cof_log_text("native", err->native), cof_log_text("trail", err->trail));
}

static int64_t pause_after(struct job *job, cof_code code, int64_t pause_ms, const struct cof_error *err)
{
    const bool failed_before = job->backoff.failures > 0;
    if ((code != COF_OK) != failed_before) {
        tell(job, code, err);
    }
    if (code == COF_OK) {
        backoff_succeeded(&job->backoff);
        return pause_ms;
    }
    const int64_t now = now_us(job);
    return backoff_failed(&job->backoff, now, (uint64_t) now);
}

static void *work(void *context)
{
    struct job *job = context;
    bool goes_on = true;
    while (goes_on) {
        struct cof_error err;
        int64_t pause_ms = JOB_UNTIL_WOKEN;
        cof_error_clear(&err);
        session_deadline(job->session, now_us(job) + (int64_t) job->options.round_timeout_ms * 1000);
        const cof_code code = job->options.round(job->options.context, job->session, &pause_ms, &err);
        session_reset(job->session);
        goes_on = pause_before_next(job, pause_after(job, code, pause_ms, &err), code != COF_OK);
    }
    return NULL;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static void destroy(struct job *job)
{
    session_free(job->session);
    (void) pthread_cond_destroy(&job->changed);
    (void) pthread_mutex_destroy(&job->lock);
    free(job);
}

cof_code job_start(const struct job_options *options, struct job **ret_job, struct cof_error *err)
{
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        return cof_arena_exhausted(err);
    }
    job->options = *options;
    backoff_init(&job->backoff, BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
    (void) pthread_mutex_init(&job->lock, NULL);
    cof_condition_init(&job->changed);
    cof_code code = session_new(&options->session, &job->session, err);
    if (code == COF_OK && pthread_create(&job->thread, NULL, work, job) != 0) {
        code = cof_fail_internal(err, COF_ORIGIN_ERRNO, NULL, "the thread of the job %s cannot be made",
                                 options->name);
    }
    if (code != COF_OK) {
        destroy(job);
        return code;
    }
    *ret_job = job;
    return COF_OK;
}

void job_wake(struct job *job)
{
    (void) pthread_mutex_lock(&job->lock);
    job->woken = true;
    (void) pthread_cond_signal(&job->changed);
    (void) pthread_mutex_unlock(&job->lock);
}

void job_stop(struct job *job)
{
    if (job == NULL) {
        return;
    }
    (void) pthread_mutex_lock(&job->lock);
    job->stopping = true;
    (void) pthread_cond_signal(&job->changed);
    (void) pthread_mutex_unlock(&job->lock);
    (void) pthread_join(job->thread, NULL);
    destroy(job);
}
