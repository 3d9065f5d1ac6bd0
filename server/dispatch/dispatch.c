#include "server/dispatch/dispatch.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/secret.h"
#include "common/wire.h"
#include "server/dispatch/ticket.h"

enum {
    INLINE_TICKETS = 64, /* beyond those of the queue and the workers */
    BATCH_MAX = 16,
    BUSY_RETRY_MS = 50,
    IDLE_S = 1, /* after which a worker looks whether the database is still there */
};

struct dispatch {
    struct dispatch_options options;
    struct token_limit *token_limit;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct ticket *tickets;
    uint32_t ticket_count;
    struct ticket *free;
    struct ticket *first; /* of the queue */
    struct ticket **last;
    uint32_t queued;
    uint32_t in_flight;
    bool waking; /* a worker was told and has not come yet */
    bool stopping;
    struct worker **workers;
    uint32_t worker_count;
};

/* --- Tickets -------------------------------------------------------------------------------------------------- */

/* Each state with those that may come before it. */
void ticket_set_state(struct ticket *ticket, ticket_state state)
{
    switch (state) {
    case TICKET_FREE:
        assert(ticket->state == TICKET_ANSWERED);
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
        assert(ticket->state == TICKET_RUNNING);
        break;
    case TICKET_ANSWERED:
        assert(ticket->state == TICKET_ADMITTING || ticket->state == TICKET_RUNNING ||
               ticket->state == TICKET_KEPT);
        break;
    }
    ticket->state = state;
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

static struct ticket *take_free(struct dispatch *dispatch)
{
    (void) pthread_mutex_lock(&dispatch->lock);
    struct ticket *ticket = dispatch->free;
    if (ticket != NULL) {
        dispatch->free = ticket->next;
        dispatch->in_flight++;
    }
    (void) pthread_mutex_unlock(&dispatch->lock);
    return ticket;
}

static void prepare(struct dispatch *dispatch, struct ticket *ticket, struct exchange *exchange)
{
    ticket_set_state(ticket, TICKET_ADMITTING);
    ticket->next = NULL;
    ticket->exchange = exchange;
    ticket->dispatch = dispatch;
    ticket->method = NULL;
    ticket->has_token = false;
    ticket->counted = false;
    ticket->malformed = false;
    ticket->request = NULL;
    ticket->token_failed = false;
    ticket->prefetch_queued = false;
    ticket->token_rows = NULL;
    ticket->frame = (struct cof_request_frame){0};
    ticket->call = (struct call){
        .service = dispatch->options.service,
        .arena = &ticket->arena,
        .err = &ticket->err,
        .peer = exchange->peer.address,
        .received_us = exchange->received_us,
        .deadline_us = exchange->received_us,
    };
    cof_error_clear(&ticket->err);
}

void ticket_free(struct dispatch *dispatch, struct ticket *ticket)
{
    if (ticket->state == TICKET_KEPT) {
        audit_wait(dispatch->options.service->audit, &ticket->waiter); /* which calls ticket_free again */
        return;
    }
    rows_free(ticket->token_rows);
    rows_free(ticket->call.prefetched);
    cof_arena_reset(&ticket->arena);
    if (ticket->counted) {
        token_limit_leave(dispatch->token_limit, &ticket->token.id);
    }
    cof_wipe(&ticket->token, sizeof ticket->token);
    ticket_set_state(ticket, TICKET_FREE);
    (void) pthread_mutex_lock(&dispatch->lock);
    ticket->next = dispatch->free;
    dispatch->free = ticket;
    dispatch->in_flight--;
    (void) pthread_mutex_unlock(&dispatch->lock);
}

/* --- Running -------------------------------------------------------------------------------------------------- */

static cof_code handle(struct dispatch *dispatch, struct ticket *ticket, ProtobufCMessage **ret_response)
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
    call->payload = ticket->frame.payload;
    if (ticket->request == NULL) {
        TRY(cof_wire_unpack(method->request, call->payload, call->arena, &ticket->request, call->err));
    }
    TRY(call_check_deadline(call));
    TRY(record_check(dispatch, ticket));
    TRY(method->handle(call, ticket->request, response));
    *ret_response = response;
    return COF_OK;
}

void ticket_run(struct dispatch *dispatch, struct ticket *ticket)
{
    ProtobufCMessage *response = NULL;
    if (ticket->err.code == COF_OK && handle(dispatch, ticket, &response) == COF_OK) {
        /* A handler may have met failures that it turned into part of its answer. */
        cof_error_clear(&ticket->err);
        answer_message(dispatch, ticket, response);
    } else {
        answer_error(dispatch, ticket);
    }
}

/* --- The queue ------------------------------------------------------------------------------------------------ */

/* Wakes one worker, and none while one is on its way: it takes what comes meanwhile with it, and wakes the next one if
 * it leaves something. Many that wake at once would each find one call. */
static void wake(struct dispatch *dispatch)
{
    if (!dispatch->waking) {
        dispatch->waking = true;
        (void) pthread_cond_signal(&dispatch->ready);
    }
}

