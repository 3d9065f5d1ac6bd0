#include "server/jobs/refresh_work.h"

#include <string.h>

#include "server/service/fault.h"

enum { ACTION_TIMEOUT_MS = 10000, ANSWER_LATE_US = 5000000 };

/* --- Calls of the server's own -------------------------------------------------------------------------------- */

/* A call with memory that is the caller's; `err` is cleared. */
static struct call own_call(const struct work_context *context, struct cof_arena *arena, struct cof_error *err)
{
    const struct cof_clock *clock = context->options->session.clock;
    cof_error_clear(err);
    session_deadline(context->session, cof_clock_monotonic(clock) + (int64_t) ACTION_TIMEOUT_MS * 1000);
    return (struct call){
        .service = context->options->service,
        .session = context->session,
        .arena = arena,
        .err = err,
        .method = "cofferd/RefreshConnection",
        .peer = "cofferd",
        .request_id = cof_uuid_time(clock),
        .received_us = cof_clock_monotonic(clock),
        .deadline_us = cof_clock_monotonic(clock) + (int64_t) ACTION_TIMEOUT_MS * 1000,
    };
}

/* It may or may not have been done; the next action begins with a clean session. */
static refresh_event_kind unanswered(const struct work_context *context)
{
    session_reset(context->session);
    return REFRESH_NO_STORE;
}

/* --- Actions in the database ---------------------------------------------------------------------------------- */

static refresh_event_kind claim(struct work_context *context, struct work *work)
{
    struct cof_error err;
    struct refresh_lease lease;
    cof_arena_reset(&work->arena);
    struct call call = own_call(context, &work->arena, &err);
    work->claim = (struct refresh_claim){.asked = call.received_us};
    cof_code code = refresh_rows_claim(&call, &work->workspace, &work->connection, &context->options->server,
                                       context->options->rules->lease_us, &lease, &work->rows);
    if (code == COF_OK) {
        code = context->options->provider(&call, &work->rows, &work->provider);
    }
    work->read = code == COF_OK;
    if (code != COF_OK) {
        const bool gone = code == COF_NOT_FOUND || code == COF_DATA_LOSS;
        (void) unanswered(context);
        return gone ? REFRESH_OUTRUN : REFRESH_NO_STORE;
    }
    refresh_rows_facts(&work->rows, work->provider, &work->claim.facts);
    work->claim.fence = lease.fence;
    work->claim.lapsed = lease.lapsed;
    return lease.taken ? REFRESH_CLAIMED : REFRESH_HELD;
}

static refresh_event_kind record(struct work_context *context, struct work *work, struct call *call)
{
    bool recorded = false;
    if (refresh_rows_record(call, &work->rows, &work->action, context->options->rules->lease_us, &recorded) !=
        COF_OK) {
        return unanswered(context);
    }
    return recorded ? REFRESH_DONE : REFRESH_LOST;
}

/* An answer of a journal comes without rows; those that are there tell whether it is still worth something. */
static cof_code read_rows(struct work *work, struct call *call)
{
    struct call reading = *call;
    if (work->read) {
        return COF_OK;
    }
    cof_arena_reset(&work->arena);
    reading.arena = &work->arena;
    TRY(refresh_rows_read(&reading, &work->workspace, &work->connection, &work->rows));
    work->read = true;
    return COF_OK;
}

static refresh_event_kind store(struct work_context *context, struct work *work, struct call *call)
{
    bool stored = false;
    cof_code code = read_rows(work, call);
    if (code == COF_OK && work->rows.token.generation != work->action.generation) {
        return REFRESH_OUTRUN;
    }
    if (code == COF_OK) {
        code = refresh_rows_store(call, &work->rows, &work->action, &work->answer.tokens, &stored);
    }
    if (code == COF_NOT_FOUND) {
        (void) unanswered(context);
        return REFRESH_OUTRUN;
    }
    if (code != COF_OK) {
        return unanswered(context);
    }
    FAULT_POINT("refresh.after_store");
    return stored ? REFRESH_STORED : REFRESH_OUTRUN;
}

static refresh_event_kind release(struct work_context *context, struct work *work, struct call *call)
{
    const bool failed = work->action.failures > work->claim.facts.failures;
    const struct refresh_failure none = {COF_REASON_NONE, cof_slice_text("")};
    return refresh_rows_release(call, &work->rows, &work->action, failed ? &work->answer.failure : &none) == COF_OK
               ? REFRESH_DONE
               : unanswered(context);
}

/* In memory that is given back afterwards: an action may be repeated for as long as the server runs. */
static refresh_event_kind in_database(struct work_context *context, struct work *work,
                                      refresh_event_kind (*act)(struct work_context *, struct work *,
                                                                struct call *))
{
    struct cof_error err;
    struct cof_arena arena;
    cof_arena_init(&arena, context->options->pool, context->options->memory);
    struct call call = own_call(context, &arena, &err);
    const refresh_event_kind kind = act(context, work, &call);
    cof_arena_reset(&arena);
    return kind;
}

/* --- The other actions ---------------------------------------------------------------------------------------- */

