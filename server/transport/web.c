#include "server/transport/web.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "common/secret.h"
#include "common/tls/session.h"

enum {
    LINGER_MS = 1000, /* for a peer to read its answer, before the connection ends */
    SEND_MS = 5000,   /* in which a peer must take some bytes of it */
    LATER_MS = 60000, /* for an answer that comes later; whoever owes it is faster */
    TOLD_PER_SECOND = 10,
};

TAILQ_HEAD(web_list, web);

struct webs {
    const struct transport_options *options;
    struct connections *connections;
    pthread_mutex_t lock;
    pthread_cond_t all_gone;
    struct web_list all; /* the oldest first */
    uint32_t count;
    bool closing;
    int64_t told_second;
    uint32_t told;
};

typedef enum web_state {
    WEB_RECEIVING,
    WEB_WAITING, /* for an answer that comes later: a pause is all that runs */
    WEB_ANSWERING,
    WEB_LINGERING, /* the answer is out; what comes is thrown away until the peer closes */
} web_state;

/*
 * One operation runs at a time, so its callback has the connection to itself, but for `ended` and the stream's close,
 * which the lock of all protects: nng 1.5.2 would not complete an operation that begins on a closed stream.
 */
struct web {
    struct webs *webs;
    struct web_later *later; /* WAITING; with the lock */
    bool waiting;            /* the pause runs; with the lock */
    TAILQ_ENTRY(web) link;
    struct cof_stream *stream;
    nng_aio *aio;
    bool ended;
    const char *transport;
    const char *path;
    struct exchange_peer peer;
    web_state state;
    int64_t until_us;
    struct http_outcome outcome;
    size_t sent;
    uint8_t *buffer;
    size_t room;
    size_t filled;
};

/* An answer that comes later: its connection may be gone by then. With the lock. */
struct web_later {
    struct http_later later;
    struct webs *webs;
    struct web *web; /* NULL: it is gone */
    bool only_head;
    bool answered;
    struct http_outcome outcome;
};

/* --- Life ----------------------------------------------------------------------------------------------------- */

static void release(struct web *web)
{
    /* Also from inside of its callback. */
    nng_aio_reap(web->aio);
    if (web->stream != NULL) {
        cof_stream_free(web->stream);
    }
    http_text_done(&web->outcome.bytes);
    if (web->buffer != NULL) {
        cof_wipe(web->buffer, web->room);
        free(web->buffer);
    }
    free(web);
}

/* With the lock. Whoever comes second, the connection or the answer, frees it. */
static void leave_later(struct web *web)
{
    struct web_later *later = TAKE(web->later);
    if (later == NULL) {
        return;
    }
    later->web = NULL;
    if (later->answered) {
        http_text_done(&later->outcome.bytes);
        free(later);
    }
}

/* With the lock. */
static void unlink_web(struct web *web)
{
    struct webs *webs = web->webs;
    leave_later(web);
    TAILQ_REMOVE(&webs->all, web, link);
    webs->count--;
    if (webs->count == 0) {
        (void) pthread_cond_signal(&webs->all_gone);
    }
}

/* From inside of the callback, or before there was an operation. */
static void finish(struct web *web)
{
    struct webs *webs = web->webs;
    (void) pthread_mutex_lock(&webs->lock);
    struct web *gone = web;
    /* The list's end may be what webs_close waits for, so nothing of `webs` is used behind it. */
    unlink_web(gone);
    (void) pthread_mutex_unlock(&webs->lock);
    release(gone);
}

/* With the lock. Completes the operation that runs, whose callback ends the rest. */
static void end_locked(struct web *web)
{
    if (!web->ended) {
        web->ended = true;
        cof_stream_close(web->stream);
        if (web->waiting) {
            nng_aio_cancel(web->aio);
        }
    }
}

