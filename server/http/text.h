#pragma once

#include <stdbool.h>

#include "common/attr.h"
#include "common/slice.h"

/* A text that grows as it is written, for the bodies of answers. Once memory or `most` is exhausted nothing more is
 * written, and `failed` says so. It is for texts without secrets: what it outgrows is freed, not wiped. */
struct http_text {
    char *data; /* NULL: nothing was written; no NUL at its end */
    size_t size;
    size_t room;
    size_t most; /* 0: the default, 4 MiB */
    bool failed;
};

void http_text_add(struct http_text *text, struct cof_slice bytes);
void http_text_format(struct http_text *text, const char *format, ...) COF_PRINTF(2, 3);
void http_text_done(struct http_text *text);
