#include "client/libcoffer/batch.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include <nng/nng.h>

#include "client/libcoffer/client.h"
#include "client/libcoffer/gate.h"
#include "common/varint.h"

enum {
    FIRST_SEATS = 16,
    /* Numbers of fields: of ResolveRequest and ResolveResponse, of ResolveItem, of ResolveResult. */
    REQUEST_ITEMS = 1,
    RESPONSE_RESULTS = 1,
    ITEM_ALLOW_PENDING = 12,
    ITEM_TIMEOUT = 13,
    ITEM_TRACEPARENT = 14,
    RESULT_ITEM_INDEX = 1,
    /* What travelling together adds to an item at most: its three fields and a longer length. */
    ITEM_EXTRA = 2 + 6 + 2 + BATCH_TRACEPARENT_MAX + 2,
};

/* The place of one call in a request. */
struct seat {
    struct batch_call *call; /* NULL: its time is over. Not read once the batch is over, unless it is told */
    bool told;               /* by `ended` */
    uint32_t first_item;
    uint32_t items;
    uint32_t first_part;
    uint32_t pairs;
    uint32_t came; /* results of it in the answer */
};

struct batch {
    struct batches *batches;
    TAILQ_ENTRY(batch) link;
    struct credential *credential;
    struct seat *seats;
    size_t seat_count;
    size_t seat_room;
    size_t items;
    size_t values;
    size_t bytes;
    /* The request while it is on its way, and each call that waits at the gate; the last one frees the batch. */
    size_t holders;
    size_t to_tell; /* calls that are told by `ended` */
    int64_t since_us;
    int64_t earliest_us; /* no call that is told by `ended` has an earlier deadline */
    bool sent;
    bool over; /* what follows is fixed, and read without the lock */
    batch_verdict verdict;
    struct call *call;
    struct cof_slice *parts;
    size_t part_count;
    struct cof_error err;
    struct gate gate;
};

TAILQ_HEAD(batch_list, batch);

struct batches {
    coffer_client *client;
    uint32_t requests_most;
    int64_t wait_us; /* longest wait for others to join */
    nng_aio *timer;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch_list open; /* those that are not over, in the order of their birth, which is that of sending */
    struct batch *next;     /* the first of them that is not sent */
    size_t calls;           /* that have joined and not left */
    size_t on_their_way;    /* batches that were sent and are not freed */
    bool sending;           /* a thread is in send_ready */
    bool closing;
    int64_t timer_us; /* when the timer wakes; 0: it does not sleep */
};

static int64_t now_us(void)
{
    return cof_clock_monotonic(&cof_system_clock);
}

static void lock(struct batches *batches)
{
    (void) pthread_mutex_lock(&batches->lock);
}

static void unlock(struct batches *batches)
{
    (void) pthread_mutex_unlock(&batches->lock);
}

static uint32_t ms_until(int64_t moment_us, int64_t now)
{
    const int64_t left = moment_us - now;
    return left <= 0 ? 0 : (uint32_t) ((left + 999) / 1000);
}

bool batch_takes(const struct packed_request *request, const char *traceparent)
{
    const struct cof_slice trace = cof_slice_text(traceparent);
    return !request->validate_only && request->values <= BATCH_CALL_VALUES_MAX &&
           request->pairs <= BATCH_CALL_VALUES_MAX && request->len <= BATCH_CALL_BYTES_MAX &&
           trace.len <= BATCH_TRACEPARENT_MAX && cof_text_valid(trace);
}

/* --- The request ---------------------------------------------------------------------------------------------- */

/* What an item of a call has of its own when it travels with others. */
struct item_extra {
    uint32_t timeout_ms;
    struct cof_slice traceparent;
};

static size_t extra_size(const struct item_extra *extra)
{
    return wire_number_size(1) + wire_number_size(extra->timeout_ms) + wire_bytes_size(extra->traceparent.len);
}

/* A message goes on where another one ends: fields may stand in any order. */
static uint8_t *put_item(uint8_t *to, struct cof_slice item, const struct item_extra *extra)
{
    to = wire_put_header(to, REQUEST_ITEMS, item.len + extra_size(extra));
    memcpy(to, item.data, item.len);
    to = wire_put_number(to + item.len, ITEM_ALLOW_PENDING, 1);
    to = wire_put_number(to, ITEM_TIMEOUT, extra->timeout_ms);
    return wire_put_bytes(to, ITEM_TRACEPARENT, extra->traceparent);
}

