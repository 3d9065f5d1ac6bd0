#include "client/libcoffer/link.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/libcoffer/link_web.h"
#include "common/attr.h"
#include "common/encode.h"
#include "common/secret.h"

enum {
    BUFFER = 16384, /* what is received at once; larger frames are received into their parcel */
    GREETING = 8,
    PREFIX = 1024, /* the greeting, or the request that opens a WebSocket, or later its pongs */
    LENGTH = 8,
    SENDS = COF_STREAM_PARTS, /* parcels in one write */
    /* Bytes of a write that gets no further parcel: what waits can still go another way, what is on the wire cannot. */
    SEND_BYTES = 65536,
    TLS_ALERT = 0x15,
    TLS_HANDSHAKE = 0x16,
    GREETING_MS = 10000,
    /* A server that takes no byte of a request for so long has lost its connection. */
    SEND_MS = 30000,
};

static const uint8_t greeting_of_req[GREETING] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
static const uint8_t greeting_of_rep[GREETING] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};

/*
 * nng has at most one operation of each aio. Operations begin under the lock and never after `ended`: nng 1.5.2 would
 * not complete one that begins on a closed stream. The link is freed when nobody holds it: itself until it has ended,
 * and each operation that is under way.
 */
struct link {
    struct link_options options;
    struct cof_stream *stream;
    nng_aio *receiver;
    nng_aio *sender;
    unsigned holds;
    bool ended;

    bool sending;
    size_t prefix_size; /* what is sent before the parcels */
    size_t prefix_sent;
    uint8_t prefix[PREFIX];
    struct parcel *wire; /* what `sender` has, or gets next */
    size_t wire_count;
    size_t wire_bytes;
    size_t wire_sent; /* bytes of the first one that are out */

    bool greeted;
    bool stranger; /* what answers is no server */
    bool tls;      /* it speaks TLS where we do not */
    struct link_web web;
    struct parcel *partial;
    size_t partial_filled;
    size_t filled;
    uint8_t buffer[BUFFER];
};

/* --- Life ----------------------------------------------------------------------------------------------------- */

static void release(struct link *link)
{
    while (link->wire != NULL) {
        struct parcel *next = link->wire->next;
        parcel_free(link->wire);
        link->wire = next;
    }
    parcel_free(link->partial);
    link_web_done(&link->web);
    /* Also from inside of a callback of these. */
    nng_aio_reap(link->receiver);
    nng_aio_reap(link->sender);
    cof_stream_free(link->stream);
    cof_wipe(link->buffer, sizeof link->buffer);
    free(link);
}

/* The end of an operation. Gives back the lock; the owner may be gone afterwards, as the link is. */
static void let_go(struct link *link)
{
    const bool gone = --link->holds == 0;
    pthread_mutex_t *lock = link->options.lock;
    if (gone) {
        link->options.events->gone(link->options.owner);
    }
    (void) pthread_mutex_unlock(lock);
    if (gone) {
        release(link);
    }
}

void link_end(struct link *link)
{
    if (link->ended) {
        return;
    }
    link->ended = true;
    link->holds--;
    cof_stream_close(link->stream);
    link->options.events->ended(link->options.owner);
}

void link_problem(const struct link *link, char *to, size_t size)
{
    cof_stream_problem(link->stream, to, size);
    if (to[0] == '\0' && link->web.status != 0) {
        (void) snprintf(
            to, size,
            "the server answers %u in place of a WebSocket; check the address's path, and http.hosts of the "
            "server's settings",
            link->web.status);
    } else if (to[0] == '\0' && (link->tls || link->stranger)) {
        (void) snprintf(to, size, "%s",
                        link->tls ? "the server speaks TLS here; dial tls+tcp:// or wss://"
                                  : "what answers is no server of Coffer; check the address");
    }
}

/* --- Sending -------------------------------------------------------------------------------------------------- */

bool link_ready(const struct link *link)
{
    return link->greeted && !link->ended && !link->sending && link->wire_count < SENDS &&
           link->wire_bytes < SEND_BYTES;
}

void link_put(struct link *link, struct parcel *parcel)
{
    struct parcel **end = &link->wire;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    parcel->next = NULL;
    if (!parcel_seal(parcel, link->options.framing)) {
        parcel_free(parcel);
        link_end(link);
        return;
    }
    *end = parcel;
    link->wire_count++;
    link->wire_bytes += parcel->size;
}

static bool is_prefix_out(const struct link *link)
{
    return link->prefix_sent == link->prefix_size;
}

