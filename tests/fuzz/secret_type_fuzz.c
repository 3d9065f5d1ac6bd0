#include <string.h>

#include "common/name.h"
#include "server/crypto/crypto.h"
#include "server/service/secret_types.h"
#include "tests/fuzz/fuzz.h"

/*
 * Any bytes as the values of a structured secret: the first byte is the type, the rest is cut at its NULs into the
 * values of the type's keys. What is taken must be taken again, as it was returned.
 */

enum { KEYS_MAX = 4, ARENA = 1 << 22, NOW = 1800000000 };

static const struct {
    Coffer__V1__SecretType type;
    const char *keys[KEYS_MAX]; /* sorted */
} types[] = {
    {COFFER__V1__SECRET_TYPE__SECRET_TYPE_SSH_KEY, {"PRIVATE_KEY"}},
    {COFFER__V1__SECRET_TYPE__SECRET_TYPE_MTLS, {"TLS_CERTIFICATE", "TLS_PRIVATE_KEY"}},
    {COFFER__V1__SECRET_TYPE__SECRET_TYPE_CA_CERT, {"CA_CERTIFICATE"}},
    {COFFER__V1__SECRET_TYPE__SECRET_TYPE_GITHUB_APP,
     {"GITHUB_APP_CLIENT_ID", "GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY", "GITHUB_APP_WEBHOOK_SECRET"}},
};

static struct value values_of[KEYS_MAX];

static struct values cut(struct cof_slice rest, const char *const *keys)
{
    struct values values = {values_of, 0};
    for (size_t i = 0; i < KEYS_MAX && keys[i] != NULL; i++) {
        const uint8_t *nul = rest.len == 0 ? NULL : memchr(rest.data, '\0', rest.len);
        const size_t length = nul == NULL ? rest.len : (size_t) (nul - rest.data);
        const size_t next = nul == NULL ? length : length + 1;
        values_of[i] = (struct value){cof_slice_text(keys[i]), cof_slice_of(rest.data, length)};
        values.count++;
        rest = cof_slice_of(rest.data + next, rest.len - next);
    }
    return values;
}

static bool same(const struct values *a, const struct values *b)
{
    for (size_t i = 0; i < a->count; i++) {
        if (!cof_slice_equal(a->items[i].bytes, b->items[i].bytes)) {
            return false;
        }
    }
    return a->count == b->count;
}

static void check(Coffer__V1__SecretType type, const struct values *values, struct cof_arena *arena)
{
    struct cof_error err;
    struct secret_facts facts;
    struct secret_facts again;
    struct values stored;
    struct values stored_again;
    cof_error_clear(&err);
    if (secret_type_check(type, values, NOW, arena, &stored, &facts, &err) != COF_OK) {
        MUST(err.reason == COF_REASON_FIELD_INVALID || err.reason == COF_REASON_FIELD_REQUIRED);
        MUST(err.field[0] != '\0' && cof_text_valid(cof_slice_text(err.message)));
        return;
    }
    MUST(secret_type_check(type, &stored, NOW, arena, &stored_again, &again, &err) == COF_OK);
    MUST(same(&stored, &stored_again) && strcmp(facts.fingerprint, again.fingerprint) == 0);
    MUST(cof_text_valid(cof_slice_text(facts.subject)) && cof_text_valid(cof_slice_text(facts.issuer)));
    for (size_t i = 0; i < facts.warning_count; i++) {
        MUST(cof_text_valid(cof_slice_text(facts.warnings[i])));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_error err;
    if (pool == NULL) {
        MUST(crypto_start((size_t) 1 << 18, 0, &err) == COF_OK);
        MUST(cof_pool_new(ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    }
    if (size == 0) {
        return 0;
    }
    const size_t which = data[0] % COF_COUNT(types);
    const struct values values = cut(cof_slice_of(data + 1, size - 1), types[which].keys);
    cof_arena_init(&arena, pool, ARENA);
    check(types[which].type, &values, &arena);
    cof_arena_reset(&arena);
    return 0;
}
