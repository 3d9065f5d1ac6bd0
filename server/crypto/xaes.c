#include "server/crypto/xaes.h"

#include <stdatomic.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "common/secret.h"
#include "server/crypto/contexts.h"
#include "server/crypto/gcm.h"

enum { AES_BLOCK = 16, DERIVE_NONCE = 12 };

struct xaes_key {
    uint64_t serial; /* of all in this process, from 1: whose a thread's context is */
    uint8_t key[CRYPTO_KEY];
    uint8_t subkey[AES_BLOCK]; /* K1 of CMAC */
};

static void xaes_key_free_auto(struct xaes_key **key)
{
    xaes_key_free(*key);
}

/* Mostly the key is there already: that of the workspace whose rows are opened one after the other. */
static bool set_key(struct crypto_contexts *contexts, const struct xaes_key *key)
{
    if (contexts->block_serial == key->serial) {
        return true;
    }
    contexts->block_serial = 0;
    if (EVP_EncryptInit_ex2(contexts->block, NULL, key->key, NULL, NULL) != 1) {
        return false;
    }
    contexts->block_serial = contexts->secure ? key->serial : 0;
    return true;
}

/* Encrypts whole blocks in place under the long-lived key. */
static COF_CODE encrypt_blocks(const struct xaes_key *key, uint8_t *blocks, int len, struct cof_error *err)
{
    struct crypto_contexts *contexts;
    int written = 0;
    TRY(crypto_contexts_view(&contexts, err));
    const bool done = set_key(contexts, key) &&
                      EVP_EncryptUpdate(contexts->block, blocks, &written, blocks, len) == 1 && written == len;
    crypto_contexts_used(contexts, contexts->block);
    return done ? COF_OK : crypto_fail(err, "encrypting a block with AES-256");
}

/* Doubling in GF(2^128) (RFC 4493), in constant time. */
static void double_block(uint8_t block[AES_BLOCK])
{
    const uint8_t reduce = (uint8_t) (0x87U & (0U - (unsigned) (block[0] >> 7)));
    for (size_t i = 0; i + 1 < AES_BLOCK; i++) {
        block[i] = (uint8_t) ((unsigned) block[i] << 1 | (unsigned) block[i + 1] >> 7);
    }
    block[AES_BLOCK - 1] = (uint8_t) ((unsigned) block[AES_BLOCK - 1] << 1 ^ reduce);
}

COF_CODE xaes_key_new(const uint8_t key[CRYPTO_KEY], struct xaes_key **ret_key, struct cof_error *err)
{
    static _Atomic uint64_t serials;
    void *memory;
    TRY(crypto_secure_new(sizeof(struct xaes_key), &memory, err));
    AUTO(xaes_key_free_auto) struct xaes_key *made = memory;
    made->serial = atomic_fetch_add(&serials, 1) + 1;
    memcpy(made->key, key, CRYPTO_KEY);
    TRY(encrypt_blocks(made, made->subkey, AES_BLOCK, err));
    double_block(made->subkey);
    *ret_key = TAKE(made);
    return COF_OK;
}

void xaes_key_free(struct xaes_key *key)
{
    OPENSSL_secure_clear_free(key, sizeof *key);
}

/* The key of one message: two blocks of CMAC in counter mode (SP 800-108), as the construction prescribes them. */
static COF_CODE derive(const struct xaes_key *key, const uint8_t *nonce, struct crypto_key *ret_key,
                       struct cof_error *err)
{
    for (uint8_t i = 0; i < 2; i++) {
        uint8_t *block = ret_key->bytes + (size_t) i * AES_BLOCK;
        const uint8_t head[] = {0, (uint8_t) (i + 1), 'X', 0};
        memcpy(block, head, sizeof head);
        memcpy(block + sizeof head, nonce, DERIVE_NONCE);
        for (size_t j = 0; j < AES_BLOCK; j++) {
            block[j] ^= key->subkey[j];
        }
    }
    return encrypt_blocks(key, ret_key->bytes, CRYPTO_KEY, err);
}

COF_CODE xaes_seal(const struct xaes_key *key, const uint8_t nonce[CRYPTO_NONCE], struct cof_slice associated,
                   struct cof_slice plaintext, uint8_t *to, struct cof_error *err)
{
    if (plaintext.len > XAES_TEXT_MAX || associated.len > XAES_TEXT_MAX) {
        return cof_fail(err, COF_REASON_LIMIT_EXCEEDED, "%zu bytes are too many to seal at once, the most is %d",
                        plaintext.len, XAES_TEXT_MAX);
    }
    AUTO(crypto_key_done) struct crypto_key message_key;
    TRY(derive(key, nonce, &message_key, err));
    return gcm_seal(message_key.bytes, nonce + DERIVE_NONCE, associated, plaintext, to, err);
}

COF_CODE xaes_open(const struct xaes_key *key, const uint8_t nonce[CRYPTO_NONCE], struct cof_slice associated,
                   struct cof_slice sealed, uint8_t *to, struct cof_error *err)
{
    AUTO(crypto_key_done) struct crypto_key message_key;
    const cof_code code = derive(key, nonce, &message_key, err);
    if (code != COF_OK) {
        cof_wipe(to, sealed.len < CRYPTO_TAG ? 0 : sealed.len - CRYPTO_TAG);
        return code;
    }
    return gcm_open(message_key.bytes, nonce + DERIVE_NONCE, associated, sealed, to, err);
}
