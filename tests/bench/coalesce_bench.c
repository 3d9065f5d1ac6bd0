/*
 * Resolves through libcoffer, coalesced and not, by threads that wait and by callbacks, against a bare echo of the same
 * size over nng with as many requests in flight. All of them take turns in each round, so that what else the machine
 * does hits all alike; the figure that counts is the ratio to the echo of the same round.
 *
 *     coffer_coalesce_bench [rounds [milliseconds [settings]]]
 *
 * The server is that of COFFER_ADDR, which needs a secret "bench" with the key KEY in the environment "default". Without
 * that variable it is a stub in this process, which reads each request and answers each reference with the same value:
 * what is measured then is the library, and nothing behind it.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>

#include <coffer/coffer.h>
#include <coffer/v1/resolve.pb-c.h>

#include "common/attr.h"
#include "common/clock.h"
#include "common/frame.h"

enum {
    THREADS = 64,
    OUTSTANDING_MAX = 256,
    ECHO_REQUEST = 220, /* bytes: about a frame with a token and one reference */
    ECHO_CONTEXTS = 64,
    ROUNDS = 5,
    ROUND_MS = 1000,
};

static atomic_bool stopping;
static atomic_ullong done_count;

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "coalesce_bench: %s\n", what);
        exit(1);
    }
}

/* --- The echo ------------------------------------------------------------------------------------------------- */

struct echo {
    nng_aio *aio;
    nng_ctx context;
    bool sending;
};

static nng_socket echo_server;
static nng_socket echo_client;
static struct echo servers[ECHO_CONTEXTS];
static struct echo clients[OUTSTANDING_MAX];
static atomic_uint echo_running;

static void serve_echo(void *context)
{
    struct echo *echo = context;
    if (nng_aio_result(echo->aio) != 0) {
        return;
    }
    echo->sending = !echo->sending;
    if (echo->sending) {
        /* The message that was received is the answer. */
        nng_ctx_send(echo->context, echo->aio);
    } else {
        nng_ctx_recv(echo->context, echo->aio);
    }
}

static void send_echo(struct echo *echo)
{
    nng_msg *message = NULL;
    must(nng_msg_alloc(&message, ECHO_REQUEST) == 0, "no memory");
    echo->sending = true;
    nng_aio_set_msg(echo->aio, message);
    nng_ctx_send(echo->context, echo->aio);
}

static void on_echo(void *context)
{
    struct echo *echo = context;
    must(nng_aio_result(echo->aio) == 0, "the echo failed");
    if (echo->sending) {
        echo->sending = false;
        nng_ctx_recv(echo->context, echo->aio);
        return;
    }
    nng_msg_free(nng_aio_get_msg(echo->aio));
    atomic_fetch_add_explicit(&done_count, 1, memory_order_relaxed);
    if (atomic_load(&stopping)) {
        atomic_fetch_sub(&echo_running, 1);
    } else {
        send_echo(echo);
    }
}

static void open_echo(void)
{
    nng_listener listener;
    char address[64];
    int port = 0;
    must(nng_rep0_open(&echo_server) == 0 && nng_req0_open(&echo_client) == 0, "no socket");
    must(nng_listen(echo_server, "tcp://127.0.0.1:0", &listener, 0) == 0, "the echo cannot listen");
    must(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) == 0, "no port");
    (void) snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port);
    for (size_t i = 0; i < ECHO_CONTEXTS; i++) {
        must(nng_ctx_open(&servers[i].context, echo_server) == 0, "no context");
        must(nng_aio_alloc(&servers[i].aio, serve_echo, &servers[i]) == 0, "no memory");
        nng_ctx_recv(servers[i].context, servers[i].aio);
    }
    must(nng_dial(echo_client, address, NULL, 0) == 0, "the echo cannot be dialled");
    for (size_t i = 0; i < OUTSTANDING_MAX; i++) {
        must(nng_ctx_open(&clients[i].context, echo_client) == 0, "no context");
        must(nng_aio_alloc(&clients[i].aio, on_echo, &clients[i]) == 0, "no memory");
    }
}

