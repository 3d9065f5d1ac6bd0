#include "server/transport/transport.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

#include "common/secret.h"
#include "common/socket.h"
#include "server/transport/peers.h"

enum {
    ADDRESSES_MAX = 16,
    ADDRESS_SIZE = 256,
    RESERVED = 16, /* contexts that only ever refuse, when no other may wait */
};

/*
 * A slot is one nng context with its aio.
 *
 *   IDLE       in the free list
 *   RECEIVING  nng has it, waiting for a request
 *   SUBMITTED  a request is in submit's hands, or parked behind it
 *   REPLYING   nng has it, sending the reply
 */
typedef enum slot_state {
    SLOT_IDLE,
    SLOT_RECEIVING,
    SLOT_SUBMITTED,
    SLOT_REPLYING,
} slot_state;

struct slot {
    struct exchange exchange; /* first: an exchange is its slot */
    struct transport *transport;
    struct slot *next; /* in the free list */
    slot_state state;
    nng_ctx context;
    nng_aio *aio;
    nng_msg *request;
    nng_msg *reply;
    struct peer *peer;
    nng_pipe pipe; /* as it was when the request came */
    bool close_after_reply;
};

struct transport {
    struct transport_options options;
    nng_socket socket;
    nng_listener listeners[ADDRESSES_MAX];
    char addresses[ADDRESSES_MAX][ADDRESS_SIZE];
    size_t address_count;
    bool socket_open;
    struct peers *peers;
    pthread_mutex_t lock;
    struct slot **slots;
    uint32_t slot_count;
    uint32_t slot_max;
    struct slot *idle;
    uint32_t receiving;
    bool stopping;
    _Atomic uint32_t in_flight;
};

/* --- Slots ---------------------------------------------------------------------------------------------------- */

static void set_state(struct slot *slot, slot_state state)
{
    switch (state) {
    case SLOT_IDLE:
        assert(slot->state == SLOT_RECEIVING || slot->state == SLOT_REPLYING || slot->state == SLOT_SUBMITTED);
        break;
    case SLOT_RECEIVING:
        assert(slot->state == SLOT_IDLE);
        break;
    case SLOT_SUBMITTED:
        assert(slot->state == SLOT_RECEIVING);
        break;
    case SLOT_REPLYING:
        assert(slot->state == SLOT_SUBMITTED);
        break;
    }
    slot->state = state;
}

static void slot_callback(void *context);

static struct slot *open_slot(struct transport *transport)
{
    struct slot *slot = calloc(1, sizeof *slot);
    if (slot == NULL) {
        return NULL;
    }
    slot->transport = transport;
    if (nng_ctx_open(&slot->context, transport->socket) != 0) {
        free(slot);
        return NULL;
    }
    if (nng_aio_alloc(&slot->aio, slot_callback, slot) != 0) {
        (void) nng_ctx_close(slot->context);
        free(slot);
        return NULL;
    }
    return slot;
}

/* An idle slot, or a new one; NULL if there may be no more. The lock is held. */
static struct slot *take_slot(struct transport *transport)
{
    struct slot *slot = transport->idle;
    if (slot != NULL) {
        transport->idle = slot->next;
        return slot;
    }
    if (transport->slot_count == transport->slot_max) {
        return NULL;
    }
    slot = open_slot(transport);
    if (slot != NULL) {
        transport->slots[transport->slot_count++] = slot;
    }
    return slot;
}

/* Keeps enough slots receiving; those that wait for an answer do not count. */
static void receive_more(struct transport *transport)
{
    for (;;) {
        (void) pthread_mutex_lock(&transport->lock);
        const bool wanted = !transport->stopping && transport->receiving < transport->options.receiving;
        struct slot *slot = wanted ? take_slot(transport) : NULL;
        if (slot != NULL) {
            transport->receiving++;
            set_state(slot, SLOT_RECEIVING);
        }
        (void) pthread_mutex_unlock(&transport->lock);
        if (slot == NULL) {
            return;
        }
        nng_aio_set_timeout(slot->aio, NNG_DURATION_INFINITE);
        nng_ctx_recv(slot->context, slot->aio);
    }
}

