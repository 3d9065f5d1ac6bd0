#include "server/crypto/keyring.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/secret.h"
#include "server/crypto/blob.h"
#include "server/crypto/contexts.h"
#include "server/crypto/kept_key.h"
#include "server/crypto/key_table.h"
#include "server/crypto/wrapping.h"
#include "server/crypto/xaes.h"

enum {
    WRAPPED_NONCE_AT = 1 + ROOT_KEY_ID,
    WRAPPED_SEALED_AT = WRAPPED_NONCE_AT + CRYPTO_NONCE,
    BLOB_NONCE_AT = BLOB_HEADER - CRYPTO_NONCE,
};

/* One for each part of the threads, so that they do not wait for each other's memory. */
struct counts {
    _Atomic uint64_t done[KEYRING_USES];
    _Atomic uint64_t failed[KEYRING_USES];
    struct cof_histogram timed[KEYRING_USES];
} __attribute__((aligned(64)));

struct keyring {
    struct counts counts[COF_PARTS];
    struct root_key *roots[KEYRING_ROOTS_MAX];
    size_t root_count;
    atomic_size_t wrapping; /* index of the root key that wraps */
    struct key_table *table;
    struct kept_key *kept;
};

static void opened_key_release_auto(struct opened_key **key)
{
    opened_key_release(*key);
}

static COF_CODE not_installed(const struct cof_uuid *workspace, uint32_t generation, struct cof_error *err)
{
    char text[COF_UUID_TEXT];
    cof_uuid_format(workspace, text);
    return cof_fail_internal(err, COF_ORIGIN_OWN, "", "key generation %u of workspace %s is not installed",
                             (unsigned) generation, text);
}

struct blob_address workspace_key_address(blob_kind kind, const struct cof_uuid *workspace, uint32_t generation)
{
    return (struct blob_address){kind, *workspace, *workspace, generation};
}

/* Index of the root key; root_count if it is not there. */
static size_t find_root(const struct keyring *keyring, struct cof_slice id)
{
    size_t i = 0;
    while (i < keyring->root_count &&
           !cof_slice_equal(id, cof_slice_of(root_key_id(keyring->roots[i]), ROOT_KEY_ID))) {
        i++;
    }
    return i;
}

static COF_CODE check_wrapped(struct cof_slice wrapped, struct cof_error *err)
{
    if (wrapped.len != WRAPPED_KEY_SIZE) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a stored key has %zu bytes instead of %d", wrapped.len,
                        WRAPPED_KEY_SIZE);
    }
    if (wrapped.data[0] != BLOB_FORMAT) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a stored key has format %u, which this server does not know",
                        (unsigned) wrapped.data[0]);
    }
    return COF_OK;
}

static COF_CODE root_missing(struct cof_slice id, struct cof_error *err)
{
    char text[2 * ROOT_KEY_ID + 1];
    cof_hex_encode(id, text);
    return cof_fail(err, COF_REASON_CORRUPTED,
                    "a stored key was wrapped by root key %s, which this server does not have; give it to "
                    "the server beside the current one, or restore the row from a backup",
                    text);
}

COF_CODE keyring_unwrap(const struct keyring *keyring, const struct blob_address *address, struct cof_slice wrapped,
                        uint8_t key[CRYPTO_KEY], struct cof_error *err)
{
    TRY(check_wrapped(wrapped, err));
    const struct cof_slice id = {wrapped.data + 1, ROOT_KEY_ID};
    const size_t index = find_root(keyring, id);
    if (index == keyring->root_count) {
        return root_missing(id, err);
    }
    const struct root_key *root = keyring->roots[index];
    uint8_t associated[BLOB_ASSOCIATED_MAX];
    const struct cof_slice sealed = {wrapped.data + WRAPPED_SEALED_AT, CRYPTO_KEY + CRYPTO_TAG};
    return xaes_open(root_key_wrapping(root), wrapped.data + WRAPPED_NONCE_AT, blob_associated(address, associated),
                     sealed, key, err);
}

static COF_CODE note_address(const struct blob_address *address, struct cof_error *err)
{
    char workspace[COF_UUID_TEXT];
    char object[COF_UUID_TEXT];
    cof_uuid_format(&address->workspace, workspace);
    cof_uuid_format(&address->object, object);
    return cof_note(err, "%s %s version %llu of workspace %s", blob_kind_name(address->kind), object,
                    (unsigned long long) address->version, workspace);
}

