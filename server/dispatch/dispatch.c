#include "server/dispatch/dispatch.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include "common/condition.h"
#include "common/secret.h"
#include "common/wire.h"
#include "server/dispatch/fair.h"
#include "server/dispatch/ticket.h"

enum {
    INLINE_TICKETS = 64, /* beyond those of the queue and the workers */
    BATCH_MAX = FAIR_BATCH,
    BATCH_COST = 64, /* see fair_cost; one call alone may cost more */
    BUSY_RETRY_MS = 50,
    BUSY_RETRY_MOST_MS = 1000,
    STANDING_US = 100000, /* a queue that was not empty for so long is more than a burst */
    IDLE_US = 1000000,    /* after which a worker looks whether the database is still there */
    WAITING_RETRY_MS = 500,
};

struct dispatch {
    struct dispatch_options options;
    struct token_limit *token_limit;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct ticket *tickets;
    uint32_t ticket_count;
    uint32_t touched; /* those behind were never used, and take no memory */
    struct ticket *free;
    struct fair *fair;      /* the queue: new calls, and those that were parked and go on */
    int64_t standing_since; /* since when the queue was never empty */
    struct parking *parking;
    uint32_t in_flight;
    bool waking; /* a worker was told and has not come yet */
    bool stopping;
    struct worker **workers;
    uint32_t worker_count;
    struct line_limit *line_limit;
};

/* --- Tickets -------------------------------------------------------------------------------------------------- */

/* Each state with those that may come before it. */
void ticket_set_state(struct ticket *ticket, ticket_state state)
{
    switch (state) {
    case TICKET_FREE:
        assert(ticket->state == TICKET_ANSWERED || ticket->state == TICKET_PARKED);
        break;
    case TICKET_ADMITTING:
        assert(ticket->state == TICKET_FREE);
        break;
    case TICKET_QUEUED:
        assert(ticket->state == TICKET_ADMITTING);
        break;
    case TICKET_RUNNING:
        assert(ticket->state == TICKET_ADMITTING || ticket->state == TICKET_QUEUED);
        break;
    case TICKET_KEPT:
    case TICKET_PARKED:
        assert(ticket->state == TICKET_RUNNING);
        break;
    case TICKET_ANSWERED:
        assert(ticket->state == TICKET_ADMITTING || ticket->state == TICKET_RUNNING ||
               ticket->state == TICKET_KEPT);
        break;
    }
    ticket->state = state;
}

struct line_limit *dispatch_line_limit(struct dispatch *dispatch)
{
    return dispatch->line_limit;
}

const struct dispatch_options *dispatch_options_of(const struct dispatch *dispatch)
{
    return &dispatch->options;
}

bool dispatch_enter_token(struct dispatch *dispatch, struct ticket *ticket)
{
    ticket->counted = token_limit_enter(dispatch->token_limit, &ticket->token.id);
    return ticket->counted;
}

/* For the next three, the caller holds the lock. */
static bool has_free_ticket(const struct dispatch *dispatch)
{
    return dispatch->free != NULL || dispatch->touched < dispatch->ticket_count;
}

static struct ticket *new_ticket(struct dispatch *dispatch)
{
    struct ticket *ticket = &dispatch->tickets[dispatch->touched++];
    cof_arena_init(&ticket->arena, dispatch->options.pool, dispatch->options.call_memory);
    return ticket;
}

/* NULL: all are in use. */
static struct ticket *free_ticket(struct dispatch *dispatch)
{
    struct ticket *ticket = dispatch->free;
    if (ticket != NULL) {
        dispatch->free = ticket->next;
        return ticket;
    }
    return has_free_ticket(dispatch) ? new_ticket(dispatch) : NULL;
}

static struct ticket *take_free(struct dispatch *dispatch)
{
    (void) pthread_mutex_lock(&dispatch->lock);
    struct ticket *ticket = free_ticket(dispatch);
    dispatch->in_flight += ticket != NULL ? 1 : 0;
    (void) pthread_mutex_unlock(&dispatch->lock);
    return ticket;
}

