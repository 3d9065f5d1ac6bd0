#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "server/crypto/contexts.h"
#include "server/crypto/crypto.h"
#include "tests/unit/crypto/started.h"

enum { HEAP = 1 << 20, RANDOM_BLOCK = 4096 };

/* Runs a function in a child and returns what it returned, or -1 if the child died. */
static int in_child(int (*run)(void))
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        _exit(run());
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        return -1;
    }
    return WEXITSTATUS(status);
}

static COF_CODE start_without_locked_memory(int require_lock, struct cof_error *err)
{
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0)) {
        return cof_fail(err, COF_REASON_INTERNAL, "the limit cannot be set");
    }
    return crypto_start(HEAP, require_lock, err);
}

static int start_that_must_lock(void)
{
    struct cof_error err;
    const cof_code code = start_without_locked_memory(1, &err);
    return code == COF_INVALID_ARGUMENT && err.reason == COF_REASON_CONFIG_INVALID &&
                   strstr(err.message, "LimitMEMLOCK") != NULL && CRYPTO_secure_malloc_initialized() == 0
               ? 0
               : 1;
}

/* The heap outlives a stop where OpenSSL uses it, and is then still known not to be locked. */
static int start_that_need_not_lock(void)
{
    struct cof_error err;
    uint8_t bytes[8];
    if (start_without_locked_memory(0, &err) != COF_OK || crypto_random(bytes, sizeof bytes, &err) != COF_OK) {
        return 1;
    }
    crypto_stop();
    return crypto_start(HEAP, 1, &err) == COF_OK ? 2 : 0;
}

static void heap_that_cannot_be_locked_is_refused_where_locking_is_required(void)
{
    CHECK_INT(in_child(start_that_must_lock), 0);
}

static void heap_that_cannot_be_locked_serves_where_locking_is_not_required(void)
{
    CHECK_INT(in_child(start_that_need_not_lock), 0);
}

static int use_without_start(void)
{
    struct cof_error err;
    uint8_t bytes[32];
    const struct cof_slice data = cof_slice_text("x");
    return crypto_random(bytes, sizeof bytes, &err) == COF_INTERNAL &&
                   crypto_sha256(data, bytes, &err) == COF_INTERNAL &&
                   crypto_hkdf(data, data, bytes, sizeof bytes, &err) == COF_INTERNAL &&
                   strstr(err.trail, "before crypto_start") != NULL
               ? 0
               : 1;
}

static void use_before_the_start_is_an_internal_error(void)
{
    CHECK_INT(in_child(use_without_start), 0);
}

static int start_with_bad_sizes(void)
{
    static const size_t sizes[] = {0, 1, 4096, HEAP - 1, HEAP + HEAP / 2};
    for (size_t i = 0; i < COF_COUNT(sizes); i++) {
        struct cof_error err;
        if (crypto_start(sizes[i], 0, &err) == COF_OK || err.reason != COF_REASON_CONFIG_INVALID ||
            strstr(err.message, "power of two") == NULL) {
            return 1;
        }
    }
    return 0;
}

static void heap_size_that_is_small_or_no_power_of_two_is_refused(void)
{
    CHECK_INT(in_child(start_with_bad_sizes), 0);
}

static void second_start_is_refused_until_crypto_is_stopped(void)
{
    struct cof_error err;
    uint8_t bytes[8];
    started();
    CHECK_FAILS(crypto_start(HEAP, 0, &err), &err, INTERNAL);
    CHECK_OK(crypto_random(bytes, sizeof bytes, &err), &err);
    crypto_stop();
    CHECK_OK(crypto_start(HEAP, 0, &err), &err);
    CHECK_OK(crypto_random(bytes, sizeof bytes, &err), &err);
}

static void sha256_gives_the_published_digests(void)
{
    struct cof_error err;
    uint8_t expected[CRYPTO_DIGEST];
    uint8_t digest[CRYPTO_DIGEST];
    started();
    (void) unhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", expected, sizeof expected);
    CHECK_OK(crypto_sha256(cof_slice_text("abc"), digest, &err), &err);
    CHECK_BYTES(digest, expected, sizeof digest);
    (void) unhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", expected, sizeof expected);
    CHECK_OK(crypto_sha256(cof_slice_of(NULL, 0), digest, &err), &err);
    CHECK_BYTES(digest, expected, sizeof digest);
}

