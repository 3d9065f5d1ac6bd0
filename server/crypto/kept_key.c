#include "server/crypto/kept_key.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "common/encode.h"
#include "server/crypto/contexts.h"
#include "server/crypto/gcm.h"
#include "server/crypto/keyring.h"

_Static_assert((int) KEYRING_KEPT_OVERHEAD == (int) GCM_NONCE + (int) CRYPTO_TAG, "what stands around the text");

struct kept_key {
    uint64_t serial; /* of all in this process, from 1: whose a thread's context is */
    pid_t process;
    _Atomic uint64_t sealed; /* how often */
    uint8_t *key;            /* CRYPTO_KEY bytes in the secure heap */
};

static void kept_key_free_auto(struct kept_key **key)
{
    kept_key_free(*key);
}

COF_CODE kept_key_new(struct kept_key **ret_key, struct cof_error *err)
{
    static _Atomic uint64_t serials;
    void *memory;
    AUTO(kept_key_free_auto) struct kept_key *key = calloc(1, sizeof *key);
    if (key == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for a key; repeat it later");
    }
    TRY(crypto_secure_new(CRYPTO_KEY, &memory, err));
    key->key = memory;
    key->serial = atomic_fetch_add(&serials, 1) + 1;
    key->process = getpid();
    TRY(crypto_random(key->key, CRYPTO_KEY, err));
    *ret_key = TAKE(key);
    return COF_OK;
}

void kept_key_free(struct kept_key *key)
{
    if (key != NULL) {
        OPENSSL_secure_clear_free(key->key, CRYPTO_KEY);
        free(key);
    }
}

COF_CODE kept_key_seal(struct kept_key *key, struct cof_slice associated, struct cof_slice text, uint8_t *to,
                       struct cof_error *err)
{
    if (getpid() != key->process) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, "", "a forked child seals what it keeps");
    }
    memset(to, 0, GCM_NONCE - sizeof key->sealed);
    cof_put_u64(to + GCM_NONCE - sizeof key->sealed, atomic_fetch_add(&key->sealed, 1));
    return gcm_seal(key->key, to, associated, text, to + GCM_NONCE, err);
}

COF_CODE kept_key_open(const struct kept_key *key, struct cof_slice associated, struct cof_slice sealed,
                       uint8_t *to, struct cof_error *err)
{
    struct crypto_contexts *contexts;
    const struct cof_slice text = {sealed.data + GCM_NONCE, sealed.len < GCM_NONCE ? 0 : sealed.len - GCM_NONCE};
    TRY(crypto_contexts_view(&contexts, err));
    EVP_CIPHER_CTX *keyed = crypto_contexts_kept(contexts, key->serial, key->key);
    return keyed == NULL ? gcm_open(key->key, sealed.data, associated, text, to, err)
                         : gcm_open_keyed(keyed, sealed.data, associated, text, to, err);
}