static void put_idle(struct slot *slot)
{
    struct transport *transport = slot->transport;
    (void) pthread_mutex_lock(&transport->lock);
    set_state(slot, SLOT_IDLE);
    slot->next = transport->idle;
    transport->idle = slot;
    (void) pthread_mutex_unlock(&transport->lock);
}

/* Whether the last slots are in use: then requests are refused instead of parked. */
static bool nearly_full(struct transport *transport)
{
    (void) pthread_mutex_lock(&transport->lock);
    const bool full =
        transport->idle == NULL && transport->slot_count == transport->slot_max && transport->receiving < RESERVED;
    (void) pthread_mutex_unlock(&transport->lock);
    return full;
}

/* --- Exchanges ------------------------------------------------------------------------------------------------ */

static struct slot *slot_of(struct exchange *exchange)
{
    return (struct slot *) (void *) exchange;
}

static void free_request(struct slot *slot)
{
    if (slot->request != NULL) {
        cof_wipe(nng_msg_body(slot->request), nng_msg_len(slot->request));
        nng_msg_free(slot->request);
        slot->request = NULL;
    }
}

static uint8_t *exchange_make_buffer(struct exchange *exchange, size_t size)
{
    struct slot *slot = slot_of(exchange);
    if (slot->reply != NULL) {
        nng_msg_free(slot->reply);
        slot->reply = NULL;
    }
    if (nng_msg_alloc(&slot->reply, size) != 0) {
        slot->reply = NULL;
        return NULL;
    }
    return nng_msg_body(slot->reply);
}

static void leave(struct slot *slot, bool malformed)
{
    struct transport *transport = slot->transport;
    slot->close_after_reply = slot->peer != NULL && peers_leave(transport->peers, slot->peer, malformed);
    slot->peer = NULL;
    (void) atomic_fetch_sub(&transport->in_flight, 1);
}

static void exchange_send(struct exchange *exchange, uint32_t send_timeout_ms, bool malformed)
{
    struct slot *slot = slot_of(exchange);
    free_request(slot);
    leave(slot, malformed);
    if (slot->reply == NULL) {
        put_idle(slot);
        receive_more(slot->transport);
        return;
    }
    (void) pthread_mutex_lock(&slot->transport->lock);
    set_state(slot, SLOT_REPLYING);
    (void) pthread_mutex_unlock(&slot->transport->lock);
    nng_aio_set_msg(slot->aio, slot->reply);
    slot->reply = NULL;
    nng_aio_set_timeout(slot->aio, (nng_duration) send_timeout_ms);
    nng_ctx_send(slot->context, slot->aio);
}

static const struct exchange_ops operations = {exchange_make_buffer, exchange_send};

/* --- Callbacks ------------------------------------------------------------------------------------------------ */

static void submit(struct slot *slot)
{
    struct transport *transport = slot->transport;
    const struct transport_options *options = &transport->options;
    bool allowed = true;
    slot->pipe = nng_msg_get_pipe(slot->request);
    slot->exchange = (struct exchange){
        .ops = &operations,
        .frame = {nng_msg_body(slot->request), nng_msg_len(slot->request)},
        .received_us = cof_clock_monotonic(options->clock),
    };
    (void) atomic_fetch_add(&transport->in_flight, 1);
    slot->peer = peers_enter(transport->peers, slot->pipe, &slot->exchange.peer, &allowed);
    if (slot->peer == NULL) {
        exchange_send(&slot->exchange, 0, false); /* the connection has gone meanwhile */
    } else if (!allowed) {
        options->refuse(&slot->exchange, COF_REASON_TOO_MANY_IN_FLIGHT, options->context);
    } else if (nearly_full(transport)) {
        options->refuse(&slot->exchange, COF_REASON_SERVER_BUSY, options->context);
    } else {
        options->submit(&slot->exchange, options->context);
    }
}

