#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "server/crypto/keyring.h"
#include "tests/unit/crypto/started.h"

static const blob_kind kinds[] = {BLOB_SECRET_VERSION, BLOB_WORKSPACE_KEY,          BLOB_ANSWER,
                                  BLOB_NARROWING_KEY,  BLOB_CONNECTION_CREDENTIALS, BLOB_ACCESS_TOKEN,
                                  BLOB_REFRESH_TOKEN,  BLOB_AUTHORIZATION};

static void keyring_free_auto(struct keyring **keyring)
{
    keyring_free(*keyring);
}

static struct cof_uuid numbered(uint64_t number)
{
    struct cof_uuid uuid = {{0}};
    cof_put_u64(uuid.bytes, number * 0x9E3779B97F4A7C15U);
    cof_put_u64(uuid.bytes + 8, number);
    return uuid;
}

static struct root_key *root_of(uint8_t byte)
{
    struct cof_error err;
    struct root_key *root = NULL;
    uint8_t key[CRYPTO_KEY];
    started();
    memset(key, byte, sizeof key);
    if (root_key_new(key, &root, &err) != COF_OK) {
        abort();
    }
    return root;
}

static struct keyring *keyring_of(uint8_t root_byte, size_t capacity)
{
    struct cof_error err;
    struct root_key *root = root_of(root_byte);
    struct keyring *keyring = NULL;
    if (keyring_new(&root, 1, capacity, &keyring, &err) != COF_OK) {
        abort();
    }
    return keyring;
}

static COF_CODE add_key(struct keyring *keyring, const struct cof_uuid *workspace, uint32_t generation,
                        struct cof_error *err)
{
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    TRY(keyring_generate(keyring, workspace, generation, wrapped, err));
    return keyring_install(keyring, workspace, generation, cof_slice_of(wrapped, sizeof wrapped), err);
}

enum { TEXT = 20, BLOB = TEXT + BLOB_OVERHEAD };

static const char text[] = "twenty bytes of text";

/* A keyring with two workspaces of two generations, and a blob in the first workspace. */
struct sample {
    struct keyring *keyring;
    struct blob_address address;
    uint8_t blob[BLOB];
};

static void sample_done(struct sample *sample)
{
    keyring_free(sample->keyring);
}

static COF_CODE sample_init(struct sample *sample, struct cof_error *err)
{
    *sample = (struct sample){.keyring = keyring_of(1, 10)};
    sample->address = (struct blob_address){BLOB_SECRET_VERSION, numbered(1), numbered(2), 3};
    for (uint64_t workspace = 1; workspace <= 2; workspace++) {
        const struct cof_uuid id = numbered(workspace);
        TRY(add_key(sample->keyring, &id, 1, err));
        TRY(add_key(sample->keyring, &id, 2, err));
    }
    return keyring_seal(sample->keyring, &sample->address, cof_slice_text(text), sample->blob, err);
}

static COF_CODE sample_open(const struct sample *sample, const struct blob_address *address, size_t len,
                            uint8_t opened[TEXT], struct cof_error *err)
{
    memset(opened, 0xEE, TEXT);
    return keyring_open(sample->keyring, address, cof_slice_of(sample->blob, len), opened, err);
}

static void every_kind_opens_at_its_own_address(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        sample.address.kind = kinds[i];
        CHECK_OK(keyring_seal(sample.keyring, &sample.address, cof_slice_text(text), sample.blob, &err), &err);
        CHECK_OK(sample_open(&sample, &sample.address, BLOB, opened, &err), &err);
        CHECK_BYTES(opened, text, TEXT);
    }
}

static void nothing_can_be_sealed_and_opened(void)
{
    struct cof_error err;
    uint8_t blob[BLOB_OVERHEAD];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    CHECK_OK(keyring_seal(sample.keyring, &sample.address, cof_slice_of(NULL, 0), blob, &err), &err);
    CHECK_OK(keyring_open(sample.keyring, &sample.address, cof_slice_of(blob, sizeof blob), blob, &err), &err);
}

static void blob_opens_in_place(void)
{
    struct cof_error err;
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    CHECK_OK(keyring_open(sample.keyring, &sample.address, cof_slice_of(sample.blob, BLOB),
                          sample.blob + BLOB_HEADER, &err),
             &err);
    CHECK_BYTES(sample.blob + BLOB_HEADER, text, TEXT);
}

