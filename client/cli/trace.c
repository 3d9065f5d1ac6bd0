#include "client/cli/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "client/cli/message.h"
#include "client/cli/progress.h"
#include "common/trace.h"

const char *trace_parent(void)
{
    struct cof_trace trace;
    const char *text = getenv("TRACEPARENT");
    return text != NULL && cof_trace_parse(cof_slice_text(text), &trace) ? text : NULL;
}

/* --- --show-rpc ------------------------------------------------------------------------------------------------- */

static const int64_t ns_in_second = 1000000000;
static const double ns_in_ms = 1e6;

static bool shown;

void trace_show(void)
{
    shown = true;
}

static int64_t now_ns(void)
{
    struct timespec now = {0, 0};
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * ns_in_second + now.tv_nsec;
}

struct trace trace_begin(const char *method)
{
    return (struct trace){method, shown ? now_ns() : 0};
}

static void print_end(const struct trace_end *end)
{
    const bool failed = end->error != NULL;
    const char *request_id = failed ? coffer_error_request_id(end->error) : end->request_id;
    if (end->attempts > 0) {
        fprintf(stderr, ", \"attempts\": %" PRIu32 ", \"serverTimeUs\": %" PRIu32, end->attempts,
                end->server_time_us);
    }
    if (request_id != NULL && request_id[0] != '\0') {
        fputs(", \"requestId\": ", stderr);
        cli_json_text(stderr, request_id);
    }
    if (failed) {
        fputs(", \"reason\": ", stderr);
        cli_json_text(stderr, coffer_reason_name(coffer_error_reason(end->error)));
    }
}

void trace_end(const struct trace *trace, const struct trace_end *end)
{
    if (!shown) {
        return;
    }
    const double took_ms = (double) (now_ns() - trace->begun_ns) / ns_in_ms;
    progress_clear();
    fputs("{\"method\": ", stderr);
    cli_json_text(stderr, trace->method);
    fprintf(stderr, ", \"milliseconds\": %.3f", took_ms);
    print_end(end);
    if (end->request != NULL) {
        fputs(", \"request\": ", stderr);
        cli_json_redacted(stderr, end->request);
    }
    fputs("}\n", stderr);
}
