#pragma once

#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "server/crypto/crypto.h"

/*
 * What the files of this folder share: the algorithms, fetched once, and one set of contexts for each thread.
 *
 * A set belongs to a thread and not to a call: making contexts costs as much as sealing a short value, and a list
 * of free ones would need a lock or a contended counter on the hot path. Nothing is lost by it, for a context that
 * holds a key between two calls lies in the secure heap; where it cannot, whoever keys it forgets the key before
 * returning (crypto_contexts_used).
 */

struct random_block;

/* A key on the stack; AUTO(crypto_key_done) wipes it. */
struct crypto_key {
    uint8_t bytes[CRYPTO_KEY];
};

void crypto_key_done(struct crypto_key *key);

struct crypto_contexts {
    EVP_CIPHER_CTX *block; /* AES-256, single blocks */
    uint64_t block_serial; /* of the key that it still has (xaes.c); 0: of none */
    EVP_CIPHER_CTX *gcm;   /* AES-256-GCM */
    bool secure;           /* these two lie in the secure heap and keep the key that they had last */
    EVP_MD_CTX *sha256;
    EVP_CIPHER_CTX *kept;        /* AES-256-GCM, keyed; NULL until it is needed */
    uint64_t kept_serial;        /* of the key that it has */
    struct random_block *random; /* NULL where the system cannot wipe memory in a forked child */
};

COF_CODE crypto_algorithms_fetch(struct cof_error *err);
void crypto_algorithms_free(void);
EVP_KDF *crypto_algorithm_hkdf(void);

/* The calling thread's contexts. */
COF_CODE crypto_contexts_view(struct crypto_contexts **ret_contexts, struct cof_error *err);

/* A context of AES-256-GCM that has a key and keeps it, in the secure heap; NULL where it cannot lie there, and whoever
 * wants it goes on without. Freed by EVP_CIPHER_CTX_free, which wipes it. */
EVP_CIPHER_CTX *crypto_context_new_keyed(const uint8_t key[CRYPTO_KEY], int encrypts);

/* The thread's context for opening that has this key already (kept_key.h); NULL as above. */
EVP_CIPHER_CTX *crypto_contexts_kept(struct crypto_contexts *contexts, uint64_t serial,
                                     const uint8_t key[CRYPTO_KEY]);

/* From now on OpenSSL allocates by us, so that a context can lie in the secure heap. Before anything else of OpenSSL. */
void crypto_memory_start(void);

/* Frees the calling thread's contexts; those of other threads go when the threads end. */
void crypto_contexts_free(void);

/* Behind each use of a key in `block` or `gcm`: replaces it by zeros unless it may stay there. */
void crypto_contexts_used(const struct crypto_contexts *contexts, EVP_CIPHER_CTX *context);

struct random_block *random_block_new(void);
void random_block_free(struct random_block *block);

/* INTERNAL with the first error that OpenSSL queued, or OUT_OF_MEMORY if it was refused some; empties its queue. */
cof_code crypto_fail(struct cof_error *err, const char *what);

/* Zeroed memory in the secure heap. Fails with OUT_OF_MEMORY. */
COF_CODE crypto_secure_new(size_t size, void **ret_memory, struct cof_error *err);