static void received(struct slot *slot)
{
    struct transport *transport = slot->transport;
    const int result = nng_aio_result(slot->aio);
    (void) pthread_mutex_lock(&transport->lock);
    transport->receiving--;
    set_state(slot, result == 0 ? SLOT_SUBMITTED : SLOT_IDLE);
    if (result != 0) {
        slot->next = transport->idle;
        transport->idle = slot;
    }
    (void) pthread_mutex_unlock(&transport->lock);
    if (result == 0) {
        slot->request = nng_aio_get_msg(slot->aio);
        nng_aio_set_msg(slot->aio, NULL);
        submit(slot);
    }
    if (result != NNG_ECLOSED && result != NNG_ECANCELED) {
        receive_more(transport);
    }
}

static void replied(struct slot *slot)
{
    struct transport *transport = slot->transport;
    if (nng_aio_result(slot->aio) != 0) {
        nng_msg *unsent = nng_aio_get_msg(slot->aio);
        nng_aio_set_msg(slot->aio, NULL);
        if (unsent != NULL) {
            cof_wipe(nng_msg_body(unsent), nng_msg_len(unsent));
            nng_msg_free(unsent);
        }
    }
    if (slot->close_after_reply) {
        (void) nng_pipe_close(slot->pipe);
    }
    put_idle(slot);
    receive_more(transport);
}

static void slot_callback(void *context)
{
    struct slot *slot = context;
    if (slot->state == SLOT_RECEIVING) {
        received(slot);
    } else {
        replied(slot);
    }
}

/* --- Connections ---------------------------------------------------------------------------------------------- */

static void describe_ipc(nng_pipe pipe, struct exchange_peer *peer)
{
    uint64_t uid;
    uint64_t pid;
    peer->transport = "ipc";
    if (nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &uid) == 0) {
        peer->has_uid = true;
        peer->uid = (uint32_t) uid;
    }
    if (nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &pid) == 0) {
        (void) snprintf(peer->address, sizeof peer->address, "pid %u", (unsigned) pid);
    }
}

static void describe(nng_pipe pipe, struct exchange_peer *peer)
{
    nng_sockaddr address;
    char text[INET6_ADDRSTRLEN] = "";
    *peer = (struct exchange_peer){.transport = "tcp"};
    if (nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &address) != 0 || address.s_family == NNG_AF_IPC) {
        describe_ipc(pipe, peer);
    } else if (address.s_family == NNG_AF_INET) {
        (void) inet_ntop(AF_INET, &address.s_in.sa_addr, text, sizeof text);
        (void) snprintf(peer->address, sizeof peer->address, "%s:%u", text, ntohs(address.s_in.sa_port));
    } else if (address.s_family == NNG_AF_INET6) {
        (void) inet_ntop(AF_INET6, &address.s_in6.sa_addr, text, sizeof text);
        (void) snprintf(peer->address, sizeof peer->address, "[%s]:%u", text, ntohs(address.s_in6.sa_port));
    }
}

static void pipe_changed(nng_pipe pipe, nng_pipe_ev event, void *context)
{
    struct transport *transport = context;
    struct exchange_peer peer;
    if (event == NNG_PIPE_EV_REM_POST) {
        peers_remove(transport->peers, pipe);
        return;
    }
    describe(pipe, &peer);
    if (!peers_add(transport->peers, pipe, &peer)) {
        COF_LOG(transport->options.log, COF_LOG_WARN, "too_many_connections", "a connection was refused",
                cof_log_text("peer", peer.address), cof_log_number("max_peers", transport->options.max_peers));
        (void) nng_pipe_close(pipe);
    }
}

/* --- Listening ------------------------------------------------------------------------------------------------ */

static cof_code bad_address(struct cof_error *err, const char *address, const char *problem)
{
    return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: %s", address, problem);
}

/* 127.0.0.0/8, ::1 and localhost. */
static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0 || strncmp(host, "localhost:", 10) == 0;
}

