#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/slice.h"

/*
 * OpenSSL for the whole server: algorithms are fetched once, key material lives in the secure heap. A failure of
 * OpenSSL is INTERNAL with the library's code; a failed authentication tag is CORRUPTED.
 *
 * Every function here may be called by any thread at once.
 */

enum {
    CRYPTO_KEY = 32,    /* bytes of every symmetric key */
    CRYPTO_DIGEST = 32, /* SHA-256, HMAC-SHA-256 */
    CRYPTO_NONCE = 24,  /* XAES-256-GCM */
    CRYPTO_TAG = 16,
};

/*
 * Fetches the algorithms and sets up the secure heap (`heap_bytes`, a power of two). Once a process. Fails with
 * CONFIG_INVALID if the heap cannot be locked and `require_lock` is set.
 */
COF_CODE crypto_start(size_t heap_bytes, int require_lock, struct cof_error *err);
void crypto_stop(void);

/* Random bytes. Up to a nonce they are drawn ahead, in blocks for each thread that are never shared with a forked child. */
COF_CODE crypto_random(uint8_t *to, size_t len, struct cof_error *err);

COF_CODE crypto_sha256(struct cof_slice data, uint8_t digest[CRYPTO_DIGEST], struct cof_error *err);

/* SHA-256 of what comes in pieces. */
struct crypto_hash;
COF_CODE crypto_hash_new(struct crypto_hash **ret_hash, struct cof_error *err);
void crypto_hash_free(struct crypto_hash *hash);
static inline void crypto_hash_cleanup(struct crypto_hash **hash)
{
    crypto_hash_free(*hash);
}
COF_CODE crypto_hash_add(struct crypto_hash *hash, struct cof_slice data, struct cof_error *err);
/* Ends it; it takes no more. */
COF_CODE crypto_hash_end(struct crypto_hash *hash, uint8_t digest[CRYPTO_DIGEST], struct cof_error *err);

/* HMAC-SHA-256 (RFC 2104) under a key of 32 bytes. */
COF_CODE crypto_hmac(const uint8_t key[CRYPTO_KEY], struct cof_slice data, uint8_t mac[CRYPTO_DIGEST],
                     struct cof_error *err);

/* HKDF-SHA-256 (RFC 5869) without a salt. */
COF_CODE crypto_hkdf(struct cof_slice key, struct cof_slice info, uint8_t *to, size_t len, struct cof_error *err);