static void two_seals_of_the_same_text_differ(void)
{
    struct cof_error err;
    uint8_t other[BLOB];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    CHECK_OK(keyring_seal(sample.keyring, &sample.address, cof_slice_text(text), other, &err), &err);
    CHECK_BYTES(other, sample.blob, BLOB_HEADER - CRYPTO_NONCE);
    CHECK(memcmp(other + BLOB_HEADER, sample.blob + BLOB_HEADER, TEXT) != 0);
}

/* A flipped bit in the generation may name a key that is not there; all else is CORRUPTED. */
static void every_flipped_bit_of_a_blob_is_detected_and_the_output_wiped(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    for (size_t bit = 0; bit < sizeof sample.blob * 8; bit++) {
        const bool in_generation = bit / 8 >= 1 && bit / 8 < 5;
        sample.blob[bit / 8] ^= (uint8_t) (1U << bit % 8);
        const cof_code code = sample_open(&sample, &sample.address, BLOB, opened, &err);
        CHECK(code == COF_DATA_LOSS || (in_generation && code == COF_INTERNAL));
        CHECK(all_zero(opened, TEXT));
        sample.blob[bit / 8] ^= (uint8_t) (1U << bit % 8);
    }
    CHECK_OK(sample_open(&sample, &sample.address, BLOB, opened, &err), &err);
}

static void every_truncation_of_a_blob_is_detected_and_the_output_wiped(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    for (size_t len = 0; len < BLOB; len++) {
        CHECK_FAILS(sample_open(&sample, &sample.address, len, opened, &err), &err, CORRUPTED);
        CHECK(len < BLOB_OVERHEAD || all_zero(opened, len - BLOB_OVERHEAD));
    }
}

static void blob_opens_at_no_other_address(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    struct blob_address others[] = {sample.address, sample.address, sample.address,
                                    sample.address, sample.address, sample.address};
    others[0].workspace = numbered(2);
    others[1].object = numbered(3);
    others[2].version = 4;
    others[3].kind = BLOB_WORKSPACE_KEY;
    others[4].kind = BLOB_ANSWER;
    others[5].kind = BLOB_NARROWING_KEY;
    for (size_t i = 0; i < COF_COUNT(others); i++) {
        CHECK_FAILS(sample_open(&sample, &others[i], BLOB, opened, &err), &err, CORRUPTED);
        CHECK(all_zero(opened, TEXT));
        CHECK(strlen(err.trail) > 0);
    }
    CHECK_OK(sample_open(&sample, &sample.address, BLOB, opened, &err), &err);
}

static void blob_does_not_open_under_another_generation(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    CHECK_INT(blob_generation(cof_slice_of(sample.blob, BLOB)), 2);
    cof_put_u32(sample.blob + 1, 1);
    CHECK_FAILS(sample_open(&sample, &sample.address, BLOB, opened, &err), &err, CORRUPTED);
}

static void blob_of_a_key_that_is_not_installed_is_an_internal_error(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    keyring_evict(sample.keyring, &sample.address.workspace);
    CHECK_FAILS(sample_open(&sample, &sample.address, BLOB, opened, &err), &err, INTERNAL);
    CHECK_CONTAINS(err.trail, "key generation 2 of workspace");
    CHECK(all_zero(opened, TEXT));
    CHECK_FAILS(keyring_seal(sample.keyring, &sample.address, cof_slice_text(text), sample.blob, &err), &err,
                INTERNAL);
}

static void generation_is_read_only_from_what_can_be_a_blob(void)
{
    uint8_t blob[BLOB_OVERHEAD] = {BLOB_FORMAT, 1, 2, 3, 4};
    CHECK_INT(blob_generation(cof_slice_of(blob, sizeof blob)), 0x01020304);
    CHECK_INT(blob_generation(cof_slice_of(blob, sizeof blob - 1)), 0);
    CHECK_INT(blob_generation(cof_slice_of(NULL, 0)), 0);
    blob[0] = 2;
    CHECK_INT(blob_generation(cof_slice_of(blob, sizeof blob)), 0);
}

