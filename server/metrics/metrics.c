#include "server/metrics/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PARTS = 8, /* over which threads are spread */
    CODES = 17,
    REASONS = 128,
    TRANSPORTS = 5,
    US_PER_S = 1000000,
};

static const char *const transports[TRANSPORTS] = {"ipc", "tcp", "tls", "ws", "wss"};

/* Upper ends in microseconds, each with its text in seconds; behind them comes +Inf. */
static const struct {
    int64_t us;
    const char *text;
} bounds[] = {
    {50, "5e-05"},   {100, "0.0001"}, {250, "0.00025"}, {500, "0.0005"}, {1000, "0.001"}, {2500, "0.0025"},
    {5000, "0.005"}, {10000, "0.01"}, {25000, "0.025"}, {50000, "0.05"}, {100000, "0.1"}, {250000, "0.25"},
    {500000, "0.5"}, {1000000, "1"},  {2500000, "2.5"}, {5000000, "5"},
};

typedef _Atomic uint64_t count;

struct histogram {
    count buckets[COF_COUNT(bounds) + 1];
    count sum_us;
};

struct of_method {
    count calls[CODES][TRANSPORTS];
    struct histogram duration;
};

struct part {
    struct histogram queued;
    count refused[REASONS];
    struct of_method methods[];
};

struct metrics {
    struct metrics_options options;
    struct part *parts[PARTS];
};

/* --- Counting ------------------------------------------------------------------------------------------------- */

/* The thread's own, as long as there are few threads. */
static struct part *part_of(struct metrics *metrics)
{
    static atomic_uint threads;
    static _Thread_local unsigned own;
    if (own == 0) {
        own = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % PARTS;
    }
    return metrics->parts[own - 1];
}

static void add(count *to, uint64_t more)
{
    (void) atomic_fetch_add_explicit(to, more, memory_order_relaxed);
}

static void observe(struct histogram *histogram, int64_t us)
{
    size_t i = 0;
    while (i < COF_COUNT(bounds) && us > bounds[i].us) {
        i++;
    }
    add(&histogram->buckets[i], 1);
    add(&histogram->sum_us, us < 0 ? 0 : (uint64_t) us);
}

static size_t transport_index(const char *name)
{
    size_t i = 0;
    while (i < TRANSPORTS - 1 && strcmp(transports[i], name) != 0) {
        i++;
    }
    return i;
}

void metrics_count_call(struct metrics *metrics, const struct metrics_call *call)
{
    if (metrics == NULL) {
        return;
    }
    struct part *part = part_of(metrics);
    struct of_method *method = &part->methods[call->method];
    const size_t code = (size_t) call->code < CODES ? (size_t) call->code : COF_UNKNOWN;
    add(&method->calls[code][transport_index(call->transport)], 1);
    observe(&method->duration, call->duration_us);
    if (call->code != COF_OK && (size_t) call->reason < REASONS) {
        add(&part->refused[call->reason], 1);
    }
}

void metrics_count_queued(struct metrics *metrics, int64_t waited_us)
{
    if (metrics != NULL) {
        observe(&part_of(metrics)->queued, waited_us);
    }
}

/* --- Writing -------------------------------------------------------------------------------------------------- */

