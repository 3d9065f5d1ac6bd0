#include "client/cli/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* version-trace-parent-flags, such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 */
enum { VERSION_AT = 0, TRACE_AT = 3, PARENT_AT = 36, FLAGS_AT = 53, LENGTH = 55 };

static bool is_hex(const char *text, size_t length)
{
    return strspn(text, "0123456789abcdef") >= length;
}

static bool is_zero(const char *text, size_t length)
{
    return strspn(text, "0") >= length;
}

static bool has_form(const char *text)
{
    return strlen(text) == LENGTH && is_hex(text, TRACE_AT - 1) && text[TRACE_AT - 1] == '-' &&
           is_hex(text + TRACE_AT, PARENT_AT - TRACE_AT - 1) && text[PARENT_AT - 1] == '-' &&
           is_hex(text + PARENT_AT, FLAGS_AT - PARENT_AT - 1) && text[FLAGS_AT - 1] == '-' &&
           is_hex(text + FLAGS_AT, LENGTH - FLAGS_AT);
}

const char *trace_parent(void)
{
    const char *text = getenv("TRACEPARENT");
    if (text == NULL || !has_form(text) || strncmp(text + VERSION_AT, "ff", 2) == 0) {
        return NULL;
    }
    return is_zero(text + TRACE_AT, PARENT_AT - TRACE_AT - 1) || is_zero(text + PARENT_AT, FLAGS_AT - PARENT_AT - 1)
               ? NULL
               : text;
}