/* Whether a line about such peers may be logged now: they must not fill the log. */
static bool may_tell(struct webs *webs)
{
    const int64_t second = cof_clock_monotonic(webs->options->clock) / 1000000;
    (void) pthread_mutex_lock(&webs->lock);
    if (second != webs->told_second) {
        webs->told_second = second;
        webs->told = 0;
    }
    const bool may = webs->told++ < TOLD_PER_SECOND;
    (void) pthread_mutex_unlock(&webs->lock);
    return may;
}

/* --- Operations ----------------------------------------------------------------------------------------------- */

static int64_t now_of(const struct web *web)
{
    return cof_clock_monotonic(web->webs->options->clock);
}

static void set_time(struct web *web, uint32_t ms)
{
    web->until_us = now_of(web) + (int64_t) ms * 1000;
}

static nng_duration time_left(const struct web *web)
{
    const int64_t left_ms = (web->until_us - now_of(web)) / 1000;
    return left_ms < 1 ? 1 : (nng_duration) left_ms;
}

/* Begins the operation of the state; false if the connection has ended. */
static bool go_on(struct web *web)
{
    struct webs *webs = web->webs;
    (void) pthread_mutex_lock(&webs->lock);
    const bool runs = !web->ended;
    if (runs && web->state == WEB_ANSWERING) {
        nng_iov part = {.iov_buf = web->outcome.bytes.data + web->sent,
                        .iov_len = web->outcome.bytes.size - web->sent};
        cof_stream_send(web->stream, web->aio, &part, 1, SEND_MS);
    } else if (runs && web->state == WEB_WAITING) {
        web->waiting = true;
        nng_sleep_aio(web->later->answered ? 0 : LATER_MS, web->aio);
    } else if (runs) {
        nng_iov part = {.iov_buf = web->buffer + web->filled, .iov_len = web->room - web->filled};
        cof_stream_recv(web->stream, web->aio, part, time_left(web));
    }
    (void) pthread_mutex_unlock(&webs->lock);
    return runs;
}

/* --- Requests ------------------------------------------------------------------------------------------------- */

static void tell_refusal(struct web *web)
{
    if (web->outcome.refusal != NULL && may_tell(web->webs)) {
        COF_LOG(web->webs->options->log, COF_LOG_INFO, "http_refused", "a request of HTTP was refused",
                cof_log_text("transport", web->transport), cof_log_text("peer", web->peer.address),
                cof_log_number("status", web->outcome.status), cof_log_text("problem", web->outcome.refusal));
    }
}

static bool begin_answer(struct web *web)
{
    tell_refusal(web);
    web->state = WEB_ANSWERING;
    web->sent = 0;
    return web->outcome.bytes.data != NULL;
}

/* On any thread: the pause ends, and its callback sends the answer. */
static void answer_later(struct http_later *later, const struct http_response *response)
{
    struct web_later *owed = (struct web_later *) (void *) later;
    struct webs *webs = owed->webs;
    struct http_outcome outcome;
    http_answer(response, owed->only_head, &outcome);
    (void) pthread_mutex_lock(&webs->lock);
    const bool gone = owed->web == NULL;
    if (!gone) {
        owed->outcome = outcome;
        owed->answered = true;
        if (owed->web->waiting) {
            nng_aio_cancel(owed->web->aio);
        }
    }
    (void) pthread_mutex_unlock(&webs->lock);
    if (gone) {
        http_text_done(&outcome.bytes);
        free(owed);
    }
}

static struct http_later *wait_for_answer(void *context, bool only_head)
{
    struct web *web = context;
    struct web_later *later = calloc(1, sizeof *later);
    if (later == NULL) {
        return NULL;
    }
    later->later.answer = answer_later;
    later->webs = web->webs;
    later->web = web;
    later->only_head = only_head;
    web->later = later;
    return &later->later;
}

