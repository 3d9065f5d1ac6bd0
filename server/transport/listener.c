#include "server/transport/listener.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ADDRESS_SIZE = 256,
    PORT_DIGITS = 5,
    ACCEPT_PAUSE_MS = 50, /* after a failure, such as no descriptor left */
};

/* What is listened on. */
struct scheme {
    const char *prefix;
    const char *transport;
    const char *below; /* the scheme that nng listens for: TLS and HTTP are ours */
    bool tls;
    bool web;
};

static const struct scheme schemes[] = {
    {"ipc://", "ipc", "ipc://", false, false},    {"tcp://", "tcp", "tcp://", false, false},
    {"tls+tcp://", "tls", "tcp://", true, false}, {"ws://", "ws", "tcp://", false, true},
    {"wss://", "wss", "tcp://", true, true},
};

struct listener {
    const struct transport_options *options;
    struct connections *connections;
    struct webs *webs;
    const struct scheme *scheme;
    const char *path; /* of the WebSocket, in `address` */
    nng_stream_listener *stream;
    nng_aio *acceptor;
    nng_aio *pause;                  /* one that has slept would later take a timeout for success (nng 1.5) */
    struct certificate *certificate; /* NULL: no TLS */
    atomic_bool closed;
    char address[ADDRESS_SIZE];
};

/* --- Addresses ------------------------------------------------------------------------------------------------ */

static cof_code bad_address(struct cof_error *err, const char *address, const char *problem)
{
    return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: %s", address, problem);
}

/* 127.0.0.0/8, ::1 and localhost. */
static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0 || strncmp(host, "localhost:", 10) == 0;
}

static cof_code check_plain(const struct transport_options *options, const struct scheme *scheme,
                            const char *address, struct cof_error *err)
{
    if (options->insecure_tcp || is_loopback(address + strlen(scheme->prefix))) {
        return COF_OK;
    }
    return cof_fail(
        err, COF_REASON_CONFIG_INVALID,
        "%s: plain %s shows every secret to whoever listens on the network, so it is refused on other than "
        "loopback addresses; listen on %s, or set transport.insecure_tcp to true to do it all the same",
        address, scheme->prefix, scheme->web ? "wss://" : "tls+tcp://");
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

static const struct scheme *scheme_of(const char *address)
{
    for (size_t i = 0; i < COF_COUNT(schemes); i++) {
        if (strncmp(address, schemes[i].prefix, strlen(schemes[i].prefix)) == 0) {
            return &schemes[i];
        }
    }
    return NULL;
}

bool listener_is_tls(const char *address)
{
    const struct scheme *scheme = scheme_of(address);
    return scheme != NULL && scheme->tls;
}

/* The path of a WebSocket is compared with that of a request as it stands. */
static cof_code check_path(const char *address, const char *path, struct cof_error *err)
{
    for (const char *at = path; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~' || *at == '?' || *at == '#') {
            return bad_address(err, address, "the path has a character that a path here may not have");
        }
    }
    return COF_OK;
}

static cof_code check_address(const struct transport_options *options, const struct scheme *scheme,
                              const char *address, struct cof_error *err)
{
    if (scheme == NULL) {
        return bad_address(
            err, address,
            "the scheme is not known; write tls+tcp://HOST:PORT, wss://HOST:PORT/PATH, tcp://HOST:PORT, "
            "ws://HOST:PORT/PATH or ipc://PATH");
    }
    if (strlen(address) >= ADDRESS_SIZE - PORT_DIGITS) {
        return bad_address(err, address, "the address is too long");
    }
    if (strcmp(scheme->transport, "ipc") == 0) {
        return check_ipc(address, err);
    }
    if (scheme->web) {
        TRY(check_path(address, address + strlen(scheme->prefix), err));
    }
    return scheme->tls ? COF_OK : check_plain(options, scheme, address, err);
}

/* --- Accepting ------------------------------------------------------------------------------------------------ */

static void accept_next(struct listener *listener)
{
    nng_stream_listener_accept(listener->stream, listener->acceptor);
}

static struct cof_stream *stream_of(struct listener *listener, nng_stream *accepted)
{
    const nng_duration handshake_ms = (nng_duration) transport_now(&listener->options->limits.handshake_timeout_ms);
    if (listener->certificate == NULL) {
        return cof_stream_plain(accepted);
    }
    AUTO(cof_tls_cleanup) struct cof_tls *tls = certificate_now(listener->certificate);
    return listener->scheme->web ? cof_stream_tls_web(accepted, tls, NULL, handshake_ms)
                                 : cof_stream_tls(accepted, tls, NULL, handshake_ms);
}

static void begin_connection(struct listener *listener, nng_stream *accepted)
{
    struct cof_stream *stream = stream_of(listener, accepted);
    if (stream == NULL) {
        return;
    }
    if (listener->scheme->web) {
        webs_add(listener->webs, stream, listener->scheme->transport, listener->path);
    } else {
        connections_add(listener->connections, stream, listener->scheme->transport);
    }
}

