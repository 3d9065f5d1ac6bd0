#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>

#include "common/tls/stream.h"
#include "tests/support/test.h"
#include "tests/unit/tls/certificates.h"

/* Streams over loopback: large messages, peers that vanish, say nothing or are refused, and ends of every kind. */

enum {
    LARGE = 3 << 20,
    PATIENCE_MS = 60000,
    SHORT_MS = 200,
    PART = 8192,
};

struct two {
    struct cof_tls *server_tls;
    struct cof_tls *client_tls;
    nng_stream_listener *listener;
    nng_stream_dialer *dialer;
    nng_aio *accept;
    nng_aio *dial;
    nng_aio *aios[4]; /* recv and send of the server, then of the client */
    struct cof_stream *server;
    struct cof_stream *client;
    int raw; /* the client's end as a plain socket, instead of `client`; -1: none */
    int port;
};

static void done(struct two *two)
{
    struct cof_stream *streams[] = {two->server, two->client};
    for (size_t i = 0; i < COF_COUNT(streams); i++) {
        if (streams[i] != NULL) {
            cof_stream_close(streams[i]);
        }
    }
    for (size_t i = 0; i < COF_COUNT(two->aios); i++) {
        nng_aio_free(two->aios[i]);
    }
    for (size_t i = 0; i < COF_COUNT(streams); i++) {
        if (streams[i] != NULL) {
            cof_stream_free(streams[i]);
        }
    }
    nng_aio_free(two->accept);
    nng_aio_free(two->dial);
    nng_stream_listener_free(two->listener);
    nng_stream_dialer_free(two->dialer);
    if (two->raw >= 0) {
        (void) close(two->raw);
    }
    cof_tls_drop(two->server_tls);
    cof_tls_drop(two->client_tls);
}

#define TWO AUTO(done) struct two

static bool read_contexts(struct two *two)
{
    struct cof_error err;
    certificates_start();
    const struct pair server = certificates_server();
    const struct cof_tls_options server_options = {
        .role = COF_TLS_SERVER,
        .certificate = {server.certificate, "tls.certificate"},
        .key = {server.key, "tls.key"},
    };
    const struct cof_tls_options client_options = {.role = COF_TLS_CLIENT,
                                                   .ca = {certificates_ca(false), "cacert"}};
    return cof_tls_new(&server_options, &two->server_tls, &err) == COF_OK &&
           cof_tls_new(&client_options, &two->client_tls, &err) == COF_OK;
}

static bool listen_somewhere(struct two *two)
{
    bool good = nng_stream_listener_alloc(&two->listener, "tcp://127.0.0.1:0") == 0 &&
                nng_stream_listener_listen(two->listener) == 0 &&
                nng_stream_listener_get_int(two->listener, NNG_OPT_TCP_BOUND_PORT, &two->port) == 0 &&
                nng_aio_alloc(&two->accept, NULL, NULL) == 0 && nng_aio_alloc(&two->dial, NULL, NULL) == 0;
    for (size_t i = 0; i < COF_COUNT(two->aios); i++) {
        good = good && nng_aio_alloc(&two->aios[i], NULL, NULL) == 0;
    }
    return good;
}

static bool accept_one(struct two *two, nng_duration handshake_ms)
{
    nng_aio_wait(two->accept);
    if (nng_aio_result(two->accept) != 0) {
        return false;
    }
    nng_stream *accepted = nng_aio_get_output(two->accept, 0);
    two->server = two->server_tls == NULL ? cof_stream_plain(accepted)
                                          : cof_stream_tls(accepted, two->server_tls, NULL, handshake_ms);
    return two->server != NULL;
}

static bool begin(struct two *two, bool tls)
{
    *two = (struct two){.raw = -1};
    if ((tls && !read_contexts(two)) || !listen_somewhere(two)) {
        return false;
    }
    nng_stream_listener_accept(two->listener, two->accept);
    return true;
}

static bool dial(struct two *two)
{
    char address[64];
    (void) snprintf(address, sizeof address, "tcp://127.0.0.1:%d", two->port);
    if (nng_stream_dialer_alloc(&two->dialer, address) != 0) {
        return false;
    }
    nng_stream_dialer_dial(two->dialer, two->dial);
    nng_aio_wait(two->dial);
    return nng_aio_result(two->dial) == 0;
}