static cof_code check_tcp(const struct transport_options *options, const char *address, struct cof_error *err)
{
    if (options->insecure_tcp || is_loopback(address + strlen("tcp://"))) {
        return COF_OK;
    }
    return bad_address(
        err, address,
        "plain tcp:// shows every secret to whoever listens on the network, so it is refused on other "
        "than loopback addresses; set transport.insecure_tcp to true to do it all the same");
}

static bool answers(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void) snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    const bool connected = fd >= 0 && connect(fd, (const struct sockaddr *) (const void *) &name, sizeof name) == 0;
    if (fd >= 0) {
        (void) close(fd);
    }
    return connected;
}

/* A socket file is left behind by a server that was killed; one that answers belongs to a server that runs. */
static cof_code check_ipc(const char *address, struct cof_error *err)
{
    const char *path = address + strlen("ipc://");
    struct stat info;
    if (strlen(path) >= sizeof(((struct sockaddr_un *) NULL)->sun_path)) {
        return bad_address(err, address,
                           "the path is longer than a socket's may be (107 bytes); choose a shorter one");
    }
    if (lstat(path, &info) != 0) {
        return COF_OK;
    }
    if (!S_ISSOCK(info.st_mode)) {
        return bad_address(err, address, "the path is a file that is no socket; remove it, or choose another path");
    }
    if (answers(path)) {
        return bad_address(err, address,
                           "another server is running on this socket; stop it, or choose another path");
    }
    (void) unlink(path);
    return COF_OK;
}

static cof_code check_address(const struct transport_options *options, const char *address, struct cof_error *err)
{
    if (strncmp(address, "tcp://", 6) == 0) {
        return check_tcp(options, address, err);
    }
    if (strncmp(address, "ipc://", 6) == 0) {
        return check_ipc(address, err);
    }
    return bad_address(err, address, "the scheme is not known; write tcp://HOST:PORT or ipc://PATH");
}

/* The address as it can be dialled: with the port that the system chose. */
static void remember_address(struct transport *transport, const char *address)
{
    const size_t index = transport->address_count++;
    char *text = transport->addresses[index];
    const char *colon = strrchr(address, ':');
    int port = 0;
    (void) snprintf(text, ADDRESS_SIZE, "%s", address);
    if (strncmp(address, "tcp://", 6) == 0 && strcmp(colon, ":0") == 0 &&
        nng_listener_get_int(transport->listeners[index], NNG_OPT_TCP_BOUND_PORT, &port) == 0) {
        /* Behind the colon of the copy, where the 0 stood. */
        char *place = strrchr(text, ':') + 1;
        (void) snprintf(place, ADDRESS_SIZE - (size_t) (place - text), "%d", port);
    }
}

static cof_code listen_on(struct transport *transport, const char *address, struct cof_error *err)
{
    nng_listener *listener = &transport->listeners[transport->address_count];
    TRY(check_address(&transport->options, address, err));
    int result = nng_listener_create(listener, transport->socket, address);
    if (result == 0 && strncmp(address, "ipc://", 6) == 0) {
        result = nng_listener_set_int(*listener, NNG_OPT_IPC_PERMISSIONS, (int) transport->options.ipc_mode);
    }
    if (result == 0) {
        result = nng_listener_start(*listener, 0);
    }
    if (result != 0) {
        return bad_address(err, address, nng_strerror(result));
    }
    remember_address(transport, address);
    return COF_OK;
}

static cof_code nng_failure(struct cof_error *err, int result, const char *what)
{
    char native[16];
    (void) snprintf(native, sizeof native, "%d", result);
    return cof_fail_internal(err, COF_ORIGIN_NNG, native, "%s: %s", what, nng_strerror(result));
}

