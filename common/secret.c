#include "common/secret.h"

#include <string.h>

#include <openssl/crypto.h>

/* The C library's own takes 32 bytes in a step, where OPENSSL_cleanse takes eight: a call wipes some kilobytes. */
void cof_wipe(void *data, size_t len)
{
    if (len > 0) {
        explicit_bzero(data, len);
    }
}

bool cof_secret_equal(struct cof_slice a, struct cof_slice b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.data, b.data, a.len) == 0);
}
