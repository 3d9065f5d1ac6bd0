#include "server/jobs/confirm.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/arena.h"
#include "server/cache/cache.h"
#include "server/service/carry.h"

enum {
    WAITED_PAUSE_MS = 50,
    LEAST_PAUSE_MS = 5,
    ROUND_TIMEOUT_MS = 2000,
    ASKED_AT_ONCE = 128,
    CARRIED_AT_ONCE = 64, /* workspaces of one look; in others nothing is carried over */
};

/* Workspaces that are kept and used, where each one is asked for. */
struct asking {
    struct cof_uuid workspaces[ASKED_AT_ONCE];
    struct cache_read reads[ASKED_AT_ONCE];
    size_t count;
};

struct confirm {
    struct confirm_options options;
    struct job *job;
    int64_t xmin;    /* of the last look's snapshot; 0: there was none */
    uint64_t epoch;  /* that it belongs to */
    int64_t look_us; /* when the last look that succeeded was sent; 0: there was none */
    struct asking asking;
};

static cof_code begin(struct confirm *confirm, struct session *session, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_queue(session, STATEMENT_SNAPSHOT, NULL, 0, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    confirm->xmin = rows_i64(rows, 0, 0);
    confirm->options.doubt(confirm->options.context);
    return COF_OK;
}

/* --- What writes have touched --------------------------------------------------------------------------------- */

struct touching {
    struct cof_uuid workspaces[CARRIED_AT_ONCE];
    struct cache_untold untold[CARRIED_AT_ONCE];
    size_t count;
};

static void note_touching(const struct confirm *confirm, const struct cof_uuid *workspace,
                          struct touching *touching)
{
    struct cache *cache = confirm->options.service->cache;
    if (cache == NULL || touching->count == CARRIED_AT_ONCE) {
        return;
    }
    const struct cache_untold untold = cache_changes_untold(cache, workspace);
    if (untold.place != 0) {
        touching->workspaces[touching->count] = *workspace;
        touching->untold[touching->count++] = untold;
    }
}

/* Only for workspaces that may be answered from older states, and have been lately. */
static cof_code read_touched(const struct confirm *confirm, struct session *session,
                             const struct touching *touching, struct cof_error *err)
{
    for (size_t i = 0; i < touching->count; i++) {
        TRY(carry_queue(session, &touching->workspaces[i], &touching->untold[i], err));
        TRY(session_sync(session, err));
    }
    for (size_t i = 0; i < touching->count; i++) {
        TRY(carry_take(confirm->options.service, session, &touching->workspaces[i], &touching->untold[i], err));
    }
    return COF_OK;
}

/* --- Looks ---------------------------------------------------------------------------------------------------- */

static cof_code read_changes(struct confirm *confirm, struct session *session, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct touching touching = {.count = 0};
    const int64_t sent_us = cof_clock_monotonic(confirm->options.session.clock);
    const struct param since = param_i64(confirm->xmin);
    TRY(session_queue(session, STATEMENT_CHANGE_SINCE, &since, 1, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    confirm->xmin = rows_i64(rows, 0, 0);
    for (size_t i = 0; i < rows_count(rows); i++) {
        if (!rows_null(rows, i, 1)) {
            const struct cof_uuid workspace = rows_uuid(rows, i, 1);
            confirm->options.reached(confirm->options.context, &workspace, (uint64_t) rows_i64(rows, i, 2));
            note_touching(confirm, &workspace, &touching);
        }
    }
    confirm->options.confirmed(confirm->options.context, sent_us);
    return read_touched(confirm, session, &touching, err);
}

static cof_code take_answer(struct confirm *confirm, struct session *session, const struct cof_uuid *workspace,
                            struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(session, &rows, err));
    if (rows_count(rows) == 1) {
        confirm->options.reached(confirm->options.context, workspace, (uint64_t) rows_i64(rows, 0, 0));
    }
    return COF_OK;
}

/* What is committed after these statements is in the next look, whose snapshot before was older. */
static cof_code ask(struct confirm *confirm, struct session *session, struct cof_error *err)
{
    struct cof_uuid workspaces[ASKED_AT_ONCE];
    size_t count = ASKED_AT_ONCE;
    while (count == ASKED_AT_ONCE) {
        count = confirm->options.unconfirmed(confirm->options.context, workspaces, ASKED_AT_ONCE);
        for (size_t i = 0; i < count; i++) {
            const struct param workspace = param_uuid(&workspaces[i]);
            TRY(session_queue(session, STATEMENT_REVISION_GET, &workspace, 1, err));
            TRY(session_sync(session, err));
        }
        for (size_t i = 0; i < count; i++) {
            TRY(take_answer(confirm, session, &workspaces[i], err));
        }
    }
    return COF_OK;
}

static cof_code take_kept(const struct confirm *confirm, struct session *session, const struct asking *asking,
                          size_t i, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct cache_state state;
    const struct cof_uuid *workspace = &asking->workspaces[i];
    TRY(session_next(session, &rows, err));
    if (rows_count(rows) == 1) {
        const uint64_t revision = (uint64_t) rows_i64(rows, 0, 0);
        confirm->options.reached(confirm->options.context, workspace, revision);
        (void) cache_read_end(confirm->options.service->cache, workspace, &asking->reads[i], revision, &state);
    }
    return COF_OK;
}

static cof_code ask_kept(const struct confirm *confirm, struct session *session, const struct asking *asking,
                         struct cof_error *err)
{
    for (size_t i = 0; i < asking->count; i++) {
        const struct param workspace = param_uuid(&asking->workspaces[i]);
        TRY(session_queue(session, STATEMENT_REVISION_GET, &workspace, 1, err));
        TRY(session_sync(session, err));
    }
    for (size_t i = 0; i < asking->count; i++) {
        TRY(take_kept(confirm, session, asking, i, err));
    }
    return COF_OK;
}

/* What is told here is of one workspace at a time: nothing is known of what lies between. */
static cof_code look_by_workspace(struct confirm *confirm, struct session *session, struct cof_error *err)
{
    struct cache *cache = confirm->options.service->cache;
    size_t place = 0;
    confirm->options.doubt(confirm->options.context);
    TRY(ask(confirm, session, err));
    for (bool more = cache != NULL; more;) {
        struct asking *asking = &confirm->asking;
        asking->count = cache_workspaces_in_use(cache, &place, asking->workspaces, asking->reads, ASKED_AT_ONCE);
        TRY(ask_kept(confirm, session, asking, err));
        more = asking->count == ASKED_AT_ONCE;
    }
    return COF_OK;
}

/* Whoever has missed so much does not catch up, but begins anew. */
static void check_behind(struct confirm *confirm)
{
    const int64_t now_us = cof_clock_monotonic(confirm->options.session.clock);
    if (confirm->look_us != 0 && now_us - confirm->look_us > (int64_t) confirm->options.followed_ms * 1000) {
        confirm->xmin = 0;
        confirm->options.behind(confirm->options.context, now_us - confirm->look_us);
        confirm->look_us = 0;
    }
}

/* Transaction IDs and revisions are those of one life of the database. */
static void check_epoch(struct confirm *confirm)
{
    const uint64_t epoch = atomic_load(&confirm->options.service->epoch);
    if (confirm->epoch != 0 && confirm->epoch != epoch) {
        confirm->xmin = 0;
        confirm->options.replaced(confirm->options.context);
    }
    confirm->epoch = epoch;
}

static cof_code look(struct confirm *confirm, struct session *session, struct cof_error *err)
{
    TRY(session_ready(session, err));
    check_epoch(confirm);
    if (confirm->options.by_workspace) {
        return look_by_workspace(confirm, session, err);
    }
    check_behind(confirm);
    const int64_t sent_us = cof_clock_monotonic(confirm->options.session.clock);
    TRY(confirm->xmin == 0 ? begin(confirm, session, err) : read_changes(confirm, session, err));
    confirm->look_us = sent_us;
    return ask(confirm, session, err);
}

static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct confirm *confirm = context;
    const confirm_need need = confirm->options.need(confirm->options.context);
    *ret_pause_ms = need == CONFIRM_WAITED ? WAITED_PAUSE_MS : confirm->options.interval_ms;
    if (need == CONFIRM_NOTHING) {
        /* Later that snapshot would be old, and the changes since then many. */
        confirm->xmin = 0;
        *ret_pause_ms = JOB_UNTIL_WOKEN;
        return COF_OK;
    }
    const int64_t begin_us = cof_clock_monotonic(confirm->options.session.clock);
    confirm->options.asks(confirm->options.context);
    const cof_code code = look(confirm, session, err);
    confirm->options.answered(confirm->options.context, code != COF_UNAVAILABLE && code != COF_DEADLINE_EXCEEDED);
    if (code != COF_OK) {
        confirm->xmin = 0;
    }
    *ret_pause_ms -= (cof_clock_monotonic(confirm->options.session.clock) - begin_us) / 1000;
    *ret_pause_ms = *ret_pause_ms < 0 ? 0 : *ret_pause_ms;
    return code;
}

cof_code confirm_start(const struct confirm_options *options, struct confirm **ret_confirm, struct cof_error *err)
{
    struct confirm *confirm = calloc(1, sizeof *confirm);
    if (confirm == NULL) {
        return cof_arena_exhausted(err);
    }
    confirm->options = *options;
    const struct job_options job = {
        .name = "confirm",
        .log = options->log,
        .session = options->session,
        .round_timeout_ms = ROUND_TIMEOUT_MS,
        .least_pause_ms = LEAST_PAUSE_MS,
        .round = run_round,
        .context = confirm,
    };
    const cof_code code = job_start(&job, &confirm->job, err);
    if (code != COF_OK) {
        free(confirm);
        return code;
    }
    *ret_confirm = confirm;
    return COF_OK;
}

void confirm_wake(struct confirm *confirm)
{
    job_wake(confirm->job);
}

void confirm_stop(struct confirm *confirm)
{
    if (confirm != NULL) {
        job_stop(confirm->job);
        free(confirm);
    }
}