/* Two streams that know nothing of each other yet. */
static bool open_two(struct two *two, const char *name)
{
    if (!begin(two, true) || !dial(two)) {
        return false;
    }
    two->client = cof_stream_tls(nng_aio_get_output(two->dial, 0), two->client_tls, name, PATIENCE_MS);
    return two->client != NULL && accept_one(two, PATIENCE_MS);
}

static bool open_plain(struct two *two)
{
    if (!begin(two, false) || !dial(two)) {
        return false;
    }
    two->client = cof_stream_plain(nng_aio_get_output(two->dial, 0));
    return two->client != NULL && accept_one(two, PATIENCE_MS);
}

/* A stream of a server whose client is a plain socket. */
static bool open_raw(struct two *two, nng_duration handshake_ms)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (!begin(two, true)) {
        return false;
    }
    address.sin_port = htons((uint16_t) two->port);
    two->raw = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(two->raw, (const struct sockaddr *) (const void *) &address, sizeof address) == 0 &&
           accept_one(two, handshake_ms);
}

#define RECV(two, end, to, ms) cof_stream_recv((two).end, (two).aios[(two).end == (two).server ? 0 : 2], to, ms)
#define SEND(two, end, part, ms) \
    cof_stream_send((two).end, (two).aios[(two).end == (two).server ? 1 : 3], &(part), 1, ms)

static int result_of(nng_aio *aio)
{
    nng_aio_wait(aio);
    return nng_aio_result(aio);
}

/* Shakes hands: a byte each way. */
static bool greet(struct two *two)
{
    static char bytes[4];
    const nng_iov parts[] = {{bytes, 1}, {bytes + 1, 1}, {bytes + 2, 1}, {bytes + 3, 1}};
    bool good = true;
    RECV(*two, server, parts[0], PATIENCE_MS);
    SEND(*two, server, parts[1], PATIENCE_MS);
    SEND(*two, client, parts[2], PATIENCE_MS);
    RECV(*two, client, parts[3], PATIENCE_MS);
    for (size_t i = 0; i < COF_COUNT(two->aios); i++) {
        good = result_of(two->aios[i]) == 0 && good;
    }
    return good;
}

/* Receives until `len` bytes are there. */
struct reader {
    struct cof_stream *stream;
    nng_aio *aio;
    uint8_t *bytes;
    size_t len;
    size_t filled;
};

static void *read_all(void *context)
{
    struct reader *reader = context;
    while (reader->filled < reader->len) {
        const nng_iov to = {reader->bytes + reader->filled, reader->len - reader->filled};
        cof_stream_recv(reader->stream, reader->aio, to, PATIENCE_MS);
        if (result_of(reader->aio) != 0) {
            break;
        }
        reader->filled += cof_stream_count(reader->stream, reader->aio);
    }
    return NULL;
}

static bool send_all(struct cof_stream *stream, nng_aio *aio, uint8_t *bytes, size_t len)
{
    size_t sent = 0;
    while (sent < len) {
        /* Two parts, the first of which ends in the middle of a record. */
        const size_t first = len - sent < PART ? len - sent : PART;
        const nng_iov parts[] = {{bytes + sent, first}, {bytes + sent + first, len - sent - first}};
        cof_stream_send(stream, aio, parts, COF_COUNT(parts), PATIENCE_MS);
        if (result_of(aio) != 0) {
            return false;
        }
        sent += cof_stream_count(stream, aio);
    }
    return true;
}

static bool arrives_whole(struct cof_stream *from, nng_aio *from_aio, struct cof_stream *to, nng_aio *to_aio)
{
    uint64_t state = test_seed();
    pthread_t thread;
    uint8_t *bytes = malloc(LARGE);
    struct reader reader = {.stream = to, .aio = to_aio, .bytes = malloc(LARGE), .len = LARGE};
    for (size_t i = 0; bytes != NULL && i < LARGE; i++) {
        bytes[i] = (uint8_t) test_random(&state);
    }
    bool good = bytes != NULL && reader.bytes != NULL && pthread_create(&thread, NULL, read_all, &reader) == 0;
    if (good) {
        good = send_all(from, from_aio, bytes, LARGE);
        (void) pthread_join(thread, NULL);
        good = good && reader.filled == LARGE && memcmp(bytes, reader.bytes, LARGE) == 0;
    }
    free(bytes);
    free(reader.bytes);
    return good;
}

static void three_megabytes_arrive_whole_both_ways(void)
{
    TWO two;
    CHECK(open_two(&two, "localhost"));
    CHECK(arrives_whole(two.client, two.aios[3], two.server, two.aios[0]));
    CHECK(arrives_whole(two.server, two.aios[1], two.client, two.aios[2]));
}