static struct call_peer peer_of(const struct exchange_peer *peer)
{
    struct call_peer from = {
        .has_address = peer->has_ip,
        .local = strcmp(peer->transport, "ipc") == 0,
        .has_uid = peer->has_uid,
        .uid = peer->uid,
    };
    memcpy(from.address, peer->ip, sizeof from.address);
    return from;
}

static void prepare(struct dispatch *dispatch, struct ticket *ticket, struct exchange *exchange)
{
    ticket_set_state(ticket, TICKET_ADMITTING);
    ticket->next = NULL;
    ticket->exchange = exchange;
    ticket->dispatch = dispatch;
    ticket->parked = NULL;
    ticket->outbox = NULL;
    ticket->method = NULL;
    ticket->has_token = false;
    ticket->counted = false;
    ticket->malformed = false;
    ticket->queued_us = -1;
    ticket->request = NULL;
    ticket->token_failed = false;
    ticket->token_from = NULL;
    ticket->prefetch_from = NULL;
    ticket->source = (struct caller_source){0};
    ticket->frame = (struct cof_request_frame){0};
    ticket->call = (struct call){
        .service = dispatch->options.service,
        .arena = &ticket->arena,
        .err = &ticket->err,
        .token = &ticket->token,
        .peer = exchange->peer.address,
        .from = peer_of(&exchange->peer),
        .received_us = exchange->received_us,
        .deadline_us = exchange->received_us,
    };
    cof_error_clear(&ticket->err);
}

/* Wakes one worker, and none while one is on its way: it takes what comes meanwhile with it, and wakes the next one if
 * it leaves something. Many that wake at once would each find one call. */
static void wake(struct dispatch *dispatch)
{
    if (!dispatch->waking) {
        dispatch->waking = true;
        (void) pthread_cond_signal(&dispatch->ready);
    }
}

void ticket_free(struct dispatch *dispatch, struct ticket *ticket)
{
    if (ticket->state == TICKET_KEPT) {
        audit_wait(dispatch->options.service->audit, &ticket->waiter); /* which calls ticket_free again */
        return;
    }
    caller_source_done(&ticket->source);
    rows_free(ticket->call.prefetch.read.rows);
    cof_arena_reset(&ticket->arena);
    if (ticket->counted) {
        token_limit_leave(dispatch->token_limit, &ticket->token.id);
    }
    cof_wipe(&ticket->token, sizeof ticket->token);
    const bool answered = ticket->state == TICKET_ANSWERED;
    ticket_set_state(ticket, TICKET_FREE);
    (void) pthread_mutex_lock(&dispatch->lock);
    ticket->next = dispatch->free;
    dispatch->free = ticket;
    dispatch->in_flight -= answered ? 1 : 0;
    if (fair_resumed(dispatch->fair) > 0) {
        wake(dispatch);
    }
    (void) pthread_mutex_unlock(&dispatch->lock);
}

/* --- Waiting -------------------------------------------------------------------------------------------------- */

/* Adds calls to those that go on. The lock is held. */
static void append_resumed(struct dispatch *dispatch, struct parked *calls)
{
    struct fair_item *evicted = NULL;
    while (calls != NULL) {
        struct parked *next = calls->next;
        const struct fair_key key = {.workspace = calls->wait.workspace};
        calls->item.cost = 1;
        calls->item.resumed = true;
        const fair_outcome outcome = fair_add(dispatch->fair, &calls->item, &key, &evicted);
        assert(outcome == FAIR_TAKEN && evicted == NULL);
        calls = next;
    }
}

static void go_on(struct dispatch *dispatch, struct parked *calls)
{
    if (calls == NULL) {
        return;
    }
    (void) pthread_mutex_lock(&dispatch->lock);
    append_resumed(dispatch, calls);
    wake(dispatch);
    (void) pthread_mutex_unlock(&dispatch->lock);
}

