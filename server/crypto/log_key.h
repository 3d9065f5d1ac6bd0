#pragma once

#include "common/uuid.h"
#include "server/crypto/keyring.h"

/*
 * The key of one segment of a server's own log: random, used for that segment alone, and wrapped by the root key as
 * workspace keys are (kind "audit_key": object = server UUID, version = segment number).
 *
 * Text number n is sealed with AES-256-GCM under the nonce n (twelve bytes, big-endian). Whoever seals must never use
 * a number twice; any thread may.
 */

struct log_key;

/* A new random key, and its wrapped form. */
COF_CODE log_key_new(const struct keyring *keyring, const struct cof_uuid *server, uint64_t segment,
                     uint8_t wrapped[WRAPPED_KEY_SIZE], struct log_key **ret_key, struct cof_error *err);

/* Unwraps a key. CORRUPTED if it does not open, or belongs to another server or segment. */
COF_CODE log_key_open(const struct keyring *keyring, const struct cof_uuid *server, uint64_t segment,
                      struct cof_slice wrapped, struct log_key **ret_key, struct cof_error *err);

void log_key_free(struct log_key *key);
static inline void log_key_cleanup(struct log_key **key)
{
    log_key_free(*key);
}

/* Writes text.len + CRYPTO_TAG bytes. */
COF_CODE log_key_seal(const struct log_key *key, uint64_t number, struct cof_slice associated,
                      struct cof_slice text, uint8_t *to, struct cof_error *err);

/* Writes sealed.len - CRYPTO_TAG bytes. CORRUPTED if anything does not fit; then these bytes are wiped. */
COF_CODE log_key_unseal(const struct log_key *key, uint64_t number, struct cof_slice associated,
                        struct cof_slice sealed, uint8_t *to, struct cof_error *err);

/* SHA-256 of two slices behind a digest: one step of a chain. `to` may be `before`. */
COF_CODE log_chain(const uint8_t before[CRYPTO_DIGEST], struct cof_slice first, struct cof_slice second,
                   uint8_t to[CRYPTO_DIGEST], struct cof_error *err);
