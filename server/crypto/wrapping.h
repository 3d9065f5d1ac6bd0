#pragma once

#include "server/crypto/root_key.h"
#include "server/crypto/xaes.h"

/* For the keyring alone: the subkey of a root key that wraps workspace keys. Borrowed. */
const struct xaes_key *root_key_wrapping(const struct root_key *key);