/* Idle workers sleep until the first parked call is due; now that is earlier. */
static void wake_sleepers(struct dispatch *dispatch)
{
    (void) pthread_mutex_lock(&dispatch->lock);
    (void) pthread_cond_broadcast(&dispatch->ready);
    (void) pthread_mutex_unlock(&dispatch->lock);
}

static const char *waited_for(parking_outcome outcome, call_wait_cause cause)
{
    if (outcome != PARKING_GROUP_FULL) {
        return outcome == PARKING_WORKSPACE_FULL ? "something in this workspace" : "something in this server";
    }
    return cause == CALL_WAIT_ROLE ? "this role" : "this provider";
}

static cof_code refuse_to_park(struct ticket *ticket, parking_outcome outcome)
{
    const cof_reason reason =
        outcome == PARKING_WORKSPACE_FULL ? COF_REASON_TOO_MANY_IN_FLIGHT : COF_REASON_SERVER_BUSY;
    if (outcome == PARKING_CLOSED) {
        return admission_draining(ticket);
    }
    cof_ignore(cof_fail(&ticket->err, reason, "too many calls wait for %s; %s",
                        waited_for(outcome, ticket->call.wait.cause), cof_reason_next_step(reason)));
    return cof_error_retry_after(&ticket->err, WAITING_RETRY_MS);
}

/* Afterwards the exchange is not the ticket's any more: another thread may have answered it already. */
static cof_code park(struct dispatch *dispatch, struct ticket *ticket)
{
    const struct parked call = {
        .exchange = ticket->exchange,
        .request_id = ticket->call.request_id,
        .waits = ticket->call.waits + 1,
        .wait = ticket->call.wait,
    };
    const struct parking_result result = parking_add(dispatch->parking, &call);
    if (result.outcome != PARKING_DONE) {
        return refuse_to_park(ticket, result.outcome);
    }
    ticket_set_state(ticket, TICKET_PARKED);
    go_on(dispatch, result.ready);
    /* The first one may be in more of a hurry than those for whom revisions are being confirmed already. */
    if ((result.unconfirmed || result.first) && dispatch->options.unconfirmed != NULL) {
        dispatch->options.unconfirmed(dispatch->options.context);
    }
    if (result.earliest) {
        wake_sleepers(dispatch);
    }
    return COF_OK;
}

/* Gives the call its ticket back: decoded anew, and still to be authenticated anew. */
static void resume(struct dispatch *dispatch, struct ticket *ticket)
{
    struct parked *parked = ticket->parked;
    prepare(dispatch, ticket, parked->exchange);
    ticket->parked = parked;
    cof_ignore(admission_again(dispatch, ticket));
    ticket->parked = NULL;
    parking_release(dispatch->parking, parked);
}

/* A free ticket for a call that is counted in flight already. */
static struct ticket *take_free_again(struct dispatch *dispatch)
{
    (void) pthread_mutex_lock(&dispatch->lock);
    struct ticket *ticket = free_ticket(dispatch);
    (void) pthread_mutex_unlock(&dispatch->lock);
    return ticket;
}

static void answer_draining(struct dispatch *dispatch, struct parked *parked)
{
    struct ticket *ticket = take_free_again(dispatch);
    if (ticket == NULL) {
        dispatch_refuse(parked->exchange, COF_REASON_SERVER_DRAINING, dispatch);
        parking_release(dispatch->parking, parked);
        (void) pthread_mutex_lock(&dispatch->lock);
        dispatch->in_flight--;
        (void) pthread_mutex_unlock(&dispatch->lock);
        return;
    }
    ticket->parked = parked;
    resume(dispatch, ticket);
    cof_ignore(admission_draining(ticket));
    answer_error(dispatch, ticket);
    ticket_free(dispatch, ticket);
}

static void close_parking(struct dispatch *dispatch)
{
    struct parked *parked = parking_close(dispatch->parking);
    while (parked != NULL) {
        struct parked *next = parked->next;
        answer_draining(dispatch, parked);
        parked = next;
    }
}

void dispatch_reached(struct dispatch *dispatch, const struct cof_uuid *workspace, uint64_t revision)
{
    go_on(dispatch, parking_reached(dispatch->parking, workspace, revision));
}

