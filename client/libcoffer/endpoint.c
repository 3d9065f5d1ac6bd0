#include "client/libcoffer/endpoint.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <nng/protocol/reqrep0/req.h>
#include <nng/transport/tcp/tcp.h>

#include "common/socket.h"

enum {
    IDLE_CONTEXTS = 256, /* more than that are closed when they are given back */
    RECONNECT_MIN_MS = 10,
    RECONNECT_MAX_MS = 1000,
};

struct endpoint {
    struct endpoint_options options;
    char *address;
    nng_socket socket;
    bool opened;
    atomic_int connections;
    pthread_mutex_t lock;
    pthread_cond_t nobody_inside;
    size_t inside; /* threads that are in a function of a context */
    bool closing;
    size_t idle_count;
    nng_ctx idle[IDLE_CONTEXTS];
};

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *context)
{
    struct endpoint *endpoint = context;
    (void) pipe;
    if (event == NNG_PIPE_EV_ADD_POST) {
        if (atomic_fetch_add(&endpoint->connections, 1) == 0) {
            endpoint->options.changed(endpoint, true, endpoint->options.context);
        }
        return;
    }
    if (atomic_fetch_sub(&endpoint->connections, 1) == 1) {
        endpoint->options.changed(endpoint, false, endpoint->options.context);
    }
}

/*
 * Of the settings the first one matters most: nng would send a request again by itself, and it would be done twice
 * without anybody knowing.
 */
static int configure(struct endpoint *endpoint)
{
    const nng_socket socket = endpoint->socket;
    const int results[] = {
        nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE),
        nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, endpoint->options.max_reply),
        nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS),
        nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS),
        nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, on_pipe, endpoint),
        nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, on_pipe, endpoint),
    };
    for (size_t i = 0; i < COF_COUNT(results); i++) {
        if (results[i] != 0) {
            return results[i];
        }
    }
    return 0;
}

static int dial(struct endpoint *endpoint)
{
    nng_dialer dialer;
    const int rv = nng_dialer_create(&dialer, endpoint->socket, endpoint->address);
    if (rv != 0) {
        return rv;
    }
    /* Not every transport has it. */
    (void) nng_dialer_set_bool(dialer, NNG_OPT_TCP_KEEPALIVE, true);
    return nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
}

static int start(struct endpoint *endpoint)
{
    int rv = nng_req0_open(&endpoint->socket);
    if (rv != 0) {
        return rv;
    }
    endpoint->opened = true;
    rv = configure(endpoint);
    return rv != 0 ? rv : dial(endpoint);
}

static cof_code out_of_memory(struct cof_error *err)
{
    return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a connection");
}

static void discard(struct endpoint **endpoint)
{
    if (*endpoint != NULL) {
        if (endpoint_close(*endpoint)) {
            endpoint_free(*endpoint);
        }
    }
}

cof_code endpoint_new(const struct endpoint_options *options, struct endpoint **ret_endpoint, struct cof_error *err)
{
    AUTO(discard) struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (endpoint == NULL) {
        return out_of_memory(err);
    }
    endpoint->options = *options;
    (void) pthread_mutex_init(&endpoint->lock, NULL);
    (void) pthread_cond_init(&endpoint->nobody_inside, NULL);
    endpoint->address = nng_strdup(options->address);
    if (endpoint->address == NULL) {
        return out_of_memory(err);
    }
    const int rv = start(endpoint);
    if (rv == NNG_ENOMEM) {
        return out_of_memory(err);
    }
    if (rv != 0) {
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, "addr",
                              "the address %s cannot be dialled: %s; correct it", endpoint->address,
                              nng_strerror(rv));
    }
    *ret_endpoint = TAKE(endpoint);
    return COF_OK;
}

