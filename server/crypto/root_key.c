#include "server/crypto/root_key.h"

#include <stdlib.h>

#include <openssl/crypto.h>

#include "server/crypto/contexts.h"
#include "server/crypto/wrapping.h"

struct root_key {
    struct xaes_key *wrapping;
    uint8_t id[ROOT_KEY_ID];
    uint8_t check[ROOT_KEY_CHECK];
    uint8_t *outside; /* in the secure heap */
};

static void root_key_free_auto(struct root_key **key)
{
    root_key_free(*key);
}

static COF_CODE derive_wrapping(struct cof_slice key, struct xaes_key **ret_wrapping, struct cof_error *err)
{
    AUTO(crypto_key_done) struct crypto_key subkey;
    TRY(crypto_hkdf(key, cof_slice_text("coffer v1 wrap"), subkey.bytes, CRYPTO_KEY, err));
    return xaes_key_new(subkey.bytes, ret_wrapping, err);
}

static COF_CODE derive_outside(struct cof_slice key, uint8_t **ret_outside, struct cof_error *err)
{
    void *outside;
    TRY(crypto_secure_new(CRYPTO_KEY, &outside, err));
    *ret_outside = outside;
    return crypto_hkdf(key, cof_slice_text("coffer v1 outside"), outside, CRYPTO_KEY, err);
}

COF_CODE root_key_new(const uint8_t key[CRYPTO_KEY], struct root_key **ret_key, struct cof_error *err)
{
    const struct cof_slice bytes = {key, CRYPTO_KEY};
    AUTO(root_key_free_auto) struct root_key *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no memory left for making a root key; repeat it later");
    }
    TRY(derive_wrapping(bytes, &made->wrapping, err));
    TRY(crypto_hkdf(bytes, cof_slice_text("coffer v1 id"), made->id, sizeof made->id, err));
    TRY(crypto_hkdf(bytes, cof_slice_text("coffer v1 check"), made->check, sizeof made->check, err));
    TRY(derive_outside(bytes, &made->outside, err));
    *ret_key = TAKE(made);
    return COF_OK;
}

void root_key_free(struct root_key *key)
{
    if (key == NULL) {
        return;
    }
    xaes_key_free(key->wrapping);
    OPENSSL_secure_clear_free(key->outside, CRYPTO_KEY);
    free(key);
}

const uint8_t *root_key_id(const struct root_key *key)
{
    return key->id;
}

void root_key_check(const struct root_key *key, uint8_t check[ROOT_KEY_CHECK])
{
    memcpy(check, key->check, ROOT_KEY_CHECK);
}

COF_CODE root_key_mac(const struct root_key *key, struct cof_slice data, uint8_t mac[CRYPTO_DIGEST],
                      struct cof_error *err)
{
    return crypto_hmac(key->outside, data, mac, err);
}

const struct xaes_key *root_key_wrapping(const struct root_key *key)
{
    return key->wrapping;
}