static void begin_echo(unsigned outstanding)
{
    atomic_store(&echo_running, outstanding);
    for (unsigned i = 0; i < outstanding; i++) {
        send_echo(&clients[i]);
    }
}

static void end_echo(unsigned outstanding)
{
    (void) outstanding;
    while (atomic_load(&echo_running) > 0) {
        nng_msleep(1);
    }
}

/* --- The stub ------------------------------------------------------------------------------------------------- */

/* A result with one value, in memory of its own. */
struct stub_result {
    Coffer__V1__ResolveResult result;
    Coffer__V1__ResultStatus status;
    Coffer__V1__ResolvedSecret secret;
    Coffer__V1__ResolvedSecret *secrets[1];
    Coffer__V1__KeyValue value;
    Coffer__V1__KeyValue *values[1];
    Coffer__V1__Outcome outcomes[1];
};

static nng_socket stub_server;
static struct echo stubs[ECHO_CONTEXTS];

static void fill_result(const Coffer__V1__ResolveItem *item, uint32_t index, struct stub_result *to)
{
    static char environment[] = "default";
    static uint8_t bytes[] = "the value, which has 32 bytes...";
    coffer__v1__resolve_result__init(&to->result);
    coffer__v1__result_status__init(&to->status);
    coffer__v1__resolved_secret__init(&to->secret);
    coffer__v1__key_value__init(&to->value);
    to->status.outcome = to->outcomes[0] = COFFER__V1__OUTCOME__OUTCOME_RESOLVED;
    to->value.key = item->references[0]->key;
    to->value.value = (ProtobufCBinaryData){sizeof bytes - 1, bytes};
    to->values[0] = &to->value;
    to->secret.name = item->references[0]->name;
    to->secret.values = to->values;
    to->secret.n_values = 1;
    to->secrets[0] = &to->secret;
    to->result.status = &to->status;
    to->result.item_index = index;
    to->result.environment = environment;
    to->result.secrets = to->secrets;
    to->result.outcomes = to->outcomes;
    to->result.n_secrets = to->result.n_outcomes = 1;
}

static nng_msg *pack_answer(const struct cof_request_frame *request, Coffer__V1__ResolveResponse *response)
{
    nng_msg *message = NULL;
    const size_t size = coffer__v1__resolve_response__get_packed_size(response);
    uint8_t *payload = malloc(size + 1);
    must(payload != NULL, "no memory");
    (void) coffer__v1__resolve_response__pack(response, payload);
    const struct cof_response_frame frame = {
        .revision = COF_FRAME_REVISION, .request_id = request->request_id, .payload = cof_slice_of(payload, size)};
    must(nng_msg_alloc(&message, cof_response_frame_size(&frame)) == 0, "no memory");
    (void) cof_response_frame_encode(&frame, nng_msg_body(message));
    free(payload);
    return message;
}

static nng_msg *answer_stub(nng_msg *received)
{
    struct cof_request_frame request = {0};
    struct cof_error err;
    Coffer__V1__ResolveResponse response;
    const struct cof_slice bytes = cof_slice_of(nng_msg_body(received), nng_msg_len(received));
    must(cof_request_frame_decode(bytes, &request, &err) == COF_OK, "a bad frame");
    Coffer__V1__ResolveRequest *asked =
        coffer__v1__resolve_request__unpack(NULL, request.payload.len, request.payload.data);
    must(asked != NULL, "a bad request");
    struct stub_result *results = calloc(asked->n_items, sizeof *results);
    Coffer__V1__ResolveResult **pointers = calloc(asked->n_items, sizeof *pointers);
    must(results != NULL && pointers != NULL, "no memory");
    coffer__v1__resolve_response__init(&response);
    for (size_t i = 0; i < asked->n_items; i++) {
        fill_result(asked->items[i], (uint32_t) i, &results[i]);
        pointers[i] = &results[i].result;
    }
    response.results = pointers;
    response.n_results = asked->n_items;
    nng_msg *answer = pack_answer(&request, &response);
    free(results);
    free(pointers);
    coffer__v1__resolve_request__free_unpacked(asked, NULL);
    return answer;
}

