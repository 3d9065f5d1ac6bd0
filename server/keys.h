#pragma once

#include "server/crypto/keyring.h"
#include "server/settings.h"

/* Reads the root keys that the settings name, the one of keys.root_key_file first, and makes a keyring of them. Fails
 * with CONFIG_INVALID, naming the setting, if one cannot be read or is there twice. Once a process: a key that comes
 * from the environment is wiped there. */
COF_CODE keys_open(const struct settings *settings, size_t capacity, struct keyring **ret_keyring,
                   struct cof_error *err);
