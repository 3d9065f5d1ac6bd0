#include <openssl/evp.h>

#include "server/crypto/contexts.h"

/* The context is OpenSSL's own, so a hash is one by another name. */

static EVP_MD_CTX *context_of(struct crypto_hash *hash)
{
    return (EVP_MD_CTX *) (void *) hash;
}

cof_code crypto_hash_new(struct crypto_hash **ret_hash, struct cof_error *err)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex2(context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(context);
        return crypto_fail(err, "beginning a hash");
    }
    *ret_hash = (struct crypto_hash *) (void *) context;
    return COF_OK;
}

void crypto_hash_free(struct crypto_hash *hash)
{
    EVP_MD_CTX_free(context_of(hash));
}

cof_code crypto_hash_add(struct crypto_hash *hash, struct cof_slice data, struct cof_error *err)
{
    return EVP_DigestUpdate(context_of(hash), data.data, data.len) == 1 ? COF_OK : crypto_fail(err, "hashing");
}

cof_code crypto_hash_end(struct crypto_hash *hash, uint8_t digest[CRYPTO_DIGEST], struct cof_error *err)
{
    unsigned length = CRYPTO_DIGEST;
    return EVP_DigestFinal_ex(context_of(hash), digest, &length) == 1 ? COF_OK : crypto_fail(err, "ending a hash");
}
