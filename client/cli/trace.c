#include "client/cli/trace.h"

#include <stdlib.h>

#include "common/trace.h"

const char *trace_parent(void)
{
    struct cof_trace trace;
    const char *text = getenv("TRACEPARENT");
    return text != NULL && cof_trace_parse(cof_slice_text(text), &trace) ? text : NULL;
}
