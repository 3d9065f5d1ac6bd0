#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "server/crypto/key_table.h"
#include "server/crypto/keyring.h"
#include "tests/unit/crypto/started.h"

/* What is kept and what goes, and what threads may do to the keyring at once. */

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

static struct keyring *keyring_of(size_t capacity)
{
    struct cof_error err;
    struct root_key *root = NULL;
    struct keyring *keyring = NULL;
    const uint8_t key[CRYPTO_KEY] = {1};
    started();
    if (root_key_new(key, &root, &err) != COF_OK || keyring_new(&root, 1, capacity, &keyring, &err) != COF_OK) {
        abort();
    }
    return keyring;
}

static COF_CODE add_key(struct keyring *keyring, uint64_t number, uint32_t generation, struct cof_error *err)
{
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    const struct cof_uuid workspace = numbered(number);
    TRY(keyring_generate(keyring, &workspace, generation, wrapped, err));
    return keyring_install(keyring, &workspace, generation, cof_slice_of(wrapped, sizeof wrapped), err);
}

static COF_CODE seal_in(struct keyring *keyring, uint64_t number, uint8_t blob[BLOB_OVERHEAD],
                        struct cof_error *err)
{
    const struct blob_address address = {BLOB_ANSWER, numbered(number), numbered(number), 0};
    return keyring_seal(keyring, &address, cof_slice_of(NULL, 0), blob, err);
}

static int has(struct keyring *keyring, uint64_t number, uint32_t generation)
{
    const struct cof_uuid workspace = numbered(number);
    return keyring_has(keyring, &workspace, generation);
}

static void least_recently_used_workspace_goes_with_all_its_keys(void)
{
    struct cof_error err;
    uint8_t blob[BLOB_OVERHEAD];
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(4);
    CHECK_OK(add_key(keyring, 1, 1, &err), &err);
    CHECK_OK(add_key(keyring, 1, 2, &err), &err);
    CHECK_OK(add_key(keyring, 2, 1, &err), &err);
    CHECK_OK(add_key(keyring, 3, 1, &err), &err);
    CHECK_OK(seal_in(keyring, 3, blob, &err), &err);
    CHECK_OK(seal_in(keyring, 1, blob, &err), &err);
    CHECK_OK(add_key(keyring, 4, 1, &err), &err);
    CHECK(!has(keyring, 2, 1) && has(keyring, 1, 1) && has(keyring, 1, 2) && has(keyring, 3, 1));
    CHECK_OK(seal_in(keyring, 3, blob, &err), &err);
    CHECK_OK(seal_in(keyring, 4, blob, &err), &err);
    CHECK_OK(add_key(keyring, 5, 1, &err), &err);
    CHECK(!has(keyring, 1, 1) && !has(keyring, 1, 2) && has(keyring, 3, 1) && has(keyring, 4, 1));
}

static void asking_for_a_generation_does_not_count_as_use(void)
{
    struct cof_error err;
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(2);
    const struct cof_uuid first = numbered(1);
    CHECK_OK(add_key(keyring, 1, 1, &err), &err);
    CHECK_OK(add_key(keyring, 2, 1, &err), &err);
    CHECK_INT(keyring_generation(keyring, &first), 1);
    CHECK_OK(add_key(keyring, 3, 1, &err), &err);
    CHECK(!has(keyring, 1, 1) && has(keyring, 2, 1));
}

static void workspace_that_gets_a_key_goes_last(void)
{
    struct cof_error err;
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(2);
    CHECK_OK(add_key(keyring, 1, 1, &err), &err);
    CHECK_OK(add_key(keyring, 2, 1, &err), &err);
    CHECK_OK(add_key(keyring, 1, 2, &err), &err);
    CHECK(has(keyring, 1, 1) && has(keyring, 1, 2) && !has(keyring, 2, 1));
    CHECK_OK(add_key(keyring, 1, 3, &err), &err);
    CHECK(!has(keyring, 1, 1) && !has(keyring, 1, 2) && has(keyring, 1, 3));
}

static void evicting_a_workspace_that_is_not_there_changes_nothing(void)
{
    struct cof_error err;
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(2);
    const struct cof_uuid other = numbered(2);
    CHECK_OK(add_key(keyring, 1, 1, &err), &err);
    keyring_evict(keyring, &other);
    CHECK(has(keyring, 1, 1));
}

