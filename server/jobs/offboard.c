#include "server/jobs/offboard.h"

#include <stdlib.h>

#include "common/arena.h"
#include "server/service/workspace_purge.h"

enum {
    CALL_MEMORY = 1 << 20,
    CLOSE_INTERVAL_MS = 1000,
    BUSY_PAUSE_MS = 10, /* while there are rows to remove */
    STEPS_AT_ONCE = 20,
    ROUND_TIMEOUT_MS = 30000,
};

/* A call that was admitted before a workspace was deleted may open its key for as long as a call lasts; and the time of
 * a deletion is that of another server's clock. So for an hour it is closed again and again. */
#define CLOSE_AGAIN_US INT64_C(3600000000)

struct offboard {
    struct offboard_options options;
    struct job *job;
    int64_t looked_us;       /* wall-clock time of the last look that succeeded */
    int64_t next_us;         /* monotonic: the next search for what is to be purged */
    struct workspace_due at; /* where the search under way is */
    bool purging;            /* it found that one, and removes its rows */
};

/* --- A call of the server's own ------------------------------------------------------------------------------- */

struct own_call {
    struct cof_arena arena;
    struct call call;
};

static void own_begin(struct offboard *offboard, struct session *session, struct own_call *own,
                      struct cof_error *err)
{
    const struct cof_clock *clock = offboard->options.session.clock;
    cof_arena_init(&own->arena, offboard->options.pool, CALL_MEMORY);
    own->call = (struct call){
        .service = offboard->options.service,
        .session = session,
        .arena = &own->arena,
        .err = err,
        .method = "cofferd/PurgeWorkspace",
        .peer = "cofferd",
        .request_id = cof_uuid_time(clock),
        .received_us = cof_clock_monotonic(clock),
        .deadline_us = cof_clock_monotonic(clock) + (int64_t) ROUND_TIMEOUT_MS * 1000,
    };
}

/* --- The purge ------------------------------------------------------------------------------------------------ */

/* What is wrong with one workspace, as damaged rows are, must not keep the others. */
static cof_code spare_others(struct offboard *offboard, cof_code code, const struct cof_error *err)
{
    if (code != COF_DATA_LOSS && code != COF_INTERNAL) {
        return code;
    }
    char text[COF_UUID_TEXT];
    cof_uuid_format(&offboard->at.workspace, text);
    COF_LOG(offboard->options.log, COF_LOG_ERROR, "purge_failed", "a deleted workspace cannot be purged",
            cof_log_text("workspace", text), cof_log_text("reason", cof_reason_name(err->reason)),
            cof_log_text("error", err->message), cof_log_text("trail", err->trail));
    offboard->purging = false;
    return COF_OK;
}

static cof_code next_workspace(struct offboard *offboard, struct call *call, bool *ret_found)
{
    struct workspace_due due;
    TRY(workspace_purge_next(call, &offboard->at, &due, ret_found));
    if (*ret_found) {
        offboard->at = due;
        TRY(workspace_purge_begin(call, &due.workspace, &offboard->purging));
    }
    return COF_OK;
}

static cof_code remove_some(struct offboard *offboard, struct call *call)
{
    bool done = false;
    TRY(workspace_purge_some(call, &offboard->at.workspace, &done));
    if (!done) {
        return COF_OK;
    }
    char text[COF_UUID_TEXT];
    cof_uuid_format(&offboard->at.workspace, text);
    COF_LOG(offboard->options.log, COF_LOG_INFO, "purged", "a workspace is gone, its keys and all of its rows",
            cof_log_text("workspace", text));
    offboard->purging = false;
    return COF_OK;
}

/* One step in memory of its own; `ret_more` is false when the search is over. */
static cof_code step(struct offboard *offboard, struct session *session, bool *ret_more, struct cof_error *err)
{
    struct own_call own;
    own_begin(offboard, session, &own, err);
    *ret_more = true;
    const cof_code code =
        offboard->purging ? remove_some(offboard, &own.call) : next_workspace(offboard, &own.call, ret_more);
    session_reset(session);
    cof_arena_reset(&own.arena);
    return spare_others(offboard, code, err);
}

static cof_code purge_some(struct offboard *offboard, struct session *session, bool *ret_more,
                           struct cof_error *err)
{
    *ret_more = cof_clock_monotonic(offboard->options.session.clock) >= offboard->next_us;
    for (int i = 0; *ret_more && i < STEPS_AT_ONCE; i++) {
        TRY(step(offboard, session, ret_more, err));
        if (!*ret_more) {
            offboard->at = workspace_due_first;
            offboard->next_us = cof_clock_monotonic(offboard->options.session.clock) +
                                (int64_t) offboard->options.purge_interval_ms * 1000;
        }
    }
    return COF_OK;
}

/* --- Rounds --------------------------------------------------------------------------------------------------- */

static cof_code close_keys(struct offboard *offboard, struct session *session, struct cof_error *err)
{
    struct own_call own;
    const int64_t now = cof_clock_wall(offboard->options.session.clock);
    own_begin(offboard, session, &own, err);
    const cof_code code = workspace_close_keys(&own.call, offboard->looked_us - CLOSE_AGAIN_US);
    cof_arena_reset(&own.arena);
    TRY(code);
    offboard->looked_us = now;
    return COF_OK;
}

static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct offboard *offboard = context;
    const uint32_t interval = offboard->options.purge_interval_ms;
    bool more = false;
    TRY(session_ready(session, err));
    TRY(close_keys(offboard, session, err));
    TRY(purge_some(offboard, session, &more, err));
    *ret_pause_ms = interval < CLOSE_INTERVAL_MS ? interval : CLOSE_INTERVAL_MS;
    *ret_pause_ms = more ? BUSY_PAUSE_MS : *ret_pause_ms;
    return COF_OK;
}

cof_code offboard_start(const struct offboard_options *options, struct offboard **ret_offboard,
                        struct cof_error *err)
{
    struct offboard *offboard = calloc(1, sizeof *offboard);
    if (offboard == NULL) {
        return cof_arena_exhausted(err);
    }
    offboard->options = *options;
    offboard->at = workspace_due_first;
    offboard->looked_us = cof_clock_wall(options->session.clock);
    const struct job_options job = {
        .name = "offboard",
        .log = options->log,
        .session = options->session,
        .round_timeout_ms = ROUND_TIMEOUT_MS,
        .least_pause_ms = BUSY_PAUSE_MS,
        .round = run_round,
        .context = offboard,
    };
    const cof_code code = job_start(&job, &offboard->job, err);
    if (code != COF_OK) {
        free(offboard);
        return code;
    }
    *ret_offboard = offboard;
    return COF_OK;
}

void offboard_stop(struct offboard *offboard)
{
    if (offboard != NULL) {
        job_stop(offboard->job);
        free(offboard);
    }
}
