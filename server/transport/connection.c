#include "server/transport/connection.h"

#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "common/encode.h"
#include "common/secret.h"
#include "common/tls/session.h"
#include "server/transport/request.h"
#include "server/transport/web_socket.h"

enum {
    BUFFER = 16384, /* what is received at once; larger frames are received into their request */
    GREETING = 8,
    LENGTH = 8,
    SENDS = COF_STREAM_PARTS, /* parts of one write */
    WIRE = 64,                /* replies that are being sent */
    TOGETHER = 16384,         /* bytes of small ones that make one part */
    SEND_TIMEOUT_LEAST_MS = 1000,
    TURNS = 8, /* how often what a peer has sent meanwhile is received before the thread is free for others */
    PAUSE_BYTES = 8 << 20, /* replies that wait to be sent, after which nothing more is received */
    UNSENT_MOST = 64 << 20,
    TOLD_PER_SECOND = 10, /* lines of the log about peers that nobody knows */
    PREFIX = 320,         /* a greeting, the answer that opens a WebSocket, or its control frames */
    LINGER_MS = 1000,     /* for a peer to read why its WebSocket is closed */
};

static const uint8_t greeting_of_rep[GREETING] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
static const uint8_t greeting_of_req[GREETING] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};

static const char *const transports[TRANSPORT_COUNTS] = {"ipc", "tcp", "tls", "ws", "wss"};

TAILQ_HEAD(strangers, connection);

struct connections {
    const struct transport_options *options;
    pthread_mutex_t lock; /* taken before a connection's */
    pthread_cond_t all_gone;
    struct connection *first;
    uint32_t count;
    uint32_t last_number;
    struct transport_count counts[TRANSPORT_COUNTS];
    atomic_ulong timed_out[TRANSPORT_COUNTS]; /* beside the counts, without the lock */
    struct strangers strangers;               /* the oldest first */
    uint32_t stranger_count;
    int64_t told_second;
    uint32_t told;
    _Atomic uint32_t in_flight;
};

/*
 * nng has at most one operation of each aio. Operations begin under the lock and never after `ended`: nng 1.5.2 would
 * not complete one that begins on a closed stream. The connection is freed when nobody holds it: itself until it has
 * ended, each operation that is under way, each request that is not freed.
 */
struct connection {
    struct connections *all;
    struct connection *next; /* of all; with the lock of all */
    struct connection **link;
    struct connection *doomed;
    bool stranger; /* it has not greeted yet; with the lock of all, as is the link */
    TAILQ_ENTRY(connection) stranger_link;
    struct cof_stream *stream;
    nng_aio *receiver;
    nng_aio *sender;
    sp_framing framing;
    struct exchange_peer peer;

    pthread_mutex_t lock;
    uint32_t holds;
    uint32_t in_flight;
    uint32_t malformed;
    bool ended;
    bool finishing; /* nothing more is received, and the connection ends behind the last reply */
    bool paused;    /* nothing is received until the peer has read more */
    bool taking;    /* requests are being taken from the buffer, so that their replies are sent together */
    bool sending;   /* the wire and the prefix are with the sender, or with a thread that sends without the lock */
    size_t prefix_size; /* what is sent before the replies on the wire */
    size_t prefix_sent;
    uint8_t prefix[PREFIX];
    struct web_answers answers;
    bool parting; /* the prefix ends with the close of a WebSocket: nothing may follow it */
    bool lingers; /* what comes is thrown away until the peer has read that */
    size_t unsent;
    struct request *queue; /* replies, in the order in which they are sent */
    struct request **queue_end;
    struct request *wire; /* those that are being sent */
    size_t wire_sent;     /* bytes of the first one that are out */

    /* Of the thread that receives. */
    bool greeted;
    int64_t now_us;
    size_t delivered; /* requests that came together */
    int64_t begun_us; /* when the first byte of what is incomplete came; 0: nothing is */
    struct request *partial;
    size_t partial_filled;
    struct web_input web; /* of a WebSocket */
    size_t filled;
    uint8_t buffer[BUFFER];
};

/* --- Life ----------------------------------------------------------------------------------------------------- */

/* With the lock of all. */
static void be_known(struct connection *connection)
{
    if (connection->stranger) {
        connection->stranger = false;
        connection->all->stranger_count--;
        TAILQ_REMOVE(&connection->all->strangers, connection, stranger_link);
    }
}

/* Counts are changed with the lock; which one it is never changes. */
static struct transport_count *count_of(struct connections *all, const struct connection *connection)
{
    struct transport_count *count = all->counts;
    while (count < all->counts + TRANSPORT_COUNTS - 1 &&
           strcmp(count->transport, connection->peer.transport) != 0) {
        count++;
    }
    return count;
}

static void unlink_connection(struct connection *connection)
{
    struct connections *all = connection->all;
    (void) pthread_mutex_lock(&all->lock);
    be_known(connection);
    count_of(all, connection)->open--;
    *connection->link = connection->next;
    if (connection->next != NULL) {
        connection->next->link = connection->link;
    }
    all->count--;
    if (all->count == 0) {
        (void) pthread_cond_signal(&all->all_gone);
    }
    (void) pthread_mutex_unlock(&all->lock);
}