void dispatch_landed(struct dispatch *dispatch, const struct flight_key *key)
{
    go_on(dispatch, parking_landed(dispatch->parking, key));
}

bool dispatch_waits_for_revisions(struct dispatch *dispatch)
{
    return parking_count(dispatch->parking, CALL_WAIT_REVISION) > 0;
}

bool dispatch_watches(struct dispatch *dispatch)
{
    return parking_count(dispatch->parking, CALL_WAIT_CHANGE) > 0;
}

size_t dispatch_unconfirmed(struct dispatch *dispatch, struct cof_uuid *ret_workspaces, size_t max)
{
    return parking_unconfirmed(dispatch->parking, ret_workspaces, max);
}

void dispatch_doubt(struct dispatch *dispatch)
{
    parking_doubt(dispatch->parking);
}

void dispatch_all_go_on(struct dispatch *dispatch)
{
    go_on(dispatch, parking_all(dispatch->parking));
}

/* --- Running -------------------------------------------------------------------------------------------------- */

cof_code ticket_handle(struct dispatch *dispatch, struct ticket *ticket, ProtobufCMessage **ret_response)
{
    const struct method *method = ticket->method;
    struct call *call = &ticket->call;
    ProtobufCMessage *response = cof_arena_alloc(call->arena, method->response->sizeof_message);
    if (response == NULL) {
        return cof_arena_exhausted(call->err);
    }
    protobuf_c_message_init(method->response, response);
    call->method = method->name;
    call->permission = method->permission;
    call->writes = method->class == METHOD_WRITE;
    call->state_due = false;
    call->payload = ticket->frame.payload;
    if (ticket->request == NULL) {
        TRY(cof_wire_unpack(method->request, call->payload, call->arena, &ticket->request, call->err));
    }
    TRY(call_check_deadline(call));
    TRY(record_check(dispatch, ticket));
    TRY(method->handle(call, ticket->request, response));
    if (call->state_due) {
        return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "nobody looked at the state of the workspace");
    }
    *ret_response = response;
    return COF_OK;
}

/* What was committed is told even if the call failed afterwards. */
static void tell_written(const struct dispatch *dispatch, const struct call *call)
{
    if (call->written_revision != 0 && dispatch->options.written != NULL) {
        dispatch->options.written(dispatch->options.context, &call->written_workspace, call->written_revision);
    }
}

void ticket_run(struct dispatch *dispatch, struct ticket *ticket)
{
    ProtobufCMessage *response = NULL;
    const bool done = ticket->err.code == COF_OK && ticket_handle(dispatch, ticket, &response) == COF_OK;
    tell_written(dispatch, &ticket->call);
    if (done) {
        /* A handler may have met failures that it turned into part of its answer. */
        cof_error_clear(&ticket->err);
        answer_message(dispatch, ticket, response);
    } else if (ticket->call.wait.cause == CALL_WAIT_NONE || park(dispatch, ticket) != COF_OK) {
        answer_error(dispatch, ticket);
    }
}

/* --- The queue ------------------------------------------------------------------------------------------------ */

static struct ticket *ticket_of(struct fair_item *item)
{
    return (struct ticket *) (void *) ((uint8_t *) item - offsetof(struct ticket, item));
}

static struct parked *parked_of(struct fair_item *item)
{
    return (struct parked *) (void *) ((uint8_t *) item - offsetof(struct parked, item));
}

/* Milliseconds after which somebody who is refused may come again: the later, the longer there has been too much. */
static uint32_t busy_retry_ms(const struct dispatch *dispatch, int64_t now_us)
{
    const int64_t standing_ms = fair_queued(dispatch->fair) > 0 ? (now_us - dispatch->standing_since) / 1000 : 0;
    const int64_t advice = BUSY_RETRY_MS + (standing_ms > 0 ? standing_ms / 4 : 0);
    return advice > BUSY_RETRY_MOST_MS ? BUSY_RETRY_MOST_MS : (uint32_t) advice;
}