static bool enqueue(struct dispatch *dispatch, struct ticket *ticket)
{
    bool taken = false;
    (void) pthread_mutex_lock(&dispatch->lock);
    if (dispatch->queued < dispatch->options.queue && !dispatch->stopping) {
        ticket_set_state(ticket, TICKET_QUEUED);
        *dispatch->last = ticket;
        dispatch->last = &ticket->next;
        dispatch->queued++;
        taken = true;
        wake(dispatch);
    }
    (void) pthread_mutex_unlock(&dispatch->lock);
    return taken;
}

static struct ticket *pop(struct dispatch *dispatch)
{
    struct ticket *ticket = dispatch->first;
    dispatch->first = ticket->next;
    if (dispatch->first == NULL) {
        dispatch->last = &dispatch->first;
    }
    dispatch->queued--;
    ticket->next = NULL;
    ticket_set_state(ticket, TICKET_RUNNING);
    return ticket;
}

/* Waits for calls, but no longer than a worker may be idle. The lock is held. */
static void wait_for_calls(struct dispatch *dispatch)
{
    struct timespec until;
    int result = 0;
    (void) clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_S;
    while (dispatch->first == NULL && !dispatch->stopping && result == 0) {
        dispatch->waking = false;
        result = pthread_cond_timedwait(&dispatch->ready, &dispatch->lock, &until);
    }
    dispatch->waking = false;
}

/* Reads go to a worker in batches, a write alone, so that nobody waits behind a stranger's commit. A worker leaves
 * to the others what they could start now. */
size_t dispatch_take(struct dispatch *dispatch, struct ticket **tickets, size_t max, bool *ret_stop)
{
    size_t count = 0;
    (void) pthread_mutex_lock(&dispatch->lock);
    wait_for_calls(dispatch);
    while (dispatch->first != NULL && count < max) {
        const bool write = dispatch->first->method->class == METHOD_WRITE;
        if (write && count > 0) {
            break;
        }
        tickets[count++] = pop(dispatch);
        if (write) {
            break;
        }
    }
    if (dispatch->first != NULL) {
        wake(dispatch);
    }
    *ret_stop = count == 0 && dispatch->stopping;
    (void) pthread_mutex_unlock(&dispatch->lock);
    return count;
}

/* --- From and to transport ------------------------------------------------------------------------------------ */

static void busy(struct ticket *ticket)
{
    cof_ignore(cof_fail(&ticket->err, COF_REASON_SERVER_BUSY, "%s; %s", cof_reason_meaning(COF_REASON_SERVER_BUSY),
                        cof_reason_next_step(COF_REASON_SERVER_BUSY)));
    cof_ignore(cof_error_retry_after(&ticket->err, BUSY_RETRY_MS));
}

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
    } else if (!enqueue(dispatch, ticket)) {
        busy(ticket);
        answer_error(dispatch, ticket);
        ticket_free(dispatch, ticket);
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
    exchange_reply(exchange, dispatch->options.reply_timeout_ms, false);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static cof_code make_tickets(struct dispatch *dispatch, struct cof_error *err)
{
    const struct dispatch_options *options = &dispatch->options;
    dispatch->ticket_count = options->queue + options->workers * BATCH_MAX + INLINE_TICKETS;
    dispatch->tickets = calloc(dispatch->ticket_count, sizeof *dispatch->tickets);
    dispatch->token_limit = token_limit_new(options->service->limits.in_flight_per_token, dispatch->ticket_count);
    dispatch->workers = calloc(options->workers, sizeof *dispatch->workers);
    if (dispatch->tickets == NULL || dispatch->token_limit == NULL || dispatch->workers == NULL) {
        return cof_arena_exhausted(err);
    }
    for (uint32_t i = 0; i < dispatch->ticket_count; i++) {
        cof_arena_init(&dispatch->tickets[i].arena, options->pool, options->call_memory);
        dispatch->tickets[i].next = dispatch->free;
        dispatch->free = &dispatch->tickets[i];
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

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    (void) pthread_condattr_init(&attributes);
    (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void) pthread_cond_init(condition, &attributes);
    (void) pthread_condattr_destroy(&attributes);
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
    dispatch->last = &dispatch->first;
    (void) pthread_mutex_init(&dispatch->lock, NULL);
    init_condition(&dispatch->ready);
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

void dispatch_drain(struct dispatch *dispatch)
{
    atomic_store(&dispatch->options.service->draining, true);
}

uint32_t dispatch_in_flight(struct dispatch *dispatch)
{
    (void) pthread_mutex_lock(&dispatch->lock);
    const uint32_t in_flight = dispatch->in_flight;
    (void) pthread_mutex_unlock(&dispatch->lock);
    return in_flight;
}

void dispatch_stop(struct dispatch *dispatch)
{
    if (dispatch == NULL) {
        return;
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
    (void) pthread_cond_destroy(&dispatch->ready);
    (void) pthread_mutex_destroy(&dispatch->lock);
    token_limit_free(dispatch->token_limit);
    free(dispatch->workers);
    free(dispatch->tickets);
    free(dispatch);
}