static void release(struct connection *connection)
{
    if (connection->partial != NULL) {
        request_free(connection->partial);
    }
    web_input_done(&connection->web);
    /* Also from inside of a callback of these. */
    nng_aio_reap(connection->receiver);
    nng_aio_reap(connection->sender);
    cof_stream_free(connection->stream);
    (void) pthread_mutex_destroy(&connection->lock);
    cof_wipe(connection->buffer, sizeof connection->buffer);
    free(connection);
}

/* Gives back the lock and the requests that are over. */
static void unlock(struct connection *connection, struct request *over)
{
    for (const struct request *request = over; request != NULL; request = request->next) {
        connection->holds--;
        (void) atomic_fetch_sub(&connection->all->in_flight, 1);
    }
    const bool gone = connection->holds == 0;
    (void) pthread_mutex_unlock(&connection->lock);
    while (over != NULL) {
        struct request *next = over->next;
        request_free(over);
        over = next;
    }
    if (gone) {
        unlink_connection(connection);
        release(connection);
    }
}

static struct request *join(struct request *first, struct request *second)
{
    struct request **end = &first;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = second;
    return first;
}

/* Closes the stream, which completes what is under way, and returns the replies that nobody will send. */
static struct request *end_locked(struct connection *connection)
{
    struct request *over = connection->queue;
    connection->queue = NULL;
    connection->queue_end = &connection->queue;
    if (!connection->sending) {
        over = join(connection->wire, over);
        connection->wire = NULL;
    }
    if (!connection->ended) {
        connection->ended = true;
        connection->holds--;
        cof_stream_close(connection->stream);
    }
    return over;
}

/* --- Sending -------------------------------------------------------------------------------------------------- */

static bool is_prefix_out(const struct connection *connection)
{
    return connection->prefix_sent == connection->prefix_size;
}

/* Whether there is a control frame of a WebSocket, which can only stand between two replies. */
static bool has_answers(const struct connection *connection)
{
    return connection->answers.has_pong || connection->answers.has_close;
}

static void fill_prefix(struct connection *connection)
{
    if (is_prefix_out(connection) && connection->wire_sent == 0 && has_answers(connection)) {
        connection->parting = connection->answers.has_close;
        connection->prefix_sent = 0;
        connection->prefix_size = web_answers_take(&connection->answers, connection->prefix);
    }
}

/* Moves replies from the queue onto the wire. */
static void fill_wire(struct connection *connection)
{
    struct request **end = &connection->wire;
    size_t count = 0;
    for (; *end != NULL; end = &(*end)->next) {
        count++;
    }
    while (connection->queue != NULL && count < WIRE) {
        *end = connection->queue;
        connection->queue = connection->queue->next;
        end = &(*end)->next;
        *end = NULL;
        count++;
    }
    if (connection->queue == NULL) {
        connection->queue_end = &connection->queue;
    }
}

/* How many replies of the wire may be written now. */
static unsigned writable(const struct connection *connection)
{
    if (connection->parting) {
        return 0;
    }
    /* A reply of which a part is out has to be ended first. */
    return has_answers(connection) ? 1 : SENDS;
}

/* What the next write has; nothing: 0. */
static unsigned gather(struct connection *connection, nng_iov *parts, uint32_t *ret_timeout_ms)
{
    fill_prefix(connection);
    fill_wire(connection);
    unsigned count = 0;
    unsigned replies = writable(connection);
    size_t skip = connection->wire_sent;
    *ret_timeout_ms = SEND_TIMEOUT_LEAST_MS;
    if (!is_prefix_out(connection)) {
        parts[count].iov_buf = connection->prefix + connection->prefix_sent;
        parts[count++].iov_len = connection->prefix_size - connection->prefix_sent;
    }
    for (struct request *request = connection->wire; request != NULL && replies > 0 && count < SENDS;
         request = request->next, replies--) {
        const struct cof_slice bytes = request_sealed_reply(request, connection->framing);
        parts[count].iov_buf = (void *) (uintptr_t) (bytes.data + skip);
        parts[count++].iov_len = bytes.len - skip;
        skip = 0;
        if (request->send_timeout_ms > *ret_timeout_ms) {
            *ret_timeout_ms = request->send_timeout_ms;
        }
    }
    return count;
}

/* A peer that does not take a byte for as long as any of the replies may wait has lost its connection. */
static void send_locked(struct connection *connection)
{
    nng_iov parts[SENDS];
    uint32_t timeout_ms;
    if (connection->sending || connection->taking || connection->ended) {
        return;
    }
    const unsigned count = gather(connection, parts, &timeout_ms);
    if (count == 0) {
        return;
    }
    connection->sending = true;
    connection->holds++;
    cof_stream_send(connection->stream, connection->sender, parts, count, (nng_duration) timeout_ms);
}

