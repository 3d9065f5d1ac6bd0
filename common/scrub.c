#include "common/scrub.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* glibc's own, beside which a program may define the functions below. */
void *__libc_malloc(size_t size);                 /* NOLINT(bugprone-reserved-identifier) */
void *__libc_realloc(void *pointer, size_t size); /* NOLINT(bugprone-reserved-identifier) */
void __libc_free(void *pointer);                  /* NOLINT(bugprone-reserved-identifier) */

/* The libraries must find these before those of libc. */
#define EXPORTED __attribute__((visibility("default")))

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
EXPORTED void free(void *pointer)
{
    if (pointer != NULL) {
        explicit_bzero(pointer, malloc_usable_size(pointer));
        __libc_free(pointer);
    }
}

/* What grows is always moved, for libc would leave a copy behind; what shrinks stays where it is. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
EXPORTED void *realloc(void *pointer, size_t size)
{
    const size_t held = pointer == NULL ? 0 : malloc_usable_size(pointer);
    if (pointer != NULL && size == 0) {
        free(pointer);
        return NULL;
    }
    if (pointer != NULL && size <= held) {
        explicit_bzero((char *) pointer + size, held - size);
        return __libc_realloc(pointer, size);
    }
    void *grown = __libc_malloc(size);
    if (grown != NULL && held > 0) {
        memcpy(grown, pointer, held);
        free(pointer);
    }
    return grown;
}
