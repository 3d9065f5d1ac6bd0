#include "common/secret.h"

#include <openssl/crypto.h>

void cof_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}

bool cof_secret_equal(struct cof_slice a, struct cof_slice b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.data, b.data, a.len) == 0);
}
