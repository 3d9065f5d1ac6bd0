#include "client/libcoffer/call.h"

#include <assert.h>
#include <stdlib.h>

#include "client/libcoffer/call_state.h"
#include "client/libcoffer/retry.h"
#include "common/secret.h"

enum {
    /* Time for nng to find the connection's turn, after which another address is tried. */
    SEND_MS = 1000,
    /* The server gives up when the time is over; its answer, which says more than ours could, needs a moment. */
    GRACE_MS = 100,
    ADDRESSES_TEXT = 460,
};

#define STATE(state) (1U << (state))

static const unsigned next_states[] = {
    [CALL_IDLE] = STATE(CALL_CHOOSING),
    [CALL_CHOOSING] = STATE(CALL_WAITING) | STATE(CALL_SENDING) | STATE(CALL_PAUSING) | STATE(CALL_OVER),
    [CALL_WAITING] = STATE(CALL_CHOOSING) | STATE(CALL_OVER),
    [CALL_SENDING] = STATE(CALL_RECEIVING) | STATE(CALL_PAUSING) | STATE(CALL_OVER),
    [CALL_RECEIVING] = STATE(CALL_PAUSING) | STATE(CALL_OVER),
    [CALL_PAUSING] = STATE(CALL_CHOOSING) | STATE(CALL_OVER),
    [CALL_OVER] = STATE(CALL_IDLE),
};

static void set_state_locked(struct call *call, call_state state)
{
    assert((next_states[call->state] & STATE(state)) != 0);
    call->state = state;
}

static void set_state(struct call *call, call_state state)
{
    channel_lock(call->channel);
    set_state_locked(call, state);
    channel_unlock(call->channel);
}

static int64_t now_us(const struct call *call)
{
    return cof_clock_monotonic(call->channel->options.clock);
}

/* Milliseconds until a moment, rounded up; at least 0. */
static uint32_t ms_until(const struct call *call, int64_t moment_us)
{
    const int64_t left = moment_us - now_us(call);
    return left <= 0 ? 0 : (uint32_t) ((left + 999) / 1000);
}

static void end_attempt(struct call *call)
{
    if (call->endpoint != NULL) {
        endpoint_forget(call->endpoint, &call->attempt);
    }
}

static void finish(struct call *call)
{
    end_attempt(call);
    if (call->done != NULL) {
        set_state(call, CALL_OVER);
        call->done(call, call->context);
        return;
    }
    channel_lock(call->channel);
    set_state_locked(call, CALL_OVER);
    (void) pthread_cond_signal(&call->over);
    channel_unlock(call->channel);
}

static void finish_closed(struct call *call)
{
    cof_ignore(cof_fail(&call->err, COF_REASON_CLIENT_CLOSED, "the client was closed while %.*s was running; %s",
                        (int) call->frame.method.len, (const char *) call->frame.method.data,
                        cof_reason_next_step(COF_REASON_CLIENT_CLOSED)));
    finish(call);
}

static void finish_late(struct call *call)
{
    cof_ignore(cof_fail(&call->err, COF_REASON_DEADLINE_EXCEEDED, "%s did not answer %.*s within %u ms; %s",
                        call->endpoint == NULL ? "the server" : endpoint_address(call->endpoint),
                        (int) call->frame.method.len, (const char *) call->frame.method.data, call->timeout_ms,
                        cof_reason_next_step(COF_REASON_DEADLINE_EXCEEDED)));
    finish(call);
}

static void finish_unreachable(struct call *call)
{
    char addresses[ADDRESSES_TEXT];
    if (channel_problems(call->channel, addresses, sizeof addresses)) {
        cof_ignore(cof_fail(&call->err, COF_REASON_NOT_CONNECTED, "no server could be reached: %s", addresses));
        finish(call);
        return;
    }
    channel_addresses(call->channel, addresses, sizeof addresses);
    cof_ignore(cof_fail(&call->err, COF_REASON_NOT_CONNECTED, "no server could be reached at %s; %s", addresses,
                        cof_reason_next_step(COF_REASON_NOT_CONNECTED)));
    finish(call);
}

