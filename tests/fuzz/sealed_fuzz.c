#include <string.h>

#include "server/service/values.h"
#include "tests/fuzz/fuzz.h"

/*
 * Any bytes where something sealed is expected, and any bytes inside of what was sealed properly: as a blob and as a
 * wrapped key they never open; as the map of a secret's values they are read in one way or CORRUPTED.
 */

enum { POOL = 1 << 22, HEAP = 1 << 20, CAPACITY = 16, MAP_MAX = 1 << 18 };

static struct cof_pool *pool;
static struct keyring *keyring;
static const struct cof_uuid workspace = {{1}};
static const struct cof_uuid secret = {{2}};

static void start(void)
{
    static const uint8_t key[CRYPTO_KEY] = {7};
    struct cof_error err;
    struct root_key *root;
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    MUST(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    MUST(crypto_start(HEAP, 0, &err) == COF_OK && root_key_new(key, &root, &err) == COF_OK);
    MUST(keyring_new(&root, 1, CAPACITY, &keyring, &err) == COF_OK);
    MUST(keyring_generate(keyring, &workspace, 1, wrapped, &err) == COF_OK);
    MUST(keyring_install(keyring, &workspace, 1, cof_slice_of(wrapped, sizeof wrapped), &err) == COF_OK);
}

static void try_blob(struct call *call, struct cof_slice bytes, const struct blob_address *address)
{
    struct cof_error err;
    uint8_t *to = cof_arena_alloc(call->arena, bytes.len + 1);
    MUST(to != NULL);
    (void) blob_generation(bytes);
    MUST(keyring_open(keyring, address, bytes, to, &err) != COF_OK && err.message[0] != '\0');
    MUST(keyring_install(keyring, &workspace, 2, bytes, &err) != COF_OK &&
         keyring_generation(keyring, &workspace) == 1);
}

static void try_keys(struct call *call, struct cof_slice bytes)
{
    Coffer__V1__SecretKey **keys;
    size_t count;
    MUST(values_keys(call, bytes, &keys, &count) == COF_OK || call->err->reason == COF_REASON_CORRUPTED);
}

/* The clear list that would fit nothing but an empty map, so only that is taken. */
static void try_map(struct call *call, struct cof_slice bytes, const struct blob_address *address)
{
    struct values values;
    const struct secret_row row = {.workspace_id = workspace, .secret_id = secret, .version = 1};
    uint8_t *blob = cof_arena_alloc(call->arena, bytes.len + BLOB_OVERHEAD);
    MUST(blob != NULL && keyring_seal(keyring, address, bytes, blob, call->err) == COF_OK);
    const struct sealed_version sealed = {.blob = {blob, bytes.len + BLOB_OVERHEAD}};
    const cof_code code = values_open(call, &row, &sealed, &values);
    MUST(code == COF_OK ? values.count == 0 && bytes.len == 0 : call->err->reason == COF_REASON_CORRUPTED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cof_slice bytes = {data, size < MAP_MAX ? size : MAP_MAX};
    const struct blob_address address = {BLOB_SECRET_VERSION, workspace, secret, 1};
    if (keyring == NULL) {
        start();
    }
    struct service service = {.clock = &cof_system_clock, .keyring = keyring, .limits = service_default_limits};
    struct cof_error err;
    struct cof_arena arena;
    struct call call = {.service = &service, .arena = &arena, .err = &err};
    cof_arena_init(&arena, pool, POOL);
    try_blob(&call, bytes, &address);
    try_keys(&call, bytes);
    try_map(&call, bytes, &address);
    cof_arena_reset(&arena);
    MUST(cof_pool_used(pool) == 0);
    return 0;
}
