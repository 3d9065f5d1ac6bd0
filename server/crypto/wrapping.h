#pragma once

#include "server/crypto/keyring.h"
#include "server/crypto/root_key.h"
#include "server/crypto/xaes.h"

/* How keys are wrapped by the root key. Internal to server/crypto. */

/* The subkey of a root key that wraps other keys. Borrowed. */
const struct xaes_key *root_key_wrapping(const struct root_key *key);

/* Wraps under the first root key of the keyring. */
COF_CODE keyring_wrap(const struct keyring *keyring, const struct blob_address *address,
                      const uint8_t key[CRYPTO_KEY], uint8_t wrapped[WRAPPED_KEY_SIZE], struct cof_error *err);

/* Unwraps with whichever root key of the keyring wrapped it. CORRUPTED if it does not open. */
COF_CODE keyring_unwrap(const struct keyring *keyring, const struct blob_address *address, struct cof_slice wrapped,
                        uint8_t key[CRYPTO_KEY], struct cof_error *err);
