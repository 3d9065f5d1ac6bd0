#pragma once

#include "common/clock.h"
#include "common/log.h"
#include "server/store/session.h"

/*
 * A background job: one thread with a database session of its own, which runs rounds. When rounds begin to fail, and
 * when they succeed again, that is logged once; between failures the pause grows.
 */

struct job;

enum { JOB_UNTIL_WOKEN = -1 };

struct job_options {
    const char *name;
    const struct cof_log *log;
    struct session_options session;
    uint32_t round_timeout_ms; /* for what a round waits for in the database */
    uint32_t least_pause_ms;   /* between two rounds, however often it is woken */
    /* One round, on the job's thread; leaves the session idle. `ret_pause_ms` is the time to the next one, or
     * JOB_UNTIL_WOKEN; it is not looked at if the round fails. */
    cof_code (*round)(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err);
    void *context;
};

/* The first round is run at once. */
COF_CODE job_start(const struct job_options *options, struct job **ret_job, struct cof_error *err);

/* Ends the pause before the next round, or the one that begins after the round under way. On any thread. */
void job_wake(struct job *job);

/* Waits for the end of a round under way. NULL is allowed. */
void job_stop(struct job *job);