static uint8_t *put_call(uint8_t *to, const struct batch_call *call, int64_t now)
{
    struct cof_slice rest = cof_slice_of(call->request->bytes, call->request->len);
    struct wire_field item;
    const uint32_t left_ms = ms_until(call->deadline_us, now);
    const struct item_extra extra = {left_ms == 0 ? 1 : left_ms, cof_slice_text(call->traceparent)};
    while (rest.len > 0 && wire_take(&rest, &item)) {
        to = put_item(to, item.bytes, &extra);
    }
    return to;
}

/* Takes the seats away that are empty and numbers the items of the others. */
static void close_ranks(struct batch *batch)
{
    struct seat at = {0};
    size_t kept = 0;
    for (size_t i = 0; i < batch->seat_count; i++) {
        struct seat *seat = &batch->seats[i];
        if (seat->call == NULL) {
            continue;
        }
        seat->call->seat = kept;
        seat->first_item = at.first_item;
        seat->first_part = at.first_part;
        at.first_item += seat->items;
        at.first_part += seat->pairs;
        batch->seats[kept++] = *seat;
    }
    batch->seat_count = kept;
    batch->part_count = at.first_part;
}

/* The call of a request: what all of its items have in common, and the longest of their times. */
struct plan {
    struct client_call call;
    uint8_t *payload; /* to be freed */
};

static void plan_done(struct plan *plan)
{
    free(plan->payload);
}

static void plan_times(const struct batch *batch, int64_t now, struct plan *plan)
{
    uint32_t longest = 1;
    uint32_t shortest = UINT32_MAX;
    for (size_t i = 0; i < batch->seat_count; i++) {
        const uint32_t left = ms_until(batch->seats[i].call->deadline_us, now);
        longest = left > longest ? left : longest;
        shortest = left < shortest ? left : shortest;
    }
    plan->call.timeout_ms = longest;
    plan->call.patience_ms = shortest < 2 ? 1 : shortest / 2;
}

/* One call by itself is sent as it is; its trace context is that of the frame. The lock is held. */
static cof_code plan_request(struct batch *batch, struct plan *plan, struct cof_error *err)
{
    const int64_t now = now_us();
    close_ranks(batch);
    assert(batch->seat_count > 0);
    plan->payload = malloc(batch->bytes);
    if (plan->payload == NULL) {
        return memory_exhausted(err);
    }
    plan_times(batch, now, plan);
    const struct batch_call *first = batch->seats[0].call;
    uint8_t *end = plan->payload;
    if (batch->seat_count == 1) {
        memcpy(end, first->request->bytes, first->request->len);
        end += first->request->len;
        plan->call.traceparent = first->traceparent;
    }
    for (size_t i = 0; batch->seat_count > 1 && i < batch->seat_count; i++) {
        end = put_call(end, batch->seats[i].call, now);
    }
    plan->call.payload = cof_slice_of(plan->payload, (size_t) (end - plan->payload));
    return COF_OK;
}

/* --- The answer ----------------------------------------------------------------------------------------------- */

static uint32_t item_index_of(struct cof_slice result)
{
    struct wire_field field;
    uint64_t index = 0;
    while (result.len > 0 && wire_take(&result, &field)) {
        if (field.number == RESULT_ITEM_INDEX && field.type == WIRE_VARINT) {
            index = field.value;
        }
    }
    return index > UINT32_MAX ? UINT32_MAX : (uint32_t) index;
}

/* The seat of an item, looked for from where the one before was found; NULL if there is no such item. */
static struct seat *find_seat(struct batch *batch, uint32_t item, size_t *at)
{
    for (size_t tried = 0; tried < batch->seat_count; tried++) {
        struct seat *seat = &batch->seats[*at];
        if (item >= seat->first_item && item - seat->first_item < seat->items) {
            return seat;
        }
        *at = (*at + 1) % batch->seat_count;
    }
    return NULL;
}

/*
 * Gives each call its results, as many as there are of it: whoever gets the wrong number, or wrong ones, will notice,
 * and nobody else is touched by it.
 */
