#include "server/crypto/crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>

#include "common/secret.h"
#include "server/crypto/contexts.h"

enum {
    HEAP_SMALLEST = 16384,
    HEAP_UNIT = 32, /* the subkeys of the keyring are 32 and 48 bytes: none wastes more than 16 */
    SHA256_BLOCK = 64,
};

/* Outlives crypto_stop, as the heap does while OpenSSL itself still uses it. */
static bool heap_locked;

static COF_CODE heap_unlocked_fail(size_t heap_bytes, struct cof_error *err)
{
    return cof_fail(err, COF_REASON_CONFIG_INVALID,
                    "the secure heap of %zu KiB cannot be locked into memory; raise the limit of locked memory "
                    "(LimitMEMLOCK= of the systemd unit, ulimit -l in a shell) to more than that",
                    heap_bytes / 1024);
}

static COF_CODE heap_new(size_t heap_bytes, int require_lock, struct cof_error *err)
{
    if (heap_bytes < HEAP_SMALLEST || (heap_bytes & (heap_bytes - 1)) != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the size of the secure heap is %zu bytes, but must be a power of two and at least %d",
                        heap_bytes, HEAP_SMALLEST);
    }
    const int made = CRYPTO_secure_malloc_init(heap_bytes, HEAP_UNIT);
    if (made == 0) {
        return crypto_fail(err, "setting up the secure heap");
    }
    heap_locked = made == 1;
    if (!heap_locked && require_lock) {
        (void) CRYPTO_secure_malloc_done();
        return heap_unlocked_fail(heap_bytes, err);
    }
    return COF_OK;
}

COF_CODE crypto_start(size_t heap_bytes, int require_lock, struct cof_error *err)
{
    if (crypto_algorithm_hkdf() != NULL) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, "", "crypto_start is called twice");
    }
    crypto_memory_start();
    if (CRYPTO_secure_malloc_initialized() == 0) {
        TRY(heap_new(heap_bytes, require_lock, err));
    } else if (!heap_locked && require_lock) {
        return heap_unlocked_fail(heap_bytes, err);
    }
    return crypto_algorithms_fetch(err);
}

/* The heap stays if something in OpenSSL, such as a random generator, still has a part of it. */
void crypto_stop(void)
{
    crypto_contexts_free();
    crypto_algorithms_free();
    (void) CRYPTO_secure_malloc_done();
}

static bool digest(EVP_MD_CTX *sha256, struct cof_slice first, struct cof_slice second, uint8_t *to)
{
    unsigned len = CRYPTO_DIGEST;
    return EVP_DigestInit_ex2(sha256, NULL, NULL) == 1 && EVP_DigestUpdate(sha256, first.data, first.len) == 1 &&
           EVP_DigestUpdate(sha256, second.data, second.len) == 1 && EVP_DigestFinal_ex(sha256, to, &len) == 1;
}

COF_CODE crypto_sha256(struct cof_slice data, uint8_t digest_bytes[CRYPTO_DIGEST], struct cof_error *err)
{
    struct crypto_contexts *contexts;
    TRY(crypto_contexts_view(&contexts, err));
    if (!digest(contexts->sha256, cof_slice_of(NULL, 0), data, digest_bytes)) {
        return crypto_fail(err, "hashing with SHA-256");
    }
    return COF_OK;
}

struct hmac_block {
    uint8_t bytes[SHA256_BLOCK];
};

static void hmac_block_done(struct hmac_block *block)
{
    cof_wipe(block, sizeof *block);
}

static void hmac_block_init(struct hmac_block *block, const uint8_t key[CRYPTO_KEY], uint8_t pad)
{
    for (size_t i = 0; i < SHA256_BLOCK; i++) {
        block->bytes[i] = (uint8_t) ((i < CRYPTO_KEY ? key[i] : 0) ^ pad);
    }
}

/*
 * RFC 2104 over the thread's digest context, because EVP_MAC keeps its key until it gets another one, takes the
 * lock of the secure heap at each, and so needs nearly twice the time. The digest context is left with the MAC
 * alone.
 */
COF_CODE crypto_hmac(const uint8_t key[CRYPTO_KEY], struct cof_slice data, uint8_t mac[CRYPTO_DIGEST],
                     struct cof_error *err)
{
    struct crypto_contexts *contexts;
    TRY(crypto_contexts_view(&contexts, err));
    AUTO(hmac_block_done) struct hmac_block inner;
    AUTO(hmac_block_done) struct hmac_block outer;
    hmac_block_init(&inner, key, 0x36);
    hmac_block_init(&outer, key, 0x5C);
    uint8_t inner_digest[CRYPTO_DIGEST];
    if (!digest(contexts->sha256, cof_slice_of(inner.bytes, SHA256_BLOCK), data, inner_digest) ||
        !digest(contexts->sha256, cof_slice_of(outer.bytes, SHA256_BLOCK),
                cof_slice_of(inner_digest, CRYPTO_DIGEST), mac)) {
        return crypto_fail(err, "computing an HMAC");
    }
    return COF_OK;
}

static void kdf_free_auto(EVP_KDF_CTX **kdf)
{
    EVP_KDF_CTX_free(*kdf);
}

COF_CODE crypto_hkdf(struct cof_slice key, struct cof_slice info, uint8_t *to, size_t len, struct cof_error *err)
{
    char hash[] = "SHA2-256";
    uint8_t *key_bytes = (uint8_t *) (uintptr_t) key.data;
    uint8_t *info_bytes = (uint8_t *) (uintptr_t) info.data;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, hash, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key_bytes, key.len),
        info.len == 0 ? OSSL_PARAM_construct_end()
                      : OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info_bytes, info.len),
        OSSL_PARAM_construct_end(),
    };
    if (key.len == 0) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, "", "deriving from an empty key");
    }
    if (crypto_algorithm_hkdf() == NULL) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, "", "crypto is used before crypto_start");
    }
    AUTO(kdf_free_auto) EVP_KDF_CTX *kdf = EVP_KDF_CTX_new(crypto_algorithm_hkdf());
    if (kdf == NULL || EVP_KDF_derive(kdf, to, len, params) != 1) {
        return crypto_fail(err, "deriving with HKDF");
    }
    return COF_OK;
}
