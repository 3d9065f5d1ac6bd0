#include "common/trace.h"

enum { TRACE_AT = 3, TRACE_LENGTH = 32, SPAN_AT = 36, SPAN_LENGTH = 16, FLAGS_AT = 53, LENGTH = 55 };

static bool is_hex(char digit)
{
    return (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f');
}

static bool has_form(const char *text)
{
    for (size_t i = 0; i < LENGTH; i++) {
        const bool dash = i == TRACE_AT - 1 || i == SPAN_AT - 1 || i == FLAGS_AT - 1;
        if (dash ? text[i] != '-' : !is_hex(text[i])) {
            return false;
        }
    }
    return text[0] != 'f' || text[1] != 'f'; /* which no version is */
}

static bool is_zero(struct cof_slice digits)
{
    size_t zeros = 0;
    while (zeros < digits.len && digits.data[zeros] == '0') {
        zeros++;
    }
    return zeros == digits.len;
}

bool cof_trace_parse(struct cof_slice header, struct cof_trace *ret_trace)
{
    if (header.len != LENGTH || !has_form((const char *) header.data)) {
        return false;
    }
    ret_trace->trace_id = cof_slice_of(header.data + TRACE_AT, TRACE_LENGTH);
    ret_trace->span_id = cof_slice_of(header.data + SPAN_AT, SPAN_LENGTH);
    return !is_zero(ret_trace->trace_id) && !is_zero(ret_trace->span_id);
}