static COF_CODE unwrap_and_install(struct keyring *keyring, const struct blob_address *address,
                                   struct cof_slice wrapped, struct cof_error *err)
{
    const uint32_t generation = (uint32_t) address->version;
    AUTO(crypto_key_done) struct crypto_key key;
    TRY(keyring_unwrap(keyring, address, wrapped, key.bytes, err));
    struct opened_key *opened;
    TRY(address->kind == BLOB_ROW_KEY ? opened_key_new_row(&address->workspace, generation, key.bytes, &opened, err)
                                      : opened_key_new(&address->workspace, generation, key.bytes, &opened, err));
    return key_table_install(keyring->table, opened, err);
}

static COF_CODE retired(const struct cof_uuid *workspace, uint32_t generation, struct cof_error *err)
{
    char text[COF_UUID_TEXT];
    cof_uuid_format(workspace, text);
    return cof_fail(err, COF_REASON_CORRUPTED,
                    "key generation %u of workspace %s was destroyed: nothing is sealed under it any more",
                    (unsigned) generation, text);
}

static COF_CODE open_blob(struct keyring *keyring, const struct blob_address *address, struct cof_slice blob,
                          uint8_t *to, struct cof_error *err)
{
    const uint32_t generation = blob_generation(blob);
    if (generation == 0) {
        return cof_fail(err, COF_REASON_CORRUPTED,
                        "stored data of %zu bytes is cut, or has a format that this server does not know",
                        blob.len);
    }
    AUTO(opened_key_release_auto)
    struct opened_key *key = key_table_take(keyring->table, &address->workspace, generation);
    if (key == NULL) {
        return not_installed(&address->workspace, generation, err);
    }
    if (key->seal == NULL) {
        return retired(&address->workspace, generation, err);
    }
    uint8_t associated[BLOB_ASSOCIATED_MAX];
    const struct cof_slice sealed = {blob.data + BLOB_HEADER, blob.len - BLOB_HEADER};
    return xaes_open(key->seal, blob.data + BLOB_NONCE_AT, blob_associated(address, associated), sealed, to, err);
}

static COF_CODE check_roots(struct root_key *const *roots, size_t count, struct cof_error *err)
{
    if (count == 0 || count > KEYRING_ROOTS_MAX) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "%zu root keys are configured, but 1 to %d are needed",
                        count, KEYRING_ROOTS_MAX);
    }
    for (size_t i = 1; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (memcmp(root_key_id(roots[i]), root_key_id(roots[k]), ROOT_KEY_ID) == 0) {
                return cof_fail(err, COF_REASON_CONFIG_INVALID,
                                "root keys number %zu and %zu are the same key; leave one of them out", k + 1,
                                i + 1);
            }
        }
    }
    return COF_OK;
}

static void keyring_free_auto(struct keyring **keyring)
{
    keyring_free(*keyring);
}

COF_CODE keyring_new(struct root_key **roots, size_t root_count, size_t capacity, struct keyring **ret_keyring,
                     struct cof_error *err)
{
    TRY(check_roots(roots, root_count, err));
    AUTO(keyring_free_auto) struct keyring *keyring = aligned_alloc(_Alignof(struct keyring), sizeof *keyring);
    if (keyring == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no memory left for making the keyring; repeat it later");
    }
    memset(keyring, 0, sizeof *keyring);
    TRY(key_table_new(capacity, &keyring->table, err));
    TRY(kept_key_new(&keyring->kept, err));
    memcpy(keyring->roots, roots, root_count * sizeof *roots);
    keyring->root_count = root_count;
    *ret_keyring = TAKE(keyring);
    return COF_OK;
}

void keyring_free(struct keyring *keyring)
{
    if (keyring == NULL) {
        return;
    }
    key_table_free(keyring->table);
    kept_key_free(keyring->kept);
    for (size_t i = 0; i < keyring->root_count; i++) {
        root_key_free(keyring->roots[i]);
    }
    free(keyring);
}

/* --- Root keys ------------------------------------------------------------------------------------------------ */

size_t keyring_root_count(const struct keyring *keyring)
{
    return keyring->root_count;
}

const struct root_key *keyring_root(const struct keyring *keyring, size_t index)
{
    return keyring->roots[index];
}

const struct root_key *keyring_wrapping_root(const struct keyring *keyring)
{
    return keyring->roots[atomic_load(&keyring->wrapping)];
}

bool keyring_has_root(const struct keyring *keyring, struct cof_slice id)
{
    return find_root(keyring, id) < keyring->root_count;
}

bool keyring_wrap_with(struct keyring *keyring, struct cof_slice id)
{
    const size_t index = find_root(keyring, id);
    if (index == keyring->root_count) {
        return false;
    }
    atomic_store(&keyring->wrapping, index);
    return true;
}

