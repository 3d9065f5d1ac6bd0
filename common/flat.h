#pragma once

#include <stddef.h>

#include "common/slice.h"

/*
 * Copies what a structure points at into one piece of memory behind it, so that all of it is allocated and freed as one.
 * It is done twice by the same code: the first time `to` is NULL, nothing is changed and only the size is counted.
 */
struct cof_flat {
    uint8_t *to; /* aligned for any type */
    size_t size; /* so far */
};

/* The slice's bytes; lets it point at the copy. */
static inline void cof_flat_slice(struct cof_flat *flat, struct cof_slice *slice)
{
    if (flat->to != NULL && slice->len > 0) {
        slice->data = memcpy(flat->to + flat->size, slice->data, slice->len);
    }
    flat->size += slice->len;
}

/* An array, aligned for any type. Returns the copy, or the array itself while only the size is counted. */
static inline void *cof_flat_items(struct cof_flat *flat, void *items, size_t bytes)
{
    flat->size += -flat->size % _Alignof(max_align_t);
    void *copy = items;
    if (flat->to != NULL && bytes > 0) {
        copy = memcpy(flat->to + flat->size, items, bytes);
    }
    flat->size += bytes;
    return copy;
}
