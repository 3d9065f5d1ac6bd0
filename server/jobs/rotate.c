#include "server/jobs/rotate.h"

#include <stdlib.h>

#include "common/arena.h"
#include "server/service/guard.h"
#include "server/service/instance.h"
#include "server/service/key_rotation.h"
#include "server/service/reseal.h"

enum {
    PAUSE_MS = 1000,
    BUSY_PAUSE_MS = 5, /* while there are rows to seal */
    STEPS_AT_ONCE = 20,
    ROUND_TIMEOUT_MS = 30000,
    LOCK_CLASS = 0x6b657973, /* of the advisory locks: "keys" */
};

/* Clocks of servers and of the database are not further apart, and no transaction of a rotation takes longer. */
#define LOOK_BACK_US INT64_C(120000000)

struct rotate {
    struct rotate_options options;
    struct job *job;
    struct cof_uuid from; /* where the search goes on */
    struct cof_uuid at;   /* the workspace that was found last */
    bool walking;         /* in that workspace */
    key_rotation_need need;
    struct reseal walk;
    int64_t looked_us; /* wall-clock time of the last look that succeeded; 0: none yet */
    bool rootless;     /* was told */
};

/* --- Calls of the server's own -------------------------------------------------------------------------------- */

struct own_call {
    struct cof_arena arena;
    struct call call;
};

static void own_begin(struct rotate *rotate, struct session *session, struct own_call *own, struct cof_error *err)
{
    const struct cof_clock *clock = rotate->options.session.clock;
    cof_arena_init(&own->arena, rotate->options.pool, RESEAL_CALL_MEMORY);
    own->call = (struct call){
        .service = rotate->options.service,
        .session = session,
        .arena = &own->arena,
        .err = err,
        .method = "cofferd/RotateWorkspaceKey",
        .peer = "cofferd",
        .request_id = cof_uuid_time(clock),
        .received_us = cof_clock_monotonic(clock),
        .deadline_us = cof_clock_monotonic(clock) + (int64_t) ROUND_TIMEOUT_MS * 1000,
    };
}

/* --- Following ------------------------------------------------------------------------------------------------ */

/* Without the root key that wraps, only new keys cannot be made; so the server goes on. */
static cof_code follow_root(struct rotate *rotate, struct session *session, struct cof_error *err)
{
    const cof_code code = instance_follow_root(session, rotate->options.service->keyring, err);
    const bool rootless = code != COF_OK && err->reason == COF_REASON_CONFIG_INVALID;
    if (rootless && !rotate->rootless) {
        COF_LOG(rotate->options.log, COF_LOG_ERROR, "root_key", "the root key was replaced",
                cof_log_text("error", err->message));
    }
    rotate->rootless = rootless;
    return rootless ? COF_OK : code;
}

/* A key that was destroyed is closed here as well; a new one is had before anybody asks for it. Only workspaces whose
 * keys are open anyway are looked at. */
static cof_code follow_generation(struct keyring *keyring, struct session *session, const struct rows *rows,
                                  size_t index, struct cof_error *err)
{
    const struct cof_uuid workspace = rows_uuid(rows, index, 0);
    const uint32_t generation = (uint32_t) rows_i32(rows, index, 1);
    const bool has = keyring_has(keyring, &workspace, generation);
    if (rows_i32(rows, index, 2) == GENERATION_RETIRED) {
        if (has) {
            keyring_forget(keyring, &workspace, generation);
        }
        return COF_OK;
    }
    if (has || keyring_generation(keyring, &workspace) == 0) {
        return COF_OK;
    }
    const cof_code code = guard_load_keys_anew(keyring, session, &workspace, err);
    /* Damaged ones are told when they are used, and one may be purged. */
    return code == COF_DATA_LOSS || code == COF_NOT_FOUND ? COF_OK : code;
}

