#include <string.h>

#include "common/name.h"
#include "server/service/catalogue.h"
#include "tests/fuzz/fuzz.h"

/* A file of integrations is refused with words that name a place, or read into definitions that can be. */

enum { POOL = 32 << 20 };

static void check_keys(const Coffer__V1__SecretDeclaration *declaration)
{
    const size_t count = declaration->n_keys + declaration->n_optional_keys;
    MUST(count > 0);
    for (size_t i = 0; i < count; i++) {
        const char *key =
            i < declaration->n_keys ? declaration->keys[i] : declaration->optional_keys[i - declaration->n_keys];
        MUST(cof_name_valid(COF_NAME_KEY, cof_slice_text(key)));
        for (size_t k = 0; k < declaration->n_keys && i >= declaration->n_keys; k++) {
            MUST(strcmp(declaration->keys[k], key) != 0);
        }
    }
}

static void check_entries(const struct catalogue_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        const Coffer__V1__SecretDeclaration *declaration = &entries->items[i].declaration;
        MUST(cof_name_valid(COF_NAME_SECRET, cof_slice_text(declaration->name)));
        MUST(!cof_name_reserved(cof_slice_text(declaration->name)));
        MUST(declaration->type != COFFER__V1__SECRET_TYPE__SECRET_TYPE_UNSPECIFIED);
        MUST(entries->items[i].line > 0);
        check_keys(declaration);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cof_pool *pool;
    struct cof_arena arena;
    struct catalogue_entries entries = {0};
    struct cof_error err = {0};
    if (pool == NULL) {
        MUST(cof_pool_new(POOL, COF_LOCK_NONE, &pool, &err) == COF_OK);
    }
    cof_arena_init(&arena, pool, POOL);
    if (catalogue_read(cof_slice_of(data, size), &arena, &entries, &err) == COF_OK) {
        check_entries(&entries);
    } else {
        MUST(err.reason == COF_REASON_FILE_INVALID || err.reason == COF_REASON_OUT_OF_MEMORY);
        MUST(err.reason != COF_REASON_FILE_INVALID || strncmp(err.message, "line ", 5) == 0);
    }
    cof_arena_reset(&arena);
    return 0;
}