static void refuse_busy(struct ticket *ticket, cof_reason reason, uint32_t retry_ms)
{
    const char *what = reason == COF_REASON_TOO_MANY_IN_FLIGHT
                           ? "the server has too much to do, and this workspace has its share of it"
                           : cof_reason_meaning(reason);
    cof_ignore(cof_fail(&ticket->err, reason, "%s; %s", what, cof_reason_next_step(reason)));
    cof_ignore(cof_error_retry_after(&ticket->err, retry_ms));
}

static fair_outcome enqueue_locked(struct dispatch *dispatch, struct ticket *ticket, const struct fair_key *key,
                                   struct ticket **ret_evicted)
{
    struct fair_item *evicted = NULL;
    if (dispatch->stopping) {
        return FAIR_FULL;
    }
    if (fair_queued(dispatch->fair) == 0) {
        dispatch->standing_since = ticket->call.received_us;
    }
    const fair_outcome outcome = fair_add(dispatch->fair, &ticket->item, key, &evicted);
    if (outcome == FAIR_TAKEN) {
        ticket_set_state(ticket, TICKET_QUEUED);
        wake(dispatch);
    }
    *ret_evicted = evicted == NULL ? NULL : ticket_of(evicted);
    return outcome;
}

static void answer_refused(struct dispatch *dispatch, struct ticket *ticket, cof_reason reason, uint32_t retry_ms)
{
    refuse_busy(ticket, reason, retry_ms);
    answer_error(dispatch, ticket);
    ticket_free(dispatch, ticket);
}

static void enqueue(struct dispatch *dispatch, struct ticket *ticket)
{
    const struct fair_key key = fair_key_of(dispatch, ticket);
    struct ticket *evicted = NULL;
    ticket->item.cost = fair_cost(ticket);
    ticket->item.resumed = false;
    (void) pthread_mutex_lock(&dispatch->lock);
    const fair_outcome outcome = enqueue_locked(dispatch, ticket, &key, &evicted);
    const uint32_t retry_ms = busy_retry_ms(dispatch, ticket->call.received_us);
    (void) pthread_mutex_unlock(&dispatch->lock);
    if (evicted != NULL) {
        ticket_set_state(evicted, TICKET_RUNNING);
        answer_refused(dispatch, evicted, COF_REASON_TOO_MANY_IN_FLIGHT, retry_ms);
    }
    if (outcome != FAIR_TAKEN) {
        answer_refused(dispatch, ticket,
                       outcome == FAIR_FULL ? COF_REASON_SERVER_BUSY : COF_REASON_TOO_MANY_IN_FLIGHT, retry_ms);
    }
}

/*
 * Whether something can be taken. A call that goes on needs a ticket; if none is free, then all are with calls that run
 * or are being admitted, and the next one that is given back wakes a worker.
 */
static bool has_work(const struct dispatch *dispatch)
{
    const struct fair_item *item = fair_next(dispatch->fair);
    return item != NULL && (!item->resumed || has_free_ticket(dispatch));
}

/* Reads go to a worker in batches, a write alone, so that nobody waits behind a stranger's commit. */
static bool belongs_into(const struct batch *batch, struct fair_item *item)
{
    if (batch->count == 0) {
        return true;
    }
    const bool write = !item->resumed && ticket_of(item)->method->class == METHOD_WRITE;
    return !write && batch->count < BATCH_MAX && batch->share.cost + item->cost <= BATCH_COST;
}

static struct ticket *take_one(struct dispatch *dispatch, struct batch *batch)
{
    struct fair_item *item = fair_take(dispatch->fair, &batch->share);
    if (!item->resumed) {
        ticket_set_state(ticket_of(item), TICKET_RUNNING);
        return ticket_of(item);
    }
    struct ticket *ticket = free_ticket(dispatch);
    assert(ticket != NULL);
    ticket->parked = parked_of(item);
    return ticket;
}

