#include <pthread.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "server/crypto/contexts.h"
#include "server/crypto/xaes.h"
#include "tests/unit/crypto/started.h"

enum { TEXT = 40, ASSOCIATED = 20, SEALED = TEXT + CRYPTO_TAG };

static const uint8_t vector_nonce[] = "ABCDEFGHIJKLMNOPQRSTUVWX";

/* One sealed message, to be damaged. */
struct sample {
    struct xaes_key *key;
    uint8_t nonce[CRYPTO_NONCE];
    uint8_t associated[ASSOCIATED];
    uint8_t text[TEXT];
    uint8_t sealed[SEALED];
};

static void sample_done(struct sample *sample)
{
    xaes_key_free(sample->key);
}

static void key_free_auto(struct xaes_key **key)
{
    xaes_key_free(*key);
}

static cof_code sample_init(struct sample *sample, struct cof_error *err)
{
    uint8_t key[CRYPTO_KEY];
    *sample = (struct sample){0};
    started();
    TRY(crypto_random(key, sizeof key, err));
    TRY(crypto_random(sample->nonce, sizeof sample->nonce, err));
    TRY(crypto_random(sample->associated, sizeof sample->associated, err));
    TRY(crypto_random(sample->text, sizeof sample->text, err));
    TRY(xaes_key_new(key, &sample->key, err));
    return xaes_seal(sample->key, sample->nonce, cof_slice_of(sample->associated, ASSOCIATED),
                     cof_slice_of(sample->text, TEXT), sample->sealed, err);
}

static cof_code sample_open(const struct sample *sample, uint8_t *to, struct cof_error *err)
{
    memset(to, 0xEE, TEXT);
    return xaes_open(sample->key, sample->nonce, cof_slice_of(sample->associated, ASSOCIATED),
                     cof_slice_of(sample->sealed, SEALED), to, err);
}

static void check_vector(uint8_t key_byte, const char *associated, const char *expected_hex)
{
    struct cof_error err;
    uint8_t key[CRYPTO_KEY];
    uint8_t expected[28];
    uint8_t sealed[28];
    const struct cof_slice plaintext = cof_slice_text("XAES-256-GCM");
    started();
    memset(key, key_byte, sizeof key);
    (void) unhex(expected_hex, expected, sizeof expected);
    AUTO(key_free_auto) struct xaes_key *ready = NULL;
    CHECK_OK(xaes_key_new(key, &ready, &err), &err);
    CHECK_OK(xaes_seal(ready, vector_nonce, cof_slice_text(associated), plaintext, sealed, &err), &err);
    CHECK_BYTES(sealed, expected, sizeof sealed);
}

/* The two keys differ in the first bit of AES(0), which decides how the subkey is made. */
static void sealing_gives_both_published_vectors(void)
{
    check_vector(0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
    check_vector(0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d");
}

static const uint8_t *next_bytes(const uint8_t **stream, size_t len)
{
    *stream += len;
    return *stream - len;
}

static cof_code one_random_message(const uint8_t **stream, EVP_MD_CTX *hash, struct cof_error *err)
{
    uint8_t sealed[255 + CRYPTO_TAG];
    uint8_t opened[255 + CRYPTO_TAG];
    const uint8_t *key = next_bytes(stream, CRYPTO_KEY);
    const uint8_t *nonce = next_bytes(stream, CRYPTO_NONCE);
    const size_t text_len = *next_bytes(stream, 1);
    const struct cof_slice text = cof_slice_of(next_bytes(stream, text_len), text_len);
    const size_t associated_len = *next_bytes(stream, 1);
    const struct cof_slice associated = cof_slice_of(next_bytes(stream, associated_len), associated_len);
    AUTO(key_free_auto) struct xaes_key *ready = NULL;
    TRY(xaes_key_new(key, &ready, err));
    TRY(xaes_seal(ready, nonce, associated, text, sealed, err));
    TRY(xaes_open(ready, nonce, associated, cof_slice_of(sealed, text_len + CRYPTO_TAG), opened, err));
    if (!cof_slice_equal(text, cof_slice_of(opened, text_len)) ||
        EVP_DigestUpdate(hash, sealed, text_len + CRYPTO_TAG) != 1) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, "", "the message came back changed");
    }
    return COF_OK;
}