static void on_accepted(void *context)
{
    struct listener *listener = context;
    const int result = nng_aio_result(listener->acceptor);
    if (result == NNG_ECLOSED || result == NNG_ECANCELED || atomic_load(&listener->closed)) {
        if (result == 0) {
            nng_stream_free(nng_aio_get_output(listener->acceptor, 0));
        }
        return;
    }
    if (result != 0) {
        COF_LOG(listener->options->log, COF_LOG_WARN, "accept_failed", "a connection was not accepted",
                cof_log_text("address", listener->address), cof_log_text("error", nng_strerror(result)));
        nng_sleep_aio(ACCEPT_PAUSE_MS, listener->pause);
        return;
    }
    begin_connection(listener, nng_aio_get_output(listener->acceptor, 0));
    accept_next(listener);
}

static void on_paused(void *context)
{
    struct listener *listener = context;
    if (nng_aio_result(listener->pause) == 0 && !atomic_load(&listener->closed)) {
        accept_next(listener);
    }
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static bool is_ipc(const struct listener *listener)
{
    return strcmp(listener->scheme->transport, "ipc") == 0;
}

static int configure(struct listener *listener)
{
    if (is_ipc(listener)) {
        return nng_stream_listener_set_int(listener->stream, NNG_OPT_IPC_PERMISSIONS,
                                           (int) listener->options->ipc_mode);
    }
    const int result = nng_stream_listener_set_bool(listener->stream, NNG_OPT_TCP_NODELAY, true);
    return result != 0 ? result : nng_stream_listener_set_bool(listener->stream, NNG_OPT_TCP_KEEPALIVE, true);
}

/* Where the host and port of an address end, or the path of a socket. */
static const char *end_of_place(const struct listener *listener, const char *address)
{
    const char *place = address + strlen(listener->scheme->prefix);
    const char *slash = is_ipc(listener) ? NULL : strchr(place, '/');
    return slash == NULL ? place + strlen(place) : slash;
}

static int open_stream(struct listener *listener, const char *address)
{
    char below[ADDRESS_SIZE];
    const char *place = address + strlen(listener->scheme->prefix);
    (void) snprintf(below, sizeof below, "%s%s", listener->scheme->below, place);
    below[strlen(listener->scheme->below) + (size_t) (end_of_place(listener, address) - place)] = '\0';
    int result = nng_stream_listener_alloc(&listener->stream, below);
    if (result == 0) {
        result = configure(listener);
    }
    if (result == 0) {
        result = nng_stream_listener_listen(listener->stream);
    }
    if (result == 0) {
        result = nng_aio_alloc(&listener->acceptor, on_accepted, listener);
    }
    return result != 0 ? result : nng_aio_alloc(&listener->pause, on_paused, listener);
}

static void remember_address(struct listener *listener, const char *address)
{
    const char *end = end_of_place(listener, address);
    const size_t before = (size_t) (end - address) - 1; /* the port, if it is 0 */
    int port = 0;
    (void) snprintf(listener->address, ADDRESS_SIZE, "%s", address);
    if (!is_ipc(listener) && strncmp(end - 2, ":0", 2) == 0 &&
        nng_stream_listener_get_int(listener->stream, NNG_OPT_TCP_BOUND_PORT, &port) == 0) {
        (void) snprintf(listener->address + before, ADDRESS_SIZE - before, "%d%s", port, end);
    }
    const char *path = end_of_place(listener, listener->address);
    listener->path = *path == '\0' ? "/" : path;
}

cof_code listener_new(const struct listener_options *options, const char *address, struct listener **ret_listener,
                      struct cof_error *err)
{
    const struct scheme *scheme = scheme_of(address);
    TRY(check_address(options->transport, scheme, address, err));
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for a listener");
    }
    listener->options = options->transport;
    listener->connections = options->connections;
    listener->webs = options->webs;
    listener->scheme = scheme;
    listener->certificate = scheme->tls ? options->certificate : NULL;
    const int result = open_stream(listener, address);
    if (result != 0) {
        listener_free(listener);
        return bad_address(err, address,
                           result == NNG_EADDRINUSE
                               ? "another process listens there; stop it, or choose another address"
                               : nng_strerror(result));
    }
    remember_address(listener, address);
    accept_next(listener);
    *ret_listener = listener;
    return COF_OK;
}

const char *listener_address(const struct listener *listener)
{
    return listener->address;
}

void listener_close(struct listener *listener)
{
    atomic_store(&listener->closed, true);
    if (listener->stream != NULL) {
        nng_stream_listener_close(listener->stream);
    }
}

void listener_free(struct listener *listener)
{
    if (listener == NULL) {
        return;
    }
    listener_close(listener);
    nng_aio_free(listener->pause);
    nng_aio_free(listener->acceptor);
    nng_stream_listener_free(listener->stream);
    free(listener);
}
