#pragma once

#include "common/error.h"
#include "common/histogram.h"
#include "server/http/text.h"

/*
 * What is counted of calls, and how metrics are written (Prometheus' text format 0.0.4). A count is an addition in memory
 * that few threads share: it waits for nobody. Labels are from closed tables, methods, codes, reasons and transports, and
 * nothing that a caller can choose. Thread-safe.
 */

struct metrics;

struct metrics_options {
    size_t method_count;
    const char *(*method_name)(size_t index);
};

/* NULL if there is no memory. */
struct metrics *metrics_new(const struct metrics_options *options);
/* NULL is allowed. */
void metrics_free(struct metrics *metrics);

struct metrics_call {
    size_t method; /* method_count: none that is known */
    cof_code code;
    cof_reason reason; /* of a failure */
    const char *transport;
    int64_t duration_us;
};

/* A call was answered. For all of these: NULL counts nothing. */
void metrics_count_call(struct metrics *metrics, const struct metrics_call *call);
/* A call has come to a worker, so long after it came in. */
void metrics_count_queued(struct metrics *metrics, int64_t waited_us);

/* A token was looked at; COF_REASON_NONE: it was right, whatever it permits. */
void metrics_count_token(struct metrics *metrics, bool narrowed, cof_reason reason);

/* Writes all that was counted here. */
void metrics_write(struct metrics *metrics, struct http_text *to);

/* Writes a metric of one value with its head; `type` is "gauge" or "counter". */
void metrics_write_value(struct http_text *to, const char *name, const char *type, const char *help, double value);
/* Only the head, for one whose values have labels. */
void metrics_write_head(struct http_text *to, const char *name, const char *type, const char *help);

/* One line for each bucket, without the head. `label` is in braces with the others, so it ends with a comma, or it is
 * empty. */
void metrics_write_histogram(struct http_text *to, const char *name, const char *label,
                             const struct cof_histogram_sum *sum);

/* process.c: writes what is known of this process, by the names that all programs use. */
void metrics_write_process(struct http_text *to);
