#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common/attr.h"
#include "common/tls/stream.h"

/*
 * An echo over the same TLS: two processes with one connection, messages of two sizes, one send for each of them as nng's
 * sockets do it, so many in flight. Nothing is looked at but how many bytes came. Prints messages per second.
 *
 *   coffer_tls_echo CERTIFICATE KEY CA REQUEST REPLY IN_FLIGHT MILLISECONDS
 */

enum { BUFFER = 16384, HANDSHAKE_MS = 10000, MS_PER_S = 1000 };

struct peer {
    struct cof_stream *stream;
    nng_aio *in;
    nng_aio *out;
    pthread_mutex_t lock;
    size_t size_in; /* of a message */
    size_t size_out;
    size_t filled; /* of the message that comes in */
    size_t sent;   /* of the one that goes out */
    size_t due;    /* messages that are to be sent */
    bool sending;
    uint64_t count;
    uint8_t *message;
    uint8_t buffer[BUFFER];
};

struct arguments {
    const char *certificate;
    const char *key;
    const char *ca;
    size_t request;
    size_t reply;
    size_t in_flight;
    unsigned duration_ms;
};

static void fail(const char *what)
{
    fprintf(stderr, "coffer_tls_echo: %s\n", what);
    exit(EXIT_FAILURE);
}

static void send_locked(struct peer *peer)
{
    if (!peer->sending && peer->due > 0) {
        const nng_iov part = {peer->message + peer->sent, peer->size_out - peer->sent};
        peer->sending = true;
        cof_stream_send(peer->stream, peer->out, &part, 1, NNG_DURATION_INFINITE);
    }
}

static void receive(struct peer *peer)
{
    cof_stream_recv(peer->stream, peer->in, (nng_iov){peer->buffer, BUFFER}, NNG_DURATION_INFINITE);
}

static void on_in(void *context)
{
    struct peer *peer = context;
    if (nng_aio_result(peer->in) != 0) {
        return;
    }
    (void) pthread_mutex_lock(&peer->lock);
    peer->filled += cof_stream_count(peer->stream, peer->in);
    const size_t whole = peer->filled / peer->size_in;
    peer->filled %= peer->size_in;
    peer->count += whole;
    peer->due += whole;
    send_locked(peer);
    (void) pthread_mutex_unlock(&peer->lock);
    receive(peer);
}

static void on_out(void *context)
{
    struct peer *peer = context;
    if (nng_aio_result(peer->out) != 0) {
        return;
    }
    (void) pthread_mutex_lock(&peer->lock);
    peer->sent += cof_stream_count(peer->stream, peer->out);
    peer->sending = false;
    if (peer->sent == peer->size_out) {
        peer->sent = 0;
        peer->due--;
    }
    send_locked(peer);
    (void) pthread_mutex_unlock(&peer->lock);
}

static void begin(struct peer *peer, nng_stream *below, struct cof_tls *tls, const char *name)
{
    peer->stream = cof_stream_tls(below, tls, name, HANDSHAKE_MS);
    peer->message = calloc(1, peer->size_out);
    if (peer->stream == NULL || peer->message == NULL || nng_aio_alloc(&peer->in, on_in, peer) != 0 ||
        nng_aio_alloc(&peer->out, on_out, peer) != 0) {
        fail("there is no memory");
    }
    (void) pthread_mutex_init(&peer->lock, NULL);
    (void) pthread_mutex_lock(&peer->lock);
    send_locked(peer);
    (void) pthread_mutex_unlock(&peer->lock);
    receive(peer);
}

static struct cof_tls *context_of(const struct arguments *arguments, cof_tls_role role)
{
    struct cof_tls_options options = {.role = role};
    struct cof_tls *tls = NULL;
    struct cof_error err;
    if (role == COF_TLS_SERVER) {
        options.certificate = (struct cof_tls_file){arguments->certificate, "CERTIFICATE"};
        options.key = (struct cof_tls_file){arguments->key, "KEY"};
    } else {
        options.ca = (struct cof_tls_file){arguments->ca, "CA"};
    }
    if (cof_tls_new(&options, &tls, &err) != COF_OK) {
        fail(err.message);
    }
    return tls;
}