static void finish_without_memory(struct call *call)
{
    cof_ignore(cof_fail(&call->err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a message"));
    finish(call);
}

/* Sleeps in the given state; whoever looks at the state under the lock may cancel the sleep. */
static void sleep_locked(struct call *call, call_state state, uint32_t ms)
{
    set_state_locked(call, state);
    nng_sleep_aio((nng_duration) ms, call->timer);
}

/* Advice concerns the server that gave it: another one that is connected is tried without waiting for that. */
static uint32_t pause_ms(const struct call *call)
{
    const size_t connected = channel_connected(call->channel);
    const bool elsewhere = connected > 1 && (call->failures + 1) % connected != 0;
    return retry_delay_ms(call->failures, elsewhere ? 0 : call->err.retry_after_ms,
                          retry_random(call->request_id.bytes, call->failures));
}

static void pause_for(struct call *call, uint32_t ms)
{
    channel_lock(call->channel);
    const bool closing = call->channel->closing;
    if (!closing) {
        sleep_locked(call, CALL_PAUSING, ms);
    }
    channel_unlock(call->channel);
    if (closing) {
        finish_closed(call);
    }
}

/* Tries again after a while, or ends with the failure in `err` if the time does not suffice. */
static void pause_or_finish(struct call *call)
{
    const uint32_t delay = pause_ms(call);
    end_attempt(call);
    call->failures++;
    if (delay >= ms_until(call, call->deadline_us)) {
        finish(call);
        return;
    }
    pause_for(call, delay);
}

/* The connection was lost, or gave an answer to something else, after the request was sent. */
static void lose(struct call *call)
{
    channel_blame(call->channel, call->endpoint);
    call->lost++;
    cof_ignore(cof_fail(&call->err, COF_REASON_NOT_CONNECTED,
                        "the connection to %s was lost before %.*s was answered, %u times in this call; %s",
                        endpoint_address(call->endpoint), (int) call->frame.method.len,
                        (const char *) call->frame.method.data, call->lost,
                        call->lost < RETRY_LOST_MOST
                            ? cof_reason_next_step(COF_REASON_NOT_CONNECTED)
                            : "see the server's log, and ask for less at once in case the answer was too large"));
    if (call->lost >= RETRY_LOST_MOST) {
        finish(call);
        return;
    }
    pause_or_finish(call);
}

static void begin_attempt(struct call *call)
{
    const uint32_t left = ms_until(call, call->deadline_us);
    call->frame.timeout_ms = left == 0 ? 1 : left;
    struct parcel *request = parcel_new(cof_request_frame_size(&call->frame));
    if (request == NULL) {
        finish_without_memory(call);
        return;
    }
    (void) cof_request_frame_encode(&call->frame, request->frame);
    nng_aio_set_timeout(call->io, (nng_duration) (left > SEND_MS ? SEND_MS : call->frame.timeout_ms));
    if (!endpoint_send(call->endpoint, &call->attempt, request, call->io)) {
        finish_closed(call);
    }
}

/* What a call does next; NULL: it sleeps. */
typedef void (*next_step)(struct call *call);

/*
 * Chooses and, where there is nothing to choose, begins to wait under one lock: a connection is counted before its
 * waiters are woken under the lock, so that none is missed.
 */
static next_step choose_locked(struct call *call)
{
    struct endpoint *endpoint = channel_choose(call->channel, call->failures > 0 ? call->endpoint : NULL);
    const int64_t now = now_us(call);
    if (call->channel->closing) {
        return finish_closed;
    }
    if (endpoint != NULL) {
        call->endpoint = endpoint;
        call->give_up_us = 0;
        set_state_locked(call, CALL_SENDING);
        return begin_attempt;
    }
    if (call->give_up_us == 0) {
        const int64_t most = now + (int64_t) call->channel->options.connect_timeout_ms * 1000;
        call->give_up_us = most < call->deadline_us ? most : call->deadline_us;
    }
    if (now >= call->give_up_us) {
        return finish_unreachable;
    }
    sleep_locked(call, CALL_WAITING, ms_until(call, call->give_up_us));
    return NULL;
}

static void choose(struct call *call)
{
    channel_lock(call->channel);
    const next_step next = choose_locked(call);
    channel_unlock(call->channel);
    if (next != NULL) {
        next(call);
    }
}

static void on_awake(struct call *call, int rv)
{
    (void) rv;
    set_state(call, CALL_CHOOSING);
    choose(call);
}

/*
 * A server that hangs must not cost a call that another one can answer, so as long as there are others the wait is cut
 * short; the last one gets all of the time that is left. Asking twice does no harm: the request ID is the same.
 */
static uint32_t wait_for_answer_ms(struct call *call)
{
    const uint32_t left = ms_until(call, call->deadline_us);
    call->impatient = call->unanswered + 1 < channel_connected(call->channel);
    if (!call->impatient) {
        return left + GRACE_MS;
    }
    const uint32_t half = left < 2 ? 1 : left / 2;
    return call->patience_ms != 0 && call->patience_ms < half ? call->patience_ms : half;
}

static void on_sent(struct call *call, int rv)
{
    if (rv == 0) {
        call->frame.attempt++;
        set_state(call, CALL_RECEIVING);
        nng_aio_set_timeout(call->io, (nng_duration) wait_for_answer_ms(call));
        if (!endpoint_receive(call->endpoint, &call->attempt, call->io)) {
            finish_closed(call);
        }
        return;
    }
    if (rv == NNG_ETIMEDOUT && ms_until(call, call->deadline_us) == 0) {
        finish_late(call);
        return;
    }
    channel_blame(call->channel, call->endpoint);
    cof_ignore(cof_fail(&call->err, COF_REASON_NOT_CONNECTED,
                        "the connection to %s was lost before a request was sent; %s",
                        endpoint_address(call->endpoint), cof_reason_next_step(COF_REASON_NOT_CONNECTED)));
    pause_or_finish(call);
}

static bool is_ours(const struct call *call)
{
    const struct cof_slice id = cof_slice_of(call->request_id.bytes, sizeof call->request_id.bytes);
    /* A server that could not read the frame cannot repeat its ID; that is no answer, but an error it may be. */
    return cof_slice_equal(call->reply.request_id, id) ||
           (call->reply.request_id.len == 0 && call->reply.code != (int32_t) COF_OK);
}

/* What a server refuses because it has too much to do is repeated within the client's budget. */
static bool may_repeat(struct call *call)
{
    return retry_helps(&call->err) &&
           (call->err.code != COF_RESOURCE_EXHAUSTED || retry_take(&call->channel->retries));
}

static void take_reply(struct call *call)
{
    const struct cof_slice bytes = call_reply_bytes(call);
    end_attempt(call);
    if (cof_response_frame_decode(bytes, &call->reply, &call->err) != COF_OK) {
        finish(call);
        return;
    }
    if (!is_ours(call)) {
        lose(call);
        return;
    }
    cof_error_clear(&call->err);
    if (call->reply.code != (int32_t) COF_OK) {
        cof_error_from_frame(&call->reply, &call->err);
    }
    if (call->err.code == COF_OK) {
        retry_earn(&call->channel->retries);
    }
    if (!may_repeat(call)) {
        finish(call);
        return;
    }
    channel_blame(call->channel, call->endpoint);
    pause_or_finish(call);
}

static void on_silence(struct call *call)
{
    channel_blame(call->channel, call->endpoint);
    if (!call->impatient) {
        finish_late(call);
        return;
    }
    call->unanswered++;
    cof_ignore(cof_fail(&call->err, COF_REASON_DEADLINE_EXCEEDED, "%s did not answer %.*s; %s",
                        endpoint_address(call->endpoint), (int) call->frame.method.len,
                        (const char *) call->frame.method.data,
                        cof_reason_next_step(COF_REASON_DEADLINE_EXCEEDED)));
    pause_or_finish(call);
}

static void on_received(struct call *call, int rv)
{
    if (rv == NNG_ETIMEDOUT) {
        on_silence(call);
        return;
    }
    if (rv != 0) {
        lose(call);
        return;
    }
    parcel_free(call->answer);
    call->answer = endpoint_take_answer(&call->attempt);
    take_reply(call);
}

void call_on_event(void *context)
{
    static void (*const events[])(struct call * call, int rv) = {[CALL_WAITING] = on_awake,
                                                                 [CALL_SENDING] = on_sent,
                                                                 [CALL_RECEIVING] = on_received,
                                                                 [CALL_PAUSING] = on_awake};
    struct call *call = context;
    assert(call->state < COF_COUNT(events) && events[call->state] != NULL);
    const bool slept = call->state == CALL_WAITING || call->state == CALL_PAUSING;
    const int rv = nng_aio_result(slept ? call->timer : call->io);
    if (rv != 0 && channel_closing(call->channel)) {
        finish_closed(call);
        return;
    }
    events[call->state](call, rv);
}

static struct cof_slice put(uint8_t **to, struct cof_slice bytes)
{
    uint8_t *at = *to;
    if (bytes.len > 0) {
        memcpy(at, bytes.data, bytes.len);
    }
    *to += bytes.len;
    return cof_slice_of(at, bytes.len);
}

static size_t metadata_size(const struct cof_metadata *metadata)
{
    size_t size = 0;
    for (uint32_t i = 0; i < metadata->count; i++) {
        size += metadata->entries[i].key.len + metadata->entries[i].value.len;
    }
    return size;
}

static void copy_into_block(struct call *call, const struct call_request *request)
{
    uint8_t *to = call->block;
    struct cof_metadata *metadata = &call->frame.metadata;
    call->frame.method = put(&to, request->method);
    call->frame.payload = put(&to, request->payload);
    metadata->count = request->metadata->count;
    for (uint32_t i = 0; i < metadata->count; i++) {
        metadata->entries[i].key = put(&to, request->metadata->entries[i].key);
        metadata->entries[i].value = put(&to, request->metadata->entries[i].value);
    }
    if (request->credential != NULL) {
        call->credential = credential_hold(request->credential);
        metadata->entries[metadata->count].key = cof_slice_text("authorization");
        metadata->entries[metadata->count++].value = credential_text(call->credential);
    }
}

static cof_code check(const struct call *call, struct cof_error *err)
{
    struct cof_request_frame largest = call->frame;
    const size_t bytes = metadata_size(&call->frame.metadata);
    largest.timeout_ms = UINT32_MAX;
    largest.attempt = UINT32_MAX;
    if (bytes > COF_FRAME_METADATA_BYTES) {
        return cof_fail(err, COF_REASON_METADATA_INVALID, "the call has %zu bytes of metadata, more than %d; %s",
                        bytes, COF_FRAME_METADATA_BYTES, cof_reason_next_step(COF_REASON_METADATA_INVALID));
    }
    const size_t size = cof_request_frame_size(&largest);
    if (size > CHANNEL_REQUEST_MAX) {
        return cof_fail(err, COF_REASON_MESSAGE_TOO_LARGE, "the request has %zu bytes, more than %d; %s", size,
                        CHANNEL_REQUEST_MAX, cof_reason_next_step(COF_REASON_MESSAGE_TOO_LARGE));
    }
    return COF_OK;
}

static cof_code fill(struct call *call, const struct call_request *request, struct cof_error *err)
{
    if (request->metadata->count >= COF_FRAME_METADATA_MAX || request->method.len > COF_FRAME_METHOD_MAX) {
        return cof_fail(err, COF_REASON_METADATA_INVALID,
                        "the call has %u metadata entries, or a method of %zu bytes; %s", request->metadata->count,
                        request->method.len, cof_reason_next_step(COF_REASON_METADATA_INVALID));
    }
    call->block_size = request->method.len + request->payload.len + metadata_size(request->metadata);
    call->block = malloc(call->block_size + 1);
    if (call->block == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a call");
    }
    call->request_id =
        request->request_id != NULL ? *request->request_id : cof_uuid_time(call->channel->options.clock);
    call->frame.revision = COF_FRAME_REVISION;
    call->frame.attempt = 0;
    call->frame.request_id = cof_slice_of(call->request_id.bytes, sizeof call->request_id.bytes);
    copy_into_block(call, request);
    return check(call, err);
}

cof_code call_new(struct channel *channel, const struct call_request *request, struct call **ret_call,
                  struct cof_error *err)
{
    AUTO(call_free_cleanup) struct call *call = NULL;
    TRY(channel_call_take(channel, &call, err));
    call->timeout_ms = request->timeout_ms;
    call->patience_ms = request->patience_ms;
    call->delay_ms = request->delay_ms;
    TRY(fill(call, request, err));
    *ret_call = TAKE(call);
    return COF_OK;
}

void call_start(struct call *call, call_done done, void *context)
{
    call->done = done;
    call->context = context;
    call->deadline_us = now_us(call) + (int64_t) call->timeout_ms * 1000;
    set_state(call, CALL_CHOOSING);
    if (call->delay_ms > 0) {
        pause_for(call, call->delay_ms);
    } else {
        choose(call);
    }
}

cof_code call_run(struct call *call)
{
    call_start(call, NULL, NULL);
    channel_lock(call->channel);
    while (call->state != CALL_OVER) {
        (void) pthread_cond_wait(&call->over, &call->channel->lock);
    }
    channel_unlock(call->channel);
    return call->err.code;
}

void call_free(struct call *call)
{
    if (call == NULL) {
        return;
    }
    parcel_free(call->answer);
    if (call->block != NULL) {
        cof_wipe(call->block, call->block_size);
        free(call->block);
    }
    credential_drop(call->credential);
    call->answer = NULL;
    call->block = NULL;
    call->credential = NULL;
    call->endpoint = NULL;
    call->give_up_us = 0;
    call->failures = 0;
    call->lost = 0;
    call->unanswered = 0;
    cof_error_clear(&call->err);
    if (call->state == CALL_OVER) {
        set_state(call, CALL_IDLE);
    }
    channel_call_give(call->channel, call);
}

void call_free_cleanup(struct call **call)
{
    call_free(*call);
}

const struct cof_error *call_error(const struct call *call)
{
    return &call->err;
}

const struct cof_response_frame *call_reply(const struct call *call)
{
    return &call->reply;
}

struct cof_slice call_reply_bytes(const struct call *call)
{
    return cof_slice_of(call->answer->frame, call->answer->size);
}

const struct cof_uuid *call_request_id(const struct call *call)
{
    return &call->request_id;
}

bool call_lost_connections(const struct call *call)
{
    return call->err.code != COF_OK && call->lost >= RETRY_LOST_MOST;
}

uint32_t call_attempts(const struct call *call)
{
    return call->frame.attempt;
}
