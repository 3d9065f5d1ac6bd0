#pragma once

#include <openssl/evp.h>

#include "server/crypto/private_key.h"

/* OpenSSL's key of a private key, for the files of this folder; borrowed. */
EVP_PKEY *private_key_view(const struct private_key *key);
