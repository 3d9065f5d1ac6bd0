#include "server/crypto/contexts.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "common/secret.h"

static struct {
    EVP_CIPHER *block;
    EVP_CIPHER *gcm;
    EVP_MD *sha256;
    EVP_KDF *hkdf;
} algorithms;

static _Thread_local struct crypto_contexts *contexts_of_thread;

/* OpenSSL was refused memory since this thread began what it does now; its own errors do not say so. */
static _Thread_local bool memory_refused;

/* Exists for its destructor alone, which runs when a thread ends. */
static pthread_key_t thread_end;
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;

static const uint8_t zero_key[CRYPTO_KEY];

/* --- Memory of OpenSSL's ---------------------------------------------------------------------------------------- */

/* Whether OpenSSL allocates by the functions below, and whether what it allocates now goes into the secure heap. */
static bool memory_is_ours;
static _Thread_local bool into_secure_heap;

static void *allocate(size_t size, const char *file, int line)
{
    if (into_secure_heap) {
        return CRYPTO_secure_malloc(size, file, line);
    }
    void *memory = malloc(size);
    memory_refused = memory_refused || memory == NULL;
    return memory;
}

static void release(void *memory, const char *file, int line)
{
    if (CRYPTO_secure_allocated(memory) != 0) {
        CRYPTO_secure_clear_free(memory, CRYPTO_secure_actual_size(memory), file, line);
    } else {
        free(memory);
    }
}

static void *reallocate(void *memory, size_t size, const char *file, int line)
{
    if (CRYPTO_secure_allocated(memory) == 0) {
        void *grown = realloc(memory, size);
        memory_refused = memory_refused || grown == NULL;
        return grown;
    }
    const size_t held = CRYPTO_secure_actual_size(memory);
    void *moved = CRYPTO_secure_malloc(size, file, line);
    if (moved != NULL) {
        memcpy(moved, memory, held < size ? held : size);
        release(memory, file, line);
    }
    return moved;
}

void crypto_memory_start(void)
{
    memory_is_ours = memory_is_ours || CRYPTO_set_mem_functions(allocate, reallocate, release) == 1;
}

/* What a context allocates can lie there, and with it the keys that it has: locked, in no core, wiped when freed. */
static bool secure_heap_serves(void)
{
    return memory_is_ours && CRYPTO_secure_malloc_initialized() == 1;
}

/* --- The contexts of a thread ----------------------------------------------------------------------------------- */

static void contexts_free(struct crypto_contexts *contexts)
{
    if (contexts == NULL) {
        return;
    }
    EVP_CIPHER_CTX_free(contexts->block);
    EVP_CIPHER_CTX_free(contexts->gcm);
    EVP_CIPHER_CTX_free(contexts->kept);
    EVP_MD_CTX_free(contexts->sha256);
    random_block_free(contexts->random);
    free(contexts);
}

static void free_at_thread_end(void *contexts)
{
    contexts_of_thread = NULL;
    contexts_free(contexts);
}

static void make_thread_end(void)
{
    const int failed = pthread_key_create(&thread_end, free_at_thread_end);
    assert(failed == 0);
}

static void contexts_free_auto(struct crypto_contexts **contexts)
{
    contexts_free(*contexts);
}

/* Keyed with zeros, so that what they need is allocated by now. */
static bool ciphers_fill(struct crypto_contexts *contexts)
{
    contexts->block = EVP_CIPHER_CTX_new();
    contexts->gcm = EVP_CIPHER_CTX_new();
    return contexts->block != NULL && contexts->gcm != NULL &&
           EVP_EncryptInit_ex2(contexts->block, algorithms.block, zero_key, NULL, NULL) == 1 &&
           EVP_CIPHER_CTX_set_padding(contexts->block, 0) == 1 &&
           EVP_EncryptInit_ex2(contexts->gcm, algorithms.gcm, zero_key, NULL, NULL) == 1;
}

static void ciphers_free(struct crypto_contexts *contexts)
{
    EVP_CIPHER_CTX_free(TAKE(contexts->block));
    EVP_CIPHER_CTX_free(TAKE(contexts->gcm));
}

/* In the secure heap; elsewhere where they cannot lie there. */
static bool ciphers_place(struct crypto_contexts *contexts)
{
    if (secure_heap_serves()) {
        into_secure_heap = true;
        contexts->secure = ciphers_fill(contexts);
        into_secure_heap = false;
        if (contexts->secure) {
            return true;
        }
        ciphers_free(contexts);
        ERR_clear_error();
    }
    return ciphers_fill(contexts);
}

static bool contexts_fill(struct crypto_contexts *contexts)
{
    contexts->sha256 = EVP_MD_CTX_new();
    contexts->random = random_block_new();
    return ciphers_place(contexts) && contexts->sha256 != NULL &&
           EVP_DigestInit_ex2(contexts->sha256, algorithms.sha256, NULL) == 1;
}