/* RFC 5869, appendix A.3: no salt, no info. */
static void hkdf_gives_the_published_bytes_without_salt_and_info(void)
{
    struct cof_error err;
    uint8_t key[22];
    uint8_t expected[42];
    uint8_t out[42];
    started();
    memset(key, 0x0b, sizeof key);
    (void) unhex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8", expected,
                 sizeof expected);
    CHECK_OK(crypto_hkdf(cof_slice_of(key, sizeof key), cof_slice_of(NULL, 0), out, sizeof out, &err), &err);
    CHECK_BYTES(out, expected, sizeof out);
    CHECK_OK(crypto_hkdf(cof_slice_of(key, sizeof key), cof_slice_text(""), out, sizeof out, &err), &err);
    CHECK_BYTES(out, expected, sizeof out);
    CHECK_OK(crypto_hkdf(cof_slice_of(key, sizeof key), cof_slice_text("i"), out, sizeof out, &err), &err);
    CHECK(memcmp(out, expected, sizeof out) != 0);
}

static void hkdf_refuses_an_empty_key_and_more_than_255_digests(void)
{
    static uint8_t out[255 * CRYPTO_DIGEST + 1];
    struct cof_error err;
    const struct cof_slice key = cof_slice_text("some key");
    started();
    CHECK_FAILS(crypto_hkdf(cof_slice_of(NULL, 0), key, out, 32, &err), &err, INTERNAL);
    CHECK_OK(crypto_hkdf(key, key, out, sizeof out - 1, &err), &err);
    CHECK_FAILS(crypto_hkdf(key, key, out, sizeof out, &err), &err, INTERNAL);
    CHECK_INT(err.origin, COF_ORIGIN_OPENSSL);
}

static bool reference_hmac(const uint8_t *key, struct cof_slice data, uint8_t *mac)
{
    char hash[] = "SHA256";
    size_t len = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, hash, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC *method = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(method);
    const bool done = EVP_MAC_init(context, key, CRYPTO_KEY, params) == 1 &&
                      EVP_MAC_update(context, data.data, data.len) == 1 &&
                      EVP_MAC_final(context, mac, &len, CRYPTO_DIGEST) == 1 && len == CRYPTO_DIGEST;
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(method);
    return done;
}

static void hmac_is_the_one_of_openssl_for_every_length(void)
{
    struct cof_error err;
    uint64_t state = test_seed();
    uint8_t key[CRYPTO_KEY];
    uint8_t data[200];
    uint8_t mac[CRYPTO_DIGEST];
    uint8_t expected[CRYPTO_DIGEST];
    started();
    for (size_t len = 0; len <= sizeof data; len++) {
        for (size_t i = 0; i < sizeof key; i++) {
            key[i] = (uint8_t) test_random(&state);
            data[len == 0 ? 0 : len - 1] = (uint8_t) test_random(&state);
        }
        CHECK_OK(crypto_hmac(key, cof_slice_of(data, len), mac, &err), &err);
        CHECK(reference_hmac(key, cof_slice_of(data, len), expected));
        CHECK_BYTES(mac, expected, sizeof mac);
    }
}

static void random_bytes_fill_exactly_the_length_asked_for(void)
{
    static uint8_t bytes[9002];
    struct cof_error err;
    started();
    for (size_t len = 0; len < sizeof bytes - 1; len += 61) {
        memset(bytes, 0, sizeof bytes);
        CHECK_OK(crypto_random(bytes + 1, len, &err), &err);
        CHECK_INT(bytes[0], 0);
        CHECK_INT(bytes[len + 1], 0);
        CHECK(len < 61 || !all_zero(bytes + 1, len));
    }
}