/*
 * Whoever calls a function of a context is inside meanwhile. nng 1.5.2 takes a context from its socket before it takes
 * the context apart, so a thread on its way out of nng_ctx_send would find that nng_close has freed the socket. So the
 * socket is closed when nobody is inside, and nobody gets in any more.
 */
static bool enter(struct endpoint *endpoint)
{
    (void) pthread_mutex_lock(&endpoint->lock);
    const bool open = !endpoint->closing;
    endpoint->inside += open;
    (void) pthread_mutex_unlock(&endpoint->lock);
    return open;
}

static void leave(struct endpoint *endpoint)
{
    (void) pthread_mutex_lock(&endpoint->lock);
    endpoint->inside--;
    if (endpoint->closing && endpoint->inside == 0) {
        (void) pthread_cond_signal(&endpoint->nobody_inside);
    }
    (void) pthread_mutex_unlock(&endpoint->lock);
}

bool endpoint_close(struct endpoint *endpoint)
{
    (void) pthread_mutex_lock(&endpoint->lock);
    endpoint->closing = true;
    while (endpoint->inside > 0) {
        (void) pthread_cond_wait(&endpoint->nobody_inside, &endpoint->lock);
    }
    (void) pthread_mutex_unlock(&endpoint->lock);
    const bool closed = !endpoint->opened || cof_socket_close(endpoint->socket);
    endpoint->opened = false;
    return closed;
}

void endpoint_free(struct endpoint *endpoint)
{
    if (endpoint == NULL) {
        return;
    }
    nng_strfree(endpoint->address);
    (void) pthread_cond_destroy(&endpoint->nobody_inside);
    (void) pthread_mutex_destroy(&endpoint->lock);
    free(endpoint);
}

const char *endpoint_address(const struct endpoint *endpoint)
{
    return endpoint->address;
}

bool endpoint_connected(const struct endpoint *endpoint)
{
    return atomic_load(&endpoint->connections) > 0;
}

/* An idle context, if there is one. The lock is held. */
static bool take_idle(struct endpoint *endpoint, nng_ctx *ret_context)
{
    if (endpoint->idle_count == 0) {
        return false;
    }
    *ret_context = endpoint->idle[--endpoint->idle_count];
    return true;
}

int endpoint_context_take(struct endpoint *endpoint, nng_ctx *ret_context)
{
    if (!enter(endpoint)) {
        return NNG_ECLOSED;
    }
    (void) pthread_mutex_lock(&endpoint->lock);
    const bool idle = take_idle(endpoint, ret_context);
    (void) pthread_mutex_unlock(&endpoint->lock);
    const int rv = idle ? 0 : nng_ctx_open(ret_context, endpoint->socket);
    leave(endpoint);
    return rv;
}

/* Whether the context was put among the idle ones. */
static bool keep_idle(struct endpoint *endpoint, nng_ctx context)
{
    (void) pthread_mutex_lock(&endpoint->lock);
    const bool kept = endpoint->idle_count < IDLE_CONTEXTS;
    if (kept) {
        endpoint->idle[endpoint->idle_count++] = context;
    }
    (void) pthread_mutex_unlock(&endpoint->lock);
    return kept;
}

void endpoint_context_give(struct endpoint *endpoint, nng_ctx context, bool answered)
{
    /* A socket that is being closed takes its contexts with it. */
    if (!enter(endpoint)) {
        return;
    }
    if (!answered || !keep_idle(endpoint, context)) {
        (void) nng_ctx_close(context);
    }
    leave(endpoint);
}

bool endpoint_send(struct endpoint *endpoint, nng_ctx context, nng_aio *aio)
{
    if (!enter(endpoint)) {
        return false;
    }
    nng_ctx_send(context, aio);
    leave(endpoint);
    return true;
}

bool endpoint_receive(struct endpoint *endpoint, nng_ctx context, nng_aio *aio)
{
    if (!enter(endpoint)) {
        return false;
    }
    nng_ctx_recv(context, aio);
    leave(endpoint);
    return true;
}