/* A grant that cannot be opened is not sent. */
static refresh_event_kind give_to_provider(struct work_context *context, struct work *work, struct call *call)
{
    struct refresher_request request = {
        .call = call,
        .rows = &work->rows,
        .provider = work->provider,
        .not_after = work->action.not_after,
        .ticket = work->ticket,
    };
    work->state = WORK_SENT;
    work->wake_us = work->action.not_after + context->options->rules->call_us + ANSWER_LATE_US;
    if (refresh_rows_refresh_token(call, &work->rows, &request.refresh_token) != COF_OK) {
        work->answer = (struct refresher_answer){.meaning = {.verdict = TOKEN_UNAVAILABLE},
                                                 .failure = {call->err->reason, cof_slice_text("")}};
        work->state = WORK_READY;
        return REFRESH_ANSWERED;
    }
    FAULT_POINT("refresh.before_send");
    context->options->send(context->options->context, &request);
    return REFRESH_ANSWERED;
}

static refresh_event_kind keep(const struct work_context *context, const struct work *work)
{
    struct refresher_entry entry = {
        .workspace = work->workspace,
        .connection = work->connection,
        .store = work->action,
        .tokens = work->answer.tokens,
    };
    entry.store.kind = REFRESH_DO_STORE;
    FAULT_POINT("refresh.before_journal");
    const bool kept = context->options->journal_put(context->options->context, &entry);
    FAULT_POINT("refresh.after_journal");
    return kept ? REFRESH_DONE : REFRESH_FAILED;
}

/* False if there is no memory. */
static bool copy(struct cof_arena *arena, struct cof_slice from, struct cof_slice *to)
{
    uint8_t *bytes = cof_arena_alloc(arena, from.len + 1);
    if (bytes == NULL) {
        return false;
    }
    if (from.len > 0) {
        memcpy(bytes, from.data, from.len);
    }
    *to = cof_slice_of(bytes, from.len);
    return true;
}

static bool copy_scopes(struct cof_arena *arena, struct row_texts from, struct row_texts *to)
{
    struct cof_slice *items = cof_arena_array(arena, from.count, sizeof *items);
    if (items == NULL) {
        return false;
    }
    for (size_t i = 0; i < from.count; i++) {
        if (!copy(arena, from.items[i], &items[i])) {
            return false;
        }
    }
    *to = (struct row_texts){items, from.count};
    return true;
}

struct refresher_answer refresher_answer_copy(struct cof_arena *arena, const struct refresher_answer *answer)
{
    struct refresher_answer taken = *answer;
    const bool whole = copy(arena, answer->tokens.access_token, &taken.tokens.access_token) &&
                       copy(arena, answer->tokens.refresh_token, &taken.tokens.refresh_token) &&
                       copy(arena, answer->failure.text, &taken.failure.text) &&
                       copy_scopes(arena, answer->tokens.scopes, &taken.tokens.scopes);
    if (!whole) {
        taken = (struct refresher_answer){
            .meaning = {.verdict = TOKEN_UNAVAILABLE, .lost = true, .may_be_spent = true},
            .failure = {COF_REASON_OUT_OF_MEMORY, cof_slice_text("")},
        };
    }
    return taken;
}

void work_take_answer(struct work *work, const struct refresher_answer *answer)
{
    cof_arena_reset(&work->kept);
    work->answer = refresher_answer_copy(&work->kept, answer);
}

/* --- Steps ---------------------------------------------------------------------------------------------------- */

static void step(struct work_context *context, struct work *work, refresh_event_kind kind)
{
    const int64_t mono = cof_clock_monotonic(context->options->session.clock);
    int64_t time = 0;
    context->random = context->random * 6364136223846793005U + 1442695040888963407U;
    const struct refresh_event event = {
        .kind = kind,
        .mono = mono,
        .time = token_clock_read(context->options->clock, mono, &time) ? time : 0,
        .until = work->until_us,
        .random = context->random >> 16,
        .claim = &work->claim,
        .answer = &work->answer.meaning,
    };
    work->state = WORK_READY;
    work->action = refresh_step(&work->machine, &event);
}

static void finish(const struct work_context *context, struct work *work)
{
    work->state = WORK_OVER;
    work->outcome = work->action.outcome;
    context->options->landed(context->options->context, &work->connection, work->outcome);
}

/* One action; what its end is told by is given back, unless it is awaited. */
static refresh_event_kind act(struct work_context *context, struct work *work)
{
    switch (work->action.kind) {
    case REFRESH_DO_CLAIM:
        return claim(context, work);
    case REFRESH_DO_RECORD:
        return in_database(context, work, record);
    case REFRESH_DO_SEND:
        return in_database(context, work, give_to_provider);
    case REFRESH_DO_JOURNAL:
        return keep(context, work);
    case REFRESH_DO_STORE:
        return in_database(context, work, store);
    case REFRESH_DO_RELEASE:
        return in_database(context, work, release);
    case REFRESH_DO_FORGET:
        context->options->journal_forget(context->options->context, &work->connection);
        return REFRESH_DONE;
    case REFRESH_DO_WAIT:
        work->state = WORK_WAITING;
        work->wake_us = work->action.not_before;
        return REFRESH_DONE;
    case REFRESH_DO_FINISH:
        finish(context, work);
        break;
    }
    return REFRESH_DONE;
}

void work_run(struct work_context *context, struct work *work)
{
    while (work->state == WORK_READY) {
        const refresh_event_kind kind = act(context, work);
        if (work->state == WORK_READY) {
            step(context, work, kind);
        }
    }
}

void work_wake(struct work_context *context, struct work *work, refresh_event_kind kind)
{
    step(context, work, kind);
    work_run(context, work);
}
