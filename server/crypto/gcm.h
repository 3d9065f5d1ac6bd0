#pragma once

#include <openssl/evp.h>

#include "server/crypto/crypto.h"

/*
 * AES-256-GCM in the calling thread's context, which forgets the key afterwards. Internal to server/crypto: outside of
 * this folder keys and nonces come together only in xaes.h, log_key.h and keyring.h. Texts and associated data have at most
 * XAES_TEXT_MAX bytes.
 */

enum { GCM_NONCE = 12 };

/* Writes text.len bytes of ciphertext and then the tag; in place is allowed. */
COF_CODE gcm_seal(const uint8_t key[CRYPTO_KEY], const uint8_t nonce[GCM_NONCE], struct cof_slice associated,
                  struct cof_slice text, uint8_t *to, struct cof_error *err);

/* `sealed` ends with the tag; writes sealed.len - CRYPTO_TAG bytes. Fails with CORRUPTED and then wipes `to`. */
COF_CODE gcm_open(const uint8_t key[CRYPTO_KEY], const uint8_t nonce[GCM_NONCE], struct cof_slice associated,
                  struct cof_slice sealed, uint8_t *to, struct cof_error *err);

/* The same in contexts for one of the two that have their key and keep it (crypto_context_new_keyed). */
COF_CODE gcm_seal_keyed(EVP_CIPHER_CTX *keyed, const uint8_t nonce[GCM_NONCE], struct cof_slice associated,
                        struct cof_slice text, uint8_t *to, struct cof_error *err);
COF_CODE gcm_open_keyed(EVP_CIPHER_CTX *keyed, const uint8_t nonce[GCM_NONCE], struct cof_slice associated,
                        struct cof_slice sealed, uint8_t *to, struct cof_error *err);
