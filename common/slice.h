#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes; passed by value. `data` may be NULL if `len` is 0. */
struct cof_slice {
    const uint8_t *data;
    size_t len;
};

/* A slice of a string literal or of any NUL-terminated text, without the NUL. */
static inline struct cof_slice cof_slice_text(const char *text)
{
    return (struct cof_slice){(const uint8_t *) text, strlen(text)};
}

static inline struct cof_slice cof_slice_of(const void *data, size_t len)
{
    return (struct cof_slice){data, len};
}

/* Compares public bytes; secrets are compared with cof_secret_equal. */
static inline bool cof_slice_equal(struct cof_slice a, struct cof_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Orders by bytes, a prefix first. */
static inline int cof_slice_compare(struct cof_slice a, struct cof_slice b)
{
    const size_t shorter = a.len < b.len ? a.len : b.len;
    const int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

static inline bool cof_slice_starts_with(struct cof_slice text, struct cof_slice prefix)
{
    return text.len >= prefix.len && (prefix.len == 0 || memcmp(text.data, prefix.data, prefix.len) == 0);
}