/* A pong can only stand between two messages. */
static void fill_prefix(struct link *link)
{
    if (is_prefix_out(link) && link->wire_sent == 0 && link->web.has_pong) {
        link->prefix_sent = 0;
        link->prefix_size = link_web_take_pong(&link->web, link->prefix);
    }
}

static unsigned gather(struct link *link, nng_iov *parts)
{
    unsigned count = 0;
    size_t skip = link->wire_sent;
    if (!is_prefix_out(link)) {
        parts[count].iov_buf = link->prefix + link->prefix_sent;
        parts[count++].iov_len = link->prefix_size - link->prefix_sent;
    }
    /* A message of which a part is out has to be ended first. */
    const unsigned most = link->web.has_pong ? count + 1 : SENDS;
    for (const struct parcel *parcel = link->wire; parcel != NULL && count < most; parcel = parcel->next) {
        const struct cof_slice bytes = parcel_sealed(parcel);
        parts[count].iov_buf = (void *) (uintptr_t) (bytes.data + skip);
        parts[count++].iov_len = bytes.len - skip;
        skip = 0;
    }
    return count;
}

void link_flush(struct link *link)
{
    nng_iov parts[SENDS];
    if (link->sending || link->ended) {
        return;
    }
    fill_prefix(link);
    const unsigned count = gather(link, parts);
    if (count == 0) {
        return;
    }
    link->sending = true;
    link->holds++;
    cof_stream_send(link->stream, link->sender, parts, count, SEND_MS);
}

/* Frees what went out. */
static void consume(struct link *link, size_t sent)
{
    const size_t left = link->prefix_size - link->prefix_sent;
    const size_t of_prefix = sent < left ? sent : left;
    link->prefix_sent += of_prefix;
    link->wire_sent += sent - of_prefix;
    while (link->wire != NULL) {
        struct parcel *parcel = link->wire;
        const size_t size = parcel_sealed(parcel).len;
        if (link->wire_sent < size) {
            break;
        }
        link->wire_sent -= size;
        link->wire = parcel->next;
        link->wire_count--;
        link->wire_bytes -= parcel->size;
        parcel_free(parcel);
    }
}

static void on_sent(void *context)
{
    struct link *link = context;
    (void) pthread_mutex_lock(link->options.lock);
    link->sending = false;
    if (nng_aio_result(link->sender) != 0) {
        link_end(link);
    } else if (!link->ended) {
        consume(link, cof_stream_count(link->stream, link->sender));
        link->options.events->progress(link->options.owner);
        link_flush(link);
    }
    let_go(link);
}

/* --- Receiving ------------------------------------------------------------------------------------------------ */

typedef enum taken {
    TAKEN,
    TAKEN_SHORT, /* more bytes are needed */
    TAKEN_BAD,   /* the connection has to end */
} taken;

static void be_greeted(struct link *link)
{
    link->greeted = true;
    link->options.events->greeted(link->options.owner);
}

/* The answer to the request that opens a WebSocket. */
static taken take_answer(struct link *link, size_t *at)
{
    switch (link_web_open(&link->web, cof_slice_of(link->buffer, link->filled), at)) {
    case COF_HEAD_SHORT:
        return TAKEN_SHORT;
    case COF_HEAD_DONE:
        be_greeted(link);
        return TAKEN;
    case COF_HEAD_BAD:
    case COF_HEAD_LARGE:
        break;
    }
    link->stranger = true;
    return TAKEN_BAD;
}

static taken take_greeting(struct link *link, size_t *at)
{
    /* An alert of TLS is shorter than a greeting. */
    link->tls = link->buffer[0] == TLS_ALERT || link->buffer[0] == TLS_HANDSHAKE;
    if (link->tls) {
        return TAKEN_BAD;
    }
    if (link->options.framing == PARCEL_WEB) {
        return take_answer(link, at);
    }
    if (link->filled < GREETING) {
        return TAKEN_SHORT;
    }
    if (memcmp(link->buffer, greeting_of_rep, GREETING) != 0) {
        link->stranger = true;
        return TAKEN_BAD;
    }
    *at = GREETING;
    be_greeted(link);
    return TAKEN;
}

static void deliver(struct link *link, struct parcel *reply)
{
    if (link->ended) {
        parcel_free(reply);
        return;
    }
    link->options.events->arrived(reply, link->options.owner);
}