static cof_code follow_generations(struct rotate *rotate, struct session *session, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const int64_t now = cof_clock_wall(rotate->options.session.clock);
    const int64_t since = (rotate->looked_us == 0 ? now : rotate->looked_us) - LOOK_BACK_US;
    const struct param params[] = {param_time(since)};
    TRY(session_queue(session, STATEMENT_GENERATIONS_CHANGED, params, COF_COUNT(params), err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    for (size_t i = 0; i < rows_count(rows); i++) {
        TRY(follow_generation(rotate->options.service->keyring, session, rows, i, err));
    }
    rotate->looked_us = now;
    return COF_OK;
}

/* --- Rotations ------------------------------------------------------------------------------------------------ */

/* What is wrong with one workspace must not keep the others. */
static cof_code spare_others(struct rotate *rotate, cof_code code, const struct cof_error *err)
{
    char text[COF_UUID_TEXT];
    if (code != COF_DATA_LOSS && code != COF_INTERNAL && code != COF_NOT_FOUND) {
        return code;
    }
    cof_uuid_format(&rotate->at, text);
    COF_LOG(rotate->options.log, COF_LOG_ERROR, "rotation_failed", "the rotation of a workspace's key cannot go on",
            cof_log_text("workspace", text), cof_log_text("reason", cof_reason_name(err->reason)),
            cof_log_text("error", err->message), cof_log_text("trail", err->trail));
    rotate->walking = false;
    return COF_OK;
}

static cof_code give(struct session *session, struct cof_error *err)
{
    TRY(session_queue(session, STATEMENT_ROTATION_GIVE, NULL, 0, err));
    TRY(session_sync(session, err));
    return session_next(session, NULL, err);
}

/* Another server may be at it. */
static cof_code take(struct session *session, const struct cof_uuid *workspace, bool *ret_taken,
                     struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    char text[COF_UUID_TEXT];
    cof_uuid_format(workspace, text);
    const struct param params[] = {param_i32(LOCK_CLASS), param_text(cof_slice_text(text))};
    TRY(session_queue(session, STATEMENT_ROTATION_TAKE, params, COF_COUNT(params), err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    *ret_taken = rows_bool(rows, 0, 0);
    return COF_OK;
}

/* `ret_more` is false behind the last workspace; then the search begins anew. */
static cof_code next_workspace(struct rotate *rotate, struct call *call, bool *ret_more)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(&rotate->from), param_i64(1)};
    uint32_t generation = 0;
    TRY(give(call->session, call->err));
    TRY(session_queue(call->session, STATEMENT_GENERATIONS_OLD, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    *ret_more = rows_count(rows) == 1;
    if (!*ret_more) {
        rotate->from = cof_uuid_zero;
        return COF_OK;
    }
    rotate->at = rows_uuid(rows, 0, 0);
    rotate->from = cof_uuid_next(&rotate->at);
    TRY(key_rotation_look(call, &rotate->at, (int64_t) rotate->options.kept_ms * 1000, &rotate->need, &generation));
    if (rotate->need != KEY_ROTATION_NOTHING) {
        TRY(take(call->session, &rotate->at, &rotate->walking, call->err));
        rotate->walk = reseal_from_start(&rotate->at, generation);
    }
    return COF_OK;
}

static void tell(const struct rotate *rotate, const char *text, int64_t destroyed)
{
    char workspace[COF_UUID_TEXT];
    cof_uuid_format(&rotate->at, workspace);
    COF_LOG(rotate->options.log, COF_LOG_INFO, "rotation", text, cof_log_text("workspace", workspace),
            cof_log_number("generation", rotate->walk.generation),
            cof_log_number("rows", (int64_t) rotate->walk.resealed),
            cof_log_number("damaged", (int64_t) rotate->walk.damaged), cof_log_number("destroyed", destroyed));
}

static cof_code end_walk(struct rotate *rotate, struct call *call)
{
    uint64_t destroyed = 0;
    rotate->walking = false;
    if (rotate->need == KEY_ROTATION_WALK || rotate->walk.resealed > 0) {
        TRY(key_rotation_unused(call, &rotate->at, rotate->walk.generation));
        tell(rotate, "everything of a workspace is sealed under its new key", 0);
        return COF_OK;
    }
    TRY(key_rotation_destroy(call, &rotate->at, (int64_t) rotate->options.kept_ms * 1000, &destroyed));
    if (destroyed > 0) {
        tell(rotate, "old keys of a workspace are destroyed", (int64_t) destroyed);
    }
    return COF_OK;
}

static cof_code walk_some(struct rotate *rotate, struct call *call)
{
    bool done = false;
    TRY(reseal_some(call, &rotate->walk, &done));
    return done ? end_walk(rotate, call) : COF_OK;
}

/* One step in memory of its own. */
static cof_code step(struct rotate *rotate, struct session *session, bool *ret_more, struct cof_error *err)
{
    struct own_call own;
    own_begin(rotate, session, &own, err);
    *ret_more = true;
    const cof_code code =
        rotate->walking ? walk_some(rotate, &own.call) : next_workspace(rotate, &own.call, ret_more);
    session_reset(session);
    cof_arena_reset(&own.arena);
    return spare_others(rotate, code, err);
}

/* --- Rounds --------------------------------------------------------------------------------------------------- */

static cof_code run_round(void *context, struct session *session, int64_t *ret_pause_ms, struct cof_error *err)
{
    struct rotate *rotate = context;
    bool more = true;
    const int64_t now = cof_clock_wall(rotate->options.session.clock);
    TRY(session_ready(session, err));
    if (now - rotate->looked_us >= (int64_t) PAUSE_MS * 1000 || now < rotate->looked_us) {
        TRY(follow_root(rotate, session, err));
        TRY(follow_generations(rotate, session, err));
    }
    for (int i = 0; more && i < STEPS_AT_ONCE; i++) {
        TRY(step(rotate, session, &more, err));
    }
    *ret_pause_ms = more ? BUSY_PAUSE_MS : PAUSE_MS;
    return COF_OK;
}

cof_code rotate_start(const struct rotate_options *options, struct rotate **ret_rotate, struct cof_error *err)
{
    struct rotate *rotate = calloc(1, sizeof *rotate);
    if (rotate == NULL) {
        return cof_arena_exhausted(err);
    }
    rotate->options = *options;
    const struct job_options job = {
        .name = "rotate",
        .log = options->log,
        .session = options->session,
        .round_timeout_ms = ROUND_TIMEOUT_MS,
        .least_pause_ms = BUSY_PAUSE_MS,
        .round = run_round,
        .context = rotate,
    };
    const cof_code code = job_start(&job, &rotate->job, err);
    if (code != COF_OK) {
        free(rotate);
        return code;
    }
    *ret_rotate = rotate;
    return COF_OK;
}

void rotate_stop(struct rotate *rotate)
{
    if (rotate != NULL) {
        job_stop(rotate->job);
        free(rotate);
    }
}
