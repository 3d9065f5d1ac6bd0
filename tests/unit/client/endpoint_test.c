#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>

#include <coffer/rpc.h>

#include "client/libcoffer/endpoint.h"
#include "common/frame.h"
#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"
#include "tests/unit/client/sp_socket.h"

/* Connections that take nothing and never end, as a server that hangs has them, and connections that end at once. */

#define METHOD "test.v1.TestService/Echo"

enum {
    MESSAGE_MAX = 2 << 20,
    LARGE = 1000 << 10, /* more than the kernel takes for somebody who does not read */
    SMALL_BUFFER = 4096,
    DEAF_KEPT = 16,
    ANSWER = 100 << 10, /* takes several reads */
};

struct plain_server {
    int listener;
    char address[SP_ADDRESS];
    unsigned rude; /* connections, the first ones, that are closed before a greeting */
    unsigned deaf; /* those behind them, on which nothing is read */
    int deaf_fds[DEAF_KEPT];
    size_t payload;  /* bytes in an answer */
    atomic_uint cut; /* answers, the first ones, in the middle of which their connection ends */
    atomic_uint accepted;
    atomic_uint answered;
};

/* One connection, served by a thread of its own. */
struct served {
    struct plain_server *server;
    int fd;
    uint8_t frame[MESSAGE_MAX];
};

static bool read_request(struct served *served, uint8_t id[SP_ID], struct cof_request_frame *request)
{
    static _Thread_local struct cof_error err;
    size_t size = 0;
    return sp_read_header(served->fd, false, id, &size) && size <= MESSAGE_MAX &&
           sp_read(served->fd, served->frame, size) &&
           cof_request_frame_decode(cof_slice_of(served->frame, size), request, &err) == COF_OK;
}

/* Whether this answer is one of those that are cut. */
static bool take_cut(struct plain_server *server)
{
    unsigned left = atomic_load(&server->cut);
    while (left > 0 && !atomic_compare_exchange_weak(&server->cut, &left, left - 1)) {
    }
    return left > 0;
}