static int compare_16(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

static void random_bytes_never_come_twice(void)
{
    enum { COUNT = 20000 };
    static uint8_t bytes[COUNT][16];
    struct cof_error err;
    started();
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_OK(crypto_random(bytes[i], sizeof bytes[i], &err), &err);
    }
    qsort(bytes, COUNT, sizeof bytes[0], compare_16);
    for (size_t i = 1; i < COUNT; i++) {
        CHECK(memcmp(bytes[i - 1], bytes[i], sizeof bytes[i]) != 0);
    }
}

/* Whether drawing so many takes something from what was drawn before. */
static bool takes_from_the_block(size_t len)
{
    static uint8_t before[RANDOM_BLOCK];
    struct crypto_contexts *contexts = NULL;
    struct cof_error err;
    uint8_t bytes[CRYPTO_KEY];
    if (crypto_contexts_view(&contexts, &err) != COF_OK || contexts->random == NULL) {
        abort();
    }
    memcpy(before, contexts->random, sizeof before);
    if (crypto_random(bytes, len, &err) != COF_OK) {
        abort();
    }
    return memcmp(before, contexts->random, sizeof before) != 0;
}

static void nonces_are_drawn_ahead_and_what_may_become_a_key_is_not(void)
{
    started();
    CHECK(takes_from_the_block(CRYPTO_NONCE));
    CHECK(!takes_from_the_block(CRYPTO_KEY));
    CHECK(takes_from_the_block(1));
}

static void forked_child_gets_other_random_bytes_than_its_parent(void)
{
    struct cof_error err;
    int fds[2];
    uint8_t parents[CRYPTO_NONCE]; /* of what is drawn ahead */
    uint8_t childs[CRYPTO_NONCE];
    started();
    CHECK_OK(crypto_random(parents, 1, &err), &err);
    CHECK_INT(pipe(fds), 0);
    const pid_t child = fork();
    if (child == 0) {
        const bool drawn = crypto_random(childs, sizeof childs, &err) == COF_OK;
        _exit(drawn && write(fds[1], childs, sizeof childs) == (ssize_t) sizeof childs ? 0 : 1);
    }
    CHECK_OK(crypto_random(parents, sizeof parents, &err), &err);
    CHECK_INT(read(fds[0], childs, sizeof childs), sizeof childs);
    int status = 1;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    CHECK(memcmp(parents, childs, sizeof parents) != 0);
    CHECK(!all_zero(childs, sizeof childs));
    (void) close(fds[0]);
    (void) close(fds[1]);
}

static void *draw_in_thread(void *argument)
{
    struct cof_error err;
    uint8_t bytes[16];
    int *failures = argument;
    *failures += crypto_random(bytes, sizeof bytes, &err) != COF_OK;
    *failures += crypto_sha256(cof_slice_of(bytes, sizeof bytes), (uint8_t[CRYPTO_DIGEST]){0}, &err) != COF_OK;
    return NULL;
}

static void contexts_of_ended_threads_are_freed(void)
{
    int failures = 0;
    started();
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        CHECK_INT(pthread_create(&thread, NULL, draw_in_thread, &failures), 0);
        CHECK_INT(pthread_join(thread, NULL), 0);
    }
    CHECK_INT(failures, 0);
}

/* The first ones need a process in which crypto was not started yet. */
TEST_MAIN(TEST(use_before_the_start_is_an_internal_error),
          TEST(heap_size_that_is_small_or_no_power_of_two_is_refused),
          TEST(heap_that_cannot_be_locked_is_refused_where_locking_is_required),
          TEST(heap_that_cannot_be_locked_serves_where_locking_is_not_required),
          TEST(second_start_is_refused_until_crypto_is_stopped), TEST(sha256_gives_the_published_digests),
          TEST(hkdf_gives_the_published_bytes_without_salt_and_info),
          TEST(hkdf_refuses_an_empty_key_and_more_than_255_digests),
          TEST(hmac_is_the_one_of_openssl_for_every_length), TEST(random_bytes_fill_exactly_the_length_asked_for),
          TEST(random_bytes_never_come_twice), TEST(nonces_are_drawn_ahead_and_what_may_become_a_key_is_not),
          TEST(forked_child_gets_other_random_bytes_than_its_parent), TEST(contexts_of_ended_threads_are_freed))