static void sort_results(struct batch *batch, struct cof_slice payload)
{
    struct wire_field field;
    size_t at = 0;
    while (payload.len > 0 && wire_take(&payload, &field)) {
        if (field.number != RESPONSE_RESULTS || field.type != WIRE_BYTES) {
            continue;
        }
        struct seat *seat = find_seat(batch, item_index_of(field.bytes), &at);
        if (seat != NULL && seat->came < seat->pairs) {
            batch->parts[seat->first_part + seat->came] = field.bytes;
        }
        if (seat != NULL) {
            seat->came++;
        }
    }
}

/* Failures that no call of a request brings about for the others. */
static bool concerns_all(const struct call *call)
{
    static const unsigned codes = 1U << COF_UNAVAILABLE | 1U << COF_DEADLINE_EXCEEDED | 1U << COF_CANCELLED |
                                  1U << COF_UNAUTHENTICATED | 1U << COF_PERMISSION_DENIED | 1U << COF_UNIMPLEMENTED;
    const struct cof_error *err = call_error(call);
    const bool busy = err->code == COF_RESOURCE_EXHAUSTED && err->retry_after_ms > 0;
    return (busy || (codes & 1U << err->code) != 0) && !call_lost_connections(call);
}

static batch_verdict judge(struct batch *batch)
{
    const struct cof_error *err = call_error(batch->call);
    if (err->code != COF_OK) {
        batch->err = *err;
        return batch->seat_count == 1 || concerns_all(batch->call) ? BATCH_FAILED : BATCH_ALONE;
    }
    batch->parts = calloc(batch->part_count, sizeof *batch->parts);
    if (batch->parts == NULL) {
        cof_ignore(memory_exhausted(&batch->err));
        return BATCH_FAILED;
    }
    sort_results(batch, call_reply(batch->call)->payload);
    return BATCH_ANSWERED;
}

/* --- The life of a batch -------------------------------------------------------------------------------------- */

static void free_batch(struct batch *batch)
{
    call_free(batch->call);
    credential_drop(batch->credential);
    free(batch->parts);
    free(batch->seats);
    free(batch);
}

static struct batch *new_batch(struct batches *batches, struct credential *credential)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return NULL;
    }
    batch->batches = batches;
    batch->credential = credential_hold(credential);
    batch->holders = 1;
    batch->since_us = now_us();
    batch->earliest_us = INT64_MAX;
    TAILQ_INSERT_TAIL(&batches->open, batch, link);
    batches->next = batches->next == NULL ? batch : batches->next;
    return batch;
}

static void take_out_locked(struct batch *batch)
{
    struct batches *batches = batch->batches;
    if (batches->next == batch) {
        batches->next = TAILQ_NEXT(batch, link);
    }
    TAILQ_REMOVE(&batches->open, batch, link);
}

static void send_ready(struct batches *batches);

static void count_out_locked(struct batches *batches, size_t calls)
{
    batches->calls -= calls;
    if (batches->calls == 0) {
        (void) pthread_cond_broadcast(&batches->changed);
    }
}

/* One holder less. The last one frees, and then there is room for the next request on the way. */
static void drop(struct batch *batch, size_t calls)
{
    struct batches *batches = batch->batches;
    lock(batches);
    const bool last = --batch->holders == 0;
    if (last) {
        const bool sent = batch->sent;
        unlock(batches);
        free_batch(batch);
        lock(batches);
        batches->on_their_way -= sent;
        send_ready(batches);
    }
    count_out_locked(batches, calls);
    unlock(batches);
}

/* Tells those calls that have a function for it; each leaves, and may be gone afterwards. */
static void tell(struct batch *batch)
{
    for (size_t i = 0; i < batch->seat_count; i++) {
        struct batch_call *call = batch->seats[i].call;
        if (batch->seats[i].told && call != NULL) {
            call->verdict = batch->verdict;
            call->ended(call);
        }
    }
}

/*
 * Fixes the end and lets everybody see it. Where nobody is to be told, the batch is left to those who wait for it, so
 * that the last of them wipes the answer before he goes on.
 */
