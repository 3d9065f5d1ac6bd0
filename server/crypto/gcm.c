#include "server/crypto/gcm.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include "common/secret.h"
#include "server/crypto/contexts.h"
#include "server/crypto/xaes.h"

static bool add_associated(EVP_CIPHER_CTX *gcm, struct cof_slice associated)
{
    int written = 0;
    return associated.len == 0 || EVP_CipherUpdate(gcm, NULL, &written, associated.data, (int) associated.len) == 1;
}

static bool add_text(EVP_CIPHER_CTX *gcm, struct cof_slice text, uint8_t *to)
{
    int written = 0;
    return text.len == 0 || EVP_CipherUpdate(gcm, to, &written, text.data, (int) text.len) == 1;
}

static bool seal_text(EVP_CIPHER_CTX *gcm, const uint8_t *key, const uint8_t *nonce, struct cof_slice associated,
                      struct cof_slice text, uint8_t *to)
{
    int written = 0;
    return EVP_EncryptInit_ex2(gcm, NULL, key, nonce, NULL) == 1 && add_associated(gcm, associated) &&
           add_text(gcm, text, to) && EVP_EncryptFinal_ex(gcm, to + text.len, &written) == 1 &&
           EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG, to + text.len) == 1;
}

COF_CODE gcm_seal(const uint8_t key[CRYPTO_KEY], const uint8_t nonce[GCM_NONCE], struct cof_slice associated,
                  struct cof_slice text, uint8_t *to, struct cof_error *err)
{
    struct crypto_contexts *contexts;
    TRY(crypto_contexts_view(&contexts, err));
    const bool sealed = seal_text(contexts->gcm, key, nonce, associated, text, to);
    crypto_contexts_used(contexts, contexts->gcm);
    return sealed ? COF_OK : crypto_fail(err, "sealing with AES-256-GCM");
}

COF_CODE gcm_seal_keyed(EVP_CIPHER_CTX *keyed, const uint8_t nonce[GCM_NONCE], struct cof_slice associated,
                        struct cof_slice text, uint8_t *to, struct cof_error *err)
{
    return seal_text(keyed, NULL, nonce, associated, text, to) ? COF_OK
                                                               : crypto_fail(err, "sealing with AES-256-GCM");
}

/* Sets the key and takes in everything but the tag. */
static bool open_text(EVP_CIPHER_CTX *gcm, const uint8_t *key, const uint8_t *nonce, struct cof_slice associated,
                      struct cof_slice text, uint8_t *to)
{
    return EVP_DecryptInit_ex2(gcm, NULL, key, nonce, NULL) == 1 && add_associated(gcm, associated) &&
           add_text(gcm, text, to);
}

/* The copy is there because OpenSSL takes the tag by a pointer that is not const. */
static bool verify(EVP_CIPHER_CTX *gcm, const uint8_t *tag)
{
    uint8_t copy[CRYPTO_TAG];
    uint8_t nothing[CRYPTO_TAG];
    int written = 0;
    memcpy(copy, tag, CRYPTO_TAG);
    return EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG, copy) == 1 &&
           EVP_DecryptFinal_ex(gcm, nothing, &written) == 1;
}

static COF_CODE not_authentic(struct cof_error *err)
{
    ERR_clear_error();
    return cof_fail(err, COF_REASON_CORRUPTED,
                    "stored data does not open: it was changed or cut, or it belongs to something else");
}

static bool may_be_sealed(struct cof_slice associated, struct cof_slice sealed)
{
    return sealed.len >= CRYPTO_TAG && sealed.len - CRYPTO_TAG <= XAES_TEXT_MAX && associated.len <= XAES_TEXT_MAX;
}

/* The tag is checked last, so what does not fit is wiped. */
static COF_CODE judge(bool opened, bool authentic, struct cof_slice sealed, uint8_t *to, struct cof_error *err)
{
    if (authentic) {
        return COF_OK;
    }
    cof_wipe(to, sealed.len - CRYPTO_TAG);
    return opened ? not_authentic(err) : crypto_fail(err, "opening with AES-256-GCM");
}

COF_CODE gcm_open(const uint8_t key[CRYPTO_KEY], const uint8_t nonce[GCM_NONCE], struct cof_slice associated,
                  struct cof_slice sealed, uint8_t *to, struct cof_error *err)
{
    struct crypto_contexts *contexts;
    if (!may_be_sealed(associated, sealed)) {
        return not_authentic(err);
    }
    const struct cof_slice text = {sealed.data, sealed.len - CRYPTO_TAG};
    const cof_code code = crypto_contexts_view(&contexts, err);
    if (code != COF_OK) {
        cof_wipe(to, text.len);
        return code;
    }
    const bool opened = open_text(contexts->gcm, key, nonce, associated, text, to);
    const bool authentic = opened && verify(contexts->gcm, sealed.data + text.len);
    crypto_contexts_used(contexts, contexts->gcm);
    return judge(opened, authentic, sealed, to, err);
}

COF_CODE gcm_open_keyed(EVP_CIPHER_CTX *keyed, const uint8_t nonce[GCM_NONCE], struct cof_slice associated,
                        struct cof_slice sealed, uint8_t *to, struct cof_error *err)
{
    if (!may_be_sealed(associated, sealed)) {
        return not_authentic(err);
    }
    const struct cof_slice text = {sealed.data, sealed.len - CRYPTO_TAG};
    const bool opened = open_text(keyed, NULL, nonce, associated, text, to);
    const bool authentic = opened && verify(keyed, sealed.data + text.len);
    return judge(opened, authentic, sealed, to, err);
}