static void take_batch(struct dispatch *dispatch, struct batch *batch)
{
    bool write = false;
    while (!write && has_work(dispatch) && belongs_into(batch, fair_next(dispatch->fair))) {
        struct ticket *ticket = take_one(dispatch, batch);
        write = ticket->parked == NULL && ticket->method->class == METHOD_WRITE;
        batch->tickets[batch->count++] = ticket;
    }
    fair_close(dispatch->fair, &batch->share);
}

static int64_t now_us(const struct dispatch *dispatch)
{
    return cof_clock_monotonic(dispatch->options.service->clock);
}

static void sleep_until(struct dispatch *dispatch, int64_t until_us)
{
    const struct timespec until = cof_condition_in(until_us - now_us(dispatch));
    (void) pthread_cond_timedwait(&dispatch->ready, &dispatch->lock, &until);
}

static void append_due(struct dispatch *dispatch)
{
    append_resumed(dispatch, parking_due(dispatch->parking, now_us(dispatch)));
}

/* Waits for calls, new ones or parked ones that are due, but no longer than a worker may be idle. The lock is held. */
static void wait_for_calls(struct dispatch *dispatch)
{
    const int64_t idle_us = now_us(dispatch) + IDLE_US;
    append_due(dispatch);
    while (!has_work(dispatch) && !dispatch->stopping && now_us(dispatch) < idle_us) {
        const int64_t due_us = parking_next_due(dispatch->parking);
        dispatch->waking = false;
        sleep_until(dispatch, due_us < idle_us ? due_us : idle_us);
        append_due(dispatch);
    }
    dispatch->waking = false;
}

/*
 * Under a standing queue calls would be begun when most of their time is over, and be late all the same. One that has
 * waited for a quarter of its time is told to come again instead, while it still can.
 */
static void shed_stale(struct dispatch *dispatch, const struct batch *batch)
{
    const int64_t now = now_us(dispatch);
    if (now - dispatch->standing_since < STANDING_US || fair_queued(dispatch->fair) < BATCH_MAX) {
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        struct ticket *ticket = batch->tickets[i];
        const int64_t time = ticket->call.deadline_us - ticket->call.received_us;
        if (ticket->parked == NULL && now - ticket->call.received_us > time / 4) {
            refuse_busy(ticket, COF_REASON_SERVER_BUSY, busy_retry_ms(dispatch, now));
        }
    }
}

static void resume_batch(struct dispatch *dispatch, const struct batch *batch)
{
    const int64_t now_us = batch->count == 0 ? 0 : cof_clock_monotonic(dispatch->options.service->clock);
    for (size_t i = 0; i < batch->count; i++) {
        struct ticket *ticket = batch->tickets[i];
        if (ticket->parked != NULL) {
            resume(dispatch, ticket);
            ticket_set_state(ticket, TICKET_RUNNING);
        } else {
            ticket->queued_us = now_us - ticket->exchange->received_us;
            metrics_count_queued(dispatch->options.metrics, ticket->queued_us);
        }
    }
}

/* A worker leaves to the others what they could start now. */
bool dispatch_take(struct dispatch *dispatch, struct batch *batch)
{
    batch->count = 0;
    (void) pthread_mutex_lock(&dispatch->lock);
    fair_done(dispatch->fair, &batch->share);
    wait_for_calls(dispatch);
    take_batch(dispatch, batch);
    shed_stale(dispatch, batch);
    if (has_work(dispatch)) {
        wake(dispatch);
    }
    const bool stop = batch->count == 0 && dispatch->stopping;
    (void) pthread_mutex_unlock(&dispatch->lock);
    resume_batch(dispatch, batch);
    request_log_rest(dispatch, now_us(dispatch));
    return !stop;
}

/* --- From and to transport ------------------------------------------------------------------------------------ */

static void run_inline(struct dispatch *dispatch, struct ticket *ticket)
{
    ticket_set_state(ticket, TICKET_RUNNING);
    ticket_run(dispatch, ticket);
    ticket_free(dispatch, ticket);
}

