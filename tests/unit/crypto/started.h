#pragma once

#include <stdlib.h>

#include "common/encode.h"
#include "server/crypto/crypto.h"
#include "tests/support/test.h"

/* Starts crypto for a test program, once. */
static inline void started(void)
{
    static bool done;
    struct cof_error err;
    if (!done && crypto_start((size_t) 1 << 21, 0, &err) != COF_OK) {
        fprintf(stderr, "crypto_start failed: %s (%s)\n", err.message, err.trail);
        abort();
    }
    done = true;
}

/* Bytes of a hex text; aborts if it is none. */
static inline struct cof_slice unhex(const char *text, uint8_t *to, size_t size)
{
    const size_t len = strlen(text) / 2;
    if (len > size || !cof_hex_decode(cof_slice_text(text), to, len)) {
        fprintf(stderr, "not hex, or too long: %s\n", text);
        abort();
    }
    return cof_slice_of(to, len);
}

static inline bool all_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= bytes[i];
    }
    return any == 0;
}