static void digest_free_auto(EVP_MD_CTX **context)
{
    EVP_MD_CTX_free(*context);
}

static void bytes_free_auto(uint8_t **bytes)
{
    free(*bytes);
}

/* C2SP's accumulated test: messages read from SHAKE128 of nothing, all ciphertexts hashed with SHAKE128. */
static void check_random_messages(size_t count, const char *expected_hex)
{
    struct cof_error err;
    const size_t stream_len = count * (CRYPTO_KEY + CRYPTO_NONCE + 2 + 2 * 255);
    uint8_t expected[32];
    uint8_t result[32];
    started();
    (void) unhex(expected_hex, expected, sizeof expected);
    AUTO(digest_free_auto) EVP_MD_CTX *source = EVP_MD_CTX_new();
    AUTO(digest_free_auto) EVP_MD_CTX *hash = EVP_MD_CTX_new();
    AUTO(bytes_free_auto) uint8_t *stream = malloc(stream_len);
    CHECK(stream != NULL);
    CHECK_INT(EVP_DigestInit_ex(source, EVP_shake128(), NULL), 1);
    CHECK_INT(EVP_DigestInit_ex(hash, EVP_shake128(), NULL), 1);
    CHECK_INT(EVP_DigestFinalXOF(source, stream, stream_len), 1);
    const uint8_t *at = stream;
    for (size_t i = 0; i < count; i++) {
        CHECK_OK(one_random_message(&at, hash, &err), &err);
    }
    CHECK_INT(EVP_DigestFinalXOF(hash, result, sizeof result), 1);
    CHECK_BYTES(result, expected, sizeof result);
}

static void ten_thousand_random_messages_give_the_published_hash(void)
{
    check_random_messages(10000, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
}

/* Needs half a gigabyte of memory, hence only on demand. */
static void a_million_random_messages_give_the_published_hash_when_test_full_is_set(void)
{
    if (getenv("TEST_FULL") != NULL) {
        check_random_messages(1000000, "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15");
    }
}

static void what_was_sealed_opens(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    CHECK_OK(sample_open(&sample, opened, &err), &err);
    CHECK_BYTES(opened, sample.text, TEXT);
}

static void check_every_flip(struct sample *sample, uint8_t *bytes, size_t len)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t) (1U << bit % 8);
        CHECK_FAILS(sample_open(sample, opened, &err), &err, CORRUPTED);
        CHECK(all_zero(opened, TEXT));
        bytes[bit / 8] ^= (uint8_t) (1U << bit % 8);
    }
    CHECK_OK(sample_open(sample, opened, &err), &err);
}

static void every_flipped_bit_is_detected_and_the_output_wiped(void)
{
    struct cof_error err;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    check_every_flip(&sample, sample.sealed, SEALED);
    check_every_flip(&sample, sample.nonce, CRYPTO_NONCE);
    check_every_flip(&sample, sample.associated, ASSOCIATED);
}

static void every_truncation_is_detected(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    const struct cof_slice associated = {sample.associated, ASSOCIATED};
    for (size_t len = 0; len < SEALED; len++) {
        CHECK_FAILS(xaes_open(sample.key, sample.nonce, associated, cof_slice_of(sample.sealed, len), opened, &err),
                    &err, CORRUPTED);
    }
    for (size_t len = 0; len < ASSOCIATED; len++) {
        CHECK_FAILS(xaes_open(sample.key, sample.nonce, cof_slice_of(sample.associated, len),
                              cof_slice_of(sample.sealed, SEALED), opened, &err),
                    &err, CORRUPTED);
    }
}

