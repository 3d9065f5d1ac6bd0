#pragma once

#include "client/cli/cli.h"

/*
 * The trace that this program's calls belong to: TRACEPARENT of the environment, a header of W3C Trace Context, which CI
 * systems and other programs leave there for those that they start. NULL where there is none, or one that breaks its form,
 * which that standard wants ignored.
 */
const char *trace_parent(void);

/*
 * --show-rpc: a line of JSON on standard error for each call, with the request, how it ended and how long it took. Bytes of a
 * request, which values are, stand there as "***".
 */
void trace_show(void);

struct trace {
    const char *method;
    int64_t begun_ns;
};

/* How a call ended; NULL and 0 for what is not known. */
struct trace_end {
    const ProtobufCMessage *request;
    const coffer_error *error;
    const char *request_id;
    uint32_t server_time_us;
    uint32_t attempts;
};

struct trace trace_begin(const char *method);
void trace_end(const struct trace *trace, const struct trace_end *end);
