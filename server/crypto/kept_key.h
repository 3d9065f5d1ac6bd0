#pragma once

#include "server/crypto/crypto.h"

/*
 * The key of what a process keeps in its memory and nowhere else: drawn when it starts, in the secure heap, never
 * written. Internal to server/crypto (docs/decisions/0002-keys-and-blobs.md).
 *
 * The cipher is AES-256-GCM with a counter for its nonce, which cannot repeat, for the key has one life and one process.
 * Each thread that opens has a context of its own that stays keyed, where the secure heap has room for it.
 */

struct kept_key;

COF_CODE kept_key_new(struct kept_key **ret_key, struct cof_error *err);
void kept_key_free(struct kept_key *key); /* NULL is allowed */

/* Writes a nonce, as many bytes as the text has, and the tag: text.len + KEYRING_KEPT_OVERHEAD bytes. A forked child
 * fails, for it would repeat the nonces of its parent. */
COF_CODE kept_key_seal(struct kept_key *key, struct cof_slice associated, struct cof_slice text, uint8_t *to,
                       struct cof_error *err);

/* Writes sealed.len - KEYRING_KEPT_OVERHEAD bytes; fails with CORRUPTED and then wipes them. */
COF_CODE kept_key_open(const struct kept_key *key, struct cof_slice associated, struct cof_slice sealed,
                       uint8_t *to, struct cof_error *err);