/* nng's own TLS leaves this receive hanging for ever (docs/decisions/0015-tls.md). */
static void receive_after_a_reset_fails(void)
{
    char bytes[64] = "";
    const nng_iov part = {bytes, sizeof bytes};
    TWO two;
    CHECK(open_two(&two, "localhost"));
    CHECK(greet(&two));
    nng_stream_close(cof_stream_below(two.client));
    SEND(two, server, part, PATIENCE_MS);
    (void) result_of(two.aios[1]);
    nng_msleep(SHORT_MS);
    RECV(two, server, part, PATIENCE_MS);
    CHECK(result_of(two.aios[0]) != 0);
    RECV(two, server, part, NNG_DURATION_INFINITE);
    CHECK(result_of(two.aios[0]) != 0);
}

static void receive_without_bytes_runs_out_of_time(void)
{
    char byte;
    const nng_iov part = {&byte, 1};
    TWO two;
    CHECK(open_two(&two, "localhost"));
    CHECK(greet(&two));
    RECV(two, server, part, SHORT_MS);
    CHECK_INT(result_of(two.aios[0]), NNG_ETIMEDOUT);
}

static void send_to_a_peer_that_reads_nothing_runs_out_of_time(void)
{
    static uint8_t bytes[LARGE];
    const nng_iov part = {bytes, LARGE};
    int result = 0;
    TWO two;
    CHECK(open_two(&two, "localhost"));
    CHECK(greet(&two));
    /* The kernel takes a lot for a peer that does not read. */
    for (unsigned i = 0; i < 4096 && result == 0; i++) {
        SEND(two, server, part, SHORT_MS);
        result = result_of(two.aios[1]);
    }
    CHECK_INT(result, NNG_ETIMEDOUT);
}

static void close_ends_what_runs_and_tells_the_peer(void)
{
    char byte;
    char problem[256];
    const nng_iov part = {&byte, 1};
    TWO two;
    CHECK(open_two(&two, "localhost"));
    CHECK(greet(&two));
    RECV(two, client, part, PATIENCE_MS);
    RECV(two, server, part, PATIENCE_MS);
    cof_stream_close(two.server);
    CHECK_INT(result_of(two.aios[0]), NNG_ECLOSED);
    CHECK_INT(result_of(two.aios[2]), NNG_ECONNSHUT);
    cof_stream_problem(two.client, problem, sizeof problem);
    CHECK_TEXT(problem, "");
}

static void cut_is_a_problem(void)
{
    char byte;
    char problem[256];
    const nng_iov part = {&byte, 1};
    TWO two;
    CHECK(open_two(&two, "localhost"));
    CHECK(greet(&two));
    RECV(two, client, part, PATIENCE_MS);
    nng_stream_close(cof_stream_below(two.server));
    CHECK(result_of(two.aios[2]) != 0);
    cof_stream_problem(two.client, problem, sizeof problem);
    CHECK_CONTAINS(problem, "cut");
}

static void refused_peer_gets_the_alert(void)
{
    char bytes[2];
    char problem[256];
    const nng_iov part = {bytes, 1};
    const nng_iov other = {bytes + 1, 1};
    TWO two;
    CHECK(open_two(&two, "elsewhere.example"));
    RECV(two, server, part, PATIENCE_MS);
    RECV(two, client, other, PATIENCE_MS);
    CHECK_INT(result_of(two.aios[2]), NNG_EPEERAUTH);
    CHECK_INT(result_of(two.aios[0]), NNG_EPEERAUTH);
    cof_stream_problem(two.client, problem, sizeof problem);
    CHECK_CONTAINS(problem, "elsewhere.example");
    cof_stream_problem(two.server, problem, sizeof problem);
    CHECK_CONTAINS(problem, "the client does not take the server's certificate");
}

static void silent_peer_ends_with_the_time_of_the_handshake(void)
{
    char byte;
    const nng_iov part = {&byte, 1};
    TWO two;
    CHECK(open_raw(&two, SHORT_MS));
    RECV(two, server, part, NNG_DURATION_INFINITE);
    SEND(two, server, part, NNG_DURATION_INFINITE);
    CHECK_INT(result_of(two.aios[0]), NNG_ETIMEDOUT);
    CHECK_INT(result_of(two.aios[1]), NNG_ETIMEDOUT);
}

