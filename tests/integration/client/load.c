/*
 * Load by libcoffer for failover_test.py: threads that resolve, by waiting and by callbacks, or that write. Where the
 * servers are and the token come from the environment (coffer_client_open).
 *
 *     load resolve THREADS        resolves s0 to s7, key KEY, whose values are "value-0" to "value-7", until the end
 *     load write WRITERS WRITES [COUNTER]
 *                                 each writer sets a key of its secret "counter0", "counter1", ... so many times
 *
 * Each line on the standard input is answered with a line "DONE FAILED WRONG LONGEST", the last of which is how long the
 * longest call took that ended since the line before, in milliseconds; the end of the input ends the load, after which
 * that line is printed once more. What failed is told on the standard error.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <coffer/rpc.h>
#include <coffer/v1/secret.pb-c.h>

#include "common/uuid.h"

enum { SECRETS = 8, THREADS_MAX = 64, REPEATS_MAX = 50, PAYLOAD_MAX = 512 };

static coffer_client *client;
static atomic_bool stopping;
static atomic_uint done_count;
static atomic_uint failed_count;
static atomic_uint wrong_count;
static atomic_uint running;
static atomic_uint longest_ms;
static unsigned writes_each;
static const char *counters = "counter";

static void tell_failure(const coffer_error *error)
{
    (void) atomic_fetch_add(&failed_count, 1);
    fprintf(stderr, "load: %s: %s\n", coffer_reason_name(coffer_error_reason(error)), coffer_error_message(error));
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void note_time(int64_t begin_ms)
{
    const unsigned took_ms = (unsigned) (now_ms() - begin_ms);
    unsigned longest = atomic_load(&longest_ms);
    while (took_ms > longest && !atomic_compare_exchange_weak(&longest_ms, &longest, took_ms)) {
    }
}

/* --- Resolving ------------------------------------------------------------------------------------------------ */

struct resolver {
    pthread_t thread;
    unsigned number; /* of the secret that is asked for next */
};

static coffer_request *ask(const struct resolver *resolver)
{
    char name[16];
    coffer_request *request = coffer_request_new();
    (void) snprintf(name, sizeof name, "s%u", resolver->number % SECRETS);
    coffer_request_add_reference(request, name, "KEY");
    return request;
}

static void check(const struct resolver *resolver, const coffer_result *result)
{
    char name[16];
    char expected[16];
    const coffer_item *item = coffer_result_item(result, 0);
    (void) snprintf(name, sizeof name, "s%u", resolver->number % SECRETS);
    (void) snprintf(expected, sizeof expected, "value-%u", resolver->number % SECRETS);
    (void) atomic_fetch_add(&done_count, 1);
    if (coffer_item_status(item) != COFFER_OK) {
        (void) atomic_fetch_add(&failed_count, 1);
        fprintf(stderr, "load: %s: %s\n", coffer_outcome_name(coffer_item_outcome(item)),
                coffer_item_message(item));
        return;
    }
    const coffer_bytes value = coffer_item_value(item, name, "KEY");
    const bool right = value.length == strlen(expected) && memcmp(value.data, expected, value.length) == 0;
    (void) atomic_fetch_add(&wrong_count, !right);
}

static void *resolve_and_wait(void *context)
{
    struct resolver *resolver = context;
    while (!atomic_load(&stopping)) {
        coffer_result *result = NULL;
        coffer_error *error = NULL;
        coffer_request *request = ask(resolver);
        const int64_t begin_ms = now_ms();
        if (coffer_resolve(client, request, &result, &error) == COFFER_OK) {
            check(resolver, result);
        } else {
            tell_failure(error);
        }
        note_time(begin_ms);
        resolver->number++;
        coffer_request_free(request);
        coffer_result_free(result);
        coffer_error_free(error);
    }
    (void) atomic_fetch_sub(&running, 1);
    return NULL;
}

static void start_next(struct resolver *resolver);

static void on_resolved(coffer_result *result, coffer_error *error, void *context)
{
    struct resolver *resolver = context;
    if (result != NULL) {
        check(resolver, result);
    } else {
        tell_failure(error);
    }
    resolver->number++;
    coffer_result_free(result);
    coffer_error_free(error);
    start_next(resolver);
}

