#include "client/libcoffer/endpoint.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <nng/protocol/reqrep0/req.h>
#include <nng/transport/tcp/tcp.h>

#include "client/libcoffer/socket.h"
#include "common/clock.h"

enum {
    IDLE_CONTEXTS = 256, /* more than that are closed when they are given back */
    RECONNECT_MIN_MS = 10,
    RECONNECT_MAX_MS = 1000,
};

struct endpoint_socket {
    struct endpoint *endpoint;
    nng_socket socket;
    bool opened;
    atomic_int connections;
    nng_dialer dialer;
    /* With the endpoint's lock. */
    size_t inside; /* threads that are in a function of a context, or dial again */
    int64_t dialled_us;
    unsigned refusals;
    size_t idle_count;
    nng_ctx idle[IDLE_CONTEXTS];
};

struct endpoint {
    struct endpoint_options options;
    char *address;
    pthread_mutex_t lock;
    pthread_cond_t nobody_inside;
    bool closing;
    struct endpoint_socket *sockets[ENDPOINT_SOCKETS];
    size_t socket_count;
    _Atomic(struct endpoint_socket *) current; /* the one that new calls use */
};

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *context)
{
    struct endpoint_socket *socket = context;
    struct endpoint *endpoint = socket->endpoint;
    const bool added = event == NNG_PIPE_EV_ADD_POST;
    (void) pipe;
    const int before = atomic_fetch_add(&socket->connections, added ? 1 : -1);
    /* Nobody uses a socket that was replaced. */
    if (before == (added ? 0 : 1) && atomic_load(&endpoint->current) == socket) {
        endpoint->options.changed(endpoint, added, endpoint->options.context);
    }
}

/*
 * Of the settings the first one matters most: nng would send a request again by itself, and it would be done twice
 * without anybody knowing.
 */
static int configure(struct endpoint_socket *of)
{
    const nng_socket socket = of->socket;
    const int results[] = {
        nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE),
        nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, of->endpoint->options.max_reply),
        nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS),
        nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS),
        nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, on_pipe, of),
        nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, on_pipe, of),
    };
    for (size_t i = 0; i < COF_COUNT(results); i++) {
        if (results[i] != 0) {
            return results[i];
        }
    }
    return 0;
}

static int dial(struct endpoint_socket *of)
{
    const int rv = nng_dialer_create(&of->dialer, of->socket, of->endpoint->address);
    if (rv != 0) {
        return rv;
    }
    /* Not every transport has it. */
    (void) nng_dialer_set_bool(of->dialer, NNG_OPT_TCP_KEEPALIVE, true);
    return nng_dialer_start(of->dialer, NNG_FLAG_NONBLOCK);
}

static int start(struct endpoint_socket *socket)
{
    int rv = nng_req0_open(&socket->socket);
    if (rv != 0) {
        return rv;
    }
    socket->opened = true;
    rv = configure(socket);
    return rv != 0 ? rv : dial(socket);
}

