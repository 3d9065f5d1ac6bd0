#pragma once

#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "server/crypto/crypto.h"

/*
 * What the files of this folder share: the algorithms, fetched once, and one set of contexts for each thread.
 *
 * A set belongs to a thread and not to a call: making contexts costs as much as sealing a short value, and a list
 * of free ones would need a lock or a contended counter on the hot path. Nothing is lost by it, for between two
 * calls no context holds a key: whoever keys one forgets the key before returning. The one that stays keyed, for what
 * is kept in memory, lies in the secure heap.
 */

struct random_block;

/* A key on the stack; AUTO(crypto_key_done) wipes it. */
struct crypto_key {
    uint8_t bytes[CRYPTO_KEY];
};

void crypto_key_done(struct crypto_key *key);

struct crypto_contexts {
    EVP_CIPHER_CTX *block; /* AES-256, single blocks */
    EVP_CIPHER_CTX *gcm;   /* AES-256-GCM */
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

/* Replaces the key of a context by zeros. */
void crypto_context_forget(EVP_CIPHER_CTX *context);

struct random_block *random_block_new(void);
void random_block_free(struct random_block *block);

/* INTERNAL with the first error that OpenSSL queued, or OUT_OF_MEMORY if it was refused some; empties its queue. */
cof_code crypto_fail(struct cof_error *err, const char *what);

/* Zeroed memory in the secure heap. Fails with OUT_OF_MEMORY. */
COF_CODE crypto_secure_new(size_t size, void **ret_memory, struct cof_error *err);