/* The pause has ended: the answer is there, its time is over, or the connection has ended. */
static bool woken(struct web *web)
{
    struct webs *webs = web->webs;
    (void) pthread_mutex_lock(&webs->lock);
    web->waiting = false;
    if (web->later->answered) {
        web->outcome = web->later->outcome;
        web->later->outcome = (struct http_outcome){0};
    } else {
        http_too_late(web->later->only_head, &web->outcome);
    }
    leave_later(web);
    (void) pthread_mutex_unlock(&webs->lock);
    return begin_answer(web);
}

/* The connection goes on as a WebSocket's, without this here. */
static void upgrade(struct web *web)
{
    struct webs *webs = web->webs;
    const size_t taken = web->outcome.taken;
    struct web_opening opening = {
        .transport = web->transport,
        .answer = cof_slice_of(web->outcome.bytes.data, web->outcome.bytes.size),
        .early = cof_slice_of(web->buffer + taken, web->filled - taken),
    };
    (void) pthread_mutex_lock(&webs->lock);
    if (!web->ended) {
        opening.stream = TAKE(web->stream);
        web->ended = true;
    }
    (void) pthread_mutex_unlock(&webs->lock);
    if (opening.stream != NULL) {
        connections_add_web(webs->connections, &opening);
    }
}

/* Room for the body that the request announces, within the route's limit; false if there is no memory. */
static bool make_room(struct web *web)
{
    if (web->outcome.wanted <= web->room) {
        return true;
    }
    uint8_t *larger = malloc(web->outcome.wanted);
    if (larger == NULL) {
        return false;
    }
    memcpy(larger, web->buffer, web->filled);
    cof_wipe(web->buffer, web->room);
    free(web->buffer);
    web->buffer = larger;
    web->room = web->outcome.wanted;
    return true;
}

static bool is_loopback(const struct exchange_peer *peer)
{
    static const uint8_t v4[13] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127};
    static const uint8_t v6[16] = {[15] = 1};
    return peer->has_ip && (memcmp(peer->ip, v4, sizeof v4) == 0 || memcmp(peer->ip, v6, sizeof v6) == 0);
}

/* Whether the connection goes on here. */
static bool take_bytes(struct web *web)
{
    const struct http_waiter waiter = {wait_for_answer, web};
    http_serve(web->webs->options->site, web->path, is_loopback(&web->peer), cof_slice_of(web->buffer, web->filled),
               &waiter, &web->outcome);
    switch (web->outcome.step) {
    case HTTP_MORE:
        return make_room(web);
    case HTTP_ANSWER:
        return begin_answer(web);
    case HTTP_LATER:
        web->state = WEB_WAITING;
        return true;
    case HTTP_UPGRADE:
        if (web->outcome.bytes.data != NULL) {
            upgrade(web);
        }
        return false;
    }
    return false;
}

static void tell_problem(struct web *web)
{
    char problem[COF_TLS_PROBLEM];
    cof_stream_problem(web->stream, problem, sizeof problem);
    if (problem[0] != '\0' && may_tell(web->webs)) {
        COF_LOG(web->webs->options->log, COF_LOG_INFO, "tls_refused", "there was no TLS connection with a peer",
                cof_log_text("peer", web->peer.address), cof_log_text("problem", problem));
    }
}

static bool received(struct web *web, int result)
{
    if (web->state == WEB_LINGERING) {
        return result == 0 && now_of(web) < web->until_us;
    }
    if (result == NNG_ETIMEDOUT && web->filled > 0) {
        http_text_done(&web->outcome.bytes);
        http_too_slow(&web->outcome);
        return begin_answer(web);
    }
    if (result != 0) {
        tell_problem(web);
        return false;
    }
    web->filled += cof_stream_count(web->stream, web->aio);
    return take_bytes(web);
}

static bool sent(struct web *web, int result)
{
    if (result != 0) {
        return false;
    }
    web->sent += cof_stream_count(web->stream, web->aio);
    if (web->sent == web->outcome.bytes.size) {
        /* A socket that is closed with bytes in it that nobody read throws away what it had sent. */
        web->state = WEB_LINGERING;
        web->filled = 0;
        set_time(web, LINGER_MS);
    }
    return true;
}

