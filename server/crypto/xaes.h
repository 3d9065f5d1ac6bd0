#pragma once

#include "server/crypto/crypto.h"

/*
 * XAES-256-GCM as published by C2SP (c2sp.org/XAES-256-GCM): a 192-bit nonce, of which the first half derives the
 * AES-256-GCM key and the second half is that cipher's nonce. Random nonces are safe for 2^80 messages a key.
 */

/* Most bytes of a plaintext, and of associated data. More is LIMIT_EXCEEDED, and CORRUPTED when opening. */
enum { XAES_TEXT_MAX = 1 << 30 };

/* A key made ready: derived once, used by many threads. Takes 64 bytes of the secure heap. */
struct xaes_key;

COF_CODE xaes_key_new(const uint8_t key[CRYPTO_KEY], struct xaes_key **ret_key, struct cof_error *err);
void xaes_key_free(struct xaes_key *key);

/* Writes plaintext.len bytes of ciphertext and then the tag; in place is allowed. */
COF_CODE xaes_seal(const struct xaes_key *key, const uint8_t nonce[CRYPTO_NONCE], struct cof_slice associated,
                   struct cof_slice plaintext, uint8_t *to, struct cof_error *err);

/* `sealed` ends with the tag; writes sealed.len - CRYPTO_TAG bytes. Fails with CORRUPTED and then wipes `to`. */
COF_CODE xaes_open(const struct xaes_key *key, const uint8_t nonce[CRYPTO_NONCE], struct cof_slice associated,
                   struct cof_slice sealed, uint8_t *to, struct cof_error *err);