static void sealing_and_opening_work_in_place(void)
{
    struct cof_error err;
    uint8_t bytes[SEALED];
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    const struct cof_slice associated = {sample.associated, ASSOCIATED};
    memcpy(bytes, sample.text, TEXT);
    CHECK_OK(xaes_seal(sample.key, sample.nonce, associated, cof_slice_of(bytes, TEXT), bytes, &err), &err);
    CHECK_BYTES(bytes, sample.sealed, SEALED);
    CHECK_OK(xaes_open(sample.key, sample.nonce, associated, cof_slice_of(bytes, SEALED), bytes, &err), &err);
    CHECK_BYTES(bytes, sample.text, TEXT);
}

static void nothing_at_all_can_be_sealed_and_is_authenticated(void)
{
    struct cof_error err;
    uint8_t sealed[CRYPTO_TAG];
    const struct cof_slice nothing = {NULL, 0};
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    CHECK_OK(xaes_seal(sample.key, sample.nonce, nothing, nothing, sealed, &err), &err);
    CHECK_OK(xaes_open(sample.key, sample.nonce, nothing, cof_slice_of(sealed, sizeof sealed), sealed, &err), &err);
    sealed[0] ^= 1;
    CHECK_FAILS(xaes_open(sample.key, sample.nonce, nothing, cof_slice_of(sealed, sizeof sealed), sealed, &err),
                &err, CORRUPTED);
}

static void more_than_the_limit_is_refused_before_it_is_touched(void)
{
    struct cof_error err;
    uint8_t to[1];
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    const struct cof_slice nothing = {NULL, 0};
    const struct cof_slice huge = {NULL, (size_t) XAES_TEXT_MAX + 1};
    const struct cof_slice huge_sealed = {NULL, (size_t) XAES_TEXT_MAX + 1 + CRYPTO_TAG};
    const struct cof_slice sealed = {sample.sealed, SEALED};
    CHECK_FAILS(xaes_seal(sample.key, sample.nonce, nothing, huge, to, &err), &err, LIMIT_EXCEEDED);
    CHECK_FAILS(xaes_seal(sample.key, sample.nonce, huge, nothing, to, &err), &err, LIMIT_EXCEEDED);
    CHECK_FAILS(xaes_open(sample.key, sample.nonce, nothing, huge_sealed, to, &err), &err, CORRUPTED);
    CHECK_FAILS(xaes_open(sample.key, sample.nonce, huge, sealed, to, &err), &err, CORRUPTED);
}

static bool keyed_with_zeros(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const uint8_t *iv)
{
    static const uint8_t zeros[CRYPTO_KEY];
    uint8_t expected[16];
    uint8_t found[16];
    int written = 0;
    EVP_CIPHER_CTX *fresh = EVP_CIPHER_CTX_new();
    const bool done = EVP_EncryptInit_ex2(fresh, cipher, zeros, iv, NULL) == 1 &&
                      EVP_EncryptUpdate(fresh, expected, &written, zeros, 16) == 1 &&
                      EVP_EncryptInit_ex2(context, NULL, NULL, iv, NULL) == 1 &&
                      EVP_EncryptUpdate(context, found, &written, zeros, 16) == 1;
    EVP_CIPHER_CTX_free(fresh);
    return done && memcmp(expected, found, sizeof expected) == 0;
}

static void a_context_that_keeps_its_key_lies_in_the_secure_heap(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    struct crypto_contexts *contexts = NULL;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    CHECK_OK(sample_open(&sample, opened, &err), &err);
    CHECK_OK(crypto_contexts_view(&contexts, &err), &err);
    CHECK(contexts->secure);
    CHECK(CRYPTO_secure_allocated(contexts->block) == 1);
    CHECK(CRYPTO_secure_allocated(contexts->gcm) == 1);
}

/* Takes all of the secure heap that is left, in pieces that the caller gives back. */
static size_t fill_heap(void **pieces, size_t max)
{
    size_t count = 0;
    for (size_t size = (size_t) 1 << 20; size >= 16; size /= 2) {
        while (count < max && (pieces[count] = OPENSSL_secure_malloc(size)) != NULL) {
            count++;
        }
    }
    return count;
}