/* Takes what was sent from the wire; returns the requests that are over. */
static struct request *consume(struct connection *connection, size_t sent)
{
    struct request *over = NULL;
    const size_t left = connection->prefix_size - connection->prefix_sent;
    const size_t of_prefix = sent < left ? sent : left;
    connection->prefix_sent += of_prefix;
    connection->wire_sent += sent - of_prefix;
    while (connection->wire != NULL) {
        struct request *request = connection->wire;
        const size_t size = request_sealed_reply(request, connection->framing).len;
        if (connection->wire_sent < size) {
            break;
        }
        connection->wire_sent -= size;
        connection->unsent -= request->reply_size;
        connection->wire = request->next;
        request->next = over;
        over = request;
    }
    return over;
}

static bool holds_last(const struct request *over)
{
    while (over != NULL && !over->last) {
        over = over->next;
    }
    return over != NULL;
}

/* Whether the close of a WebSocket is out, and nobody waits until the peer has read it. */
static bool has_parted(const struct connection *connection)
{
    return connection->parting && is_prefix_out(connection) && !connection->lingers;
}

/* After a write; returns the requests that are over. Behind some of them the connection ends. */
static struct request *go_on_writing(struct connection *connection, size_t sent)
{
    struct request *over = consume(connection, sent);
    return holds_last(over) || has_parted(connection) ? join(over, end_locked(connection)) : over;
}

static size_t size_of(const nng_iov *parts, unsigned count)
{
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        size += parts[i].iov_len;
    }
    return size;
}

/* Copies small replies to where they stand side by side; returns how many bytes of them. */
static size_t put_together(struct connection *connection, uint8_t *together)
{
    size_t filled = 0;
    size_t skip = connection->wire_sent;
    for (struct request *request = connection->wire; request != NULL; request = request->next) {
        const struct cof_slice bytes = request_sealed_reply(request, connection->framing);
        if (bytes.len - skip > TOGETHER - filled) {
            break;
        }
        memcpy(together + filled, bytes.data + skip, bytes.len - skip);
        filled += bytes.len - skip;
        skip = 0;
    }
    return filled;
}

/*
 * Writes what goes out without waiting; where replies are small, more of them than a write has parts. The lock is free
 * meanwhile: who has a reply then leaves it to this thread.
 */
static size_t write_now(struct connection *connection)
{
    static _Thread_local uint8_t together[TOGETHER];
    nng_iov parts[SENDS];
    uint32_t timeout_ms;
    const unsigned count = cof_stream_is_prompt(connection->stream) ? gather(connection, parts, &timeout_ms) : 0;
    if (count == 0) {
        return 0;
    }
    const bool more = count == SENDS && is_prefix_out(connection) && !has_answers(connection);
    const nng_iov one = {together, more ? put_together(connection, together) : 0};
    const bool better = more && one.iov_len > size_of(parts, count);
    connection->sending = true;
    connection->holds++;
    (void) pthread_mutex_unlock(&connection->lock);
    const size_t sent = cof_stream_send_now(connection->stream, better ? &one : parts, better ? 1 : count);
    cof_wipe(together, one.iov_len);
    (void) pthread_mutex_lock(&connection->lock);
    connection->holds--;
    connection->sending = false;
    return sent;
}

static void receive_locked(struct connection *connection);

/* The peer has read enough for more of its requests to come. */
static void unpause(struct connection *connection)
{
    if (connection->paused && !connection->finishing && !connection->ended &&
        connection->unsent < PAUSE_BYTES / 2) {
        connection->paused = false;
        connection->holds++;
        receive_locked(connection);
    }
}

/*
 * Sends all that goes out without waiting, also what other threads bring meanwhile, which costs none of them. What does
 * not is left to an operation. Returns the requests that are over.
 */
static struct request *send_now(struct connection *connection)
{
    struct request *over = NULL;
    unsigned turns = 0;
    size_t sent = SIZE_MAX;
    while (sent > 0 && turns++ < TURNS && !connection->sending && !connection->taking && !connection->ended) {
        sent = write_now(connection);
        over = sent == 0 ? over : join(go_on_writing(connection, sent), over);
    }
    if (connection->ended) {
        return join(over, end_locked(connection));
    }
    send_locked(connection);
    unpause(connection);
    return over;
}

static void count_timeout(const struct connection *connection)
{
    struct connections *all = connection->all;
    atomic_fetch_add(&all->timed_out[count_of(all, connection) - all->counts], 1);
}

static void on_sent(void *context)
{
    struct connection *connection = context;
    const int result = nng_aio_result(connection->sender);
    struct request *over = NULL;
    (void) pthread_mutex_lock(&connection->lock);
    connection->sending = false;
    connection->holds--;
    if (result == 0) {
        over = go_on_writing(connection, cof_stream_count(connection->stream, connection->sender));
    } else if (result == NNG_ETIMEDOUT) {
        count_timeout(connection);
    }
    if (result != 0 || connection->ended) {
        over = join(over, end_locked(connection));
    } else {
        send_locked(connection);
        unpause(connection);
    }
    unlock(connection, over);
}

static void enqueue(struct connection *connection, struct request *request)
{
    request->next = NULL;
    *connection->queue_end = request;
    connection->queue_end = &request->next;
    connection->unsent += request->reply_size;
}

