#pragma once

#include "common/encode.h"
#include "server/crypto/keyring.h"

/* The bytes of keyring.h's formats that are not encrypted. Internal to server/crypto. */

enum { BLOB_ASSOCIATED_MAX = (2 + 1) + (2 + 24) + (2 + 16) + (2 + 16) + (2 + 8) };

/* "secret_version". */
const char *blob_kind_name(blob_kind kind);

/* Writes the associated data of a blob or a wrapped key. */
struct cof_slice blob_associated(const struct blob_address *address, uint8_t to[BLOB_ASSOCIATED_MAX]);
