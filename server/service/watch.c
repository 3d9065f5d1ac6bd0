/* Watches: what changed behind a position, and waiting for it (docs/decisions/0012-watches.md). */
#include "common/wire.h"
#include "server/service/authorize.h"
#include "server/service/consistency.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/secrets.h"
#include "server/service/text.h"
#include "server/service/watch_change.h"
#include "server/service/watch_position.h"

enum {
    BATCH = 256,     /* writes that are read at once */
    READ_MAX = 4096, /* writes that one call looks through */
    LONGEST_MS = 60000,
    MS = 1000,
};

/* Columns of CHANGE_LIST. */
enum { CHANGE_CURRENT, CHANGE_REVISION, CHANGE_TIME, CHANGE_RECORD };

struct watch {
    struct watch_page page;
    uint64_t position; /* the revision up to which everything is told */
    uint64_t current;  /* the workspace's, as the last statement saw it */
    uint32_t size;
    uint32_t looked_through;
    struct cof_arena scratch; /* for one record, which may be much larger than what is told of it */
};

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cof_code no_workspace(struct call *call)
{
    return cof_fail(call->err, COF_REASON_WORKSPACE_NOT_FOUND, "there is no such workspace; %s",
                    cof_reason_next_step(COF_REASON_WORKSPACE_NOT_FOUND));
}

static cof_code tell_row(struct call *call, struct watch *watch, const struct rows *rows, size_t row)
{
    ProtobufCMessage *record;
    cof_arena_reset(&watch->scratch);
    TRY(cof_wire_unpack(&coffer__audit__v1__record__descriptor, rows_bytes(rows, row, CHANGE_RECORD),
                        &watch->scratch, &record, call->err));
    const struct watch_event event = {
        .revision = watch->position + 1,
        .time = rows_time(rows, row, CHANGE_TIME),
        .record = (const Coffer__Audit__V1__Record *) (const void *) record,
    };
    return watch_tell(call, &watch->page, &event);
}

/* A write that cannot be told must not be passed over: whoever watches would hold for current what is not. */
static cof_code unreadable(struct call *call, cof_code code)
{
    if (code != COF_INVALID_ARGUMENT) {
        return code;
    }
    return cof_fail(
        call->err, COF_REASON_CORRUPTED,
        "the record of a write cannot be read; watch from now on with an empty resume token, list again, "
        "and tell the operator");
}

static bool is_full(const struct watch *watch)
{
    return watch->page.response->n_changes >= watch->size;
}

/*
 * The revisions of a workspace have no gap, so one that does not follow on the position before it shows that changes are
 * missing. Changes are followed for a bounded time, although their rows stay, for they are the records of writes as well.
 */
static bool can_follow(const struct call *call, const struct watch *watch, const struct rows *rows, size_t row)
{
    const int64_t oldest_us = call_now(call) - (int64_t) call->service->limits.changes_followed_ms * MS;
    return !rows_null(rows, row, CHANGE_REVISION) &&
           (uint64_t) rows_i64(rows, row, CHANGE_REVISION) == watch->position + 1 &&
           rows_time(rows, row, CHANGE_TIME) >= oldest_us;
}

static cof_code tell_rows(struct call *call, struct watch *watch, const struct rows *rows)
{
    for (size_t i = 0; i < rows_count(rows) && !is_full(watch); i++) {
        if (!can_follow(call, watch, rows, i)) {
            return watch_expired(call->err);
        }
        TRY(unreadable(call, tell_row(call, watch, rows, i)));
        watch->position++;
        watch->looked_through++;
    }
    return COF_OK;
}

static cof_code read_batch(struct call *call, struct watch *watch)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {
        param_uuid(&watch->page.workspace),
        param_i64((int64_t) watch->position),
        param_i64(BATCH),
    };
    TRY(call_check_deadline(call));
    TRY(session_queue(call->session, STATEMENT_CHANGE_LIST, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return no_workspace(call);
    }
    watch->current = (uint64_t) rows_i64(rows, 0, CHANGE_CURRENT);
    if (watch->position == watch->current) {
        return COF_OK;
    }
    /* A position that lies ahead was given out by a database that this one was restored from. */
    return watch->position > watch->current ? watch_expired(call->err) : tell_rows(call, watch, rows);
}