/* Counts the request out; true if the connection has sent too many undecodable frames. */
static bool leave(struct connection *connection, bool malformed)
{
    connection->in_flight--;
    connection->malformed += malformed;
    return malformed && connection->malformed >= transport_now(&connection->all->options->limits.max_malformed);
}

static void exchange_send(struct exchange *exchange, uint32_t send_timeout_ms, bool malformed, bool more)
{
    struct request *request = request_of(exchange);
    struct connection *connection = request->connection;
    struct request *over = NULL;
    request->send_timeout_ms = send_timeout_ms;
    (void) pthread_mutex_lock(&connection->lock);
    request->last = leave(connection, malformed);
    connection->finishing = connection->finishing || request->last;
    if (connection->ended || request->reply == NULL) {
        request->next = NULL;
        over = request->last ? join(request, end_locked(connection)) : request;
    } else {
        enqueue(connection, request);
    }
    if (connection->unsent > UNSENT_MOST) {
        COF_LOG(connection->all->options->log, COF_LOG_WARN, "slow_reader", "a peer does not read its replies",
                cof_log_text("peer", connection->peer.address),
                cof_log_number("unsent", (int64_t) connection->unsent));
        over = join(over, end_locked(connection));
    }
    if (!more) {
        over = join(over, send_now(connection));
    }
    unlock(connection, over);
}

static const struct exchange_ops operations = {request_make_reply, exchange_send};

/* --- Receiving ------------------------------------------------------------------------------------------------ */

typedef enum taken {
    TAKEN,
    TAKEN_SHORT, /* more bytes are needed */
    TAKEN_BAD,   /* the connection has to end */
} taken;

/* Gives a request to dispatch, or has it refused. */
static taken deliver(struct connection *connection, struct request *request)
{
    struct connections *all = connection->all;
    const struct transport_options *options = all->options;
    (void) pthread_mutex_lock(&connection->lock);
    const bool refused = connection->ended || connection->finishing;
    if (!refused) {
        connection->holds++;
        connection->in_flight++;
    }
    const bool too_many = connection->in_flight > options->max_per_peer;
    (void) pthread_mutex_unlock(&connection->lock);
    if (refused) {
        request_free(request);
        return TAKEN_SHORT;
    }
    connection->delivered++;
    const bool busy = atomic_fetch_add(&all->in_flight, 1) >= options->max_waiting;
    request->exchange.peer = connection->peer;
    request->exchange.received_us = connection->now_us;
    if (too_many || busy) {
        options->refuse(&request->exchange, too_many ? COF_REASON_TOO_MANY_IN_FLIGHT : COF_REASON_SERVER_BUSY,
                        options->context);
    } else {
        options->submit(&request->exchange, options->context);
    }
    return TAKEN;
}

static void become_known(struct connection *connection)
{
    (void) pthread_mutex_lock(&connection->all->lock);
    be_known(connection);
    (void) pthread_mutex_unlock(&connection->all->lock);
    connection->greeted = true;
    connection->begun_us = 0;
}

static taken take_greeting(struct connection *connection, size_t *at)
{
    if (connection->filled < GREETING) {
        return TAKEN_SHORT;
    }
    const struct cof_slice expected = cof_slice_of(greeting_of_req, GREETING);
    if (!cof_slice_equal(cof_slice_of(connection->buffer, GREETING), expected)) {
        return TAKEN_BAD;
    }
    become_known(connection);
    *at = GREETING;
    return TAKEN;
}

/* Where a message begins in the buffer. */
struct message {
    const uint8_t *start; /* of its SP request ID */
    size_t header;        /* bytes before that */
    size_t here;          /* bytes of it in the buffer, from the start on */
    size_t size;          /* bytes that it has, from the start on */
};

static taken find_message(const struct connection *connection, size_t at, struct message *ret_message)
{
    const bool ipc = connection->framing == FRAMING_IPC;
    const size_t header = ipc ? LENGTH + 1 : LENGTH;
    const uint8_t *bytes = connection->buffer + at;
    const size_t left = connection->filled - at;
    if (left < header) {
        return TAKEN_SHORT;
    }
    const uint64_t size = cof_get_u64(bytes + header - LENGTH);
    if ((ipc && bytes[0] != 1) || size < SP_ID || size - SP_ID > connection->all->options->max_request) {
        return TAKEN_BAD;
    }
    *ret_message = (struct message){bytes + header, header, left - header, (size_t) size};
    if (ret_message->here < SP_ID) {
        return TAKEN_SHORT;
    }
    /* Without the bit it would be an address of a device between us, of which there are none. */
    if ((ret_message->start[0] & 0x80U) == 0) {
        return TAKEN_BAD;
    }
    const bool fits = header + ret_message->size <= BUFFER;
    return fits && ret_message->here < ret_message->size ? TAKEN_SHORT : TAKEN;
}

