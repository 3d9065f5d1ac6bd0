#include <assert.h>
#include <stdlib.h>

#include <openssl/crypto.h>

#include "server/crypto/contexts.h"
#include "server/crypto/key_table.h"

static void opened_key_free(struct opened_key *key)
{
    xaes_key_free(key->seal);
    OPENSSL_secure_clear_free(key->row, CRYPTO_KEY);
    free(key);
}

void opened_key_release(struct opened_key *key)
{
    if (key == NULL) {
        return;
    }
    const unsigned before = atomic_fetch_sub_explicit(&key->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1) {
        opened_key_free(key);
    }
}

static COF_CODE derive_seal(struct cof_slice key, struct xaes_key **ret_seal, struct cof_error *err)
{
    AUTO(crypto_key_done) struct crypto_key subkey;
    TRY(crypto_hkdf(key, cof_slice_text("coffer v1 seal"), subkey.bytes, CRYPTO_KEY, err));
    return xaes_key_new(subkey.bytes, ret_seal, err);
}

COF_CODE opened_key_row_subkey(const uint8_t key[CRYPTO_KEY], uint8_t subkey[CRYPTO_KEY], struct cof_error *err)
{
    return crypto_hkdf(cof_slice_of(key, CRYPTO_KEY), cof_slice_text("coffer v1 row"), subkey, CRYPTO_KEY, err);
}

static void opened_key_release_auto(struct opened_key **key)
{
    opened_key_release(*key);
}

/* With room for the row subkey. */
static COF_CODE alloc_key(const struct cof_uuid *workspace, uint32_t generation, struct opened_key **ret_key,
                          struct cof_error *err)
{
    void *row;
    AUTO(opened_key_release_auto) struct opened_key *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no memory left for opening a workspace key; repeat it later");
    }
    atomic_init(&opened->references, 1);
    opened->workspace = *workspace;
    opened->generation = generation;
    TRY(crypto_secure_new(CRYPTO_KEY, &row, err));
    opened->row = row;
    *ret_key = TAKE(opened);
    return COF_OK;
}

COF_CODE opened_key_new(const struct cof_uuid *workspace, uint32_t generation, const uint8_t key[CRYPTO_KEY],
                        struct opened_key **ret_key, struct cof_error *err)
{
    AUTO(opened_key_release_auto) struct opened_key *opened = NULL;
    TRY(alloc_key(workspace, generation, &opened, err));
    TRY(derive_seal(cof_slice_of(key, CRYPTO_KEY), &opened->seal, err));
    TRY(opened_key_row_subkey(key, opened->row, err));
    *ret_key = TAKE(opened);
    return COF_OK;
}

COF_CODE opened_key_new_row(const struct cof_uuid *workspace, uint32_t generation, const uint8_t subkey[CRYPTO_KEY],
                            struct opened_key **ret_key, struct cof_error *err)
{
    AUTO(opened_key_release_auto) struct opened_key *opened = NULL;
    TRY(alloc_key(workspace, generation, &opened, err));
    memcpy(opened->row, subkey, CRYPTO_KEY);
    *ret_key = TAKE(opened);
    return COF_OK;
}
