#include "server/metrics/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CODES = 17,
    REASONS = 128,
    TRANSPORTS = 5,
    TOKENS = 2, /* as they are; narrowed */
    US_PER_S = 1000000,
};

static const char *const tokens[TOKENS] = {"token", "narrowed"};
static const char *const transports[TRANSPORTS] = {"ipc", "tcp", "tls", "ws", "wss"};

typedef _Atomic uint64_t count;

struct of_method {
    count calls[CODES][TRANSPORTS];
    struct cof_histogram duration;
};

struct part {
    struct cof_histogram queued;
    count refused[REASONS];
    count tried[TOKENS][REASONS]; /* by what became of it; COF_REASON_NONE: it was right */
    struct of_method methods[];
};

struct metrics {
    struct metrics_options options;
    struct part *parts[COF_PARTS];
};

/* --- Counting ------------------------------------------------------------------------------------------------- */

static struct part *part_of(struct metrics *metrics)
{
    return metrics->parts[cof_part_of_thread()];
}

static void add(count *to, uint64_t more)
{
    (void) atomic_fetch_add_explicit(to, more, memory_order_relaxed);
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
    cof_histogram_count(&method->duration, call->duration_us);
    if (call->code != COF_OK && (size_t) call->reason < REASONS) {
        add(&part->refused[call->reason], 1);
    }
}

void metrics_count_queued(struct metrics *metrics, int64_t waited_us)
{
    if (metrics != NULL) {
        cof_histogram_count(&part_of(metrics)->queued, waited_us);
    }
}

void metrics_count_token(struct metrics *metrics, bool narrowed, cof_reason reason)
{
    if (metrics != NULL && (size_t) reason < REASONS) {
        add(&part_of(metrics)->tried[narrowed][reason], 1);
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

void metrics_write_histogram(struct http_text *to, const char *name, const char *label,
                             const struct cof_histogram_sum *sum)
{
    uint64_t below = 0;
    const int bare = (int) strlen(label) - (label[0] != '\0');
    for (size_t i = 0; i < COF_HISTOGRAM_BUCKETS; i++) {
        below += sum->buckets[i];
        http_text_format(to, "%s_bucket{%sle=\"%s\"} %" PRIu64 "\n", name, label,
                         i < COF_HISTOGRAM_BOUNDS ? cof_histogram_bounds[i].text : "+Inf", below);
    }
    const char *open = bare > 0 ? "{" : "";
    const char *close = bare > 0 ? "}" : "";
    http_text_format(to, "%s_sum%s%.*s%s %.6f\n", name, open, bare, label, close, (double) sum->sum_us / US_PER_S);
    http_text_format(to, "%s_count%s%.*s%s %" PRIu64 "\n", name, open, bare, label, close, below);
}

static const char *name_of(const struct metrics *metrics, size_t method)
{
    return method == metrics->options.method_count ? "unknown" : metrics->options.method_name(method);
}

static void write_count(struct metrics *metrics, size_t method, size_t code, size_t transport, struct http_text *to)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < COF_PARTS; i++) {
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
        struct cof_histogram_sum totals = {.sum_us = 0};
        for (size_t i = 0; i < COF_PARTS; i++) {
            cof_histogram_add(&totals, &metrics->parts[i]->methods[method].duration);
        }
        if (totals.count != 0) {
            (void) snprintf(label, sizeof label, "method=\"%s\",", name_of(metrics, method));
            metrics_write_histogram(to, "coffer_rpc_duration_seconds", label, &totals);
        }
    }
}

static void write_queued(struct metrics *metrics, struct http_text *to)
{
    struct cof_histogram_sum totals = {.sum_us = 0};
    for (size_t i = 0; i < COF_PARTS; i++) {
        cof_histogram_add(&totals, &metrics->parts[i]->queued);
    }
    metrics_write_head(to, "coffer_rpc_queue_seconds", "histogram",
                       "Time from the arrival of a frame to the worker that takes it.");
    metrics_write_histogram(to, "coffer_rpc_queue_seconds", "", &totals);
}

static void write_refused(struct metrics *metrics, struct http_text *to)
{
    metrics_write_head(to, "coffer_rpc_rejected_total", "counter", "Calls that were answered with an error.");
    for (size_t reason = 1; reason < REASONS; reason++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < COF_PARTS; i++) {
            sum += value_of(&metrics->parts[i]->refused[reason]);
        }
        if (sum > 0) {
            http_text_format(to, "coffer_rpc_rejected_total{reason=\"%s\"} %" PRIu64 "\n",
                             cof_reason_name((cof_reason) reason), sum);
        }
    }
}

static uint64_t tried(struct metrics *metrics, size_t token, size_t reason)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < COF_PARTS; i++) {
        sum += value_of(&metrics->parts[i]->tried[token][reason]);
    }
    return sum;
}

static void write_tokens(struct metrics *metrics, struct http_text *to)
{
    metrics_write_head(to, "coffer_auth_attempts_total", "counter",
                       "Tokens that were looked at, by what became of it.");
    for (size_t i = 0; i < (size_t) TOKENS * REASONS; i++) {
        const size_t reason = i % REASONS;
        const uint64_t sum = tried(metrics, i / REASONS, reason);
        if (sum > 0) {
            http_text_format(to, "coffer_auth_attempts_total{method=\"%s\",result=\"%s\"} %" PRIu64 "\n",
                             tokens[i / REASONS],
                             reason == COF_REASON_NONE ? "OK" : cof_reason_name((cof_reason) reason), sum);
        }
    }
}

static void write_denied(struct metrics *metrics, struct http_text *to)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < COF_PARTS; i++) {
        sum += value_of(&metrics->parts[i]->refused[COF_REASON_PERMISSION_DENIED]);
    }
    metrics_write_value(to, "coffer_authz_denied_total", "counter", "Calls that the caller was not permitted.",
                        (double) sum);
}

void metrics_write(struct metrics *metrics, struct http_text *to)
{
    write_calls(metrics, to);
    write_durations(metrics, to);
    write_queued(metrics, to);
    write_refused(metrics, to);
    write_tokens(metrics, to);
    write_denied(metrics, to);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

struct metrics *metrics_new(const struct metrics_options *options)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics == NULL) {
        return NULL;
    }
    metrics->options = *options;
    for (size_t i = 0; i < COF_PARTS; i++) {
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
    for (size_t i = 0; i < COF_PARTS; i++) {
        free(metrics->parts[i]);
    }
    free(metrics);
}