/* Takes the message that begins at `at` from the buffer; a large one becomes `partial`. */
static taken take_message(struct connection *connection, size_t *at)
{
    struct message message;
    const taken found = find_message(connection, *at, &message);
    if (found != TAKEN) {
        return found;
    }
    struct request *request = request_new(connection, &operations, message.size - SP_ID);
    if (request == NULL) {
        return TAKEN_BAD;
    }
    const size_t here = message.here < message.size ? message.here : message.size;
    memcpy(request->id, message.start, SP_ID);
    memcpy(request->frame, message.start + SP_ID, here - SP_ID);
    *at += message.header + here;
    connection->begun_us = 0;
    if (here < message.size) {
        connection->partial = request;
        connection->partial_filled = here - SP_ID;
        return TAKEN_SHORT;
    }
    return deliver(connection, request);
}

/* What was received may hold secrets, so what was taken is wiped. */
static void move_rest(struct connection *connection, size_t at)
{
    const size_t rest = connection->filled - at;
    if (at == 0) {
        return;
    }
    memmove(connection->buffer, connection->buffer + at, rest);
    cof_wipe(connection->buffer + rest, at);
    connection->filled = rest;
}

static taken take_partial(struct connection *connection, size_t received)
{
    struct request *request = connection->partial;
    connection->partial_filled += received;
    if (connection->partial_filled < request->frame_size) {
        return TAKEN_SHORT;
    }
    connection->partial = NULL;
    connection->begun_us = 0;
    return deliver(connection, request);
}

/* --- WebSocket ------------------------------------------------------------------------------------------------ */

static void answer_ping(struct connection *connection, const struct cof_web_event *event)
{
    struct web_answers *answers = &connection->answers;
    (void) pthread_mutex_lock(&connection->lock);
    memcpy(answers->pong, event->bytes, event->size);
    answers->pong_size = (uint8_t) event->size;
    answers->has_pong = true;
    (void) pthread_mutex_unlock(&connection->lock);
}

/*
 * Closes the WebSocket. A peer that has closed it itself only waits for the answer. One that broke the rules is read
 * from for a while: a socket that is closed with bytes in it that nobody read throws away what it had sent.
 */
static void part_with(struct connection *connection, cof_web_code code, bool lingers)
{
    (void) pthread_mutex_lock(&connection->lock);
    connection->answers.has_close = true;
    connection->answers.code = (uint16_t) code;
    connection->lingers = lingers;
    connection->finishing = true;
    (void) pthread_mutex_unlock(&connection->lock);
    connection->begun_us = connection->now_us;
}

static taken take_web_step(struct connection *connection, size_t size, size_t *at)
{
    struct cof_web_event event;
    struct request *request = NULL;
    switch (web_input_take(&connection->web, connection->buffer, size, at, &event, &request)) {
    case WEB_SHORT:
        return TAKEN;
    case WEB_REQUEST:
        connection->begun_us = 0;
        return deliver(connection, request);
    case WEB_PING:
        answer_ping(connection, &event);
        return TAKEN;
    case WEB_CLOSE:
        part_with(connection, event.code, false);
        return TAKEN_SHORT;
    case WEB_REFUSE:
        part_with(connection, event.code, true);
        return TAKEN_SHORT;
    case WEB_FAILED:
        break;
    }
    return TAKEN_BAD;
}

static taken take_web(struct connection *connection, size_t received)
{
    size_t at = 0;
    taken result = connection->lingers ? TAKEN_SHORT : TAKEN;
    while (result == TAKEN && at < received) {
        result = take_web_step(connection, received, &at);
    }
    cof_wipe(connection->buffer, received);
    return result;
}

/* --- All of what came ----------------------------------------------------------------------------------------- */

static taken take_all(struct connection *connection, size_t received)
{
    size_t at = 0;
    taken result = TAKEN;
    if (connection->framing == FRAMING_WEB) {
        return take_web(connection, received);
    }
    if (connection->partial != NULL) {
        return take_partial(connection, received);
    }
    connection->filled += received;
    if (!connection->greeted) {
        result = take_greeting(connection, &at);
    }
    while (result == TAKEN) {
        result = take_message(connection, &at);
    }
    move_rest(connection, at);
    return result;
}

/* Milliseconds until what has begun must be complete. */
static nng_duration receive_timeout(struct connection *connection)
{
    const bool begun = connection->filled > 0 || connection->partial != NULL || !connection->greeted ||
                       connection->lingers || web_input_begun(&connection->web);
    if (!begun) {
        connection->begun_us = 0;
        return NNG_DURATION_INFINITE;
    }
    if (connection->begun_us == 0) {
        connection->begun_us = connection->now_us;
    }
    const int64_t spent_ms = (connection->now_us - connection->begun_us) / 1000;
    const int64_t all_ms =
        connection->lingers ? LINGER_MS : transport_now(&connection->all->options->limits.receive_timeout_ms);
    const int64_t left_ms = all_ms - spent_ms;
    return left_ms < 1 ? 1 : (nng_duration) left_ms;
}

static nng_iov room(const struct connection *connection)
{
    struct request *partial = connection->partial;
    if (partial != NULL) {
        return (nng_iov){partial->frame + connection->partial_filled,
                         partial->frame_size - connection->partial_filled};
    }
    return (nng_iov){(void *) (uintptr_t) (connection->buffer + connection->filled), BUFFER - connection->filled};
}