struct cof_slice wrapped_root_id(struct cof_slice wrapped)
{
    return wrapped.len == WRAPPED_KEY_SIZE ? cof_slice_of(wrapped.data + 1, ROOT_KEY_ID) : cof_slice_of(NULL, 0);
}

COF_CODE keyring_rewrap(const struct keyring *keyring, const struct blob_address *address, struct cof_slice wrapped,
                        uint8_t to[WRAPPED_KEY_SIZE], struct cof_error *err)
{
    AUTO(crypto_key_done) struct crypto_key key;
    const cof_code code = keyring_unwrap(keyring, address, wrapped, key.bytes, err);
    if (code != COF_OK) {
        return note_address(address, err);
    }
    return keyring_wrap(keyring, address, key.bytes, to, err);
}

/* --- Wrapped keys --------------------------------------------------------------------------------------------- */

COF_CODE keyring_wrap(const struct keyring *keyring, const struct blob_address *address,
                      const uint8_t key[CRYPTO_KEY], uint8_t wrapped[WRAPPED_KEY_SIZE], struct cof_error *err)
{
    const struct root_key *root = keyring->roots[atomic_load(&keyring->wrapping)];
    uint8_t associated[BLOB_ASSOCIATED_MAX];
    wrapped[0] = BLOB_FORMAT;
    memcpy(wrapped + 1, root_key_id(root), ROOT_KEY_ID);
    TRY(crypto_random(wrapped + WRAPPED_NONCE_AT, CRYPTO_NONCE, err));
    return xaes_seal(root_key_wrapping(root), wrapped + WRAPPED_NONCE_AT, blob_associated(address, associated),
                     cof_slice_of(key, CRYPTO_KEY), wrapped + WRAPPED_SEALED_AT, err);
}

COF_CODE keyring_generate(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                          uint8_t wrapped[WRAPPED_KEY_SIZE], struct cof_error *err)
{
    if (generation == 0) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, "", "key generations start at 1");
    }
    const struct blob_address address = workspace_key_address(BLOB_WORKSPACE_KEY, workspace, generation);
    AUTO(crypto_key_done) struct crypto_key key;
    TRY(crypto_random(key.bytes, sizeof key.bytes, err));
    return keyring_wrap(keyring, &address, key.bytes, wrapped, err);
}

COF_CODE keyring_install(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                         struct cof_slice wrapped, struct cof_error *err)
{
    if (generation == 0) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a stored workspace key has generation 0");
    }
    if (key_table_has(keyring->table, workspace, generation)) {
        return COF_OK;
    }
    const struct blob_address address = workspace_key_address(BLOB_WORKSPACE_KEY, workspace, generation);
    const cof_code code = unwrap_and_install(keyring, &address, wrapped, err);
    return code == COF_OK ? COF_OK : note_address(&address, err);
}

/* What is left of a key that seals nothing any more is wrapped as a thing of another kind, so neither can take the
 * other's place. */
COF_CODE keyring_retire(const struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                        struct cof_slice wrapped, uint8_t to[WRAPPED_KEY_SIZE], struct cof_error *err)
{
    const struct blob_address from = workspace_key_address(BLOB_WORKSPACE_KEY, workspace, generation);
    const struct blob_address row = workspace_key_address(BLOB_ROW_KEY, workspace, generation);
    AUTO(crypto_key_done) struct crypto_key key;
    AUTO(crypto_key_done) struct crypto_key subkey;
    TRY(keyring_unwrap(keyring, &from, wrapped, key.bytes, err));
    TRY(opened_key_row_subkey(key.bytes, subkey.bytes, err));
    return keyring_wrap(keyring, &row, subkey.bytes, to, err);
}

COF_CODE keyring_install_retired(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                                 struct cof_slice wrapped, struct cof_error *err)
{
    const struct blob_address address = workspace_key_address(BLOB_ROW_KEY, workspace, generation);
    if (generation == 0) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a stored workspace key has generation 0");
    }
    if (key_table_has(keyring->table, workspace, generation)) {
        return COF_OK;
    }
    const cof_code code = unwrap_and_install(keyring, &address, wrapped, err);
    return code == COF_OK ? COF_OK : note_address(&address, err);
}

uint32_t keyring_generation(struct keyring *keyring, const struct cof_uuid *workspace)
{
    return key_table_highest(keyring->table, workspace);
}

int keyring_has(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation)
{
    return key_table_has(keyring->table, workspace, generation);
}

void keyring_forget(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation)
{
    key_table_forget(keyring->table, workspace, generation);
}

void keyring_evict(struct keyring *keyring, const struct cof_uuid *workspace)
{
    key_table_evict(keyring->table, workspace);
}

