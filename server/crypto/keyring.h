#pragma once

#include <stdbool.h>

#include "common/histogram.h"
#include "common/uuid.h"
#include "server/crypto/crypto.h"
#include "server/crypto/root_key.h"

/*
 * The workspace keys that are opened, and everything that is done with them. Opened keys never leave this layer.
 *
 * A workspace has a key for each generation; new data is sealed under the highest one that is installed. Keys are
 * kept until the keyring is full, then the least recently used workspace goes. Whoever installs an older generation
 * to open old data therefore installs the current one as well before sealing. Thread-safe.
 *
 * Formats (docs/decisions/0002-keys-and-blobs.md), golden files in tests/golden:
 *   wrapped key = u8 format 1, 8 bytes root key ID, 24 bytes nonce, ciphertext of 32 bytes, tag
 *   blob        = u8 format 1, u32 key generation (big-endian), 24 bytes nonce, ciphertext, tag
 *   associated data of both = for each of: format (1 byte), kind (text), workspace UUID, object UUID,
 *                             version or generation (u64, big-endian): u16 length, then the bytes
 *   row MAC     = HMAC-SHA-256 over what the caller gives, under a subkey
 * Subkeys are HKDF-SHA-256 of the workspace key with the info "coffer v1 seal" and "coffer v1 row"; of the root key
 * with "coffer v1 wrap", "coffer v1 id", "coffer v1 check".
 */

enum {
    BLOB_FORMAT = 1,
    BLOB_HEADER = 1 + 4 + CRYPTO_NONCE,
    BLOB_OVERHEAD = BLOB_HEADER + CRYPTO_TAG,
    KEYRING_KEPT_OVERHEAD = 12 + CRYPTO_TAG,
    WRAPPED_KEY_SIZE = 1 + ROOT_KEY_ID + CRYPTO_NONCE + CRYPTO_KEY + CRYPTO_TAG,
};

/* Kinds of sealed things; their names are part of the associated data and never change. */
typedef enum blob_kind {
    BLOB_SECRET_VERSION, /* "secret_version": object = secret UUID, version = its version */
    BLOB_WORKSPACE_KEY,  /* "workspace_key": object = workspace UUID, version = generation */
    BLOB_ANSWER,         /* "answer": object = request ID, version = 0 */
    BLOB_NARROWING_KEY,  /* "narrowing_key": object = token UUID, version = 0 */
    BLOB_AUDIT_KEY,      /* "audit_key": no workspace, object = server UUID, version = segment number (log_key.h) */
    BLOB_ROW_KEY,        /* "row_key": the row subkey of a destroyed workspace key, addressed as that was */
    BLOB_CONNECTION_CREDENTIALS, /* "connection_credentials": object = connection UUID, version = their generation */
    BLOB_ACCESS_TOKEN,           /* "access_token": object = connection UUID, version = the tokens' generation */
    BLOB_REFRESH_TOKEN,          /* "refresh_token": the same */
    BLOB_AUTHORIZATION,          /* "authorization": object = its UUID, version = 0 */
} blob_kind;

struct blob_address {
    blob_kind kind;
    struct cof_uuid workspace;
    struct cof_uuid object;
    uint64_t version;
};

/* What is counted of blobs. One of KEYRING_TIMED of them is timed: taking the time costs a good part of opening one. */
typedef enum keyring_use {
    KEYRING_SEALING,
    KEYRING_OPENING,
    KEYRING_USES,
} keyring_use;

enum { KEYRING_TIMED = 64 };

struct keyring_count {
    uint64_t done; /* those that failed too */
    uint64_t failed;
    struct cof_histogram_sum timed;
};

struct keyring;

/* What it has done since it was made. */
void keyring_counts(struct keyring *keyring, keyring_use use, struct keyring_count *ret_count);

enum {
    KEYRING_ROOTS_MAX = 8,
    KEYRING_CAPACITY_MAX = 1 << 24,
    /*
     * Bytes of the secure heap for each key that is held: 64 for sealing, 32 for row MACs. A heap of
     * KEYRING_HEAP_PER_KEY x capacity + 1 MiB, rounded up to a power of two, leaves room for the root keys, for
     * keys that were evicted while in use, for OpenSSL's own random generators (a few hundred bytes a thread) and for
     * the contexts that stay keyed (two KiB a thread).
     */
    KEYRING_HEAP_PER_KEY = 96,
};

/*
 * Takes over the root keys if it succeeds; the first one wraps new keys until keyring_wrap_with says another, all of
 * them unwrap. `capacity`: most workspace keys. The array stays the caller's. CONFIG_INVALID if there are none, too
 * many, or one twice.
 */
