#include "server/jobs/hint.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/arena.h"

enum {
    TOGETHER_MS = 20, /* writes within that time are one hint */
    ROUND_TIMEOUT_MS = 2000,
    WAIT_US = 1000000,
};

struct hint {
    struct hint_options options;
    struct job *job;
    int wake; /* an eventfd: there is something to tell, or it ends */
    atomic_bool written;
};

/* What is told is of no use after a crash, so nobody waits for the disk. */
static cof_code listen(struct session *session, void *context, struct cof_error *err)
{
    (void) context;
    TRY(session_queue(session, STATEMENT_HINT_SETTINGS, NULL, 0, err));
    TRY(session_queue(session, STATEMENT_HINT_LISTEN, NULL, 0, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, NULL, err));
    return session_next(session, NULL, err);
}

static cof_code tell(struct session *session, struct cof_error *err)
{
    TRY(session_queue(session, STATEMENT_HINT_SEND, NULL, 0, err));
    TRY(session_sync(session, err));
    return session_next(session, NULL, err);
}

static void take_wake(struct hint *hint)
{
    uint64_t count;
    (void) !read(hint->wake, &count, sizeof count);
}

static void wake(struct hint *hint)
{
    const uint64_t one = 1;
    (void) !write(hint->wake, &one, sizeof one);
}

static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct hint *hint = context;
    bool noticed = false;
    *ret_pause_ms = 0;
    TRY(session_ready(session, err));
    take_wake(hint);
    if (atomic_exchange(&hint->written, false)) {
        TRY(tell(session, err));
    }
    const int64_t until_us = cof_clock_monotonic(hint->options.session.clock) + WAIT_US;
    TRY(session_await_notice(session, hint->wake, until_us, &noticed, err));
    if (noticed) {
        hint->options.hinted(hint->options.context);
    }
    return COF_OK;
}

static cof_code start(struct hint *hint, struct cof_error *err)
{
    struct job_options job = {
        .name = "hint",
        .log = hint->options.log,
        .session = hint->options.session,
        .round_timeout_ms = ROUND_TIMEOUT_MS,
        .least_pause_ms = TOGETHER_MS,
        .round = run_round,
        .context = hint,
    };
    job.session.on_connect = listen;
    hint->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (hint->wake < 0) {
        return cof_fail_internal(err, COF_ORIGIN_ERRNO, NULL, "an eventfd cannot be made");
    }
    const cof_code code = job_start(&job, &hint->job, err);
    if (code != COF_OK) {
        (void) close(hint->wake);
    }
    return code;
}

cof_code hint_start(const struct hint_options *options, struct hint **ret_hint, struct cof_error *err)
{
    struct hint *hint = calloc(1, sizeof *hint);
    if (hint == NULL) {
        return cof_arena_exhausted(err);
    }
    hint->options = *options;
    const cof_code code = start(hint, err);
    if (code != COF_OK) {
        free(hint);
        return code;
    }
    *ret_hint = hint;
    return COF_OK;
}

void hint_written(struct hint *hint)
{
    if (!atomic_exchange(&hint->written, true)) {
        wake(hint);
    }
}

void hint_stop(struct hint *hint)
{
    if (hint == NULL) {
        return;
    }
    wake(hint);
    job_stop(hint->job);
    (void) close(hint->wake);
    free(hint);
}