static void end_batch(struct batch *batch, batch_verdict verdict)
{
    struct batches *batches = batch->batches;
    lock(batches);
    take_out_locked(batch);
    batch->verdict = verdict;
    batch->over = true;
    const size_t to_call = batch->to_tell;
    const bool left_to_others = to_call == 0 && batch->holders > 1;
    batch->holders -= left_to_others;
    gate_open(&batch->gate);
    unlock(batches);
    gate_wake(&batch->gate);
    if (!left_to_others) {
        tell(batch);
        drop(batch, to_call);
    }
}

static void on_over(struct call *call, void *context)
{
    struct batch *batch = context;
    batch->call = call;
    end_batch(batch, judge(batch));
}

static cof_code start(struct batch *batch, struct plan *plan)
{
    struct call *call = NULL;
    plan->call.method = RESOLVE_METHOD;
    plan->call.credential = batch->credential;
    TRY(client_call_new(batch->batches->client, &plan->call, &call, &batch->err));
    call_start(call, on_over, batch);
    return COF_OK;
}

/* The lock is held, and given up meanwhile. */
static void send_locked(struct batch *batch)
{
    struct batches *batches = batch->batches;
    AUTO(plan_done) struct plan plan = {0};
    char traceparent[REQUEST_TRACEPARENT_MAX + 1];
    cof_code code = plan_request(batch, &plan, &batch->err);
    if (code == COF_OK && plan.call.traceparent != NULL) {
        /* The call that it belongs to may be late, and gone. */
        memcpy(traceparent, plan.call.traceparent, strlen(plan.call.traceparent) + 1);
        plan.call.traceparent = traceparent;
    }
    unlock(batches);
    if (code == COF_OK) {
        code = start(batch, &plan);
    }
    if (code != COF_OK) {
        end_batch(batch, BATCH_FAILED);
    }
    lock(batches);
}

static bool may_send(const struct batches *batches)
{
    const struct batch *batch = batches->next;
    return batch != NULL && !batches->closing &&
           (batches->on_their_way < batches->requests_most || now_us() - batch->since_us >= batches->wait_us);
}

static bool anybody_in(const struct batch *batch)
{
    for (size_t i = 0; i < batch->seat_count; i++) {
        if (batch->seats[i].call != NULL) {
            return true;
        }
    }
    return false;
}

/* The time of all of its calls was over before it was sent. Some of them may not have left yet. */
static void discard_locked(struct batch *batch)
{
    take_out_locked(batch);
    batch->over = true;
    batch->verdict = BATCH_LATE;
    if (--batch->holders == 0) {
        free_batch(batch);
    }
}

/*
 * Sends what may be sent. One thread does it for all: another one that comes meanwhile, be it from within, has joined
 * what this one will look at. The lock is held, and given up meanwhile.
 */
static void send_ready(struct batches *batches)
{
    if (batches->sending) {
        return;
    }
    batches->sending = true;
    while (may_send(batches)) {
        struct batch *batch = batches->next;
        if (!anybody_in(batch)) {
            discard_locked(batch);
            continue;
        }
        batches->next = TAILQ_NEXT(batch, link);
        batch->sent = true;
        batches->on_their_way++;
        send_locked(batch);
    }
    batches->sending = false;
    (void) pthread_cond_broadcast(&batches->changed);
}

/* --- Time ----------------------------------------------------------------------------------------------------- */

/* When something is to be done next: a batch has waited long enough, or the time of a call is over. */
static int64_t next_event(const struct batches *batches)
{
    int64_t earliest = INT64_MAX;
    const struct batch *batch = NULL;
    TAILQ_FOREACH(batch, &batches->open, link)
    {
        earliest = batch->earliest_us < earliest ? batch->earliest_us : earliest;
    }
    if (batches->next != NULL) {
        const int64_t held = batches->next->since_us + batches->wait_us;
        earliest = held < earliest ? held : earliest;
    }
    return earliest;
}

/* While requests are on their way somebody may soon have to wait; then a timer that looks is cheaper than a new one. */
static int64_t next_look(const struct batches *batches)
{
    const int64_t event = next_event(batches);
    const int64_t held = now_us() + batches->wait_us;
    return batches->on_their_way > 0 && held < event ? held : event;
}