static void serve_stub(void *context)
{
    struct echo *stub = context;
    if (nng_aio_result(stub->aio) != 0) {
        return;
    }
    stub->sending = !stub->sending;
    if (!stub->sending) {
        nng_ctx_recv(stub->context, stub->aio);
        return;
    }
    nng_msg *received = nng_aio_get_msg(stub->aio);
    nng_aio_set_msg(stub->aio, answer_stub(received));
    nng_msg_free(received);
    nng_ctx_send(stub->context, stub->aio);
}

/* "addr=..." of a new stub. */
static const char *open_stub(void)
{
    static char setting[64];
    nng_listener listener;
    int port = 0;
    must(nng_rep0_open(&stub_server) == 0, "no socket");
    must(nng_listen(stub_server, "tcp://127.0.0.1:0", &listener, 0) == 0, "the stub cannot listen");
    must(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) == 0, "no port");
    (void) snprintf(setting, sizeof setting, "addr=tcp://127.0.0.1:%d", port);
    for (size_t i = 0; i < ECHO_CONTEXTS; i++) {
        must(nng_ctx_open(&stubs[i].context, stub_server) == 0, "no context");
        must(nng_aio_alloc(&stubs[i].aio, serve_stub, &stubs[i]) == 0, "no memory");
        nng_ctx_recv(stubs[i].context, stubs[i].aio);
    }
    return setting;
}

/* --- Resolves ------------------------------------------------------------------------------------------------- */

static coffer_client *client; /* of the variant that runs */
static coffer_client *together;
static coffer_client *alone;
static coffer_request *request;
static pthread_t threads[THREADS];
static atomic_uint calls_running;

static void check(const coffer_result *result, const coffer_error *error)
{
    if (result == NULL || coffer_result_failed(result) != 0) {
        fprintf(stderr, "coalesce_bench: %s\n",
                result == NULL ? coffer_error_message(error) : coffer_item_message(coffer_result_item(result, 0)));
        exit(1);
    }
    atomic_fetch_add_explicit(&done_count, 1, memory_order_relaxed);
}

static void *call_and_wait(void *context)
{
    (void) context;
    while (!atomic_load(&stopping)) {
        coffer_result *result = NULL;
        coffer_error *error = NULL;
        const coffer_status status = coffer_resolve(client, request, &result, &error);
        check(status == COFFER_OK ? result : NULL, error);
        coffer_result_free(result);
    }
    return NULL;
}

static void begin_threads(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        must(pthread_create(&threads[i], NULL, call_and_wait, NULL) == 0, "no thread");
    }
}

static void end_threads(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void) pthread_join(threads[i], NULL);
    }
}

static void on_resolved(coffer_result *result, coffer_error *error, void *context)
{
    check(result, error);
    coffer_result_free(result);
    if (atomic_load(&stopping)) {
        atomic_fetch_sub(&calls_running, 1);
    } else {
        must(coffer_resolve_start(client, request, on_resolved, context, NULL) == COFFER_OK, "a call was refused");
    }
}

static void begin_calls(unsigned outstanding)
{
    atomic_store(&calls_running, outstanding);
    for (unsigned i = 0; i < outstanding; i++) {
        must(coffer_resolve_start(client, request, on_resolved, NULL, NULL) == COFFER_OK, "a call was refused");
    }
}

static void end_calls(unsigned outstanding)
{
    (void) outstanding;
    while (atomic_load(&calls_running) > 0) {
        nng_msleep(1);
    }
}

/* --- Rounds --------------------------------------------------------------------------------------------------- */

struct variant {
    const char *name;
    void (*begin)(unsigned count);
    void (*end)(unsigned count);
    coffer_client **client; /* NULL: the echo */
    unsigned count;
    unsigned echo; /* index of the echo that it is compared with */
};

