#include "client/libcoffer/endpoint.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nng/supplemental/util/platform.h>

#include "client/libcoffer/address.h"
#include "client/libcoffer/link.h"
#include "common/attr.h"
#include "common/tls/session.h"

enum {
    RECONNECT_MIN_MS = 10,
    RECONNECT_MAX_MS = 1000,
    HANDSHAKE_MS = 10000,
    BUCKETS = 256,
};

#define ID_BIT 0x80000000U

TAILQ_HEAD(exchanges, exchange);

/*
 * The lock is also that of the link. Nothing is called with it that takes it, and nng's operations complete on other
 * threads. What nng may still be doing when the endpoint is closed is counted: it dials, it sleeps, it has links.
 */
struct endpoint {
    struct endpoint_options options;
    char *address;
    parcel_framing framing;
    char place[ADDRESS_MAX]; /* of a WebSocket */
    char name[ADDRESS_MAX];  /* that the server's certificate must have; empty: no TLS */
    nng_stream_dialer *dialer;
    nng_aio *dial;
    nng_aio *pause;
    atomic_bool connected;

    pthread_mutex_t lock;
    pthread_cond_t quiet;
    bool closing;
    bool dialling;
    bool pausing;
    unsigned links; /* that are not gone */
    struct link *current;
    uint32_t delay_ms; /* before the next try */
    uint32_t refusals;
    uint32_t next_id;
    char problem[COF_TLS_PROBLEM]; /* of the last connection, if it did not get as far as the greeting */
    struct exchanges queue;
    struct exchanges open[BUCKETS]; /* by ID */
};

static struct exchanges *bucket_of(struct endpoint *endpoint, uint32_t id)
{
    return &endpoint->open[id % BUCKETS];
}

static void lock(struct endpoint *endpoint)
{
    (void) pthread_mutex_lock(&endpoint->lock);
}

static void unlock(struct endpoint *endpoint)
{
    (void) pthread_mutex_unlock(&endpoint->lock);
}

/* --- Exchanges ------------------------------------------------------------------------------------------------ */

static void complete(struct exchange *exchange, int result)
{
    nng_aio *aio = TAKE(exchange->aio);
    if (aio != NULL) {
        nng_aio_finish(aio, result);
    }
}

static void take_from_queue(struct endpoint *endpoint, struct exchange *exchange)
{
    TAILQ_REMOVE(&endpoint->queue, exchange, link);
    exchange->state = EXCHANGE_NONE;
}

static void take_from_open(struct endpoint *endpoint, struct exchange *exchange, exchange_state state)
{
    TAILQ_REMOVE(bucket_of(endpoint, exchange->id), exchange, link);
    exchange->state = state;
}

static void refuse(struct endpoint *endpoint, struct exchange *exchange, int result)
{
    take_from_queue(endpoint, exchange);
    parcel_free(TAKE(exchange->parcel));
    complete(exchange, result);
}

/* Nothing that was sent is answered any more, and nothing that waits is sent. */
static void end_all(struct endpoint *endpoint, int result)
{
    struct exchange *exchange = NULL;
    while ((exchange = TAILQ_FIRST(&endpoint->queue)) != NULL) {
        refuse(endpoint, exchange, result);
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        while ((exchange = TAILQ_FIRST(&endpoint->open[i])) != NULL) {
            take_from_open(endpoint, exchange, EXCHANGE_LOST);
            complete(exchange, result);
        }
    }
}

/* An answer with this ID would be for whom it is not meant, if another exchange had it. */
static uint32_t new_id(struct endpoint *endpoint)
{
    for (;;) {
        const uint32_t id = ID_BIT | endpoint->next_id++;
        const struct exchange *other = NULL;
        TAILQ_FOREACH(other, bucket_of(endpoint, id), link)
        {
            if (other->id == id) {
                break;
            }
        }
        if (other == NULL) {
            return id;
        }
    }
}

/* Gives the link what it takes. */
static void push(struct endpoint *endpoint)
{
    struct exchange *exchange = NULL;
    if (endpoint->current == NULL) {
        return;
    }
    while (link_ready(endpoint->current) && (exchange = TAILQ_FIRST(&endpoint->queue)) != NULL) {
        struct parcel *request = TAKE(exchange->parcel);
        take_from_queue(endpoint, exchange);
        exchange->state = EXCHANGE_OPEN;
        exchange->id = request->id = new_id(endpoint);
        TAILQ_INSERT_TAIL(bucket_of(endpoint, exchange->id), exchange, link);
        link_put(endpoint->current, request);
        complete(exchange, 0);
        if (endpoint->current == NULL) {
            return;
        }
    }
    link_flush(endpoint->current);
}