/* The simplest thing that behaves as the table should: a list of workspaces, the last used at the end. */
enum { MODEL_WORKSPACES = 20, MODEL_GENERATIONS = 3, MODEL_CAPACITY = 8 };

struct model {
    uint64_t order[MODEL_WORKSPACES]; /* numbers of workspaces, the least recently used first */
    size_t count;
    bool keys[MODEL_WORKSPACES][MODEL_GENERATIONS + 1];
};

static void model_remove(struct model *model, uint64_t number)
{
    size_t kept = 0;
    for (size_t i = 0; i < model->count; i++) {
        if (model->order[i] != number) {
            model->order[kept++] = model->order[i];
        }
    }
    model->count = kept;
}

static void model_use(struct model *model, uint64_t number)
{
    model_remove(model, number);
    model->order[model->count++] = number;
}

static void model_evict(struct model *model, uint64_t number)
{
    model_remove(model, number);
    memset(model->keys[number], 0, sizeof model->keys[number]);
}

static size_t model_size(const struct model *model)
{
    size_t size = 0;
    for (size_t i = 0; i < MODEL_WORKSPACES; i++) {
        for (size_t generation = 1; generation <= MODEL_GENERATIONS; generation++) {
            size += model->keys[i][generation];
        }
    }
    return size;
}

static void model_install(struct model *model, uint64_t number, uint32_t generation)
{
    if (model->keys[number][generation]) {
        return;
    }
    model_use(model, number);
    while (model_size(model) >= MODEL_CAPACITY) {
        model_evict(model, model->order[0]);
    }
    model_use(model, number);
    model->keys[number][generation] = true;
}

static void model_compare(const struct model *model, struct keyring *keyring)
{
    for (uint64_t number = 0; number < MODEL_WORKSPACES; number++) {
        for (uint32_t generation = 1; generation <= MODEL_GENERATIONS; generation++) {
            CHECK_INT(has(keyring, number, generation), model->keys[number][generation]);
        }
    }
}

static void model_step(struct model *model, struct keyring *keyring, uint64_t *state)
{
    struct cof_error err;
    uint8_t blob[BLOB_OVERHEAD];
    const uint64_t number = test_random(state) % MODEL_WORKSPACES;
    const uint32_t generation = (uint32_t) (1 + test_random(state) % MODEL_GENERATIONS);
    const uint64_t choice = test_random(state) % 16;
    if (choice == 0) {
        const struct cof_uuid workspace = numbered(number);
        keyring_evict(keyring, &workspace);
        model_evict(model, number);
    } else if (choice < 8) {
        CHECK_OK(add_key(keyring, number, generation, &err), &err);
        model_install(model, number, generation);
    } else if (seal_in(keyring, number, blob, &err) == COF_OK) {
        model_use(model, number);
    }
}

static void keyring_keeps_exactly_what_a_simple_model_keeps(void)
{
    uint64_t state = test_seed();
    struct model model = {.count = 0};
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(MODEL_CAPACITY);
    for (int i = 0; i < 20000 && test_failures == 0; i++) {
        model_step(&model, keyring, &state);
        model_compare(&model, keyring);
    }
}

static size_t count_installed(struct keyring *keyring, uint64_t workspaces)
{
    size_t count = 0;
    for (uint64_t i = 0; i < workspaces; i++) {
        count += has(keyring, i, 1) != 0;
    }
    return count;
}

static void ten_thousand_workspaces_share_a_keyring_of_100(void)
{
    enum { WORKSPACES = 10000, CAPACITY = 100 };
    static uint8_t wrapped[WORKSPACES][WRAPPED_KEY_SIZE];
    static uint8_t blobs[WORKSPACES][BLOB_OVERHEAD];
    struct cof_error err;
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(CAPACITY);
    const size_t before = CRYPTO_secure_used();
    for (size_t i = 0; i < WORKSPACES; i++) {
        const struct cof_uuid id = numbered(i);
        CHECK_OK(keyring_generate(keyring, &id, 1, wrapped[i], &err), &err);
        CHECK_OK(keyring_install(keyring, &id, 1, cof_slice_of(wrapped[i], WRAPPED_KEY_SIZE), &err), &err);
        CHECK_OK(seal_in(keyring, i, blobs[i], &err), &err);
        CHECK(CRYPTO_secure_used() <= before + (size_t) CAPACITY * KEYRING_HEAP_PER_KEY + 1024);
    }
    CHECK_INT(count_installed(keyring, WORKSPACES), CAPACITY);
    CHECK_INT(count_installed(keyring, WORKSPACES - CAPACITY), 0);
    for (size_t i = 0; i < WORKSPACES; i++) {
        const struct blob_address address = {BLOB_ANSWER, numbered(i), numbered(i), 0};
        CHECK_OK(keyring_install(keyring, &address.workspace, 1, cof_slice_of(wrapped[i], WRAPPED_KEY_SIZE), &err),
                 &err);
        CHECK_OK(keyring_open(keyring, &address, cof_slice_of(blobs[i], BLOB_OVERHEAD), blobs[i], &err), &err);
    }
}

