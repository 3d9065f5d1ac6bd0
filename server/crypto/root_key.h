#pragma once

#include <stdbool.h>

#include "server/crypto/crypto.h"

/*
 * The root key: 32 bytes that wrap the workspace keys. Its file holds 64 hex digits and an optional line end,
 * belongs to the user who runs the server, and has mode 0600 or less; anything else is refused.
 */

enum { ROOT_KEY_ID = 8, ROOT_KEY_CHECK = CRYPTO_DIGEST };

struct root_key;

/*
 * The source is the path of a file; or "credential:NAME", a credential that systemd has loaded for the service; or
 * "env:NAME", an environment variable of 64 hex digits, which is wiped there as it is read.
 *
 * Fails with CONFIG_INVALID, naming the source, what is wrong with it and what repairs it. A file may also belong to
 * root, and must not be a symbolic link. The key itself is forgotten once its subkeys are derived.
 */
COF_CODE root_key_read(const char *source, struct root_key **ret_key, struct cof_error *err);

/* Whether the source is a file of its own, which could be made. */
bool root_key_in_file(const char *source);

/* Takes a key of 32 bytes from memory. */
COF_CODE root_key_new(const uint8_t key[CRYPTO_KEY], struct root_key **ret_key, struct cof_error *err);
void root_key_free(struct root_key *key);

/* Makes a random key and writes it to a file that must not exist, mode 0600, synced with its folder. */
COF_CODE root_key_create(const char *path, struct cof_error *err);

/* Names the key without telling anything about it (HKDF of it). */
const uint8_t *root_key_id(const struct root_key *key);

/* Stored beside the data; a server whose root key has another check value must not start. */
void root_key_check(const struct root_key *key, uint8_t check[ROOT_KEY_CHECK]);

/* HMAC-SHA-256 under a subkey (HKDF with "coffer v1 outside"), for what lies outside of the database: anchors and backups.
 * What is authenticated begins with what it is and its format. */
COF_CODE root_key_mac(const struct root_key *key, struct cof_slice data, uint8_t mac[CRYPTO_DIGEST],
                      struct cof_error *err);