/* The caller holds the connection for the operation. */
static void receive_locked(struct connection *connection)
{
    cof_stream_recv(connection->stream, connection->receiver, room(connection), receive_timeout(connection));
}

/* Whether more is to be received after requests were taken. */
static bool receives_on(struct connection *connection, taken result)
{
    connection->paused = connection->unsent > PAUSE_BYTES;
    return result != TAKEN_BAD && !connection->ended &&
           ((!connection->paused && !connection->finishing) || connection->lingers);
}

/*
 * Goes on after requests were taken: the bytes of what has come meanwhile, or 0. A peer that sent several requests at once
 * is likely to have sent more.
 */
static size_t go_on(struct connection *connection, taken result, bool again, struct request **ret_over)
{
    size_t received = 0;
    connection->taking = false;
    struct request *over = result == TAKEN_BAD ? end_locked(connection) : send_now(connection);
    if (!receives_on(connection, result)) {
        connection->holds--;
    } else {
        received =
            again && connection->delivered > 1 ? cof_stream_recv_now(connection->stream, room(connection)) : 0;
        connection->taking = received > 0;
        if (received == 0) {
            receive_locked(connection);
        }
    }
    *ret_over = over;
    return received;
}

/* Whether a line about strangers may be logged now: they must not fill the log. */
static bool may_tell(struct connections *all)
{
    const int64_t second = cof_clock_monotonic(all->options->clock) / 1000000;
    (void) pthread_mutex_lock(&all->lock);
    if (second != all->told_second) {
        all->told_second = second;
        all->told = 0;
    }
    const bool may = all->told++ < TOLD_PER_SECOND;
    (void) pthread_mutex_unlock(&all->lock);
    return may;
}

/* Why a peer has not even greeted. */
static void tell_problem(struct connection *connection)
{
    char problem[COF_TLS_PROBLEM];
    cof_stream_problem(connection->stream, problem, sizeof problem);
    if (problem[0] != '\0' && may_tell(connection->all)) {
        COF_LOG(connection->all->options->log, COF_LOG_INFO, "tls_refused",
                "there was no TLS connection with a peer", cof_log_text("peer", connection->peer.address),
                cof_log_text("problem", problem));
    }
}

static taken take_received(struct connection *connection, size_t size)
{
    connection->now_us = cof_clock_monotonic(connection->all->options->clock);
    connection->delivered = 0;
    /* The lines of all that is answered here are written before any of the answers is sent. */
    cof_log_hold();
    const taken result = take_all(connection, size);
    cof_log_let_go();
    return result;
}

static void on_received(void *context)
{
    struct connection *connection = context;
    const bool received = nng_aio_result(connection->receiver) == 0;
    size_t size = received ? cof_stream_count(connection->stream, connection->receiver) : 0;
    unsigned turns = 0;
    if (!received && !connection->greeted) {
        tell_problem(connection);
    }
    (void) pthread_mutex_lock(&connection->lock);
    connection->taking = received;
    (void) pthread_mutex_unlock(&connection->lock);
    do {
        struct request *over = NULL;
        const taken result = received ? take_received(connection, size) : TAKEN_BAD;
        (void) pthread_mutex_lock(&connection->lock);
        size = go_on(connection, result, ++turns < TURNS, &over);
        unlock(connection, over);
    } while (size > 0);
}

/* --- Beginning ------------------------------------------------------------------------------------------------ */

static void describe_ipc(nng_stream *stream, struct exchange_peer *peer)
{
    uint64_t uid;
    uint64_t pid;
    if (nng_stream_get_uint64(stream, NNG_OPT_IPC_PEER_UID, &uid) == 0) {
        peer->has_uid = true;
        peer->uid = (uint32_t) uid;
    }
    if (nng_stream_get_uint64(stream, NNG_OPT_IPC_PEER_PID, &pid) == 0) {
        (void) snprintf(peer->address, sizeof peer->address, "pid %u", (unsigned) pid);
    }
}

static void describe_ipv4(const nng_sockaddr_in *address, struct exchange_peer *peer)
{
    static const uint8_t mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    char text[INET_ADDRSTRLEN] = "";
    (void) inet_ntop(AF_INET, &address->sa_addr, text, sizeof text);
    (void) snprintf(peer->address, sizeof peer->address, "%s:%u", text, ntohs(address->sa_port));
    memcpy(peer->ip, mapped, sizeof mapped);
    memcpy(peer->ip + sizeof mapped, &address->sa_addr, sizeof address->sa_addr);
    peer->has_ip = true;
}

static void describe_ipv6(const nng_sockaddr_in6 *address, struct exchange_peer *peer)
{
    char text[INET6_ADDRSTRLEN] = "";
    (void) inet_ntop(AF_INET6, &address->sa_addr, text, sizeof text);
    (void) snprintf(peer->address, sizeof peer->address, "[%s]:%u", text, ntohs(address->sa_port));
    memcpy(peer->ip, address->sa_addr, sizeof peer->ip);
    peer->has_ip = true;
}

