#include <pthread.h>
#include <stdlib.h>

#include "server/metrics/metrics.h"
#include "tests/support/test.h"

enum { METHODS = 2, THREADS = 12, CALLS = 5000, TEXT = 1 << 18 };

static const char *name_of(size_t index)
{
    return index == 0 ? "a.Service/First" : "a.Service/Second";
}

static struct metrics *make(void)
{
    const struct metrics_options options = {.method_count = METHODS, .method_name = name_of};
    return metrics_new(&options);
}

/* All that was written, in memory that the next call uses again. */
static const char *written(struct metrics *metrics)
{
    static char text[TEXT];
    struct http_text body = {0};
    metrics_write(metrics, &body);
    if (body.failed || body.size >= sizeof text) {
        return NULL;
    }
    memcpy(text, body.data, body.size);
    text[body.size] = '\0';
    http_text_done(&body);
    return text;
}

static void calls_are_counted_by_method_code_and_transport(void)
{
    struct metrics *metrics = make();
    CHECK(metrics != NULL);
    const struct metrics_call good = {.method = 0, .transport = "tls", .duration_us = 75};
    const struct metrics_call bad = {.method = 1,
                                     .code = COF_UNAVAILABLE,
                                     .reason = COF_REASON_SERVER_BUSY,
                                     .transport = "ipc",
                                     .duration_us = 6000000};
    const struct metrics_call unknown = {.method = METHODS,
                                         .code = COF_UNIMPLEMENTED,
                                         .reason = COF_REASON_METHOD_UNKNOWN,
                                         .transport = "ws",
                                         .duration_us = -5};
    metrics_count_call(metrics, &good);
    metrics_count_call(metrics, &good);
    metrics_count_call(metrics, &bad);
    metrics_count_call(metrics, &unknown);
    const char *text = written(metrics);
    CHECK_CONTAINS(text, "coffer_rpc_requests_total{method=\"a.Service/First\",code=\"OK\",transport=\"tls\"} 2\n");
    CHECK_CONTAINS(text, "{method=\"a.Service/Second\",code=\"UNAVAILABLE\",transport=\"ipc\"} 1\n");
    CHECK_CONTAINS(text, "{method=\"unknown\",code=\"UNIMPLEMENTED\",transport=\"ws\"} 1\n");
    CHECK_CONTAINS(text, "coffer_rpc_rejected_total{reason=\"SERVER_BUSY\"} 1\n");
    CHECK(strstr(text, "code=\"OK\",transport=\"ipc\"") == NULL);
    metrics_free(metrics);
}

static void durations_fall_into_buckets_that_add_up(void)
{
    struct metrics *metrics = make();
    const int64_t durations[] = {50, 51, 100, 4999999, 5000001};
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        metrics_count_call(metrics, &(struct metrics_call){.transport = "tcp", .duration_us = durations[i]});
    }
    const char *text = written(metrics);
#define BUCKET(le) "coffer_rpc_duration_seconds_bucket{method=\"a.Service/First\",le=\"" le "\"} "
    CHECK_CONTAINS(text, BUCKET("5e-05") "1\n");
    CHECK_CONTAINS(text, BUCKET("0.0001") "3\n");
    CHECK_CONTAINS(text, BUCKET("2.5") "3\n");
    CHECK_CONTAINS(text, BUCKET("5") "4\n");
    CHECK_CONTAINS(text, BUCKET("+Inf") "5\n");
    CHECK_CONTAINS(text, "coffer_rpc_duration_seconds_sum{method=\"a.Service/First\"} 10.000201\n");
    CHECK_CONTAINS(text, "coffer_rpc_duration_seconds_count{method=\"a.Service/First\"} 5\n");
    CHECK(strstr(text, "coffer_rpc_duration_seconds_count{method=\"a.Service/Second\"}") == NULL);
    metrics_free(metrics);
}

static void the_queue_has_a_histogram_without_labels(void)
{
    struct metrics *metrics = make();
    metrics_count_queued(metrics, 1500);
    const char *text = written(metrics);
    CHECK_CONTAINS(text, "# TYPE coffer_rpc_queue_seconds histogram\n");
    CHECK_CONTAINS(text, "coffer_rpc_queue_seconds_bucket{le=\"0.0025\"} 1\n");
    CHECK_CONTAINS(text, "coffer_rpc_queue_seconds_sum 0.001500\n");
    CHECK_CONTAINS(text, "coffer_rpc_queue_seconds_count 1\n");
    metrics_free(metrics);
}

static void *count_many(void *context)
{
    for (int i = 0; i < CALLS; i++) {
        metrics_count_call(context, &(struct metrics_call){.transport = "ipc", .duration_us = i});
    }
    return NULL;
}

static void no_count_is_lost_between_threads(void)
{
    pthread_t threads[THREADS];
    char expected[128];
    struct metrics *metrics = make();
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, count_many, metrics), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    (void) snprintf(expected, sizeof expected, "{method=\"a.Service/First\",code=\"OK\",transport=\"ipc\"} %d\n",
                    THREADS * CALLS);
    CHECK_CONTAINS(written(metrics), expected);
    metrics_free(metrics);
}

static void the_process_is_described_by_the_names_of_all_programs(void)
{
    struct http_text body = {0};
    metrics_write_process(&body);
    http_text_add(&body, cof_slice_of("", 1));
    CHECK(!body.failed);
    static const char *const names[] = {"process_cpu_seconds_total", "process_resident_memory_bytes",
                                        "process_open_fds", "process_start_time_seconds"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char line[64];
        (void) snprintf(line, sizeof line, "\n%s ", names[i]);
        const char *found = strstr(body.data, line);
        CHECK(found != NULL);
        CHECK(strtod(found + strlen(line), NULL) > 0);
    }
    http_text_done(&body);
}

static void without_metrics_nothing_is_counted(void)
{
    metrics_count_call(NULL, &(struct metrics_call){.transport = "ipc"});
    metrics_count_queued(NULL, 1);
    metrics_free(NULL);
}

static void tokens_are_counted_by_what_became_of_them(void)
{
    struct metrics *metrics = make();
    CHECK(metrics != NULL);
    metrics_count_token(metrics, false, COF_REASON_NONE);
    metrics_count_token(metrics, true, COF_REASON_NONE);
    metrics_count_token(metrics, true, COF_REASON_NONE);
    metrics_count_token(metrics, false, COF_REASON_TOKEN_INVALID);
    metrics_count_token(NULL, false, COF_REASON_NONE);
    const char *text = written(metrics);
    CHECK_CONTAINS(text, "coffer_auth_attempts_total{method=\"token\",result=\"OK\"} 1\n");
    CHECK_CONTAINS(text, "coffer_auth_attempts_total{method=\"narrowed\",result=\"OK\"} 2\n");
    CHECK_CONTAINS(text, "coffer_auth_attempts_total{method=\"token\",result=\"TOKEN_INVALID\"} 1\n");
    CHECK_CONTAINS(text, "coffer_authz_denied_total 0\n");
    metrics_free(metrics);
}

TEST_MAIN(TEST(tokens_are_counted_by_what_became_of_them), TEST(calls_are_counted_by_method_code_and_transport),
          TEST(durations_fall_into_buckets_that_add_up), TEST(the_queue_has_a_histogram_without_labels),
          TEST(no_count_is_lost_between_threads), TEST(the_process_is_described_by_the_names_of_all_programs),
          TEST(without_metrics_nothing_is_counted))