void dispatch_submit(struct exchange *exchange, void *context)
{
    struct dispatch *dispatch = context;
    struct ticket *ticket = take_free(dispatch);
    if (ticket == NULL) {
        dispatch_refuse(exchange, COF_REASON_SERVER_BUSY, context);
        return;
    }
    prepare(dispatch, ticket, exchange);
    if (admission_check(dispatch, ticket) != COF_OK) {
        answer_error(dispatch, ticket);
        ticket_free(dispatch, ticket);
    } else if (ticket->method->class == METHOD_INLINE) {
        run_inline(dispatch, ticket);
    } else if (ticket_answer_from_memory(dispatch, ticket)) {
        ticket_free(dispatch, ticket);
    } else {
        enqueue(dispatch, ticket);
    }
}

/* Not inlined: a decoded frame is large, and so is the answer that is made while it would still be on the stack. */
__attribute__((noinline)) static struct cof_slice request_id_of(struct cof_slice frame)
{
    struct cof_request_frame request;
    struct cof_error err;
    cof_ignore(cof_request_frame_decode(frame, &request, &err));
    return request.request_id;
}

struct refusal {
    struct cof_response_frame frame;
    char message[COF_ERROR_MESSAGE_SIZE];
    uint8_t details[COF_ERROR_DETAILS_SIZE];
};

/* Not inlined for the same reason. */
__attribute__((noinline)) static void describe(struct dispatch *dispatch, const struct exchange *exchange,
                                               cof_reason reason, struct refusal *refusal)
{
    struct cof_error err;
    cof_ignore(cof_fail(&err, reason, "%s; %s", cof_reason_meaning(reason), cof_reason_next_step(reason)));
    cof_ignore(cof_error_retry_after(&err, BUSY_RETRY_MS));
    memcpy(refusal->message, err.message, sizeof refusal->message);
    refusal->frame.code = (int32_t) err.code;
    refusal->frame.message = cof_slice_text(refusal->message);
    (void) cof_error_details(&err, &refusal->frame, refusal->details, sizeof refusal->details);
    request_log_refused(dispatch, exchange, refusal->frame.request_id, &err);
}