/* --- Blobs ---------------------------------------------------------------------------------------------------- */

/* The time, if this one is timed; else 0. */
static int64_t begin_count(struct keyring *keyring, keyring_use use)
{
    struct counts *counts = &keyring->counts[cof_part_of_thread()];
    const uint64_t done = atomic_fetch_add_explicit(&counts->done[use], 1, memory_order_relaxed);
    return done % KEYRING_TIMED == 0 ? cof_clock_monotonic(&cof_system_clock) : 0;
}

static void end_count(struct keyring *keyring, keyring_use use, int64_t begin_us, bool failed)
{
    struct counts *counts = &keyring->counts[cof_part_of_thread()];
    if (begin_us != 0) {
        cof_histogram_count(&counts->timed[use], cof_clock_monotonic(&cof_system_clock) - begin_us);
    }
    if (failed) {
        (void) atomic_fetch_add_explicit(&counts->failed[use], 1, memory_order_relaxed);
    }
}

void keyring_counts(struct keyring *keyring, keyring_use use, struct keyring_count *ret_count)
{
    *ret_count = (struct keyring_count){.done = 0};
    for (size_t i = 0; i < COF_PARTS; i++) {
        const struct counts *counts = &keyring->counts[i];
        ret_count->done += atomic_load_explicit(&counts->done[use], memory_order_relaxed);
        ret_count->failed += atomic_load_explicit(&counts->failed[use], memory_order_relaxed);
        cof_histogram_add(&ret_count->timed, &counts->timed[use]);
    }
}

static COF_CODE seal_blob(struct keyring *keyring, const struct blob_address *address, struct cof_slice plaintext,
                          uint8_t *to, struct cof_error *err)
{
    AUTO(opened_key_release_auto) struct opened_key *key = key_table_take(keyring->table, &address->workspace, 0);
    if (key == NULL) {
        return not_installed(&address->workspace, 0, err);
    }
    if (key->seal == NULL) {
        return retired(&address->workspace, key->generation, err);
    }
    uint8_t associated[BLOB_ASSOCIATED_MAX];
    to[0] = BLOB_FORMAT;
    cof_put_u32(to + 1, key->generation);
    TRY(crypto_random(to + BLOB_NONCE_AT, CRYPTO_NONCE, err));
    return xaes_seal(key->seal, to + BLOB_NONCE_AT, blob_associated(address, associated), plaintext,
                     to + BLOB_HEADER, err);
}

COF_CODE keyring_seal(struct keyring *keyring, const struct blob_address *address, struct cof_slice plaintext,
                      uint8_t *to, struct cof_error *err)
{
    const int64_t begin_us = begin_count(keyring, KEYRING_SEALING);
    const cof_code code = seal_blob(keyring, address, plaintext, to, err);
    end_count(keyring, KEYRING_SEALING, begin_us, code != COF_OK);
    return code;
}

COF_CODE keyring_open(struct keyring *keyring, const struct blob_address *address, struct cof_slice blob,
                      uint8_t *to, struct cof_error *err)
{
    const int64_t begin_us = begin_count(keyring, KEYRING_OPENING);
    const cof_code code = open_blob(keyring, address, blob, to, err);
    end_count(keyring, KEYRING_OPENING, begin_us, code != COF_OK);
    if (code == COF_OK) {
        return COF_OK;
    }
    if (blob.len > BLOB_OVERHEAD) {
        cof_wipe(to, blob.len - BLOB_OVERHEAD);
    }
    return note_address(address, err);
}

COF_CODE keyring_row_mac(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                         struct cof_slice data, uint8_t mac[CRYPTO_DIGEST], struct cof_error *err)
{
    AUTO(opened_key_release_auto)
    struct opened_key *key = generation == 0 ? NULL : key_table_take(keyring->table, workspace, generation);
    if (key == NULL) {
        return not_installed(workspace, generation, err);
    }
    return crypto_hmac(key->row, data, mac, err);
}

COF_CODE keyring_seal_kept(struct keyring *keyring, const struct blob_address *address, struct cof_slice plaintext,
                           uint8_t *to, struct cof_error *err)
{
    uint8_t associated[BLOB_ASSOCIATED_MAX];
    return kept_key_seal(keyring->kept, blob_associated(address, associated), plaintext, to, err);
}

COF_CODE keyring_open_kept(const struct keyring *keyring, const struct blob_address *address,
                           struct cof_slice sealed, uint8_t *to, struct cof_error *err)
{
    uint8_t associated[BLOB_ASSOCIATED_MAX];
    return kept_key_open(keyring->kept, blob_associated(address, associated), sealed, to, err);
}