void metrics_write_head(struct http_text *to, const char *name, const char *type, const char *help)
{
    http_text_format(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_write_value(struct http_text *to, const char *name, const char *type, const char *help, double value)
{
    metrics_write_head(to, name, type, help);
    http_text_format(to, "%s %.17g\n", name, value);
}

static uint64_t value_of(count *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

/* Sums of all parts. */
struct totals {
    uint64_t buckets[COF_COUNT(bounds) + 1];
    uint64_t sum_us;
};

static void add_histogram(struct totals *totals, struct histogram *histogram)
{
    for (size_t i = 0; i <= COF_COUNT(bounds); i++) {
        totals->buckets[i] += value_of(&histogram->buckets[i]);
    }
    totals->sum_us += value_of(&histogram->sum_us);
}

/* `label` is in braces with the others, so it ends with a comma, or it is empty. */
static void write_histogram(struct http_text *to, const char *name, const char *label, const struct totals *totals)
{
    uint64_t sum = 0;
    const int bare = (int) strlen(label) - (label[0] != '\0');
    for (size_t i = 0; i <= COF_COUNT(bounds); i++) {
        sum += totals->buckets[i];
        http_text_format(to, "%s_bucket{%sle=\"%s\"} %" PRIu64 "\n", name, label,
                         i < COF_COUNT(bounds) ? bounds[i].text : "+Inf", sum);
    }
    const char *open = bare > 0 ? "{" : "";
    const char *close = bare > 0 ? "}" : "";
    http_text_format(to, "%s_sum%s%.*s%s %.6f\n", name, open, bare, label, close,
                     (double) totals->sum_us / US_PER_S);
    http_text_format(to, "%s_count%s%.*s%s %" PRIu64 "\n", name, open, bare, label, close, sum);
}

static const char *name_of(const struct metrics *metrics, size_t method)
{
    return method == metrics->options.method_count ? "unknown" : metrics->options.method_name(method);
}

static void write_count(struct metrics *metrics, size_t method, size_t code, size_t transport, struct http_text *to)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < PARTS; i++) {
        sum += value_of(&metrics->parts[i]->methods[method].calls[code][transport]);
    }
    if (sum > 0) {
        http_text_format(to, "coffer_rpc_requests_total{method=\"%s\",code=\"%s\",transport=\"%s\"} %" PRIu64 "\n",
                         name_of(metrics, method), cof_code_name((cof_code) code), transports[transport], sum);
    }
}

/* Those that never were have no line. */
static void write_calls(struct metrics *metrics, struct http_text *to)
{
    metrics_write_head(to, "coffer_rpc_requests_total", "counter", "Calls that were answered.");
    for (size_t method = 0; method <= metrics->options.method_count; method++) {
        for (size_t i = 0; i < (size_t) CODES * TRANSPORTS; i++) {
            write_count(metrics, method, i / TRANSPORTS, i % TRANSPORTS, to);
        }
    }
}

static void write_durations(struct metrics *metrics, struct http_text *to)
{
    char label[160];
    metrics_write_head(to, "coffer_rpc_duration_seconds", "histogram",
                       "Time from the arrival of a frame to its answer.");
    for (size_t method = 0; method <= metrics->options.method_count; method++) {
        struct totals totals = {.sum_us = 0};
        uint64_t any = 0;
        for (size_t i = 0; i < PARTS; i++) {
            add_histogram(&totals, &metrics->parts[i]->methods[method].duration);
        }
        for (size_t i = 0; i <= COF_COUNT(bounds); i++) {
            any |= totals.buckets[i];
        }
        if (any != 0) {
            (void) snprintf(label, sizeof label, "method=\"%s\",", name_of(metrics, method));
            write_histogram(to, "coffer_rpc_duration_seconds", label, &totals);
        }
    }
}

static void write_queued(struct metrics *metrics, struct http_text *to)
{
    struct totals totals = {.sum_us = 0};
    for (size_t i = 0; i < PARTS; i++) {
        add_histogram(&totals, &metrics->parts[i]->queued);
    }
    metrics_write_head(to, "coffer_rpc_queue_seconds", "histogram",
                       "Time from the arrival of a frame to the worker that takes it.");
    write_histogram(to, "coffer_rpc_queue_seconds", "", &totals);
}

static void write_refused(struct metrics *metrics, struct http_text *to)
{
    metrics_write_head(to, "coffer_rpc_rejected_total", "counter", "Calls that were answered with an error.");
    for (size_t reason = 1; reason < REASONS; reason++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < PARTS; i++) {
            sum += value_of(&metrics->parts[i]->refused[reason]);
        }
        if (sum > 0) {
            http_text_format(to, "coffer_rpc_rejected_total{reason=\"%s\"} %" PRIu64 "\n",
                             cof_reason_name((cof_reason) reason), sum);
        }
    }
}

void metrics_write(struct metrics *metrics, struct http_text *to)
{
    write_calls(metrics, to);
    write_durations(metrics, to);
    write_queued(metrics, to);
    write_refused(metrics, to);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

struct metrics *metrics_new(const struct metrics_options *options)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics == NULL) {
        return NULL;
    }
    metrics->options = *options;
    for (size_t i = 0; i < PARTS; i++) {
        metrics->parts[i] = calloc(1, sizeof(struct part) + (options->method_count + 1) * sizeof(struct of_method));
        if (metrics->parts[i] == NULL) {
            metrics_free(metrics);
            return NULL;
        }
    }
    return metrics;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL) {
        return;
    }
    for (size_t i = 0; i < PARTS; i++) {
        free(metrics->parts[i]);
    }
    free(metrics);
}