COF_CODE keyring_new(struct root_key **roots, size_t root_count, size_t capacity, struct keyring **ret_keyring,
                     struct cof_error *err);
void keyring_free(struct keyring *keyring);

/* --- Root keys ------------------------------------------------------------------------------------------------ */

size_t keyring_root_count(const struct keyring *keyring);
const struct root_key *keyring_root(const struct keyring *keyring, size_t index); /* borrowed */
const struct root_key *keyring_wrapping_root(const struct keyring *keyring);
bool keyring_has_root(const struct keyring *keyring, struct cof_slice id);

/* From now on the root key of this ID wraps; false if it is not there, and nothing changes. */
bool keyring_wrap_with(struct keyring *keyring, struct cof_slice id);

/* The ID of the root key that wrapped it; empty if it is no wrapped key. */
struct cof_slice wrapped_root_id(struct cof_slice wrapped);

/* The address of a wrapped workspace key (BLOB_WORKSPACE_KEY), or of what is left of one (BLOB_ROW_KEY). */
struct blob_address workspace_key_address(blob_kind kind, const struct cof_uuid *workspace, uint32_t generation);

/* The same key under the root key that wraps now. CORRUPTED if it does not open. */
COF_CODE keyring_rewrap(const struct keyring *keyring, const struct blob_address *address, struct cof_slice wrapped,
                        uint8_t to[WRAPPED_KEY_SIZE], struct cof_error *err);

/* --- Workspace keys ------------------------------------------------------------------------------------------- */

/* Makes a random key for a workspace, wrapped; does not install it. */
COF_CODE keyring_generate(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                          uint8_t wrapped[WRAPPED_KEY_SIZE], struct cof_error *err);

/* Unwraps a key and installs it; installing it again changes nothing. CORRUPTED if it does not open. */
COF_CODE keyring_install(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                         struct cof_slice wrapped, struct cof_error *err);

/*
 * Keys that are destroyed. What was sealed under such a key opens no more, but MACs under it can still be checked: the
 * chain over the records of writes stands. keyring_retire makes from a wrapped key what is kept of it, which
 * keyring_install_retired opens and installs; a key that is installed already stays.
 */
COF_CODE keyring_retire(const struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                        struct cof_slice wrapped, uint8_t to[WRAPPED_KEY_SIZE], struct cof_error *err);
COF_CODE keyring_install_retired(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                                 struct cof_slice wrapped, struct cof_error *err);

/* The highest generation that is installed; 0 if none is. */
uint32_t keyring_generation(struct keyring *keyring, const struct cof_uuid *workspace);

/* Whether this generation is installed. */
int keyring_has(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation);

/* Forgets one generation. */
void keyring_forget(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation);

/* Forgets the keys of a workspace. */
void keyring_evict(struct keyring *keyring, const struct cof_uuid *workspace);

/* The generation that a blob was sealed under, from its header; 0 if it is no blob. */
uint32_t blob_generation(struct cof_slice blob);

/* Seals under the highest generation; writes plaintext.len + BLOB_OVERHEAD bytes. */
COF_CODE keyring_seal(struct keyring *keyring, const struct blob_address *address, struct cof_slice plaintext,
                      uint8_t *to, struct cof_error *err);

/* Opens; writes blob.len - BLOB_OVERHEAD bytes. CORRUPTED if anything does not fit, INTERNAL if the key is not
 * installed; a failure wipes these bytes. `to` may be blob.data + BLOB_HEADER. */
COF_CODE keyring_open(struct keyring *keyring, const struct blob_address *address, struct cof_slice blob,
                      uint8_t *to, struct cof_error *err);

/* HMAC over `data` under the row subkey of one generation, which must be installed. */
COF_CODE keyring_row_mac(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                         struct cof_slice data, uint8_t mac[CRYPTO_DIGEST], struct cof_error *err);

/* --- What is kept in memory ----------------------------------------------------------------------------------- */

/*
 * What was opened and is kept in this process only, sealed anew under a key that the keyring drew for itself, which is
 * in the secure heap and never written. No key of a workspace has to be there, and opening takes a third of the time:
 * nothing is derived, and the cipher is keyed already. The address is bound as in a blob.
 */

/* Writes plaintext.len + KEYRING_KEPT_OVERHEAD bytes. */
COF_CODE keyring_seal_kept(struct keyring *keyring, const struct blob_address *address, struct cof_slice plaintext,
                           uint8_t *to, struct cof_error *err);

/* Writes sealed.len - KEYRING_KEPT_OVERHEAD bytes. CORRUPTED if anything does not fit; a failure wipes these bytes. */
COF_CODE keyring_open_kept(const struct keyring *keyring, const struct blob_address *address,
                           struct cof_slice sealed, uint8_t *to, struct cof_error *err);