void connection_describe(struct cof_stream *connected, const char *transport, struct exchange_peer *ret_peer)
{
    struct exchange_peer *peer = ret_peer;
    nng_stream *stream = cof_stream_below(connected);
    nng_sockaddr address;
    *peer = (struct exchange_peer){.transport = transport};
    if (nng_stream_get_addr(stream, NNG_OPT_REMADDR, &address) != 0 || address.s_family == NNG_AF_IPC) {
        describe_ipc(stream, peer);
    } else if (address.s_family == NNG_AF_INET) {
        describe_ipv4(&address.s_in, peer);
    } else if (address.s_family == NNG_AF_INET6) {
        describe_ipv6(&address.s_in6, peer);
    }
}

static sp_framing framing_of(const char *transport)
{
    if (strcmp(transport, "ws") == 0 || strcmp(transport, "wss") == 0) {
        return FRAMING_WEB;
    }
    return strcmp(transport, "ipc") == 0 ? FRAMING_IPC : FRAMING_LENGTH;
}

static struct connection *connection_new(struct connections *all, struct cof_stream *stream, const char *transport)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        return NULL;
    }
    if (nng_aio_alloc(&connection->receiver, on_received, connection) != 0 ||
        nng_aio_alloc(&connection->sender, on_sent, connection) != 0) {
        nng_aio_free(connection->receiver);
        free(connection);
        return NULL;
    }
    (void) pthread_mutex_init(&connection->lock, NULL);
    connection->all = all;
    connection->stream = stream;
    connection->queue_end = &connection->queue;
    connection_describe(stream, transport, &connection->peer);
    connection->framing = framing_of(transport);
    connection->prefix_size = GREETING;
    memcpy(connection->prefix, greeting_of_rep, GREETING);
    return connection;
}

/* False if there are too many. */
static bool link_connection(struct connection *connection)
{
    struct connections *all = connection->all;
    (void) pthread_mutex_lock(&all->lock);
    const bool linked = all->count < transport_now(&all->options->limits.max_peers);
    if (linked) {
        connection->peer.connection = ++all->last_number;
        connection->next = all->first;
        connection->link = &all->first;
        if (all->first != NULL) {
            all->first->link = &connection->next;
        }
        all->first = connection;
        all->count++;
        count_of(all, connection)->open++;
        count_of(all, connection)->opened++;
        connection->stranger = true;
        TAILQ_INSERT_TAIL(&all->strangers, connection, stranger_link);
        all->stranger_count++;
    }
    (void) pthread_mutex_unlock(&all->lock);
    return linked;
}

/* The oldest of the strangers, held, if there are too many of them. */
static struct connection *stranger_over_limit(struct connections *connections)
{
    struct connection *oldest = NULL;
    (void) pthread_mutex_lock(&connections->lock);
    if (connections->stranger_count > transport_now(&connections->options->limits.max_strangers)) {
        oldest = TAILQ_FIRST(&connections->strangers);
        be_known(oldest);
        (void) pthread_mutex_lock(&oldest->lock);
        if (oldest->holds > 0) {
            oldest->holds++;
        }
        const bool held = oldest->holds > 0;
        (void) pthread_mutex_unlock(&oldest->lock);
        oldest = held ? oldest : NULL;
    }
    (void) pthread_mutex_unlock(&connections->lock);
    return oldest;
}

static void limit_strangers(struct connections *connections)
{
    struct connection *oldest = stranger_over_limit(connections);
    if (oldest == NULL) {
        return;
    }
    if (may_tell(connections)) {
        COF_LOG(connections->options->log, COF_LOG_WARN, "too_many_strangers",
                "a connection that has not greeted gave way to a new one",
                cof_log_text("peer", oldest->peer.address),
                cof_log_number("max_strangers", transport_now(&connections->options->limits.max_strangers)));
    }
    (void) pthread_mutex_lock(&oldest->lock);
    oldest->holds--;
    struct request *over = end_locked(oldest);
    unlock(oldest, over);
}

/* Whether its user is one of those who may connect. */
static bool is_permitted(struct connection *connection)
{
    struct connections *all = connection->all;
    const struct exchange_peer *peer = &connection->peer;
    if (connection->framing != FRAMING_IPC || ipc_users_permit(&all->options->ipc_users, peer)) {
        return true;
    }
    if (may_tell(all)) {
        COF_LOG(all->options->log, COF_LOG_WARN, "ipc_user_refused",
                "a connection of a user who is not in transport.ipc_uids was refused",
                cof_log_text("peer", peer->address),
                cof_log_number("uid", peer->has_uid ? (int64_t) peer->uid : -1));
    }
    return false;
}