/* Lets the timer sleep until then, if it would not wake before. The lock is held. */
static void wake_at(struct batches *batches, int64_t moment_us)
{
    if (moment_us == INT64_MAX || batches->closing) {
        return;
    }
    if (batches->timer_us == 0) {
        batches->timer_us = moment_us;
        nng_sleep_aio((nng_duration) ms_until(moment_us, now_us()), batches->timer);
    } else if (moment_us < batches->timer_us) {
        nng_aio_cancel(batches->timer);
    }
}

/* Takes the calls whose time is over out of the batch and puts them in front of the list. */
static struct batch_call *take_late(struct batch *batch, int64_t now, struct batch_call *list)
{
    int64_t earliest = INT64_MAX;
    for (size_t i = 0; i < batch->seat_count; i++) {
        struct batch_call *call = batch->seats[i].call;
        if (call == NULL || !batch->seats[i].told) {
            continue;
        }
        if (call->deadline_us > now) {
            earliest = call->deadline_us < earliest ? call->deadline_us : earliest;
            continue;
        }
        batch->seats[i].call = NULL;
        batch->to_tell--;
        call->verdict = BATCH_LATE;
        call->next_late = list;
        list = call;
    }
    batch->earliest_us = earliest;
    return list;
}

static struct batch_call *take_all_late(struct batches *batches)
{
    struct batch_call *late = NULL;
    struct batch *batch = NULL;
    const int64_t now = now_us();
    TAILQ_FOREACH(batch, &batches->open, link)
    {
        if (batch->earliest_us <= now) {
            late = take_late(batch, now, late);
        }
    }
    return late;
}

static void on_timer(void *context)
{
    struct batches *batches = context;
    size_t count = 0;
    lock(batches);
    batches->timer_us = 0;
    struct batch_call *late = take_all_late(batches);
    unlock(batches);
    while (late != NULL) {
        struct batch_call *call = late;
        late = call->next_late;
        call->ended(call);
        count++;
    }
    lock(batches);
    send_ready(batches);
    wake_at(batches, next_look(batches));
    count_out_locked(batches, count);
    unlock(batches);
}

/* --- Callers -------------------------------------------------------------------------------------------------- */

static bool fits(const struct batch *batch, const struct credential *credential,
                 const struct packed_request *request)
{
    return batch->credential == credential && batch->items + request->items <= BATCH_ITEMS_MAX &&
           batch->values + request->values <= BATCH_VALUES_MAX &&
           batch->bytes + request->len + request->items * ITEM_EXTRA <= BATCH_BYTES_MAX;
}

/* The batch that the call joins: the last one if it is not sent yet and has room, or a new one. NULL: no memory. */
static struct batch *choose(struct batches *batches, struct credential *credential,
                            const struct packed_request *request)
{
    struct batch *last = TAILQ_LAST(&batches->open, batch_list);
    const bool joins = batches->next != NULL && fits(last, credential, request);
    return joins ? last : new_batch(batches, credential);
}

static bool make_room(struct batch *batch)
{
    if (batch->seat_count < batch->seat_room) {
        return true;
    }
    const size_t room = batch->seat_room == 0 ? FIRST_SEATS : 2 * batch->seat_room;
    struct seat *seats = realloc(batch->seats, room * sizeof *seats);
    if (seats == NULL) {
        return false;
    }
    batch->seats = seats;
    batch->seat_room = room;
    return true;
}

static void sit_down(struct batch *batch, struct batch_call *call)
{
    const struct packed_request *request = call->request;
    call->batch = batch;
    call->seat = batch->seat_count;
    call->verdict = BATCH_ON_ITS_WAY;
    batch->seats[batch->seat_count++] = (struct seat){.call = call,
                                                      .told = call->ended != NULL,
                                                      .items = (uint32_t) request->items,
                                                      .pairs = (uint32_t) request->pairs};
    batch->items += request->items;
    batch->values += request->values;
    batch->bytes += request->len + request->items * ITEM_EXTRA;
    if (call->ended == NULL) {
        batch->holders++;
        return;
    }
    batch->to_tell++;
    batch->earliest_us = call->deadline_us < batch->earliest_us ? call->deadline_us : batch->earliest_us;
}

static cof_code check_open(const struct batches *batches, struct cof_error *err)
{
    if (batches->closing) {
        return cof_fail(err, COF_REASON_CLIENT_CLOSED, "the client is being closed; %s",
                        cof_reason_next_step(COF_REASON_CLIENT_CLOSED));
    }
    if (batches->calls == BATCH_CALLS_MAX) {
        return cof_fail(err, COF_REASON_TOO_MANY_IN_FLIGHT,
                        "%d resolves are running on this client; wait until some have ended", BATCH_CALLS_MAX);
    }
    return COF_OK;
}

