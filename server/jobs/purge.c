#include "server/jobs/purge.h"

#include <stdlib.h>

#include "common/arena.h"

enum {
    AT_ONCE = 1000, /* rows of one statement */
    ROUND_TIMEOUT_MS = 30000,
    LEAST_PAUSE_MS = 100,
    /* A request ID may be 23 h old, and its time 5 min ahead of the server's. */
    REQUEST_HOURS = 25,
    /* Deleted secrets are restorable for 30 days; an hour more, for servers whose clocks differ. */
    SECRET_HOURS = 30 * 24 + 1,
    AUTHORIZATION_HOURS = 1, /* in which whoever started one can ask how it went */
};

#define HOUR_US INT64_C(3600000000)

struct purge {
    struct purge_options options;
    struct job *job;
};

/* Repeats the statement until it finds fewer rows than it would take. */
static cof_code purge_all(struct purge *purge, struct session *session, statement id, int64_t hours,
                          struct cof_error *err)
{
    size_t gone = AT_ONCE;
    while (gone == AT_ONCE) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        const int64_t before = cof_clock_wall(purge->options.session.clock) - hours * HOUR_US;
        const struct param params[] = {param_time(before), param_i64(AT_ONCE)};
        TRY(session_queue(session, id, params, COF_COUNT(params), err));
        TRY(session_sync(session, err));
        TRY(session_next(session, &rows, err));
        gone = rows_affected(rows);
    }
    return COF_OK;
}

static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct purge *purge = context;
    *ret_pause_ms = purge->options.interval_ms;
    TRY(session_ready(session, err));
    TRY(purge_all(purge, session, STATEMENT_REQUEST_PURGE, REQUEST_HOURS, err));
    TRY(purge_all(purge, session, STATEMENT_SECRET_PURGE, SECRET_HOURS, err));
    return purge_all(purge, session, STATEMENT_AUTHORIZATION_PURGE, AUTHORIZATION_HOURS, err);
}

cof_code purge_start(const struct purge_options *options, struct purge **ret_purge, struct cof_error *err)
{
    struct purge *purge = calloc(1, sizeof *purge);
    if (purge == NULL) {
        return cof_arena_exhausted(err);
    }
    purge->options = *options;
    const struct job_options job = {
        .name = "purge",
        .log = options->log,
        .session = options->session,
        .round_timeout_ms = ROUND_TIMEOUT_MS,
        .least_pause_ms = LEAST_PAUSE_MS,
        .round = run_round,
        .context = purge,
    };
    const cof_code code = job_start(&job, &purge->job, err);
    if (code != COF_OK) {
        free(purge);
        return code;
    }
    *ret_purge = purge;
    return COF_OK;
}

void purge_stop(struct purge *purge)
{
    if (purge == NULL) {
        return;
    }
    job_stop(purge->job);
    free(purge);
}