/* Waits for an operation of a listener or dialer, and gives its connection. */
static nng_stream *connection_of(nng_aio *aio)
{
    nng_aio_wait(aio);
    if (nng_aio_result(aio) != 0) {
        fail("there is no connection");
    }
    return nng_aio_get_output(aio, 0);
}

/* Serves until it is killed, and not longer than the process that started it. */
static void serve(const struct arguments *arguments, int tell)
{
    static struct peer peer;
    nng_stream_listener *listener = NULL;
    nng_aio *aio = NULL;
    int port = 0;
    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (nng_stream_listener_alloc(&listener, "tcp://127.0.0.1:0") != 0 ||
        nng_stream_listener_listen(listener) != 0 ||
        nng_stream_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) != 0 ||
        write(tell, &port, sizeof port) != (ssize_t) sizeof port || nng_aio_alloc(&aio, NULL, NULL) != 0) {
        fail("cannot listen");
    }
    peer.size_in = arguments->request;
    peer.size_out = arguments->reply;
    nng_stream_listener_accept(listener, aio);
    begin(&peer, connection_of(aio), context_of(arguments, COF_TLS_SERVER), NULL);
    for (;;) {
        (void) pause();
    }
}

static void wait_ms(unsigned ms)
{
    const struct timespec pause = {.tv_sec = ms / MS_PER_S, .tv_nsec = ms % MS_PER_S * 1000000L};
    (void) nanosleep(&pause, NULL);
}

static uint64_t count_of(struct peer *peer)
{
    (void) pthread_mutex_lock(&peer->lock);
    const uint64_t count = peer->count;
    (void) pthread_mutex_unlock(&peer->lock);
    return count;
}

static void ask(const struct arguments *arguments, int port)
{
    static struct peer peer;
    char address[64];
    nng_stream_dialer *dialer = NULL;
    nng_aio *aio = NULL;
    (void) snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port);
    if (nng_stream_dialer_alloc(&dialer, address) != 0 || nng_aio_alloc(&aio, NULL, NULL) != 0) {
        fail("cannot connect");
    }
    peer.size_in = arguments->reply;
    peer.size_out = arguments->request;
    peer.due = arguments->in_flight;
    nng_stream_dialer_dial(dialer, aio);
    begin(&peer, connection_of(aio), context_of(arguments, COF_TLS_CLIENT), "127.0.0.1");
    wait_ms(arguments->duration_ms / 4); /* to get going */
    const uint64_t before = count_of(&peer);
    wait_ms(arguments->duration_ms);
    printf("%.0f\n", (double) (count_of(&peer) - before) * MS_PER_S / arguments->duration_ms);
    (void) fflush(stdout);
}

int main(int argc, char **argv)
{
    int ends[2];
    int port = 0;
    if (argc != 8) {
        fail("usage: coffer_tls_echo CERTIFICATE KEY CA REQUEST REPLY IN_FLIGHT MILLISECONDS");
    }
    const struct arguments arguments = {
        .certificate = argv[1],
        .key = argv[2],
        .ca = argv[3],
        .request = strtoul(argv[4], NULL, 10),
        .reply = strtoul(argv[5], NULL, 10),
        .in_flight = strtoul(argv[6], NULL, 10),
        .duration_ms = (unsigned) strtoul(argv[7], NULL, 10),
    };
    if (arguments.request == 0 || arguments.reply == 0 || arguments.in_flight == 0 || arguments.duration_ms == 0 ||
        pipe(ends) != 0) {
        fail("the numbers must be more than 0");
    }
    const pid_t server = fork();
    if (server == 0) {
        serve(&arguments, ends[1]);
    }
    if (server < 0 || read(ends[0], &port, sizeof port) != (ssize_t) sizeof port) {
        fail("there is no server");
    }
    ask(&arguments, port);
    (void) kill(server, SIGKILL);
    _exit(EXIT_SUCCESS);
}