static void every_flipped_bit_and_truncation_of_a_wrapped_key_is_detected(void)
{
    struct cof_error err;
    uint8_t wrapped[WRAPPED_KEY_SIZE + 1] = {0};
    const struct cof_uuid workspace = numbered(1);
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(1, 10);
    CHECK_OK(keyring_generate(keyring, &workspace, 1, wrapped, &err), &err);
    for (size_t bit = 0; bit < (size_t) WRAPPED_KEY_SIZE * 8; bit++) {
        wrapped[bit / 8] ^= (uint8_t) (1U << bit % 8);
        CHECK_FAILS(keyring_install(keyring, &workspace, 1, cof_slice_of(wrapped, WRAPPED_KEY_SIZE), &err), &err,
                    CORRUPTED);
        wrapped[bit / 8] ^= (uint8_t) (1U << bit % 8);
    }
    for (size_t len = 0; len <= sizeof wrapped; len++) {
        if (len != WRAPPED_KEY_SIZE) {
            CHECK_FAILS(keyring_install(keyring, &workspace, 1, cof_slice_of(wrapped, len), &err), &err, CORRUPTED);
        }
    }
    CHECK_INT(keyring_generation(keyring, &workspace), 0);
    CHECK_OK(keyring_install(keyring, &workspace, 1, cof_slice_of(wrapped, WRAPPED_KEY_SIZE), &err), &err);
}

static void wrapped_key_opens_for_no_other_workspace_or_generation(void)
{
    struct cof_error err;
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    const struct cof_slice bytes = {wrapped, sizeof wrapped};
    const struct cof_uuid workspace = numbered(1);
    const struct cof_uuid other = numbered(2);
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(1, 10);
    CHECK_OK(keyring_generate(keyring, &workspace, 1, wrapped, &err), &err);
    CHECK_FAILS(keyring_install(keyring, &other, 1, bytes, &err), &err, CORRUPTED);
    CHECK_FAILS(keyring_install(keyring, &workspace, 2, bytes, &err), &err, CORRUPTED);
    CHECK_CONTAINS(err.trail, "workspace_key");
}

static void generation_0_is_refused(void)
{
    struct cof_error err;
    uint8_t bytes[WRAPPED_KEY_SIZE] = {0};
    const struct cof_uuid workspace = numbered(1);
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(1, 10);
    CHECK_FAILS(keyring_generate(keyring, &workspace, 0, bytes, &err), &err, INTERNAL);
    CHECK_FAILS(keyring_install(keyring, &workspace, 0, cof_slice_of(bytes, sizeof bytes), &err), &err, CORRUPTED);
    CHECK_OK(add_key(keyring, &workspace, 1, &err), &err);
    CHECK_FAILS(keyring_row_mac(keyring, &workspace, 0, cof_slice_text(""), bytes, &err), &err, INTERNAL);
    CHECK(!keyring_has(keyring, &workspace, 0));
}

static void new_root_key_wraps_and_the_old_one_still_unwraps(void)
{
    struct cof_error err;
    uint8_t old_wrapped[WRAPPED_KEY_SIZE];
    uint8_t new_wrapped[WRAPPED_KEY_SIZE];
    const struct cof_uuid workspace = numbered(1);
    struct root_key *roots[] = {root_of(2), root_of(1)};
    AUTO(keyring_free_auto) struct keyring *before = keyring_of(1, 10);
    AUTO(keyring_free_auto) struct keyring *after = NULL;
    CHECK_OK(keyring_new(roots, COF_COUNT(roots), 10, &after, &err), &err);
    CHECK_OK(keyring_generate(before, &workspace, 1, old_wrapped, &err), &err);
    CHECK_OK(keyring_generate(after, &workspace, 2, new_wrapped, &err), &err);
    CHECK_OK(keyring_install(after, &workspace, 1, cof_slice_of(old_wrapped, sizeof old_wrapped), &err), &err);
    CHECK_OK(keyring_install(after, &workspace, 2, cof_slice_of(new_wrapped, sizeof new_wrapped), &err), &err);
    CHECK_BYTES(new_wrapped + 1, root_key_id(roots[0]), ROOT_KEY_ID);
    CHECK_FAILS(keyring_install(before, &workspace, 2, cof_slice_of(new_wrapped, sizeof new_wrapped), &err), &err,
                CORRUPTED);
    CHECK_CONTAINS(err.message, "was wrapped by root key ");
}