static void open_without_heap(struct sample *sample)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    struct crypto_contexts *contexts = NULL;
    CHECK_OK(crypto_contexts_view(&contexts, &err), &err);
    CHECK(!contexts->secure);
    CHECK(keyed_with_zeros(contexts->block, EVP_aes_256_ecb(), NULL));
    CHECK(keyed_with_zeros(contexts->gcm, EVP_aes_256_gcm(), vector_nonce));
    CHECK_OK(sample_open(sample, opened, &err), &err);
    CHECK(keyed_with_zeros(contexts->block, EVP_aes_256_ecb(), NULL));
    CHECK(keyed_with_zeros(contexts->gcm, EVP_aes_256_gcm(), vector_nonce));
    sample->sealed[0] ^= 1;
    CHECK_FAILS(sample_open(sample, opened, &err), &err, CORRUPTED);
    CHECK(keyed_with_zeros(contexts->gcm, EVP_aes_256_gcm(), vector_nonce));
}

static void *run_without_heap(void *sample)
{
    open_without_heap(sample);
    return NULL;
}

static void a_context_that_has_no_room_there_forgets_its_key_after_each_call(void)
{
    enum { PIECES = 4096 };
    static void *pieces[PIECES];
    struct cof_error err;
    pthread_t thread;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    const size_t count = fill_heap(pieces, PIECES);
    CHECK(count < PIECES);
    CHECK_INT(pthread_create(&thread, NULL, run_without_heap, &sample), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        OPENSSL_secure_free(pieces[i]);
    }
}

static void keys_that_take_turns_open_what_is_theirs_and_nothing_else(void)
{
    enum { ROUNDS = 8 };
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample left;
    AUTO(sample_done) struct sample right;
    CHECK_OK(sample_init(&left, &err), &err);
    CHECK_OK(sample_init(&right, &err), &err);
    struct sample crossed = left;
    crossed.key = right.key;
    for (size_t i = 0; i < ROUNDS; i++) {
        CHECK_OK(sample_open(&left, opened, &err), &err);
        CHECK_BYTES(opened, left.text, TEXT);
        CHECK_FAILS(sample_open(&crossed, opened, &err), &err, CORRUPTED);
        CHECK_OK(sample_open(&right, opened, &err), &err);
        CHECK_BYTES(opened, right.text, TEXT);
    }
}

static void a_key_takes_64_bytes_of_the_secure_heap_and_gives_them_back(void)
{
    struct cof_error err;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    const size_t before = CRYPTO_secure_used();
    struct xaes_key *key = NULL;
    CHECK_OK(xaes_key_new(sample.text, &key, &err), &err);
    CHECK(CRYPTO_secure_allocated(key) == 1);
    CHECK_INT(CRYPTO_secure_used() - before, 64);
    xaes_key_free(key);
    xaes_key_free(NULL);
    CHECK_INT(CRYPTO_secure_used(), before);
}

TEST_MAIN(TEST(sealing_gives_both_published_vectors), TEST(ten_thousand_random_messages_give_the_published_hash),
          TEST(a_million_random_messages_give_the_published_hash_when_test_full_is_set),
          TEST(what_was_sealed_opens), TEST(every_flipped_bit_is_detected_and_the_output_wiped),
          TEST(every_truncation_is_detected), TEST(sealing_and_opening_work_in_place),
          TEST(nothing_at_all_can_be_sealed_and_is_authenticated),
          TEST(more_than_the_limit_is_refused_before_it_is_touched),
          TEST(a_context_that_keeps_its_key_lies_in_the_secure_heap),
          TEST(a_context_that_has_no_room_there_forgets_its_key_after_each_call),
          TEST(keys_that_take_turns_open_what_is_theirs_and_nothing_else),
          TEST(a_key_takes_64_bytes_of_the_secure_heap_and_gives_them_back))