/* Answers a request with success and a payload of zeros. */
static bool answer(struct served *served)
{
    static const uint8_t payload[ANSWER];
    static _Thread_local uint8_t reply[ANSWER + 256];
    struct cof_request_frame request = {0};
    uint8_t id[SP_ID];
    if (!read_request(served, id, &request)) {
        return false;
    }
    const struct cof_response_frame frame = {.revision = COF_FRAME_REVISION,
                                             .request_id = request.request_id,
                                             .payload = cof_slice_of(payload, served->server->payload)};
    const size_t size = cof_response_frame_size(&frame);
    const size_t header = sp_put_header(reply, false, id, size);
    (void) cof_response_frame_encode(&frame, reply + header);
    if (take_cut(served->server)) {
        (void) sp_write(served->fd, reply, (header + size) / 2);
        return false;
    }
    (void) atomic_fetch_add(&served->server->answered, 1);
    return sp_write(served->fd, reply, header + size);
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

static void serve_in_thread(struct plain_server *server, int fd)
{
    pthread_t thread;
    struct served *served = calloc(1, sizeof *served);
    if (served == NULL) {
        abort();
    }
    served->server = server;
    served->fd = fd;
    if (pthread_create(&thread, NULL, serve, served) != 0 || pthread_detach(thread) != 0) {
        abort();
    }
}

static void *accept_all(void *context)
{
    struct plain_server *server = context;
    for (unsigned number = 0;; number++) {
        const int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            return NULL;
        }
        const bool rude = number < server->rude;
        const bool deaf = !rude && number - server->rude < server->deaf;
        if (rude) {
            (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
        }
        const bool greeted = !rude && sp_greet(fd);
        if (!greeted) {
            (void) close(fd);
        } else if (deaf) {
            /* It stays open until the process ends. */
            server->deaf_fds[(number - server->rude) % DEAF_KEPT] = fd;
        }
        (void) atomic_fetch_add(&server->accepted, 1);
        if (greeted && !deaf) {
            serve_in_thread(server, fd);
        }
    }
}

/* It serves until the process ends. */
static void start_server(struct plain_server *server, unsigned rude, unsigned deaf)
{
    const int buffer = SMALL_BUFFER;
    pthread_t thread;
    server->rude = rude;
    server->deaf = deaf;
    server->listener = sp_listen(NULL, server->address);
    (void) setsockopt(server->listener, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (pthread_create(&thread, NULL, accept_all, server) != 0 || pthread_detach(thread) != 0) {
        abort();
    }
}

static coffer_status call(coffer_client *client, size_t length, uint32_t timeout_ms)
{
    static uint8_t payload[LARGE];
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    coffer_reply *reply = NULL;
    options.timeout_ms = timeout_ms;
    const coffer_status status = coffer_call(client, METHOD, payload, length, &options, &reply, NULL);
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

static void connection_that_takes_nothing_is_replaced(void)
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

/* What is left in the buffers is read first. */
static bool has_ended(int fd)
{
    uint8_t bytes[2048];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (poll(&ready, 1, 60000) == 1) {
        if (recv(fd, bytes, sizeof bytes, 0) <= 0) {
            return true;
        }
    }
    return false;
}

static void connections_that_are_replaced_are_closed(void)
{
    enum { FILLERS = 24, REPLACED = 3 };
    static struct plain_server server;
    pthread_t fillers[FILLERS];
    unsigned ended = 0;
    start_server(&server, 0, 1000);
    coffer_client *client = scripted_client(server.address, "connect_timeout=1min");
    fill(client, fillers, FILLERS);
    wait_for_connections(&server, REPLACED + 1);
    for (unsigned i = 0; i < REPLACED; i++) {
        ended += has_ended(server.deaf_fds[i]);
    }
    const coffer_status status = call(client, LARGE, 3000);
    coffer_client_close(client);
    for (size_t i = 0; i < FILLERS; i++) {
        (void) pthread_join(fillers[i], NULL);
    }
    CHECK_INT(ended, REPLACED);
    CHECK(status != COFFER_OK);
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

/* With those that nng opens for itself when it is first used. */
static unsigned count_descriptors(void)
{
    unsigned count = 0;
    coffer_client_close(scripted_client("ipc:///nonexistent/coffer.sock", ""));
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        abort();
    }
    while (readdir(directory) != NULL) {
        count++;
    }
    (void) closedir(directory);
    return count;
}

/* Descriptors are closed by threads of nng, a little later. */
static bool descriptors_come_down_to(unsigned count)
{
    bool down = count_descriptors() <= count;
    for (int i = 0; i < 12000 && !down; i++) {
        nng_msleep(5);
        down = count_descriptors() <= count;
    }
    return down;
}

static void drop_end(coffer_reply *reply, coffer_error *error, void *context)
{
    (void) atomic_fetch_add((atomic_uint *) context, 1);
    coffer_reply_free(reply);
    coffer_error_free(error);
}

static void closing_while_answers_come_gives_everything_back(void)
{
    enum { CLIENTS = 200, CALLS = 8 };
    static struct plain_server server = {.payload = ANSWER};
    static atomic_uint ends;
    start_server(&server, 0, 0);
    const unsigned descriptors = count_descriptors();
    for (unsigned i = 0; i < CLIENTS; i++) {
        coffer_client *client = scripted_client(server.address, "timeout=1h");
        const unsigned answered = atomic_load(&server.answered);
        for (unsigned k = 0; k < CALLS; k++) {
            CHECK_INT(coffer_call_start(client, METHOD, "x", 1, NULL, drop_end, &ends, NULL), COFFER_OK);
        }
        while (atomic_load(&server.answered) < answered + 1 + i % CALLS) {
            (void) sched_yield();
        }
        coffer_client_close(client);
    }
    CHECK_INT(atomic_load(&ends), CLIENTS * CALLS);
    CHECK(descriptors_come_down_to(descriptors));
}

static void connections_that_end_in_an_answer_are_made_again(void)
{
    enum { CUT = 12 };
    static struct plain_server server = {.payload = ANSWER, .cut = CUT};
    start_server(&server, 0, 0);
    const unsigned descriptors = count_descriptors();
    coffer_client *client = scripted_client(server.address, "connect_timeout=1min");
    unsigned failed = 0;
    while (call(client, 10, 120000) != COFFER_OK) {
        failed++;
    }
    const coffer_status status = call(client, 10, 120000);
    coffer_client_close(client);
    CHECK_INT(status, COFFER_OK);
    CHECK_INT(failed, CUT / 4);
    CHECK_INT(atomic_load(&server.accepted), CUT + 1);
    CHECK(descriptors_come_down_to(descriptors));
}

TEST_MAIN(TEST(connections_closed_at_once_do_not_end_the_dialling), TEST(connection_that_takes_nothing_is_replaced),
          TEST(connections_that_are_replaced_are_closed), TEST(closing_while_answers_come_gives_everything_back),
          TEST(connections_that_end_in_an_answer_are_made_again))
