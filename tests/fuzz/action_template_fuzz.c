#include <string.h>

#include "common/import/action_template.h"
#include "common/name.h"
#include "tests/fuzz/fuzz.h"

/* A template is refused with words that name a place, or read into names that a registry takes. */

enum { POOL = 32 << 20 };

static void check_error(const struct cof_error *err)
{
    MUST(err->reason == COF_REASON_FILE_INVALID || err->reason == COF_REASON_LIMIT_EXCEEDED ||
         err->reason == COF_REASON_OUT_OF_MEMORY);
    MUST(err->reason != COF_REASON_FILE_INVALID || strncmp(err->message, "line ", 5) == 0);
}

static void check_names(cof_name_kind kind, const struct cof_action_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++) {
        MUST(cof_name_valid(kind, texts->items[i]));
    }
}

static void check_template(const struct cof_action_template *template)
{
    MUST(cof_name_valid(COF_NAME_ACTION, template->name));
    check_names(COF_NAME_ACTION, &template->steps);
    for (size_t i = 0; i < template->secret_count; i++) {
        MUST(cof_name_valid(COF_NAME_SECRET, template->secrets[i].name));
        check_names(COF_NAME_KEY, &template->secrets[i].keys);
        check_names(COF_NAME_KEY, &template->secrets[i].optional_keys);
    }
    for (size_t i = 0; i < template->undeclared.count; i++) {
        MUST(memchr(template->undeclared.items[i].data, '.', template->undeclared.items[i].len) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_action_template template;
    struct cof_error err = {0};
    bool other = false;
    if (pool == NULL) {
        MUST(cof_pool_new(POOL, COF_LOCK_NONE, &pool, &err) == COF_OK);
    }
    cof_arena_init(&arena, pool, POOL);
    const cof_code code = cof_action_template_read(cof_slice_of(data, size), &arena, &template, &other, &err);
    if (code != COF_OK) {
        check_error(&err);
    } else if (!other) {
        check_template(&template);
    }
    cof_arena_reset(&arena);
    return 0;
}