/* Links and holds it; NULL if there is no room or memory, or if its user may not connect. */
static struct connection *begin_connection(struct connections *connections, struct cof_stream *stream,
                                           const char *transport)
{
    const struct transport_options *options = connections->options;
    struct connection *connection = connection_new(connections, stream, transport);
    if (connection == NULL) {
        cof_stream_free(stream);
        return NULL;
    }
    if (!is_permitted(connection)) {
        release(connection);
        return NULL;
    }
    if (!link_connection(connection)) {
        if (may_tell(connections)) {
            COF_LOG(options->log, COF_LOG_WARN, "too_many_connections", "a connection was refused",
                    cof_log_text("peer", connection->peer.address),
                    cof_log_number("max_peers", transport_now(&options->limits.max_peers)));
        }
        release(connection);
        return NULL;
    }
    (void) pthread_mutex_lock(&connection->lock);
    connection->holds = 2; /* itself, and what it receives */
    connection->now_us = cof_clock_monotonic(options->clock);
    return connection;
}

void connections_add(struct connections *connections, struct cof_stream *stream, const char *transport)
{
    struct connection *connection = begin_connection(connections, stream, transport);
    if (connection == NULL) {
        return;
    }
    send_locked(connection);
    receive_locked(connection);
    unlock(connection, NULL);
    limit_strangers(connections);
}

void connections_add_web(struct connections *connections, const struct web_opening *opening)
{
    struct connection *connection = begin_connection(connections, opening->stream, opening->transport);
    if (connection == NULL) {
        return;
    }
    assert(opening->answer.len <= PREFIX && opening->early.len <= BUFFER);
    web_input_init(&connection->web, connection, &operations, connections->options->max_request);
    connection->prefix_size = opening->answer.len;
    memcpy(connection->prefix, opening->answer.data, opening->answer.len);
    connection->taking = true;
    (void) pthread_mutex_unlock(&connection->lock);
    become_known(connection);
    if (opening->early.len > 0) {
        memcpy(connection->buffer, opening->early.data, opening->early.len);
    }
    const taken result = take_received(connection, opening->early.len);
    struct request *over = NULL;
    (void) pthread_mutex_lock(&connection->lock);
    (void) go_on(connection, result, false, &over);
    unlock(connection, over);
}

/* --- All of them ---------------------------------------------------------------------------------------------- */

struct connections *connections_new(const struct transport_options *options)
{
    struct connections *connections = calloc(1, sizeof *connections);
    if (connections == NULL) {
        return NULL;
    }
    connections->options = options;
    for (size_t i = 0; i < TRANSPORT_COUNTS; i++) {
        connections->counts[i].transport = transports[i];
        connections->counts[i].web = framing_of(transports[i]) == FRAMING_WEB;
    }
    TAILQ_INIT(&connections->strangers);
    (void) pthread_mutex_init(&connections->lock, NULL);
    (void) pthread_cond_init(&connections->all_gone, NULL);
    return connections;
}

void connections_counts(struct connections *connections, struct transport_count counts[TRANSPORT_COUNTS])
{
    (void) pthread_mutex_lock(&connections->lock);
    memcpy(counts, connections->counts, sizeof connections->counts);
    (void) pthread_mutex_unlock(&connections->lock);
    for (size_t i = 0; i < TRANSPORT_COUNTS; i++) {
        counts[i].timed_out = atomic_load(&connections->timed_out[i]);
    }
}

uint32_t connections_in_flight(const struct connections *connections)
{
    return atomic_load(&connections->in_flight);
}

/* A connection that ends takes itself from the list, so they are held meanwhile. */
static struct connection *hold_all(struct connections *connections)
{
    struct connection *doomed = NULL;
    (void) pthread_mutex_lock(&connections->lock);
    for (struct connection *connection = connections->first; connection != NULL; connection = connection->next) {
        (void) pthread_mutex_lock(&connection->lock);
        if (connection->holds > 0) {
            connection->holds++;
            connection->doomed = doomed;
            doomed = connection;
        }
        (void) pthread_mutex_unlock(&connection->lock);
    }
    (void) pthread_mutex_unlock(&connections->lock);
    return doomed;
}

/* Behind the reply that is being sent, if there is one. */
static void part_locked(struct connection *connection)
{
    if (connection->framing != FRAMING_WEB || connection->ended || connection->finishing) {
        return;
    }
    connection->answers.has_close = true;
    connection->answers.code = COF_WEB_GOING_AWAY;
    connection->finishing = true;
    send_locked(connection);
}

void connections_part(struct connections *connections)
{
    struct connection *held = hold_all(connections);
    while (held != NULL) {
        struct connection *next = held->doomed;
        (void) pthread_mutex_lock(&held->lock);
        held->holds--;
        part_locked(held);
        unlock(held, NULL);
        held = next;
    }
}

void connections_free(struct connections *connections)
{
    if (connections == NULL) {
        return;
    }
    struct connection *doomed = hold_all(connections);
    while (doomed != NULL) {
        struct connection *next = doomed->doomed;
        (void) pthread_mutex_lock(&doomed->lock);
        doomed->holds--;
        struct request *over = end_locked(doomed);
        unlock(doomed, over);
        doomed = next;
    }
    (void) pthread_mutex_lock(&connections->lock);
    while (connections->count > 0) {
        (void) pthread_cond_wait(&connections->all_gone, &connections->lock);
    }
    (void) pthread_mutex_unlock(&connections->lock);
    (void) pthread_cond_destroy(&connections->all_gone);
    (void) pthread_mutex_destroy(&connections->lock);
    free(connections);
}