/*
 * These are called by nng, perhaps when the operation has just completed and its exchange does something else. So they
 * look for it where it must be, and use nothing of it before it is found.
 */
static void cancel_send(nng_aio *aio, void *context, int result)
{
    struct endpoint *endpoint = context;
    struct exchange *exchange = NULL;
    lock(endpoint);
    TAILQ_FOREACH(exchange, &endpoint->queue, link)
    {
        if (exchange->aio == aio) {
            break;
        }
    }
    if (exchange != NULL) {
        refuse(endpoint, exchange, result);
        endpoint->refusals += result == NNG_ETIMEDOUT;
    }
    if (endpoint->refusals >= ENDPOINT_REFUSALS && endpoint->current != NULL) {
        link_end(endpoint->current);
    }
    unlock(endpoint);
}

static struct exchange *find_open(struct endpoint *endpoint, const nng_aio *aio)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        struct exchange *exchange = NULL;
        TAILQ_FOREACH(exchange, &endpoint->open[i], link)
        {
            if (exchange->aio == aio) {
                return exchange;
            }
        }
    }
    return NULL;
}

static void cancel_receive(nng_aio *aio, void *context, int result)
{
    struct endpoint *endpoint = context;
    lock(endpoint);
    struct exchange *exchange = find_open(endpoint, aio);
    if (exchange != NULL) {
        take_from_open(endpoint, exchange, EXCHANGE_NONE);
        complete(exchange, result);
    }
    unlock(endpoint);
}

/* --- Connections ---------------------------------------------------------------------------------------------- */

static void tell_quiet(struct endpoint *endpoint)
{
    if (endpoint->closing) {
        (void) pthread_cond_signal(&endpoint->quiet);
    }
}

static void dial(struct endpoint *endpoint)
{
    endpoint->dialling = true;
    nng_stream_dialer_dial(endpoint->dialer, endpoint->dial);
}

/* The pauses grow until an answer comes, so that a server that ends every connection is not kept busy by them. */
static void dial_later(struct endpoint *endpoint)
{
    const uint32_t least = endpoint->delay_ms / 2;
    const uint32_t delay = least + nng_random() % (least + 1);
    endpoint->delay_ms = endpoint->delay_ms * 2 < RECONNECT_MAX_MS ? endpoint->delay_ms * 2 : RECONNECT_MAX_MS;
    endpoint->pausing = true;
    nng_sleep_aio((nng_duration) delay, endpoint->pause);
}

static void on_pause(void *context)
{
    struct endpoint *endpoint = context;
    lock(endpoint);
    endpoint->pausing = false;
    if (!endpoint->closing) {
        dial(endpoint);
    }
    tell_quiet(endpoint);
    unlock(endpoint);
}

static void on_greeted(void *owner)
{
    struct endpoint *endpoint = owner;
    endpoint->problem[0] = '\0';
    atomic_store(&endpoint->connected, true);
    endpoint->options.connected(endpoint->options.context);
}

static void on_progress(void *owner)
{
    struct endpoint *endpoint = owner;
    endpoint->refusals = 0;
    push(endpoint);
}

static void on_arrived(struct parcel *reply, void *owner)
{
    struct endpoint *endpoint = owner;
    struct exchange *exchange = NULL;
    endpoint->delay_ms = RECONNECT_MIN_MS;
    TAILQ_FOREACH(exchange, bucket_of(endpoint, reply->id), link)
    {
        if (exchange->id == reply->id) {
            break;
        }
    }
    if (exchange == NULL) {
        parcel_free(reply);
        return;
    }
    take_from_open(endpoint, exchange, EXCHANGE_ANSWERED);
    exchange->parcel = reply;
    complete(exchange, 0);
}

static void on_ended(void *owner)
{
    struct endpoint *endpoint = owner;
    if (!endpoint_connected(endpoint)) {
        link_problem(endpoint->current, endpoint->problem, sizeof endpoint->problem);
    }
    endpoint->current = NULL;
    endpoint->refusals = 0;
    atomic_store(&endpoint->connected, false);
    end_all(endpoint, endpoint->closing ? NNG_ECLOSED : NNG_ECONNRESET);
    if (!endpoint->closing) {
        dial_later(endpoint);
    }
}

