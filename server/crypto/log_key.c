#include "server/crypto/log_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "common/encode.h"
#include "server/crypto/contexts.h"
#include "server/crypto/gcm.h"
#include "server/crypto/wrapping.h"
#include "server/crypto/xaes.h"

/* In the secure heap. */
struct log_key {
    uint8_t key[CRYPTO_KEY];
    EVP_CIPHER_CTX *sealing; /* keyed; NULL: there was no room for it, or the key only opens */
};

static struct blob_address address_of(const struct cof_uuid *server, uint64_t segment)
{
    return (struct blob_address){BLOB_AUDIT_KEY, cof_uuid_zero, *server, segment};
}

static COF_CODE key_alloc(struct log_key **ret_key, struct cof_error *err)
{
    void *memory;
    TRY(crypto_secure_new(sizeof(struct log_key), &memory, err));
    *ret_key = memory;
    return COF_OK;
}

COF_CODE log_key_new(const struct keyring *keyring, const struct cof_uuid *server, uint64_t segment,
                     uint8_t wrapped[WRAPPED_KEY_SIZE], struct log_key **ret_key, struct cof_error *err)
{
    const struct blob_address address = address_of(server, segment);
    AUTO(log_key_cleanup) struct log_key *key = NULL;
    TRY(key_alloc(&key, err));
    TRY(crypto_random(key->key, CRYPTO_KEY, err));
    TRY(keyring_wrap(keyring, &address, key->key, wrapped, err));
    key->sealing = crypto_context_new_keyed(key->key, 1);
    *ret_key = TAKE(key);
    return COF_OK;
}

COF_CODE log_key_open(const struct keyring *keyring, const struct cof_uuid *server, uint64_t segment,
                      struct cof_slice wrapped, struct log_key **ret_key, struct cof_error *err)
{
    const struct blob_address address = address_of(server, segment);
    AUTO(log_key_cleanup) struct log_key *key = NULL;
    TRY(key_alloc(&key, err));
    TRY(keyring_unwrap(keyring, &address, wrapped, key->key, err));
    *ret_key = TAKE(key);
    return COF_OK;
}

void log_key_free(struct log_key *key)
{
    if (key != NULL) {
        EVP_CIPHER_CTX_free(key->sealing);
    }
    OPENSSL_secure_clear_free(key, sizeof *key);
}

static void nonce_of(uint64_t number, uint8_t nonce[GCM_NONCE])
{
    memset(nonce, 0, GCM_NONCE);
    cof_put_u64(nonce + GCM_NONCE - sizeof number, number);
}

COF_CODE log_key_seal(const struct log_key *key, uint64_t number, struct cof_slice associated,
                      struct cof_slice text, uint8_t *to, struct cof_error *err)
{
    uint8_t nonce[GCM_NONCE];
    nonce_of(number, nonce);
    return key->sealing != NULL ? gcm_seal_keyed(key->sealing, nonce, associated, text, to, err)
                                : gcm_seal(key->key, nonce, associated, text, to, err);
}

COF_CODE log_key_unseal(const struct log_key *key, uint64_t number, struct cof_slice associated,
                        struct cof_slice sealed, uint8_t *to, struct cof_error *err)
{
    uint8_t nonce[GCM_NONCE];
    nonce_of(number, nonce);
    return gcm_open(key->key, nonce, associated, sealed, to, err);
}

COF_CODE log_chain(const uint8_t before[CRYPTO_DIGEST], struct cof_slice first, struct cof_slice second,
                   uint8_t to[CRYPTO_DIGEST], struct cof_error *err)
{
    unsigned len = CRYPTO_DIGEST;
    struct crypto_contexts *contexts;
    TRY(crypto_contexts_view(&contexts, err));
    const bool hashed = EVP_DigestInit_ex2(contexts->sha256, NULL, NULL) == 1 &&
                        EVP_DigestUpdate(contexts->sha256, before, CRYPTO_DIGEST) == 1 &&
                        EVP_DigestUpdate(contexts->sha256, first.data, first.len) == 1 &&
                        EVP_DigestUpdate(contexts->sha256, second.data, second.len) == 1 &&
                        EVP_DigestFinal_ex(contexts->sha256, to, &len) == 1;
    return hashed ? COF_OK : crypto_fail(err, "hashing with SHA-256");
}