static void start_next(struct resolver *resolver)
{
    coffer_error *error = NULL;
    coffer_request *request = ask(resolver);
    const bool goes_on = !atomic_load(&stopping);
    if (goes_on && coffer_resolve_start(client, request, on_resolved, resolver, &error) != COFFER_OK) {
        tell_failure(error);
        coffer_error_free(error);
    }
    coffer_request_free(request);
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

struct writer {
    pthread_t thread;
    unsigned number;
    uint64_t version; /* of the secret, known from the last answer */
};

static size_t pack_write(const struct writer *writer, unsigned round, uint8_t to[PAYLOAD_MAX])
{
    char name[24];
    char key[] = "KEY";
    char value[24];
    Coffer__V1__KeyValue pair;
    Coffer__V1__KeyValue *pairs[] = {&pair};
    Coffer__V1__PatchValues patch;
    Coffer__V1__UpdateSecretValuesRequest request;
    (void) snprintf(name, sizeof name, "%s%u", counters, writer->number);
    coffer__v1__key_value__init(&pair);
    coffer__v1__patch_values__init(&patch);
    coffer__v1__update_secret_values_request__init(&request);
    pair.key = key;
    pair.value.data = (uint8_t *) value;
    pair.value.len = (size_t) snprintf(value, sizeof value, "%u", round);
    patch.set = pairs;
    patch.n_set = 1;
    request.name = name;
    request.patch = &patch;
    request.change_case = COFFER__V1__UPDATE_SECRET_VALUES_REQUEST__CHANGE_PATCH;
    return coffer__v1__update_secret_values_request__pack(&request, to);
}

/* Whether the outcome is unknown, so that the call is to be repeated with its ID. */
static bool unknown(coffer_status status, const coffer_error *error, struct cof_uuid *id)
{
    const char *text = coffer_error_request_id(error);
    return (status == COFFER_UNAVAILABLE || status == COFFER_DEADLINE_EXCEEDED) &&
           cof_uuid_parse(cof_slice_text(text), id);
}

static coffer_status write_once(const uint8_t *payload, size_t length, coffer_reply **ret_reply,
                                coffer_error **ret_error)
{
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    struct cof_uuid id;
    coffer_status status = COFFER_UNKNOWN;
    for (unsigned i = 0; i < REPEATS_MAX; i++) {
        coffer_error_free(*ret_error);
        status = coffer_call(client, "coffer.v1.SecretService/UpdateSecretValues", payload, length, &options,
                             ret_reply, ret_error);
        if (status == COFFER_OK || !unknown(status, *ret_error, &id)) {
            return status;
        }
        options.request_id = id.bytes;
    }
    return status;
}

static void check_version(struct writer *writer, coffer_bytes answer)
{
    Coffer__V1__UpdateSecretValuesResponse *response =
        coffer__v1__update_secret_values_response__unpack(NULL, answer.length, answer.data);
    const uint64_t version = response == NULL || response->secret == NULL ? 0 : response->secret->version;
    (void) atomic_fetch_add(&done_count, 1);
    if (version != writer->version + 1) {
        (void) atomic_fetch_add(&wrong_count, 1);
        fprintf(stderr, "load: %s%u has version %llu after %llu\n", counters, writer->number,
                (unsigned long long) version, (unsigned long long) writer->version);
    }
    writer->version = version;
    if (response != NULL) {
        coffer__v1__update_secret_values_response__free_unpacked(response, NULL);
    }
}

static void *write_all(void *context)
{
    struct writer *writer = context;
    uint8_t payload[PAYLOAD_MAX];
    for (unsigned i = 0; i < writes_each && !atomic_load(&stopping); i++) {
        coffer_reply *reply = NULL;
        coffer_error *error = NULL;
        const size_t length = pack_write(writer, i, payload);
        if (write_once(payload, length, &reply, &error) == COFFER_OK) {
            check_version(writer, coffer_reply_payload(reply));
        } else {
            tell_failure(error);
        }
        coffer_reply_free(reply);
        coffer_error_free(error);
    }
    (void) atomic_fetch_sub(&running, 1);
    return NULL;
}

/* --- The program ---------------------------------------------------------------------------------------------- */

static void print_counts(void)
{
    printf("%u %u %u %u\n", atomic_load(&done_count), atomic_load(&failed_count), atomic_load(&wrong_count),
           atomic_exchange(&longest_ms, 0));
    (void) fflush(stdout);
}

static void answer_lines(void)
{
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        print_counts();
    }
    atomic_store(&stopping, true);
}

static void run_resolvers(unsigned count)
{
    static struct resolver waiting[THREADS_MAX];
    static struct resolver called[THREADS_MAX];
    for (unsigned i = 0; i < count; i++) {
        waiting[i].number = called[i].number = i;
        if (pthread_create(&waiting[i].thread, NULL, resolve_and_wait, &waiting[i]) != 0) {
            abort();
        }
        start_next(&called[i]);
    }
    answer_lines();
    for (unsigned i = 0; i < count; i++) {
        (void) pthread_join(waiting[i].thread, NULL);
    }
}

static void run_writers(unsigned count)
{
    static struct writer writers[THREADS_MAX];
    for (unsigned i = 0; i < count; i++) {
        writers[i].number = i;
        writers[i].version = 1;
        if (pthread_create(&writers[i].thread, NULL, write_all, &writers[i]) != 0) {
            abort();
        }
    }
    answer_lines();
    for (unsigned i = 0; i < count; i++) {
        (void) pthread_join(writers[i].thread, NULL);
    }
}

int main(int argc, char **argv)
{
    coffer_error *error = NULL;
    const unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    writes_each = argc > 3 ? (unsigned) strtoul(argv[3], NULL, 10) : 0;
    counters = argc > 4 ? argv[4] : counters;
    if (count == 0 || count > THREADS_MAX) {
        fprintf(stderr, "usage: load resolve THREADS | load write WRITERS WRITES [COUNTER]\n");
        return 2;
    }
    if (coffer_client_open(getenv("LOAD_SETTINGS"), &client, &error) != COFFER_OK) {
        fprintf(stderr, "load: %s\n", coffer_error_message(error));
        coffer_error_free(error);
        return 2;
    }
    if (strcmp(argv[1], "write") == 0) {
        run_writers((unsigned) count);
    } else {
        run_resolvers((unsigned) count);
    }
    /* Callbacks that are left: they end now, with CLIENT_CLOSED or what the server says. */
    print_counts();
    coffer_client_close(client);
    return 0;
}