static void taken_key_works_on_after_its_workspace_is_evicted(void)
{
    struct cof_error err;
    const uint8_t raw[CRYPTO_KEY] = {7};
    const struct cof_uuid workspace = numbered(1);
    struct key_table *table = NULL;
    struct opened_key *key = NULL;
    uint8_t sealed[CRYPTO_TAG];
    started();
    CHECK_OK(key_table_new(1, &table, &err), &err);
    CHECK_OK(opened_key_new(&workspace, 1, raw, &key, &err), &err);
    CHECK_OK(key_table_install(table, key, &err), &err);
    struct opened_key *taken = key_table_take(table, &workspace, 0);
    CHECK(taken == key);
    key_table_evict(table, &workspace);
    CHECK(key_table_take(table, &workspace, 0) == NULL);
    CHECK_OK(xaes_seal(taken->seal, (const uint8_t[CRYPTO_NONCE]){0}, cof_slice_of(NULL, 0), cof_slice_of(NULL, 0),
                       sealed, &err),
             &err);
    opened_key_release(taken);
    opened_key_release(NULL);
    key_table_free(table);
}

enum { THREADS = 4, SEALS = 50000, CHILD_SEALS = 20000, ALL_SEALS = THREADS * SEALS + 2 * CHILD_SEALS };

struct sealer {
    struct keyring *keyring;
    uint8_t (*nonces)[CRYPTO_NONCE];
    size_t count;
    size_t failures;
};

static void *seal_many(void *argument)
{
    struct cof_error err;
    struct sealer *sealer = argument;
    uint8_t blob[BLOB_OVERHEAD];
    for (size_t i = 0; i < sealer->count; i++) {
        sealer->failures += seal_in(sealer->keyring, 1, blob, &err) != COF_OK;
        memcpy(sealer->nonces[i], blob + BLOB_HEADER - CRYPTO_NONCE, CRYPTO_NONCE);
    }
    return NULL;
}

static int compare_nonces(const void *a, const void *b)
{
    return memcmp(a, b, CRYPTO_NONCE);
}

static size_t seal_in_threads(struct keyring *keyring, uint8_t (*nonces)[CRYPTO_NONCE])
{
    pthread_t threads[THREADS];
    struct sealer sealers[THREADS];
    size_t failures = 0;
    for (size_t i = 0; i < THREADS; i++) {
        sealers[i] = (struct sealer){keyring, nonces + i * SEALS, SEALS, 0};
        failures += pthread_create(&threads[i], NULL, seal_many, &sealers[i]) != 0;
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void) pthread_join(threads[i], NULL);
        failures += sealers[i].failures;
    }
    return failures;
}

/* Parent and child go on from the same state at the same time. */
static size_t seal_in_fork(struct keyring *keyring, uint8_t (*nonces)[CRYPTO_NONCE])
{
    struct sealer sealer = {keyring, nonces, CHILD_SEALS, 0};
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        (void) seal_many(&sealer);
        _exit(sealer.failures == 0 ? 0 : 1);
    }
    sealer.nonces = nonces + CHILD_SEALS;
    (void) seal_many(&sealer);
    int status = 1;
    return waitpid(child, &status, 0) == child && status == 0 ? sealer.failures : 1;
}

