#include <string.h>

#include "server/service/consistency.h"
#include "server/service/page.h"
#include "tests/fuzz/fuzz.h"

/* Any text as a page token and as a consistency token: what is read is written again as the same text. */

enum { POOL = 1 << 20 };

static struct cof_pool *the_pool(void)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL) {
        MUST(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    }
    return pool;
}

static void try_page(struct call *call, const char *text)
{
    unsigned readable = 0;
    for (int list = PAGE_SECRETS; list <= PAGE_RESOLVE; list++) {
        struct page_position position;
        char *again;
        if (page_read(call, (page_list) list, text, &position) != COF_OK) {
            MUST(call->err->reason == COF_REASON_PAGE_TOKEN_INVALID);
            continue;
        }
        readable++;
        if (text[0] != '\0') {
            MUST(page_make(call, (page_list) list, &position, &again) == COF_OK && strcmp(text, again) == 0);
        }
    }
    MUST(text[0] == '\0' ? readable == PAGE_RESOLVE : readable <= 1);
}

static void try_consistency(struct call *call, const char *text)
{
    uint64_t revision;
    char again[CONSISTENCY_TOKEN_TEXT];
    if (consistency_parse(call->service, text, &revision, call->err) != COF_OK) {
        MUST(call->err->reason == COF_REASON_FIELD_INVALID ||
             call->err->reason == COF_REASON_CONSISTENCY_TOKEN_UNKNOWN);
    } else if (text[0] != '\0') {
        consistency_format(call->service, revision, again);
        MUST(strcmp(text, again) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct service service = {.clock = &cof_system_clock, .limits = service_default_limits, .epoch = 1};
    struct cof_error err;
    struct cof_arena arena;
    struct call call = {.service = &service, .arena = &arena, .err = &err};
    cof_arena_init(&arena, the_pool(), POOL);
    const char *text = cof_arena_text(&arena, cof_slice_of(data, size));
    if (text != NULL) {
        try_page(&call, text);
        try_consistency(&call, text);
    }
    cof_arena_reset(&arena);
    MUST(cof_pool_used(the_pool()) == 0);
    return 0;
}