/* Without a ticket: the frame is not looked at but for its request ID, and the audit stream gets a count. */
void dispatch_refuse(struct exchange *exchange, cof_reason reason, void *context)
{
    struct dispatch *dispatch = context;
    struct refusal refusal;
    refusal.frame = (struct cof_response_frame){
        .revision = COF_FRAME_REVISION,
        .request_id = request_id_of(exchange->frame),
    };
    describe(dispatch, exchange, reason, &refusal);
    uint8_t *to = exchange_buffer(exchange, cof_response_frame_size(&refusal.frame));
    if (to != NULL) {
        (void) cof_response_frame_encode(&refusal.frame, to);
    }
    audit_count(dispatch->options.service->audit, reason);
    exchange_reply(exchange, dispatch->options.reply_timeout_ms, false, false);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static cof_code make_tickets(struct dispatch *dispatch, struct cof_error *err)
{
    const struct dispatch_options *options = &dispatch->options;
    dispatch->ticket_count = options->queue + options->workers * BATCH_MAX + INLINE_TICKETS;
    dispatch->tickets = calloc(dispatch->ticket_count, sizeof *dispatch->tickets);
    dispatch->token_limit = token_limit_new(options->service->limits.in_flight_per_token, dispatch->ticket_count);
    dispatch->parking = parking_new(&(struct parking_options){
        .capacity = options->max_parked,
        .per_workspace = options->max_parked_workspace,
        .watches = options->service->limits.watches,
        .watches_per_workspace = options->service->limits.watches_per_workspace,
        .bytes = options->max_parked_bytes,
        .per_provider = options->service->limits.waiting_per_provider,
        .per_role = options->service->limits.waiting_per_role,
        .flights = options->service->flights,
    });
    dispatch->fair = fair_new(&(struct fair_options){options->queue, options->workers});
    dispatch->line_limit = line_limit_new();
    dispatch->workers = calloc(options->workers, sizeof *dispatch->workers);
    if (dispatch->tickets == NULL || dispatch->token_limit == NULL || dispatch->parking == NULL ||
        dispatch->fair == NULL || dispatch->line_limit == NULL || dispatch->workers == NULL) {
        return cof_arena_exhausted(err);
    }
    return COF_OK;
}

static cof_code start_workers(struct dispatch *dispatch, struct cof_error *err)
{
    for (uint32_t i = 0; i < dispatch->options.workers; i++) {
        TRY(worker_start(dispatch, &dispatch->workers[i], err));
        dispatch->worker_count++;
    }
    return COF_OK;
}

cof_code dispatch_start(const struct dispatch_options *options, struct dispatch **ret_dispatch,
                        struct cof_error *err)
{
    struct dispatch *dispatch = calloc(1, sizeof *dispatch);
    if (dispatch == NULL) {
        return cof_arena_exhausted(err);
    }
    assert(options->service->audit != NULL);
    dispatch->options = *options;
    (void) pthread_mutex_init(&dispatch->lock, NULL);
    cof_condition_init(&dispatch->ready);
    method_table_start();
    cof_code code = make_tickets(dispatch, err);
    if (code == COF_OK) {
        code = start_workers(dispatch, err);
    }
    if (code != COF_OK) {
        dispatch_stop(dispatch);
        dispatch_free(dispatch);
        return code;
    }
    *ret_dispatch = dispatch;
    return COF_OK;
}

void dispatch_log_requests(struct dispatch *dispatch, dispatch_log which)
{
    __atomic_store_n(&dispatch->options.log_requests, which, __ATOMIC_RELAXED);
}

void dispatch_drain(struct dispatch *dispatch)
{
    atomic_store(&dispatch->options.service->leaving, true);
    atomic_store(&dispatch->options.service->draining, true);
    close_parking(dispatch);
}

uint32_t dispatch_in_flight(struct dispatch *dispatch)
{
    (void) pthread_mutex_lock(&dispatch->lock);
    const uint32_t in_flight = dispatch->in_flight;
    (void) pthread_mutex_unlock(&dispatch->lock);
    return in_flight;
}

struct dispatch_load dispatch_load_now(struct dispatch *dispatch)
{
    (void) pthread_mutex_lock(&dispatch->lock);
    struct dispatch_load load = {
        .in_flight = dispatch->in_flight,
        .queued = fair_queued(dispatch->fair),
        .tickets = dispatch->ticket_count,
        .workers = dispatch->worker_count,
    };
    (void) pthread_mutex_unlock(&dispatch->lock);
    load.parked = parking_count(dispatch->parking, CALL_WAIT_REVISION);
    load.watches = parking_count(dispatch->parking, CALL_WAIT_CHANGE);
    load.outside =
        parking_count(dispatch->parking, CALL_WAIT_PROVIDER) + parking_count(dispatch->parking, CALL_WAIT_ROLE);
    return load;
}

void dispatch_stop(struct dispatch *dispatch)
{
    if (dispatch == NULL) {
        return;
    }
    if (dispatch->parking != NULL) {
        close_parking(dispatch);
    }
    (void) pthread_mutex_lock(&dispatch->lock);
    dispatch->stopping = true;
    (void) pthread_cond_broadcast(&dispatch->ready);
    (void) pthread_mutex_unlock(&dispatch->lock);
    for (uint32_t i = 0; i < dispatch->worker_count; i++) {
        worker_join(dispatch->workers[i]);
    }
    dispatch->worker_count = 0;
}

void dispatch_free(struct dispatch *dispatch)
{
    if (dispatch == NULL) {
        return;
    }
    if (dispatch->line_limit != NULL) {
        request_log_rest(dispatch, INT64_MAX);
    }
    (void) pthread_cond_destroy(&dispatch->ready);
    (void) pthread_mutex_destroy(&dispatch->lock);
    token_limit_free(dispatch->token_limit);
    line_limit_free(dispatch->line_limit);
    parking_free(dispatch->parking);
    fair_free(dispatch->fair);
    free(dispatch->workers);
    free(dispatch->tickets);
    free(dispatch);
}