static void no_nonce_comes_twice_in_threads_and_a_forked_child(void)
{
    struct cof_error err;
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(1);
    CHECK_OK(add_key(keyring, 1, 1, &err), &err);
    uint8_t(*nonces)[CRYPTO_NONCE] = mmap(NULL, sizeof(uint8_t[ALL_SEALS][CRYPTO_NONCE]), PROT_READ | PROT_WRITE,
                                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(nonces != MAP_FAILED);
    CHECK_INT(seal_in_threads(keyring, nonces), 0);
    CHECK_INT(seal_in_fork(keyring, nonces + (size_t) THREADS * SEALS), 0);
    qsort(nonces, ALL_SEALS, CRYPTO_NONCE, compare_nonces);
    for (size_t i = 1; i < ALL_SEALS; i++) {
        CHECK(memcmp(nonces[i - 1], nonces[i], CRYPTO_NONCE) != 0);
    }
    CHECK_INT(munmap(nonces, sizeof(uint8_t[ALL_SEALS][CRYPTO_NONCE])), 0);
}

enum { STORM_WORKSPACES = 12, STORM_CAPACITY = 5, STORM_ROUNDS = 3000 };

struct storm {
    struct keyring *keyring;
    uint8_t (*wrapped)[WRAPPED_KEY_SIZE];
    uint64_t state;
    size_t wrong;
};

static cof_code seal_and_open(struct keyring *keyring, uint64_t number, struct cof_error *err)
{
    uint8_t blob[4 + BLOB_OVERHEAD];
    uint8_t opened[4];
    const struct blob_address address = {BLOB_SECRET_VERSION, numbered(number), numbered(9), 1};
    TRY(keyring_seal(keyring, &address, cof_slice_text("text"), blob, err));
    TRY(keyring_open(keyring, &address, cof_slice_of(blob, sizeof blob), opened, err));
    TRY(keyring_row_mac(keyring, &address.workspace, 1, cof_slice_text("row"), (uint8_t[CRYPTO_DIGEST]){0}, err));
    return memcmp(opened, "text", 4) == 0 ? COF_OK : COF_UNKNOWN;
}

/* The only failure that may be seen is that another thread's key has taken the place. */
static void *storm_run(void *argument)
{
    struct cof_error err;
    struct storm *storm = argument;
    for (int i = 0; i < STORM_ROUNDS; i++) {
        const uint64_t number = test_random(&storm->state) % STORM_WORKSPACES;
        const struct cof_uuid workspace = numbered(number);
        const struct cof_slice wrapped = {storm->wrapped[number], WRAPPED_KEY_SIZE};
        if (test_random(&storm->state) % 8 == 0) {
            keyring_evict(storm->keyring, &workspace);
        }
        storm->wrong += keyring_install(storm->keyring, &workspace, 1, wrapped, &err) != COF_OK;
        const cof_code code = seal_and_open(storm->keyring, number, &err);
        storm->wrong += code != COF_OK && (code != COF_INTERNAL || strstr(err.trail, "not installed") == NULL);
    }
    return NULL;
}

static void threads_install_use_and_evict_at_once(void)
{
    static uint8_t wrapped[STORM_WORKSPACES][WRAPPED_KEY_SIZE];
    struct cof_error err;
    pthread_t threads[THREADS];
    struct storm storms[THREADS];
    const uint64_t seed = test_seed();
    AUTO(keyring_free_auto) struct keyring *keyring = keyring_of(STORM_CAPACITY);
    for (size_t i = 0; i < STORM_WORKSPACES; i++) {
        const struct cof_uuid workspace = numbered(i);
        CHECK_OK(keyring_generate(keyring, &workspace, 1, wrapped[i], &err), &err);
    }
    for (size_t i = 0; i < THREADS; i++) {
        storms[i] = (struct storm){keyring, wrapped, seed + i, 0};
        CHECK_INT(pthread_create(&threads[i], NULL, storm_run, &storms[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
        CHECK_INT(storms[i].wrong, 0);
    }
    CHECK(count_installed(keyring, STORM_WORKSPACES) <= STORM_CAPACITY);
}

TEST_MAIN(TEST(least_recently_used_workspace_goes_with_all_its_keys),
          TEST(asking_for_a_generation_does_not_count_as_use), TEST(workspace_that_gets_a_key_goes_last),
          TEST(evicting_a_workspace_that_is_not_there_changes_nothing),
          TEST(keyring_keeps_exactly_what_a_simple_model_keeps),
          TEST(ten_thousand_workspaces_share_a_keyring_of_100),
          TEST(taken_key_works_on_after_its_workspace_is_evicted),
          TEST(no_nonce_comes_twice_in_threads_and_a_forked_child), TEST(threads_install_use_and_evict_at_once))