/* Reads on until the page is full, for writes that the caller may not see do not count. */
static cof_code read_changes(struct call *call, struct watch *watch)
{
    do {
        TRY(read_batch(call, watch));
    } while (watch->position < watch->current && !is_full(watch) && watch->looked_through < READ_MAX);
    return COF_OK;
}

/* --- Waiting -------------------------------------------------------------------------------------------------- */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t wait_end(const struct call *call, uint32_t wait_ms)
{
    const int64_t longest = call->received_us + (int64_t) LONGEST_MS * MS;
    const int64_t end = call_wait_end(call, earlier(call->deadline_us, longest));
    return wait_ms == 0 ? end : earlier(end, call->received_us + (int64_t) wait_ms * MS);
}

/* What was looked through before the wait, and in vain, is not looked through again. */
static void go_on(const struct call *call, struct watch *watch)
{
    if (call->waited.cause == CALL_WAIT_CHANGE && call->waited.revision > watch->position + 1) {
        watch->position = call->waited.revision - 1;
    }
}

static bool begin_to_wait(struct call *call, const struct watch *watch)
{
    const int64_t until_us = wait_end(call, watch->page.request->wait_ms);
    if (watch->page.response->n_changes > 0 || watch->position < watch->current || !call_may_wait(call, until_us)) {
        return false;
    }
    call_wait_for_change(call, &watch->page.workspace, watch->position + 1, until_us);
    return true;
}

/* --- The method ----------------------------------------------------------------------------------------------- */

static cof_code answer(struct call *call, const struct watch *watch)
{
    char position[WATCH_POSITION_TEXT];
    char consistency[CONSISTENCY_TOKEN_TEXT];
    Coffer__V1__WatchSecretsResponse *response = watch->page.response;
    watch_position_format(call->service, &watch->page.workspace, watch->position, position);
    consistency_format(call->service, watch->position, consistency);
    response->more = watch->position < watch->current;
    response->resume_token = text_of(call->arena, cof_slice_text(position));
    response->consistency_token = text_of(call->arena, cof_slice_text(consistency));
    return response->resume_token == NULL || response->consistency_token == NULL ? cof_arena_exhausted(call->err)
                                                                                 : COF_OK;
}

static cof_code begin_now(struct call *call, struct watch *watch)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param workspace = param_uuid(&watch->page.workspace);
    TRY(session_queue(call->session, STATEMENT_REVISION_GET, &workspace, 1, call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return no_workspace(call);
    }
    watch->position = (uint64_t) rows_i64(rows, 0, 0);
    watch->current = watch->position;
    return answer(call, watch);
}

static cof_code watch_on(struct call *call, struct watch *watch)
{
    TRY(watch_position_parse(call->service, &watch->page.workspace, watch->page.request->resume_token,
                             &watch->position, call->err));
    go_on(call, watch);
    cof_arena_init(&watch->scratch, call->arena->pool, call->arena->limit * COF_ARENA_CHUNK);
    const cof_code code = read_changes(call, watch);
    cof_arena_reset(&watch->scratch);
    TRY(code);
    if (begin_to_wait(call, watch)) {
        return cof_fail(call->err, COF_REASON_DEADLINE_EXCEEDED, "nothing has changed yet; %s",
                        cof_reason_next_step(COF_REASON_DEADLINE_EXCEEDED));
    }
    return answer(call, watch);
}

cof_code secret_watch(struct call *call, const Coffer__V1__WatchSecretsRequest *request,
                      Coffer__V1__WatchSecretsResponse *response)
{
    struct watch watch = {.page = {.request = request, .response = response}};
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_SECRET_READ, &watch.page.workspace));
    TRY(guard_load_keys(call, &watch.page.workspace));
    watch.size = page_size(call, request->page_size);
    return request->resume_token[0] == '\0' ? begin_now(call, &watch) : watch_on(call, &watch);
}