static cof_code open_socket(struct transport *transport, struct cof_error *err)
{
    int result = nng_rep0_open(&transport->socket);
    if (result != 0) {
        return nng_failure(err, result, "opening the socket");
    }
    transport->socket_open = true;
    result = nng_socket_set_size(transport->socket, NNG_OPT_RECVMAXSZ, transport->options.max_request);
    if (result == 0) {
        result = nng_socket_set_bool(transport->socket, NNG_OPT_TCP_NODELAY, true);
    }
    if (result == 0) {
        result = nng_socket_set_bool(transport->socket, NNG_OPT_TCP_KEEPALIVE, true);
    }
    if (result == 0) {
        result = nng_pipe_notify(transport->socket, NNG_PIPE_EV_ADD_PRE, pipe_changed, transport);
    }
    if (result == 0) {
        result = nng_pipe_notify(transport->socket, NNG_PIPE_EV_REM_POST, pipe_changed, transport);
    }
    return result == 0 ? COF_OK : nng_failure(err, result, "setting up the socket");
}

static cof_code start(struct transport *transport, struct cof_error *err)
{
    const struct transport_options *options = &transport->options;
    transport->slot_max = options->receiving + options->max_waiting + RESERVED;
    transport->slots = calloc(transport->slot_max, sizeof *transport->slots);
    transport->peers = peers_new(options->max_peers, options->max_per_peer, options->max_malformed);
    if (transport->slots == NULL || transport->peers == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the listeners");
    }
    if (options->address_count == 0 || options->address_count > ADDRESSES_MAX) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "transport.listen must have 1 to %d addresses",
                        ADDRESSES_MAX);
    }
    TRY(open_socket(transport, err));
    receive_more(transport);
    for (size_t i = 0; i < options->address_count; i++) {
        TRY(listen_on(transport, options->addresses[i], err));
    }
    return COF_OK;
}

cof_code transport_start(const struct transport_options *options, struct transport **ret_transport,
                         struct cof_error *err)
{
    struct transport *transport = calloc(1, sizeof *transport);
    if (transport == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the listeners");
    }
    transport->options = *options;
    (void) pthread_mutex_init(&transport->lock, NULL);
    const cof_code code = start(transport, err);
    if (code != COF_OK) {
        transport_free(transport);
        return code;
    }
    *ret_transport = transport;
    return COF_OK;
}

const char *transport_address(const struct transport *transport, size_t index)
{
    return transport->addresses[index];
}

void transport_drain(struct transport *transport)
{
    for (size_t i = 0; i < transport->address_count; i++) {
        (void) nng_listener_close(transport->listeners[i]);
    }
}

uint32_t transport_in_flight(const struct transport *transport)
{
    return atomic_load(&transport->in_flight);
}

/* Callbacks are stopped before the socket is closed: nng 1.5.2 can hang the other way round. */
static void stop_slots(struct transport *transport)
{
    (void) pthread_mutex_lock(&transport->lock);
    transport->stopping = true;
    const uint32_t count = transport->slot_count;
    (void) pthread_mutex_unlock(&transport->lock);
    for (uint32_t i = 0; i < count; i++) {
        nng_aio_stop(transport->slots[i]->aio);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct slot *slot = transport->slots[i];
        (void) nng_ctx_close(slot->context);
        nng_aio_free(slot->aio);
        free_request(slot);
        nng_msg_free(slot->reply);
        free(slot);
    }
}

/* False if the socket is still being closed; then what its callbacks use must stay. */
static bool close_socket(struct transport *transport)
{
    const bool closed = cof_socket_close(transport->socket);
    if (!closed) {
        COF_LOG(transport->options.log, COF_LOG_WARN, "close_timeout", "a connection does not end",
                cof_log_text("effect", "it is left behind"));
    }
    return closed;
}

void transport_free(struct transport *transport)
{
    if (transport == NULL) {
        return;
    }
    if (transport->slots != NULL) {
        stop_slots(transport);
    }
    if (transport->socket_open && !close_socket(transport)) {
        return;
    }
    peers_free(transport->peers);
    (void) pthread_mutex_destroy(&transport->lock);
    free(transport->slots);
    free(transport);
}