static void plain_peer_is_told_and_let_go(void)
{
    static const uint8_t greeting[] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    char byte;
    uint8_t alert[16];
    char problem[256];
    const nng_iov part = {&byte, 1};
    TWO two;
    CHECK(open_raw(&two, PATIENCE_MS));
    CHECK_INT(send(two.raw, greeting, sizeof greeting, MSG_NOSIGNAL), sizeof greeting);
    RECV(two, server, part, PATIENCE_MS);
    CHECK_INT(recv(two.raw, alert, sizeof alert, 0), 7);
    CHECK_INT(alert[0], 0x15);
    CHECK_INT(result_of(two.aios[0]), NNG_EPEERAUTH);
    cof_stream_problem(two.server, problem, sizeof problem);
    CHECK_CONTAINS(problem, "without TLS");
}

/* Sends until the connection ends. */
static void *flood(void *context)
{
    static const char bytes[PART] = "GET / HTTP/1.1";
    const int *fd = context;
    while (send(*fd, bytes, sizeof bytes, MSG_NOSIGNAL) > 0) {
    }
    return NULL;
}

static void refused_peer_that_never_stops_sending_ends_all_the_same(void)
{
    char byte;
    const nng_iov part = {&byte, 1};
    pthread_t thread;
    TWO two;
    CHECK(open_raw(&two, PATIENCE_MS));
    CHECK(pthread_create(&thread, NULL, flood, &two.raw) == 0);
    RECV(two, server, part, NNG_DURATION_INFINITE);
    const int result = result_of(two.aios[0]);
    (void) shutdown(two.raw, SHUT_RDWR);
    (void) pthread_join(thread, NULL);
    CHECK_INT(result, NNG_EPEERAUTH);
}

static void operation_after_the_close_fails_at_once(void)
{
    char byte;
    const nng_iov part = {&byte, 1};
    TWO two;
    CHECK(open_two(&two, "localhost"));
    cof_stream_close(two.server);
    RECV(two, server, part, NNG_DURATION_INFINITE);
    SEND(two, server, part, NNG_DURATION_INFINITE);
    CHECK_INT(result_of(two.aios[0]), NNG_ECLOSED);
    CHECK_INT(result_of(two.aios[1]), NNG_ECLOSED);
}

static void what_can_be_done_at_once_needs_no_operation(void)
{
    char sent[] = "abcdef";
    char got[16] = "";
    const nng_iov parts[] = {{sent, 2}, {sent + 2, 4}};
    const nng_iov to = {got, sizeof got};
    size_t count = 0;
    TWO two;
    CHECK(open_plain(&two));
    CHECK_INT(cof_stream_recv_now(two.server, to), 0);
    CHECK_INT(cof_stream_send_now(two.client, parts, 2), 6);
    while ((count = cof_stream_recv_now(two.server, to)) == 0) {
        nng_msleep(1);
    }
    CHECK_INT(count, 6);
    CHECK_TEXT(got, sent);
    /* An operation that is begun afterwards waits as ever. */
    RECV(two, server, to, PATIENCE_MS);
    CHECK_INT(cof_stream_send_now(two.client, parts, 1), 2);
    CHECK_INT(result_of(two.aios[0]), 0);
    CHECK_INT(cof_stream_count(two.server, two.aios[0]), 2);
}

static void what_is_not_taken_at_once_is_left_to_an_operation(void)
{
    static uint8_t bytes[LARGE];
    const nng_iov part = {bytes, LARGE};
    size_t all = 0;
    size_t sent = 0;
    pthread_t thread;
    TWO two;
    CHECK(open_plain(&two));
    while ((sent = cof_stream_send_now(two.server, &part, 1)) > 0) {
        all += sent;
    }
    CHECK(all > 0);
    SEND(two, server, part, PATIENCE_MS);
    struct reader reader = {.stream = two.client, .aio = two.aios[2], .bytes = malloc(all + 1), .len = all + 1};
    CHECK(reader.bytes != NULL && pthread_create(&thread, NULL, read_all, &reader) == 0);
    CHECK_INT(result_of(two.aios[1]), 0);
    CHECK(cof_stream_count(two.server, two.aios[1]) > 0);
    (void) pthread_join(thread, NULL);
    CHECK_INT(reader.filled, all + 1);
    free(reader.bytes);
}

struct pusher {
    struct cof_stream *stream;
    const uint8_t *bytes;
    size_t len;
    size_t sent;
    atomic_bool stop;
};