static COF_CODE contexts_new(struct crypto_contexts **ret_contexts, struct cof_error *err)
{
    if (algorithms.hkdf == NULL) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, "", "crypto is used before crypto_start");
    }
    AUTO(contexts_free_auto) struct crypto_contexts *contexts = calloc(1, sizeof *contexts);
    if (contexts == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no memory left for the contexts of a thread; repeat it later");
    }
    if (!contexts_fill(contexts)) {
        return crypto_fail(err, "making the contexts of a thread");
    }
    (void) pthread_once(&thread_end_once, make_thread_end);
    if (pthread_setspecific(thread_end, contexts) != 0) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, "", "keeping the contexts of a thread");
    }
    *ret_contexts = TAKE(contexts);
    return COF_OK;
}

COF_CODE crypto_contexts_view(struct crypto_contexts **ret_contexts, struct cof_error *err)
{
    memory_refused = false;
    if (contexts_of_thread == NULL) {
        TRY(contexts_new(&contexts_of_thread, err));
    }
    *ret_contexts = contexts_of_thread;
    return COF_OK;
}

void crypto_contexts_free(void)
{
    if (contexts_of_thread == NULL) {
        return;
    }
    const int failed = pthread_setspecific(thread_end, NULL);
    assert(failed == 0);
    contexts_free(contexts_of_thread);
    contexts_of_thread = NULL;
}

/* --- The one that stays keyed --------------------------------------------------------------------------------- */

/* The context's state lies in one or two pieces of memory that OpenSSL allocates. */
EVP_CIPHER_CTX *crypto_context_new_keyed(const uint8_t key[CRYPTO_KEY], int encrypts)
{
    if (!secure_heap_serves()) {
        return NULL;
    }
    into_secure_heap = true;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    const bool keyed =
        context != NULL && EVP_CipherInit_ex2(context, algorithms.gcm, key, NULL, encrypts, NULL) == 1;
    into_secure_heap = false;
    if (!keyed) {
        EVP_CIPHER_CTX_free(context);
        ERR_clear_error();
        return NULL;
    }
    return context;
}

EVP_CIPHER_CTX *crypto_contexts_kept(struct crypto_contexts *contexts, uint64_t serial,
                                     const uint8_t key[CRYPTO_KEY])
{
    if (contexts->kept_serial != serial) {
        EVP_CIPHER_CTX_free(contexts->kept);
        contexts->kept = crypto_context_new_keyed(key, 0);
        contexts->kept_serial = serial;
    }
    return contexts->kept;
}

/* --- Keys that are forgotten ---------------------------------------------------------------------------------- */

/*
 * Another key in its place costs less than 150 ns and touches nothing that threads share. Resetting the context
 * would be a little faster on one core, but counts references of the shared algorithm and frees and allocates,
 * which costs more than it saves as soon as two cores do it.
 */
void crypto_contexts_used(const struct crypto_contexts *contexts, EVP_CIPHER_CTX *context)
{
    if (!contexts->secure) {
        const int forgotten = EVP_EncryptInit_ex2(context, NULL, zero_key, NULL, NULL);
        assert(forgotten == 1);
    }
}

COF_CODE crypto_algorithms_fetch(struct cof_error *err)
{
    algorithms.block = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
    algorithms.gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    algorithms.sha256 = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    algorithms.hkdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_HKDF, NULL);
    if (algorithms.block == NULL || algorithms.gcm == NULL || algorithms.sha256 == NULL ||
        algorithms.hkdf == NULL) {
        crypto_algorithms_free();
        return crypto_fail(err, "fetching AES-256, SHA-256 and HKDF");
    }
    return COF_OK;
}

void crypto_algorithms_free(void)
{
    EVP_CIPHER_free(TAKE(algorithms.block));
    EVP_CIPHER_free(TAKE(algorithms.gcm));
    EVP_MD_free(TAKE(algorithms.sha256));
    EVP_KDF_free(TAKE(algorithms.hkdf));
}

void crypto_key_done(struct crypto_key *key)
{
    cof_wipe(key, sizeof *key);
}

EVP_KDF *crypto_algorithm_hkdf(void)
{
    return algorithms.hkdf;
}

cof_code crypto_fail(struct cof_error *err, const char *what)
{
    char native[sizeof err->native];
    const unsigned long code = ERR_get_error();
    const char *text = ERR_reason_error_string(code);
    (void) snprintf(native, sizeof native, "%08X", (unsigned) code);
    ERR_clear_error();
    if (memory_refused) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for %s; repeat it later", what);
    }
    return cof_fail_internal(err, COF_ORIGIN_OPENSSL, native, "%s: %s", what,
                             text == NULL ? "no reason given" : text);
}

COF_CODE crypto_secure_new(size_t size, void **ret_memory, struct cof_error *err)
{
    void *memory = OPENSSL_secure_zalloc(size);
    if (memory == NULL) {
        ERR_clear_error();
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "the secure heap is full, no further key can be held; the operator can raise its size");
    }
    *ret_memory = memory;
    return COF_OK;
}