static void on_gone(void *owner)
{
    struct endpoint *endpoint = owner;
    endpoint->links--;
    tell_quiet(endpoint);
}

static const struct link_events events = {on_greeted, on_progress, on_arrived, on_ended, on_gone};

static struct cof_stream *make_stream(const struct endpoint *endpoint, nng_stream *dialled)
{
    struct cof_tls *tls = endpoint->options.tls;
    if (endpoint->name[0] == '\0') {
        return cof_stream_plain(dialled);
    }
    return endpoint->framing == PARCEL_WEB ? cof_stream_tls_web(dialled, tls, endpoint->name, HANDSHAKE_MS)
                                           : cof_stream_tls(dialled, tls, endpoint->name, HANDSHAKE_MS);
}

static void use_stream(struct endpoint *endpoint, nng_stream *dialled)
{
    struct cof_stream *stream = make_stream(endpoint, dialled);
    const struct link_options options = {.events = &events,
                                         .owner = endpoint,
                                         .lock = &endpoint->lock,
                                         .framing = endpoint->framing,
                                         .place = endpoint->place,
                                         .path = address_path(endpoint->address),
                                         .max_reply = endpoint->options.max_reply};
    endpoint->current = stream == NULL ? NULL : link_new(&options, stream);
    if (endpoint->current == NULL) {
        dial_later(endpoint);
        return;
    }
    endpoint->links++;
}

static void on_dialled(void *context)
{
    struct endpoint *endpoint = context;
    const bool dialled = nng_aio_result(endpoint->dial) == 0;
    nng_stream *stream = dialled ? nng_aio_get_output(endpoint->dial, 0) : NULL;
    lock(endpoint);
    endpoint->dialling = false;
    if (endpoint->closing) {
        if (dialled) {
            nng_stream_free(stream);
        }
    } else if (dialled) {
        use_stream(endpoint, stream);
    } else {
        dial_later(endpoint);
    }
    tell_quiet(endpoint);
    unlock(endpoint);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static cof_code out_of_memory(struct cof_error *err)
{
    return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a connection");
}

static cof_code make_dialer(struct endpoint *endpoint, struct cof_error *err)
{
    char below[ADDRESS_MAX + sizeof "tcp://"] = "tcp://";
    if (endpoint->framing == PARCEL_IPC) {
        (void) snprintf(below, sizeof below, "%s", endpoint->address);
    } else {
        /* TLS and HTTP are ours; nng dials tcp. */
        address_place(endpoint->address, below + strlen("tcp://"));
    }
    const int rv = nng_stream_dialer_alloc(&endpoint->dialer, below);
    if (rv == NNG_ENOMEM) {
        return out_of_memory(err);
    }
    if (rv != 0) {
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, "addr",
                              "the address %s cannot be dialled: %s; correct it", endpoint->address,
                              nng_strerror(rv));
    }
    /* Not every transport has it. */
    (void) nng_stream_dialer_set_bool(endpoint->dialer, NNG_OPT_TCP_KEEPALIVE, true);
    return COF_OK;
}

static void name_server(const struct endpoint_options *options, char *to)
{
    if (options->tls_server_name != NULL) {
        (void) snprintf(to, ADDRESS_MAX, "%s", options->tls_server_name);
    } else {
        address_host(options->address, to);
    }
}

static struct endpoint *make(const struct endpoint_options *options)
{
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (endpoint == NULL) {
        return NULL;
    }
    endpoint->options = *options;
    (void) pthread_mutex_init(&endpoint->lock, NULL);
    (void) pthread_cond_init(&endpoint->quiet, NULL);
    TAILQ_INIT(&endpoint->queue);
    for (size_t i = 0; i < BUCKETS; i++) {
        TAILQ_INIT(&endpoint->open[i]);
    }
    endpoint->framing = strncmp(options->address, "ipc:", 4) == 0 ? PARCEL_IPC : PARCEL_LENGTH;
    if (address_is_web(options->address)) {
        endpoint->framing = PARCEL_WEB;
        address_place(options->address, endpoint->place);
    }
    if (address_is_tls(options->address)) {
        name_server(options, endpoint->name);
    }
    endpoint->delay_ms = RECONNECT_MIN_MS;
    endpoint->next_id = nng_random();
    return endpoint;
}

static void discard(struct endpoint **endpoint)
{
    endpoint_free(*endpoint);
}

