#include "server/crypto/crypto.h"
#include "server/outbound/assertion.h"
#include "server/outbound/service_account.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes as the key file of a service account. What is taken can be used: its key signs. */

enum { ARENA = 1 << 22, NOW = 1800000000 };

static void check_taken(const struct service_account *account, struct cof_arena *arena)
{
    static const uint8_t nonce[ASSERTION_NONCE];
    struct cof_error err;
    struct cof_slice text;
    const struct assertion assertion = {
        .key = account->private_key,
        .key_id = account->private_key_id,
        .issuer = account->client_email,
        .audience = cof_slice_text("audience"),
        .now_s = NOW,
        .nonce = nonce,
    };
    MUST(account->client_email.len > 0);
    MUST(assertion_sign(&assertion, "key", arena, &text, &err) == COF_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_error err = {0};
    struct service_account account;
    if (pool == NULL) {
        MUST(crypto_start((size_t) 1 << 18, 0, &err) == COF_OK);
        MUST(cof_pool_new(ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    }
    cof_arena_init(&arena, pool, ARENA);
    if (service_account_read(cof_slice_of(data, size), "f", &arena, &account, &err) == COF_OK) {
        check_taken(&account, &arena);
    } else {
        MUST(err.reason == COF_REASON_FIELD_INVALID && err.field[0] == 'f');
    }
    cof_arena_reset(&arena);
    return 0;
}