static cof_code join_locked(struct batches *batches, struct batch_call *call, struct credential *credential,
                            struct cof_error *err)
{
    TRY(check_open(batches, err));
    struct batch *batch = choose(batches, credential, call->request);
    if (batch == NULL || !make_room(batch)) {
        return memory_exhausted(err);
    }
    sit_down(batch, call);
    batches->calls++;
    send_ready(batches);
    wake_at(batches, next_event(batches));
    return COF_OK;
}

cof_code batch_join(struct batches *batches, struct batch_call *call, struct cof_error *err)
{
    struct credential *credential = client_credential(batches->client);
    lock(batches);
    const cof_code code = join_locked(batches, call, credential, err);
    unlock(batches);
    credential_drop(credential);
    return code;
}

void batch_wait(struct batch_call *call)
{
    struct batch *batch = call->batch;
    if (gate_wait(&batch->gate, call->deadline_us)) {
        call->verdict = batch->verdict;
        return;
    }
    lock(batch->batches);
    call->verdict = batch->over ? batch->verdict : BATCH_LATE;
    batch->seats[call->seat].call = NULL;
    unlock(batch->batches);
}

struct result_parts batch_parts(const struct batch_call *call)
{
    const struct seat *seat = &call->batch->seats[call->seat];
    return (struct result_parts){call->batch->parts + seat->first_part, seat->came, seat->first_item};
}

const struct cof_error *batch_error(const struct batch_call *call)
{
    return &call->batch->err;
}

bool batch_request_id(const struct batch_call *call, struct cof_uuid *ret_id)
{
    const bool known = call->verdict != BATCH_LATE && call->batch->call != NULL;
    if (known) {
        *ret_id = *call_request_id(call->batch->call);
    }
    return known;
}

void batch_leave(struct batch_call *call)
{
    /* Those that are told by `ended` are counted by whoever tells them. */
    if (call->batch != NULL && call->ended == NULL) {
        drop(TAKE(call->batch), 1);
    }
    call->batch = NULL;
}

cof_code batches_new(coffer_client *client, struct batches **ret_batches, struct cof_error *err)
{
    struct batches *batches = calloc(1, sizeof *batches);
    if (batches == NULL) {
        return memory_exhausted(err);
    }
    if (nng_aio_alloc(&batches->timer, on_timer, batches) != 0) {
        free(batches);
        return memory_exhausted(err);
    }
    batches->client = client;
    batches->requests_most = client->settings.coalesce_requests;
    batches->wait_us = (int64_t) client->settings.coalesce_wait_ms * 1000;
    (void) pthread_mutex_init(&batches->lock, NULL);
    (void) pthread_cond_init(&batches->changed, NULL);
    TAILQ_INIT(&batches->open);
    *ret_batches = batches;
    return COF_OK;
}

static void end_waiting(struct batches *batches)
{
    for (;;) {
        lock(batches);
        struct batch *batch = batches->next;
        unlock(batches);
        if (batch == NULL) {
            return;
        }
        cof_ignore(cof_fail(&batch->err, COF_REASON_CLIENT_CLOSED,
                            "the client was closed before a resolve was sent; %s",
                            cof_reason_next_step(COF_REASON_CLIENT_CLOSED)));
        end_batch(batch, BATCH_FAILED);
    }
}

void batches_end(struct batches *batches)
{
    if (batches == NULL) {
        return;
    }
    lock(batches);
    batches->closing = true;
    unlock(batches);
    end_waiting(batches);
}

void batches_free(struct batches *batches)
{
    if (batches == NULL) {
        return;
    }
    nng_aio_cancel(batches->timer);
    lock(batches);
    while (batches->calls > 0 || batches->on_their_way > 0 || batches->sending) {
        (void) pthread_cond_wait(&batches->changed, &batches->lock);
    }
    unlock(batches);
    nng_aio_free(batches->timer);
    (void) pthread_cond_destroy(&batches->changed);
    (void) pthread_mutex_destroy(&batches->lock);
    free(batches);
}