static void root_key_that_is_named_wraps_whatever_the_order(void)
{
    struct cof_error err;
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    uint8_t again[WRAPPED_KEY_SIZE];
    const struct cof_uuid workspace = numbered(1);
    struct root_key *roots[] = {root_of(1), root_of(2)};
    AUTO(keyring_free_auto) struct keyring *keyring = NULL;
    CHECK_OK(keyring_new(roots, COF_COUNT(roots), 10, &keyring, &err), &err);
    const struct cof_slice first = {root_key_id(roots[0]), ROOT_KEY_ID};
    const struct cof_slice second = {root_key_id(roots[1]), ROOT_KEY_ID};
    CHECK(keyring_wrap_with(keyring, second));
    CHECK(!keyring_wrap_with(keyring, cof_slice_text("12345678")));
    CHECK_OK(keyring_generate(keyring, &workspace, 1, wrapped, &err), &err);
    CHECK(cof_slice_equal(wrapped_root_id(cof_slice_of(wrapped, sizeof wrapped)), second));
    CHECK(keyring_wrap_with(keyring, first));
    const struct blob_address address = workspace_key_address(BLOB_WORKSPACE_KEY, &workspace, 1);
    CHECK_OK(keyring_rewrap(keyring, &address, cof_slice_of(wrapped, sizeof wrapped), again, &err), &err);
    CHECK(cof_slice_equal(wrapped_root_id(cof_slice_of(again, sizeof again)), first));
    AUTO(keyring_free_auto) struct keyring *alone = keyring_of(1, 10);
    CHECK_OK(keyring_install(alone, &workspace, 1, cof_slice_of(again, sizeof again), &err), &err);
    wrapped[WRAPPED_KEY_SIZE - 1] ^= 1U;
    CHECK_FAILS(keyring_rewrap(keyring, &address, cof_slice_of(wrapped, sizeof wrapped), again, &err), &err,
                CORRUPTED);
}