static const struct variant variants[] = {
    {"nng echo, 64 in flight", begin_echo, end_echo, NULL, 64, 0},
    {"nng echo, 256 in flight", begin_echo, end_echo, NULL, 256, 1},
    {"64 threads, one by one", begin_threads, end_threads, &alone, THREADS, 0},
    {"64 threads, coalesced", begin_threads, end_threads, &together, THREADS, 0},
    {"64 callbacks, one by one", begin_calls, end_calls, &alone, 64, 0},
    {"64 callbacks, coalesced", begin_calls, end_calls, &together, 64, 0},
    {"256 callbacks, one by one", begin_calls, end_calls, &alone, 256, 1},
    {"256 callbacks, coalesced", begin_calls, end_calls, &together, 256, 1},
};

enum { VARIANTS = COF_COUNT(variants), ROUNDS_MAX = 100 };

static double run(const struct variant *variant, unsigned milliseconds)
{
    client = variant->client == NULL ? NULL : *variant->client;
    atomic_store(&stopping, false);
    variant->begin(variant->count);
    const int64_t begin = cof_clock_monotonic(&cof_system_clock);
    const unsigned long long before = atomic_load(&done_count);
    nng_msleep((nng_duration) milliseconds);
    const unsigned long long after = atomic_load(&done_count);
    const int64_t end = cof_clock_monotonic(&cof_system_clock);
    atomic_store(&stopping, true);
    variant->end(variant->count);
    return (double) (after - before) * 1e6 / (double) (end - begin);
}

static int by_size(const void *a, const void *b)
{
    const double left = *(const double *) a;
    const double right = *(const double *) b;
    return (left > right) - (left < right);
}

static double median(const double *values, unsigned count)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_size);
    return sorted[count / 2];
}

static coffer_client *open_client(const char *address, const char *mode, const char *settings)
{
    char text[512];
    coffer_client *opened = NULL;
    coffer_error *error = NULL;
    (void) snprintf(text, sizeof text, "%s %s %s", address, mode, settings);
    if (coffer_client_open(text, &opened, &error) != COFFER_OK) {
        fprintf(stderr, "coalesce_bench: %s\n", coffer_error_message(error));
        exit(1);
    }
    return opened;
}

static void report(double rates[VARIANTS][ROUNDS_MAX], unsigned rounds)
{
    printf("%-28s %12s %18s\n", "", "per second", "ratio to the echo");
    for (size_t i = 0; i < VARIANTS; i++) {
        double ratios[ROUNDS_MAX];
        for (unsigned k = 0; k < rounds; k++) {
            ratios[k] = rates[i][k] / rates[variants[i].echo][k];
        }
        printf("%-28s %12.0f %18.2f\n", variants[i].name, median(rates[i], rounds), median(ratios, rounds));
    }
}

int main(int argc, char **argv)
{
    static double rates[VARIANTS][ROUNDS_MAX];
    const unsigned long rounds_given = argc > 1 ? strtoul(argv[1], NULL, 10) : ROUNDS;
    const unsigned long milliseconds = argc > 2 ? strtoul(argv[2], NULL, 10) : ROUND_MS;
    const char *settings = argc > 3 ? argv[3] : "";
    must(rounds_given > 0 && rounds_given <= ROUNDS_MAX && milliseconds > 0 && milliseconds < 100000,
         "coalesce_bench [rounds [milliseconds [settings]]]");
    const unsigned rounds = (unsigned) rounds_given;
    open_echo();
    const char *address = getenv("COFFER_ADDR") == NULL ? open_stub() : "";
    together = open_client(address, "", settings);
    alone = open_client(address, "coalesce=no", "");
    request = coffer_request_new();
    coffer_request_add_reference(request, "bench", "KEY");
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < VARIANTS; i++) {
            rates[i][round] = run(&variants[i], (unsigned) milliseconds);
        }
    }
    report(rates, rounds);
    coffer_request_free(request);
    coffer_client_close(together);
    coffer_client_close(alone);
    return 0;
}