/* A socket that connects becomes the one in use; one that cannot be made leaves things as they were. */
static int add_socket(struct endpoint *endpoint)
{
    struct endpoint_socket *former = atomic_load(&endpoint->current);
    struct endpoint_socket *added = calloc(1, sizeof *added);
    if (added == NULL) {
        return NNG_ENOMEM;
    }
    added->endpoint = endpoint;
    added->dialled_us = cof_clock_monotonic(&cof_system_clock);
    endpoint->sockets[endpoint->socket_count++] = added;
    atomic_store(&endpoint->current, added);
    const int rv = start(added);
    if (rv != 0) {
        atomic_store(&endpoint->current, former);
    }
    return rv;
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
    const int rv = add_socket(endpoint);
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
static bool enter(struct endpoint *endpoint, struct endpoint_socket *socket)
{
    (void) pthread_mutex_lock(&endpoint->lock);
    const bool open = !endpoint->closing;
    socket->inside += open;
    (void) pthread_mutex_unlock(&endpoint->lock);
    return open;
}

static void leave(struct endpoint *endpoint, struct endpoint_socket *socket)
{
    (void) pthread_mutex_lock(&endpoint->lock);
    socket->inside--;
    if (endpoint->closing && socket->inside == 0) {
        (void) pthread_cond_signal(&endpoint->nobody_inside);
    }
    (void) pthread_mutex_unlock(&endpoint->lock);
}

/* No socket is added any more, and nobody is in a function of one. */
static void shut_doors(struct endpoint *endpoint)
{
    (void) pthread_mutex_lock(&endpoint->lock);
    endpoint->closing = true;
    for (size_t i = 0; i < endpoint->socket_count; i++) {
        while (endpoint->sockets[i]->inside > 0) {
            (void) pthread_cond_wait(&endpoint->nobody_inside, &endpoint->lock);
        }
    }
    (void) pthread_mutex_unlock(&endpoint->lock);
}

/* One that does not end will not be the only one: nng takes them apart in a single thread. */
bool endpoint_close(struct endpoint *endpoint)
{
    bool closed = true;
    shut_doors(endpoint);
    for (size_t i = endpoint->socket_count; i-- > 0 && closed;) {
        struct endpoint_socket *socket = endpoint->sockets[i];
        closed = !socket->opened || socket_close(socket->socket);
        socket->opened = socket->opened && !closed;
    }
    return closed;
}

void endpoint_free(struct endpoint *endpoint)
{
    if (endpoint == NULL) {
        return;
    }
    for (size_t i = 0; i < endpoint->socket_count; i++) {
        free(endpoint->sockets[i]);
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
    return atomic_load(&atomic_load(&endpoint->current)->connections) > 0;
}

/* An idle context, if there is one. The lock is held. */
static bool take_idle(struct endpoint_socket *socket, nng_ctx *ret_context)
{
    if (socket->idle_count == 0) {
        return false;
    }
    *ret_context = socket->idle[--socket->idle_count];
    return true;
}

int endpoint_context_take(struct endpoint *endpoint, struct endpoint_context *ret_context)
{
    struct endpoint_socket *socket = atomic_load(&endpoint->current);
    ret_context->socket = socket;
    if (!enter(endpoint, socket)) {
        return NNG_ECLOSED;
    }
    (void) pthread_mutex_lock(&endpoint->lock);
    const bool idle = take_idle(socket, &ret_context->context);
    (void) pthread_mutex_unlock(&endpoint->lock);
    const int rv = idle ? 0 : nng_ctx_open(&ret_context->context, socket->socket);
    leave(endpoint, socket);
    return rv;
}

/* Whether the context was put among the idle ones. */
static bool keep_idle(struct endpoint *endpoint, const struct endpoint_context *context)
{
    struct endpoint_socket *socket = context->socket;
    (void) pthread_mutex_lock(&endpoint->lock);
    const bool kept = socket->idle_count < IDLE_CONTEXTS;
    if (kept) {
        socket->idle[socket->idle_count++] = context->context;
    }
    socket->refusals = 0;
    (void) pthread_mutex_unlock(&endpoint->lock);
    return kept;
}

void endpoint_context_give(struct endpoint *endpoint, const struct endpoint_context *context, bool answered)
{
    /* A socket that is being closed takes its contexts with it. */
    if (!enter(endpoint, context->socket)) {
        return;
    }
    if (!answered || !keep_idle(endpoint, context)) {
        (void) nng_ctx_close(context->context);
    }
    leave(endpoint, context->socket);
}

bool endpoint_send(struct endpoint *endpoint, const struct endpoint_context *context, nng_aio *aio)
{
    struct endpoint_socket *socket = context->socket;
    if (!enter(endpoint, socket)) {
        return false;
    }
    nng_ctx_send(context->context, aio);
    /* The call, and the context in it, may be somebody else's by now. */
    leave(endpoint, socket);
    return true;
}

bool endpoint_receive(struct endpoint *endpoint, const struct endpoint_context *context, nng_aio *aio)
{
    struct endpoint_socket *socket = context->socket;
    if (!enter(endpoint, socket)) {
        return false;
    }
    nng_ctx_recv(context->context, aio);
    /* The call, and the context in it, may be somebody else's by now. */
    leave(endpoint, socket);
    return true;
}

/* A thread of its own: closing a dialer waits for nng's threads, of which the caller of endpoint_revive may be one. */
static void *redial(void *context)
{
    struct endpoint_socket *socket = context;
    (void) nng_dialer_close(socket->dialer);
    (void) dial(socket);
    leave(socket->endpoint, socket);
    return NULL;
}

/* Whether the caller is to redial, and is inside for that. */
static bool begin_redial(struct endpoint *endpoint, struct endpoint_socket *socket)
{
    const int64_t now = cof_clock_monotonic(&cof_system_clock);
    (void) pthread_mutex_lock(&endpoint->lock);
    const bool begun = !endpoint->closing && atomic_load(&socket->connections) == 0 &&
                       now - socket->dialled_us >= (int64_t) ENDPOINT_REDIAL_MS * 1000;
    if (begun) {
        socket->dialled_us = now;
        socket->inside++;
    }
    (void) pthread_mutex_unlock(&endpoint->lock);
    return begun;
}

void endpoint_revive(struct endpoint *endpoint)
{
    struct endpoint_socket *socket = atomic_load(&endpoint->current);
    pthread_t thread;
    if (!begin_redial(endpoint, socket)) {
        return;
    }
    if (pthread_create(&thread, NULL, redial, socket) != 0) {
        leave(endpoint, socket);
        return;
    }
    (void) pthread_detach(thread);
}

/* A socket without a connection is connecting, and takes nothing for that reason. */
static bool is_stuck(const struct endpoint *endpoint, const struct endpoint_socket *socket)
{
    return socket == atomic_load(&endpoint->current) && atomic_load(&socket->connections) > 0 &&
           socket->refusals >= ENDPOINT_REFUSALS;
}

void endpoint_refused(struct endpoint *endpoint, const struct endpoint_context *context)
{
    struct endpoint_socket *socket = context->socket;
    (void) pthread_mutex_lock(&endpoint->lock);
    socket->refusals++;
    if (is_stuck(endpoint, socket) && !endpoint->closing && endpoint->socket_count < ENDPOINT_SOCKETS) {
        (void) add_socket(endpoint);
    }
    (void) pthread_mutex_unlock(&endpoint->lock);
}