static void root_key_that_is_there_twice_is_refused(void)
{
    struct cof_error err;
    struct root_key *roots[] = {root_of(1), root_of(2), root_of(1)};
    struct keyring *keyring = NULL;
    CHECK_FAILS(keyring_new(roots, COF_COUNT(roots), 10, &keyring, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "root keys number 1 and 3 are the same key");
    for (size_t i = 0; i < COF_COUNT(roots); i++) {
        root_key_free(roots[i]);
    }
}

/* What was sealed under it is gone, and the MACs that it made can still be checked. */
static void retired_key_checks_macs_and_opens_and_seals_nothing(void)
{
    struct cof_error err;
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    uint8_t rest[WRAPPED_KEY_SIZE];
    uint8_t blob[BLOB];
    uint8_t opened[TEXT];
    uint8_t macs[2][CRYPTO_DIGEST];
    const struct cof_uuid workspace = numbered(1);
    const struct blob_address address = {BLOB_SECRET_VERSION, workspace, numbered(2), 3};
    AUTO(keyring_free_auto) struct keyring *before = keyring_of(1, 10);
    AUTO(keyring_free_auto) struct keyring *after = keyring_of(1, 10);
    CHECK_OK(keyring_generate(before, &workspace, 1, wrapped, &err), &err);
    CHECK_OK(keyring_install(before, &workspace, 1, cof_slice_of(wrapped, sizeof wrapped), &err), &err);
    CHECK_OK(keyring_seal(before, &address, cof_slice_text(text), blob, &err), &err);
    CHECK_OK(keyring_row_mac(before, &workspace, 1, cof_slice_text("row"), macs[0], &err), &err);
    CHECK_OK(keyring_retire(before, &workspace, 1, cof_slice_of(wrapped, sizeof wrapped), rest, &err), &err);
    CHECK_FAILS(keyring_install(after, &workspace, 1, cof_slice_of(rest, sizeof rest), &err), &err, CORRUPTED);
    CHECK_FAILS(keyring_install_retired(after, &workspace, 1, cof_slice_of(wrapped, sizeof wrapped), &err), &err,
                CORRUPTED);
    CHECK_FAILS(keyring_install_retired(after, &workspace, 2, cof_slice_of(rest, sizeof rest), &err), &err,
                CORRUPTED);
    CHECK_OK(keyring_install_retired(after, &workspace, 1, cof_slice_of(rest, sizeof rest), &err), &err);
    CHECK_OK(keyring_row_mac(after, &workspace, 1, cof_slice_text("row"), macs[1], &err), &err);
    CHECK_BYTES(macs[1], macs[0], CRYPTO_DIGEST);
    CHECK_FAILS(keyring_open(after, &address, cof_slice_of(blob, BLOB), opened, &err), &err, CORRUPTED);
    CHECK_FAILS(keyring_seal(after, &address, cof_slice_text(text), blob, &err), &err, CORRUPTED);
}

static void forgotten_generation_is_gone_and_the_others_stay(void)
{
    struct cof_error err;
    const struct cof_uuid workspace = numbered(1);
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(1, 10);
    for (uint32_t generation = 1; generation <= 3; generation++) {
        CHECK_OK(add_key(keyring, &workspace, generation, &err), &err);
    }
    keyring_forget(keyring, &workspace, 2);
    CHECK(keyring_has(keyring, &workspace, 1) && !keyring_has(keyring, &workspace, 2));
    CHECK_INT(keyring_generation(keyring, &workspace), 3);
    keyring_forget(keyring, &workspace, 3);
    CHECK_INT(keyring_generation(keyring, &workspace), 1);
    keyring_forget(keyring, &workspace, 3);
    keyring_forget(keyring, &workspace, 1);
    CHECK_INT(keyring_generation(keyring, &workspace), 0);
    CHECK_OK(add_key(keyring, &workspace, 4, &err), &err);
    CHECK_INT(keyring_generation(keyring, &workspace), 4);
}

static void keyring_without_or_with_too_many_root_keys_is_refused(void)
{
    struct cof_error err;
    struct keyring *keyring = NULL;
    struct root_key *roots[KEYRING_ROOTS_MAX + 1] = {root_of(1)};
    CHECK_FAILS(keyring_new(roots, 0, 10, &keyring, &err), &err, CONFIG_INVALID);
    CHECK_FAILS(keyring_new(roots, KEYRING_ROOTS_MAX + 1, 10, &keyring, &err), &err, CONFIG_INVALID);
    CHECK_FAILS(keyring_new(roots, 1, 0, &keyring, &err), &err, CONFIG_INVALID);
    CHECK_FAILS(keyring_new(roots, 1, KEYRING_CAPACITY_MAX + 1, &keyring, &err), &err, CONFIG_INVALID);
    CHECK(keyring == NULL);
    root_key_free(roots[0]);
}

static void highest_generation_seals_in_whatever_order_they_are_installed(void)
{
    static const uint32_t generations[] = {3, 1, 5, 4};
    static const uint32_t highest[] = {3, 3, 5, 5};
    struct cof_error err;
    uint8_t blob[BLOB];
    const struct blob_address address = {BLOB_ANSWER, numbered(1), numbered(1), 0};
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(1, 10);
    CHECK_INT(keyring_generation(keyring, &address.workspace), 0);
    for (size_t i = 0; i < COF_COUNT(generations); i++) {
        CHECK(!keyring_has(keyring, &address.workspace, generations[i]));
        CHECK_OK(add_key(keyring, &address.workspace, generations[i], &err), &err);
        CHECK(keyring_has(keyring, &address.workspace, generations[i]));
        CHECK_INT(keyring_generation(keyring, &address.workspace), highest[i]);
        CHECK_OK(keyring_seal(keyring, &address, cof_slice_text(text), blob, &err), &err);
        CHECK_INT(blob_generation(cof_slice_of(blob, sizeof blob)), highest[i]);
    }
}

static void installing_a_key_again_changes_nothing(void)
{
    struct cof_error err;
    uint8_t opened[TEXT];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    const size_t used = CRYPTO_secure_used();
    CHECK_OK(add_key(sample.keyring, &sample.address.workspace, 2, &err), &err);
    CHECK_OK(sample_open(&sample, &sample.address, BLOB, opened, &err), &err);
    CHECK_INT(CRYPTO_secure_used(), used);
}

static void row_mac_depends_on_workspace_generation_and_data(void)
{
    struct cof_error err;
    uint8_t macs[5][CRYPTO_DIGEST];
    AUTO(sample_done) struct sample sample = {0};
    CHECK_OK(sample_init(&sample, &err), &err);
    const struct cof_uuid one = numbered(1);
    const struct cof_uuid two = numbered(2);
    const struct cof_slice row = cof_slice_text("row");
    CHECK_OK(keyring_row_mac(sample.keyring, &one, 1, row, macs[0], &err), &err);
    CHECK_OK(keyring_row_mac(sample.keyring, &one, 1, row, macs[1], &err), &err);
    CHECK_OK(keyring_row_mac(sample.keyring, &one, 2, row, macs[2], &err), &err);
    CHECK_OK(keyring_row_mac(sample.keyring, &two, 1, row, macs[3], &err), &err);
    CHECK_OK(keyring_row_mac(sample.keyring, &one, 1, cof_slice_text("roe"), macs[4], &err), &err);
    CHECK_BYTES(macs[0], macs[1], CRYPTO_DIGEST);
    for (size_t i = 2; i < COF_COUNT(macs); i++) {
        CHECK(memcmp(macs[0], macs[i], CRYPTO_DIGEST) != 0);
    }
    CHECK_FAILS(keyring_row_mac(sample.keyring, &one, 3, row, macs[0], &err), &err, INTERNAL);
}

static void each_key_takes_the_documented_bytes_of_the_secure_heap(void)
{
    enum { KEYS = 50 };
    struct cof_error err;
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(1, KEYS);
    uint8_t warm[WRAPPED_KEY_SIZE];
    const struct cof_uuid first = numbered(1);
    CHECK_OK(keyring_generate(keyring, &first, 1, warm, &err), &err);
    const size_t before = CRYPTO_secure_used();
    for (uint32_t i = 1; i <= KEYS; i++) {
        const struct cof_uuid workspace = numbered(i);
        CHECK_OK(add_key(keyring, &workspace, i, &err), &err);
        CHECK_INT(CRYPTO_secure_used() - before, i * KEYRING_HEAP_PER_KEY);
    }
    for (uint32_t i = 1; i <= KEYS; i++) {
        const struct cof_uuid workspace = numbered(i);
        keyring_evict(keyring, &workspace);
    }
    CHECK_INT(CRYPTO_secure_used(), before);
}

static void full_secure_heap_fails_an_install_and_nothing_else(void)
{
    static void *taken[65536];
    struct cof_error err;
    uint8_t opened[TEXT];
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    size_t count = 0;
    AUTO(sample_done) struct sample sample = {0};
    const struct cof_uuid other = numbered(3);
    CHECK_OK(sample_init(&sample, &err), &err);
    CHECK_OK(keyring_generate(sample.keyring, &other, 1, wrapped, &err), &err);
    do {
        taken[count] = OPENSSL_secure_malloc(32);
    } while (taken[count] != NULL && ++count < COF_COUNT(taken));
    const cof_code code = keyring_install(sample.keyring, &other, 1, cof_slice_of(wrapped, sizeof wrapped), &err);
    const cof_reason reason = err.reason;
    const cof_code opens = sample_open(&sample, &sample.address, BLOB, opened, &err);
    while (count > 0) {
        OPENSSL_secure_free(taken[--count]);
    }
    CHECK_INT(code, COF_RESOURCE_EXHAUSTED);
    CHECK_INT(reason, COF_REASON_OUT_OF_MEMORY);
    CHECK_OK(opens, &err);
    CHECK_OK(keyring_install(sample.keyring, &other, 1, cof_slice_of(wrapped, sizeof wrapped), &err), &err);
}

/* --- What is kept in memory ----------------------------------------------------------------------------------- */

enum { KEPT = TEXT + KEYRING_KEPT_OVERHEAD };

static COF_CODE open_kept(const struct sample *sample, const uint8_t kept[KEPT], size_t size, uint8_t opened[TEXT],
                          struct cof_error *err)
{
    memset(opened, 0xAA, TEXT);
    return keyring_open_kept(sample->keyring, &sample->address, cof_slice_of(kept, size), opened, err);
}

static void what_is_kept_opens_at_its_own_address_and_nowhere_else(void)
{
    struct cof_error err;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    uint8_t kept[KEPT];
    uint8_t opened[TEXT];
    CHECK_OK(keyring_seal_kept(sample.keyring, &sample.address, cof_slice_text(text), kept, &err), &err);
    CHECK_OK(open_kept(&sample, kept, KEPT, opened, &err), &err);
    CHECK_BYTES(opened, text, TEXT);
    for (size_t i = 0; i < 4; i++) {
        struct sample moved = sample;
        moved.address.kind = i == 0 ? BLOB_ANSWER : moved.address.kind;
        moved.address.workspace = i == 1 ? numbered(9) : moved.address.workspace;
        moved.address.object = i == 2 ? numbered(9) : moved.address.object;
        moved.address.version += i == 3 ? 1 : 0;
        CHECK_FAILS(open_kept(&moved, kept, KEPT, opened, &err), &err, CORRUPTED);
    }
    CHECK_OK(open_kept(&sample, kept, KEPT, opened, &err), &err);
}

static void every_flipped_bit_and_truncation_of_what_is_kept_is_detected_and_wiped(void)
{
    static const uint8_t zeros[TEXT];
    struct cof_error err;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    uint8_t kept[KEPT];
    uint8_t opened[TEXT];
    CHECK_OK(keyring_seal_kept(sample.keyring, &sample.address, cof_slice_text(text), kept, &err), &err);
    for (size_t bit = 0; bit < 8 * (size_t) KEPT; bit++) {
        kept[bit / 8] ^= (uint8_t) (1U << bit % 8);
        CHECK_FAILS(open_kept(&sample, kept, KEPT, opened, &err), &err, CORRUPTED);
        CHECK_BYTES(opened, zeros, TEXT);
        kept[bit / 8] ^= (uint8_t) (1U << bit % 8);
    }
    for (size_t size = 0; size < KEPT; size++) {
        CHECK_FAILS(open_kept(&sample, kept, size, opened, &err), &err, CORRUPTED);
    }
}

static void what_one_keyring_keeps_no_other_one_opens(void)
{
    struct cof_error err;
    AUTO(sample_done) struct sample one;
    AUTO(sample_done) struct sample two;
    CHECK_OK(sample_init(&one, &err), &err);
    CHECK_OK(sample_init(&two, &err), &err);
    uint8_t kept[KEPT];
    uint8_t opened[TEXT];
    CHECK_OK(keyring_seal_kept(one.keyring, &one.address, cof_slice_text(text), kept, &err), &err);
    CHECK_OK(open_kept(&one, kept, KEPT, opened, &err), &err);
    CHECK_FAILS(open_kept(&two, kept, KEPT, opened, &err), &err, CORRUPTED);
    CHECK_OK(open_kept(&one, kept, KEPT, opened, &err), &err);
}

static void no_two_seals_of_what_is_kept_have_one_nonce_and_a_forked_child_seals_nothing(void)
{
    struct cof_error err;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    uint8_t first[KEPT];
    uint8_t second[KEPT];
    CHECK_OK(keyring_seal_kept(sample.keyring, &sample.address, cof_slice_text(text), first, &err), &err);
    CHECK_OK(keyring_seal_kept(sample.keyring, &sample.address, cof_slice_text(text), second, &err), &err);
    CHECK(memcmp(first, second, KEYRING_KEPT_OVERHEAD - CRYPTO_TAG) != 0);
    const pid_t child = fork();
    if (child == 0) {
        _exit(keyring_seal_kept(sample.keyring, &sample.address, cof_slice_text(text), second, &err) == COF_INTERNAL
                  ? 0
                  : 1);
    }
    int status = -1;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
}

/* Opens on a thread of its own, whose context is made for it. */
struct opening {
    const struct sample *sample;
    const uint8_t *kept;
    size_t used_before; /* bytes of the secure heap */
    size_t used_after;
    cof_code code;
};

static void *open_once(void *context)
{
    struct opening *opening = context;
    struct cof_error err;
    uint8_t opened[TEXT];
    opening->used_before = CRYPTO_secure_used();
    opening->code = open_kept(opening->sample, opening->kept, KEPT, opened, &err);
    opening->used_after = CRYPTO_secure_used();
    return NULL;
}

static void open_on_a_thread(struct opening *opening)
{
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, open_once, opening), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

static void context_that_stays_keyed_lies_in_the_secure_heap_and_goes_with_its_thread(void)
{
    struct cof_error err;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    uint8_t kept[KEPT];
    CHECK_OK(keyring_seal_kept(sample.keyring, &sample.address, cof_slice_text(text), kept, &err), &err);
    const size_t before = CRYPTO_secure_used();
    struct opening opening = {.sample = &sample, .kept = kept};
    open_on_a_thread(&opening);
    CHECK_INT(opening.code, COF_OK);
    /* At least the round keys of AES-256 and the multiples of GHASH's key. */
    CHECK(opening.used_after >= opening.used_before + 240 + 256);
    CHECK_INT(CRYPTO_secure_used(), before);
}

static void what_is_kept_opens_without_a_context_where_the_secure_heap_is_full(void)
{
    static void *taken[65536];
    struct cof_error err;
    AUTO(sample_done) struct sample sample;
    CHECK_OK(sample_init(&sample, &err), &err);
    uint8_t kept[KEPT];
    size_t count = 0;
    CHECK_OK(keyring_seal_kept(sample.keyring, &sample.address, cof_slice_text(text), kept, &err), &err);
    while (count < COF_COUNT(taken) && (taken[count] = OPENSSL_secure_malloc(1)) != NULL) {
        count++;
    }
    struct opening opening = {.sample = &sample, .kept = kept};
    open_on_a_thread(&opening);
    while (count > 0) {
        OPENSSL_secure_free(taken[--count]);
    }
    CHECK_INT(opening.code, COF_OK);
    CHECK_INT(opening.used_after, opening.used_before);
}

TEST_MAIN(TEST(every_kind_opens_at_its_own_address), TEST(nothing_can_be_sealed_and_opened),
          TEST(blob_opens_in_place), TEST(two_seals_of_the_same_text_differ),
          TEST(every_flipped_bit_of_a_blob_is_detected_and_the_output_wiped),
          TEST(every_truncation_of_a_blob_is_detected_and_the_output_wiped), TEST(blob_opens_at_no_other_address),
          TEST(blob_does_not_open_under_another_generation),
          TEST(blob_of_a_key_that_is_not_installed_is_an_internal_error),
          TEST(generation_is_read_only_from_what_can_be_a_blob),
          TEST(every_flipped_bit_and_truncation_of_a_wrapped_key_is_detected),
          TEST(wrapped_key_opens_for_no_other_workspace_or_generation), TEST(generation_0_is_refused),
          TEST(new_root_key_wraps_and_the_old_one_still_unwraps),
          TEST(root_key_that_is_named_wraps_whatever_the_order), TEST(root_key_that_is_there_twice_is_refused),
          TEST(retired_key_checks_macs_and_opens_and_seals_nothing),
          TEST(forgotten_generation_is_gone_and_the_others_stay),
          TEST(keyring_without_or_with_too_many_root_keys_is_refused),
          TEST(highest_generation_seals_in_whatever_order_they_are_installed),
          TEST(installing_a_key_again_changes_nothing), TEST(row_mac_depends_on_workspace_generation_and_data),
          TEST(each_key_takes_the_documented_bytes_of_the_secure_heap),
          TEST(full_secure_heap_fails_an_install_and_nothing_else),
          TEST(what_is_kept_opens_at_its_own_address_and_nowhere_else),
          TEST(every_flipped_bit_and_truncation_of_what_is_kept_is_detected_and_wiped),
          TEST(what_one_keyring_keeps_no_other_one_opens),
          TEST(no_two_seals_of_what_is_kept_have_one_nonce_and_a_forked_child_seals_nothing),
          TEST(context_that_stays_keyed_lies_in_the_secure_heap_and_goes_with_its_thread),
          TEST(what_is_kept_opens_without_a_context_where_the_secure_heap_is_full))
