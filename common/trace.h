#pragma once

#include <stdbool.h>

#include "common/slice.h"

/*
 * The header traceparent of W3C Trace Context: version, trace, parent and flags in hexadecimal digits of lower case, such as
 * 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.
 */

struct cof_trace {
    struct cof_slice trace_id; /* 32 digits, within the header */
    struct cof_slice span_id;  /* 16 digits: who calls */
};

/* False for a header that breaks its form, which that standard wants ignored. */
bool cof_trace_parse(struct cof_slice header, struct cof_trace *ret_trace);
