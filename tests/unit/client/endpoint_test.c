#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>

#include <coffer/rpc.h>

#include "client/libcoffer/endpoint.h"
#include "common/encode.h"
#include "common/frame.h"
#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"

/*
 * Connections that take nothing and never end, as nng leaves them behind when it loses the end of one: here a server
 * that accepts and does not read. And connections that are closed at once. Plain sockets, for no nng server does that.
 */

enum {
    GREETING = 8,
    LENGTH = 8,
    SP_ID = 4,
    MESSAGE_MAX = 2 << 20,
    LARGE = 1000 << 10, /* more than the kernel takes for somebody who does not read */
    SMALL_BUFFER = 4096,
};

struct plain_server {
    int listener;
    char address[64];
    unsigned rude; /* connections, the first ones, that are closed before a greeting */
    unsigned deaf; /* those behind them, on which nothing is read */
    atomic_uint accepted;
};

/* One connection, served by a thread of its own. */
struct served {
    int fd;
    uint8_t message[MESSAGE_MAX];
};

static bool read_all(int fd, uint8_t *to, size_t len)
{
    while (len > 0) {
        const ssize_t got = recv(fd, to, len, 0);
        if (got <= 0) {
            return false;
        }
        to += got;
        len -= (size_t) got;
    }
    return true;
}

static bool greet(int fd)
{
    static const uint8_t greeting[GREETING] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
    uint8_t theirs[GREETING];
    return send(fd, greeting, sizeof greeting, MSG_NOSIGNAL) == GREETING && read_all(fd, theirs, sizeof theirs);
}

/* Answers a request with success and no payload. */
static bool answer(struct served *served)
{
    uint8_t *message = served->message;
    struct cof_request_frame request = {0};
    static _Thread_local struct cof_error err;
    if (!read_all(served->fd, message, LENGTH)) {
        return false;
    }
    const uint64_t len = cof_get_u64(message);
    if (len < SP_ID || len > MESSAGE_MAX || !read_all(served->fd, message, len) ||
        cof_request_frame_decode(cof_slice_of(message + SP_ID, len - SP_ID), &request, &err) != COF_OK) {
        return false;
    }
    uint8_t reply[256];
    const struct cof_response_frame frame = {.revision = COF_FRAME_REVISION, .request_id = request.request_id};
    const size_t size = cof_response_frame_size(&frame);
    cof_put_u64(reply, SP_ID + size);
    memcpy(reply + LENGTH, message, SP_ID);
    (void) cof_response_frame_encode(&frame, reply + LENGTH + SP_ID);
    return send(served->fd, reply, LENGTH + SP_ID + size, MSG_NOSIGNAL) > 0;
}

static void *serve(void *context)
{
    struct served *served = context;
    while (answer(served)) {
    }
    (void) close(served->fd);
    free(served);
    return NULL;
}

static void *accept_all(void *context)
{
    struct plain_server *server = context;
    for (;;) {
        pthread_t thread;
        const int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            return NULL;
        }
        const unsigned number = atomic_fetch_add(&server->accepted, 1);
        if (number < server->rude) {
            (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
            (void) close(fd);
            continue;
        }
        if (!greet(fd) || number - server->rude < server->deaf) {
            continue; /* it stays open until the process ends */
        }
        struct served *served = calloc(1, sizeof *served);
        if (served == NULL) {
            abort();
        }
        served->fd = fd;
        if (pthread_create(&thread, NULL, serve, served) != 0 || pthread_detach(thread) != 0) {
            abort();
        }
    }
}

/* It serves until the process ends. */
static void start_server(struct plain_server *server, unsigned rude, unsigned deaf)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int buffer = SMALL_BUFFER;
    pthread_t thread;
    server->rude = rude;
    server->deaf = deaf;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void) setsockopt(server->listener, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bind(server->listener, (const struct sockaddr *) &address, size) != 0 ||
        listen(server->listener, SOMAXCONN) != 0 ||
        getsockname(server->listener, (struct sockaddr *) &address, &size) != 0 ||
        pthread_create(&thread, NULL, accept_all, server) != 0 || pthread_detach(thread) != 0) {
        abort();
    }
    (void) snprintf(server->address, sizeof server->address, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
}

static coffer_status call(coffer_client *client, size_t length, uint32_t timeout_ms)
{
    static uint8_t payload[LARGE];
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    coffer_reply *reply = NULL;
    options.timeout_ms = timeout_ms;
    const coffer_status status =
        coffer_call(client, "test.v1.TestService/Echo", payload, length, &options, &reply, NULL);
    coffer_reply_free(reply);
    return status;
}

static void *call_large(void *client)
{
    (void) call(client, LARGE, 3600000);
    return NULL;
}

/* Large calls fill the deaf connections; they end when the client is closed, and so does their thread. */
static void fill(coffer_client *client, pthread_t *threads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, call_large, client) != 0) {
            abort();
        }
    }
}

static void wait_for_connections(struct plain_server *server, unsigned count)
{
    while (atomic_load(&server->accepted) < count) {
        nng_msleep(5);
    }
}

static void socket_that_takes_nothing_is_replaced(void)
{
    enum { FILLERS = 8 };
    static struct plain_server server;
    pthread_t fillers[FILLERS];
    start_server(&server, 0, 1);
    coffer_client *client = scripted_client(server.address, "connect_timeout=1min");
    fill(client, fillers, FILLERS);
    wait_for_connections(&server, 2);
    const coffer_status status = call(client, 10, 120000);
    const unsigned accepted = atomic_load(&server.accepted);
    const coffer_status again = call(client, 10, 120000);
    coffer_client_close(client);
    for (size_t i = 0; i < FILLERS; i++) {
        (void) pthread_join(fillers[i], NULL);
    }
    CHECK_INT(status, COFFER_OK);
    CHECK_INT(again, COFFER_OK);
    CHECK_INT(accepted, 2);
}

static void sockets_are_replaced_a_few_times_only(void)
{
    enum { FILLERS = 24 };
    static struct plain_server server;
    pthread_t fillers[FILLERS];
    start_server(&server, 0, 1000);
    coffer_client *client = scripted_client(server.address, "connect_timeout=1min");
    fill(client, fillers, FILLERS);
    wait_for_connections(&server, ENDPOINT_SOCKETS);
    const coffer_status status = call(client, LARGE, 6000);
    coffer_client_close(client);
    for (size_t i = 0; i < FILLERS; i++) {
        (void) pthread_join(fillers[i], NULL);
    }
    CHECK(status != COFFER_OK);
    CHECK_INT(atomic_load(&server.accepted), ENDPOINT_SOCKETS);
}

static void connections_closed_at_once_do_not_end_the_dialling(void)
{
    static struct plain_server server;
    start_server(&server, 8, 0);
    coffer_client *client = scripted_client(server.address, "connect_timeout=2min");
    const coffer_status status = call(client, 10, 120000);
    coffer_client_close(client);
    CHECK_INT(status, COFFER_OK);
    CHECK_INT(atomic_load(&server.accepted), 9);
}

TEST_MAIN(TEST(connections_closed_at_once_do_not_end_the_dialling), TEST(socket_that_takes_nothing_is_replaced),
          TEST(sockets_are_replaced_a_few_times_only))