cof_code endpoint_new(const struct endpoint_options *options, struct endpoint **ret_endpoint, struct cof_error *err)
{
    AUTO(discard) struct endpoint *endpoint = make(options);
    if (endpoint == NULL) {
        return out_of_memory(err);
    }
    endpoint->address = nng_strdup(options->address);
    if (endpoint->address == NULL || nng_aio_alloc(&endpoint->dial, on_dialled, endpoint) != 0 ||
        nng_aio_alloc(&endpoint->pause, on_pause, endpoint) != 0) {
        return out_of_memory(err);
    }
    TRY(make_dialer(endpoint, err));
    lock(endpoint);
    dial(endpoint);
    unlock(endpoint);
    *ret_endpoint = TAKE(endpoint);
    return COF_OK;
}

void endpoint_close(struct endpoint *endpoint)
{
    lock(endpoint);
    endpoint->closing = true;
    nng_stream_dialer_close(endpoint->dialer);
    nng_aio_cancel(endpoint->pause);
    if (endpoint->current != NULL) {
        link_end(endpoint->current);
    }
    while (endpoint->dialling || endpoint->pausing || endpoint->links > 0) {
        (void) pthread_cond_wait(&endpoint->quiet, &endpoint->lock);
    }
    unlock(endpoint);
}

void endpoint_free(struct endpoint *endpoint)
{
    if (endpoint == NULL) {
        return;
    }
    /* These wait for the callback that told us that all is quiet. */
    nng_aio_free(endpoint->dial);
    nng_aio_free(endpoint->pause);
    if (endpoint->dialer != NULL) {
        nng_stream_dialer_free(endpoint->dialer);
    }
    nng_strfree(endpoint->address);
    (void) pthread_cond_destroy(&endpoint->quiet);
    (void) pthread_mutex_destroy(&endpoint->lock);
    free(endpoint);
}

const char *endpoint_address(const struct endpoint *endpoint)
{
    return endpoint->address;
}

bool endpoint_connected(const struct endpoint *endpoint)
{
    return atomic_load(&endpoint->connected);
}

void endpoint_problem(struct endpoint *endpoint, char *to, size_t size)
{
    lock(endpoint);
    (void) snprintf(to, size, "%s", endpoint->problem);
    unlock(endpoint);
}

/* --- Operations ----------------------------------------------------------------------------------------------- */

bool endpoint_send(struct endpoint *endpoint, struct exchange *exchange, struct parcel *request, nng_aio *aio)
{
    lock(endpoint);
    const bool begun = !endpoint->closing && nng_aio_begin(aio);
    if (!begun) {
        parcel_free(request);
    } else if (!endpoint_connected(endpoint)) {
        parcel_free(request);
        nng_aio_finish(aio, NNG_ECONNRESET);
    } else {
        exchange->state = EXCHANGE_QUEUED;
        exchange->parcel = request;
        exchange->aio = aio;
        TAILQ_INSERT_TAIL(&endpoint->queue, exchange, link);
        nng_aio_defer(aio, cancel_send, endpoint);
        push(endpoint);
    }
    /* The call, and the exchange in it, may be somebody else's by now. */
    unlock(endpoint);
    return begun;
}

bool endpoint_receive(struct endpoint *endpoint, struct exchange *exchange, nng_aio *aio)
{
    lock(endpoint);
    const bool begun = !endpoint->closing && nng_aio_begin(aio);
    if (begun && exchange->state == EXCHANGE_OPEN) {
        exchange->aio = aio;
        nng_aio_defer(aio, cancel_receive, endpoint);
    } else if (begun) {
        nng_aio_finish(aio, exchange->state == EXCHANGE_ANSWERED ? 0 : NNG_ECONNRESET);
    }
    /* The call, and the exchange in it, may be somebody else's by now. */
    unlock(endpoint);
    return begun;
}

struct parcel *endpoint_take_answer(struct exchange *exchange)
{
    return TAKE(exchange->parcel);
}

void endpoint_forget(struct endpoint *endpoint, struct exchange *exchange)
{
    lock(endpoint);
    assert(exchange->aio == NULL);
    if (exchange->state == EXCHANGE_OPEN) {
        take_from_open(endpoint, exchange, EXCHANGE_NONE);
    }
    parcel_free(TAKE(exchange->parcel));
    exchange->state = EXCHANGE_NONE;
    unlock(endpoint);
}