static void *push(void *context)
{
    struct pusher *pusher = context;
    while (pusher->sent < pusher->len && !atomic_load(&pusher->stop)) {
        const nng_iov rest = {(void *) (uintptr_t) (pusher->bytes + pusher->sent), pusher->len - pusher->sent};
        const size_t sent = cof_stream_send_now(pusher->stream, &rest, 1);
        pusher->sent += sent;
        if (sent == 0) {
            nng_msleep(1);
        }
    }
    return NULL;
}

static void sending_at_once_goes_on_beside_receiving_at_once(void)
{
    static uint8_t bytes[LARGE];
    static uint8_t got[2][LARGE];
    size_t filled[2] = {0, 0};
    TWO two;
    CHECK(open_plain(&two));
    struct cof_stream *streams[] = {two.client, two.server};
    struct pusher pushers[] = {{.stream = two.client, .bytes = bytes, .len = LARGE},
                               {.stream = two.server, .bytes = bytes, .len = LARGE}};
    pthread_t threads[2];
    for (size_t i = 0; i < LARGE; i++) {
        bytes[i] = (uint8_t) (i * 7 + i / 256);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, push, &pushers[i]), 0);
    }
    while (filled[0] < LARGE || filled[1] < LARGE) {
        size_t received = 0;
        for (size_t i = 0; i < 2; i++) {
            const nng_iov to = {got[i] + filled[i], LARGE - filled[i]};
            const size_t count = to.iov_len > 0 ? cof_stream_recv_now(streams[i], to) : 0;
            filled[i] += count;
            received += count;
        }
        if (received == 0) {
            nng_msleep(1);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        (void) pthread_join(threads[i], NULL);
        CHECK(memcmp(got[i], bytes, LARGE) == 0);
    }
}

static void close_beside_sending_at_once_ends_it(void)
{
    static uint8_t bytes[LARGE];
    static uint8_t got[16384];
    const nng_iov to = {got, sizeof got};
    size_t filled = 0;
    pthread_t thread;
    TWO two;
    CHECK(open_plain(&two));
    struct pusher pusher = {.stream = two.server, .bytes = bytes, .len = LARGE};
    CHECK_INT(pthread_create(&thread, NULL, push, &pusher), 0);
    while (filled == 0) {
        filled += cof_stream_recv_now(two.client, to);
    }
    cof_stream_close(two.server);
    const nng_iov part = {bytes, 1};
    atomic_store(&pusher.stop, true);
    (void) pthread_join(thread, NULL);
    CHECK_INT(cof_stream_send_now(two.server, &part, 1), 0);
}

static void nothing_is_done_at_once_after_the_close_or_over_tls(void)
{
    char byte = 'a';
    const nng_iov part = {&byte, 1};
    TWO plain;
    CHECK(open_plain(&plain));
    CHECK_INT(cof_stream_send_now(plain.client, &part, 1), 1);
    cof_stream_close(plain.server);
    CHECK_INT(cof_stream_recv_now(plain.server, part), 0);
    CHECK_INT(cof_stream_send_now(plain.server, &part, 1), 0);
    TWO tls;
    CHECK(open_two(&tls, "localhost"));
    CHECK(greet(&tls));
    CHECK(cof_stream_is_prompt(plain.client) && !cof_stream_is_prompt(tls.client));
    CHECK_INT(cof_stream_send_now(tls.client, &part, 1), 0);
    CHECK_INT(cof_stream_recv_now(tls.client, part), 0);
    CHECK(greet(&tls));
}

TEST_MAIN(TEST(three_megabytes_arrive_whole_both_ways), TEST(receive_after_a_reset_fails),
          TEST(receive_without_bytes_runs_out_of_time), TEST(send_to_a_peer_that_reads_nothing_runs_out_of_time),
          TEST(close_ends_what_runs_and_tells_the_peer), TEST(cut_is_a_problem), TEST(refused_peer_gets_the_alert),
          TEST(silent_peer_ends_with_the_time_of_the_handshake), TEST(plain_peer_is_told_and_let_go),
          TEST(refused_peer_that_never_stops_sending_ends_all_the_same),
          TEST(operation_after_the_close_fails_at_once), TEST(what_can_be_done_at_once_needs_no_operation),
          TEST(what_is_not_taken_at_once_is_left_to_an_operation),
          TEST(sending_at_once_goes_on_beside_receiving_at_once), TEST(close_beside_sending_at_once_ends_it),
          TEST(nothing_is_done_at_once_after_the_close_or_over_tls))