static void on_done(void *context)
{
    struct web *web = context;
    const int result = nng_aio_result(web->aio);
    const bool goes_on = web->state == WEB_WAITING     ? woken(web)
                         : web->state == WEB_ANSWERING ? sent(web, result)
                                                       : received(web, result);
    if (!goes_on || !go_on(web)) {
        finish(web);
    }
}

/* --- Beginning ------------------------------------------------------------------------------------------------ */

static struct web *web_new(struct webs *webs, struct cof_stream *stream, const char *transport, const char *path)
{
    struct web *web = calloc(1, sizeof *web);
    uint8_t *buffer = malloc(COF_HEAD_MOST);
    if (web == NULL || buffer == NULL || nng_aio_alloc(&web->aio, on_done, web) != 0) {
        free(buffer);
        free(web);
        return NULL;
    }
    web->webs = webs;
    web->stream = stream;
    web->transport = transport;
    web->path = path;
    web->buffer = buffer;
    web->room = COF_HEAD_MOST;
    connection_describe(stream, transport, &web->peer);
    set_time(web, transport_now(&webs->options->limits.http_timeout_ms));
    return web;
}

/* Links it, unless everything is being closed; the oldest gives way if there are too many. */
static bool link_web(struct web *web)
{
    struct webs *webs = web->webs;
    bool gave_way = false;
    (void) pthread_mutex_lock(&webs->lock);
    const bool linked = !webs->closing;
    if (linked) {
        struct web *oldest = TAILQ_FIRST(&webs->all);
        while (oldest != NULL && oldest->ended) {
            oldest = TAILQ_NEXT(oldest, link);
        }
        gave_way = webs->count >= transport_now(&webs->options->limits.max_strangers) && oldest != NULL;
        if (gave_way) {
            end_locked(oldest);
        }
        TAILQ_INSERT_TAIL(&webs->all, web, link);
        webs->count++;
    }
    (void) pthread_mutex_unlock(&webs->lock);
    if (gave_way && may_tell(webs)) {
        COF_LOG(webs->options->log, COF_LOG_WARN, "too_many_http",
                "the oldest connection of HTTP gave way to a new one",
                cof_log_number("max_strangers", transport_now(&webs->options->limits.max_strangers)));
    }
    return linked;
}

void webs_add(struct webs *webs, struct cof_stream *stream, const char *transport, const char *path)
{
    struct web *web = web_new(webs, stream, transport, path);
    if (web == NULL) {
        cof_stream_free(stream);
        return;
    }
    if (!link_web(web)) {
        release(web);
    } else if (!go_on(web)) {
        finish(web);
    }
}

/* --- All of them ---------------------------------------------------------------------------------------------- */

struct webs *webs_new(const struct transport_options *options, struct connections *connections)
{
    struct webs *webs = calloc(1, sizeof *webs);
    if (webs == NULL) {
        return NULL;
    }
    webs->options = options;
    webs->connections = connections;
    TAILQ_INIT(&webs->all);
    (void) pthread_mutex_init(&webs->lock, NULL);
    (void) pthread_cond_init(&webs->all_gone, NULL);
    return webs;
}

void webs_close(struct webs *webs)
{
    if (webs == NULL) {
        return;
    }
    (void) pthread_mutex_lock(&webs->lock);
    webs->closing = true;
    struct web *web = NULL;
    TAILQ_FOREACH(web, &webs->all, link)
    {
        end_locked(web);
    }
    while (webs->count > 0) {
        (void) pthread_cond_wait(&webs->all_gone, &webs->lock);
    }
    (void) pthread_mutex_unlock(&webs->lock);
}

void webs_free(struct webs *webs)
{
    if (webs == NULL) {
        return;
    }
    webs_close(webs);
    (void) pthread_cond_destroy(&webs->all_gone);
    (void) pthread_mutex_destroy(&webs->lock);
    free(webs);
}