/* Takes the message that begins at `at` from the buffer; one of which not all is there becomes `partial`. */
static taken take_message(struct link *link, size_t *at)
{
    const bool ipc = link->options.framing == PARCEL_IPC;
    const size_t header = (ipc ? 1 : 0) + LENGTH + PARCEL_ID;
    const uint8_t *start = link->buffer + *at;
    const size_t left = link->filled - *at;
    if (left < header) {
        return TAKEN_SHORT;
    }
    const uint64_t size = cof_get_u64(start + header - PARCEL_ID - LENGTH);
    if ((ipc && start[0] != 1) || size < PARCEL_ID || size - PARCEL_ID > link->options.max_reply) {
        return TAKEN_BAD;
    }
    struct parcel *reply = parcel_new((size_t) size - PARCEL_ID);
    if (reply == NULL) {
        return TAKEN_BAD;
    }
    const size_t here = left - header < reply->size ? left - header : reply->size;
    reply->id = cof_get_u32(start + header - PARCEL_ID);
    memcpy(reply->frame, start + header, here);
    *at += header + here;
    if (here < reply->size) {
        link->partial = reply;
        link->partial_filled = here;
        return TAKEN_SHORT;
    }
    deliver(link, reply);
    return TAKEN;
}

/* Takes what comes next of a WebSocket's frames. */
static taken take_frame(struct link *link, size_t *at)
{
    struct parcel *reply = NULL;
    if (*at == link->filled) {
        return TAKEN_SHORT;
    }
    if (!link_web_take(&link->web, link->buffer, link->filled, at, &reply)) {
        return TAKEN_BAD;
    }
    if (reply != NULL) {
        deliver(link, reply);
    }
    return TAKEN;
}

static taken take_partial(struct link *link, size_t received)
{
    link->partial_filled += received;
    if (link->partial_filled == link->partial->size) {
        deliver(link, TAKE(link->partial));
    }
    return TAKEN_SHORT;
}

/* What was received may hold secrets, so what was taken is wiped. */
static void move_rest(struct link *link, size_t at)
{
    const size_t rest = link->filled - at;
    memmove(link->buffer, link->buffer + at, rest);
    cof_wipe(link->buffer + rest, at);
    link->filled = rest;
}

static taken take_all(struct link *link, size_t received)
{
    size_t at = 0;
    taken result = TAKEN;
    if (link->partial != NULL) {
        return take_partial(link, received);
    }
    link->filled += received;
    if (!link->greeted) {
        result = take_greeting(link, &at);
    }
    while (result == TAKEN) {
        result = link->options.framing == PARCEL_WEB ? take_frame(link, &at) : take_message(link, &at);
    }
    move_rest(link, at);
    return result;
}

static void receive(struct link *link)
{
    nng_iov part = {.iov_buf = link->buffer + link->filled, .iov_len = BUFFER - link->filled};
    if (link->partial != NULL) {
        part.iov_buf = link->partial->frame + link->partial_filled;
        part.iov_len = link->partial->size - link->partial_filled;
    }
    link->holds++;
    cof_stream_recv(link->stream, link->receiver, part, link->greeted ? NNG_DURATION_INFINITE : GREETING_MS);
}

static void on_received(void *context)
{
    struct link *link = context;
    (void) pthread_mutex_lock(link->options.lock);
    if (nng_aio_result(link->receiver) != 0) {
        link_end(link);
    } else if (!link->ended) {
        link->options.events->progress(link->options.owner);
        if (take_all(link, cof_stream_count(link->stream, link->receiver)) == TAKEN_BAD) {
            link_end(link);
        }
    }
    if (!link->ended) {
        link_flush(link);
        receive(link);
    }
    let_go(link);
}

/* False if there is no randomness. */
static bool prepare_prefix(struct link *link)
{
    if (link->options.framing == PARCEL_WEB) {
        return link_web_init(&link->web, &link->options, link->prefix, sizeof link->prefix, &link->prefix_size);
    }
    link->prefix_size = GREETING;
    memcpy(link->prefix, greeting_of_req, GREETING);
    return true;
}

struct link *link_new(const struct link_options *options, struct cof_stream *stream)
{
    struct link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        cof_stream_free(stream);
        return NULL;
    }
    link->options = *options;
    if (!prepare_prefix(link) || nng_aio_alloc(&link->receiver, on_received, link) != 0 ||
        nng_aio_alloc(&link->sender, on_sent, link) != 0) {
        nng_aio_free(link->receiver);
        cof_stream_free(stream);
        free(link);
        return NULL;
    }
    link->stream = stream;
    link->holds = 1;
    link_flush(link);
    receive(link);
    return link;
}
