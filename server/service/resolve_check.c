#include "server/service/resolve_check.h"

#include <assert.h>

#include "common/encode.h"
#include "server/service/page.h"
#include "server/service/resolve_sweep.h"

enum {
    POSITION_BYTES = 12, /* of a page: its first result, how many there are that resolve, and that fail */
    SWEPT_PAGES = 4,     /* results that a later page looks at together, in pages */
};

/* A result that would fail. */
struct chosen {
    const struct plan *plan;
    uint32_t environment;
    uint32_t position;
};

struct choosing {
    struct call *call;
    struct plan *plans;
    size_t plan_count;
    Coffer__V1__ResolveCounts *counts;
    bool counted; /* by the first page */
    uint32_t first;
    uint32_t page;
    struct chosen *chosen; /* one more than the page has, if there are more */
    size_t count;
    size_t at; /* the plan that comes next, and the position of its first result */
    uint32_t position;
};

static cof_code read_page(struct choosing *choosing, const Coffer__V1__ResolveRequest *request)
{
    struct call *call = choosing->call;
    struct page_position position;
    uint8_t bytes[POSITION_BYTES] = {0};
    TRY(page_read(call, PAGE_RESOLVE, request->page_token, &position));
    choosing->counted = position.parts[0].len > 0;
    if (choosing->counted && !cof_base64url_decode(position.parts[0], bytes, sizeof bytes)) {
        return page_invalid(call);
    }
    choosing->first = cof_get_u32(bytes);
    choosing->page = page_size(call, request->page_size);
    choosing->chosen = cof_arena_array(call->arena, choosing->page + (size_t) 1, sizeof *choosing->chosen);
    choosing->counts = cof_arena_alloc(call->arena, sizeof *choosing->counts);
    if (choosing->chosen == NULL || choosing->counts == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__resolve_counts__init(choosing->counts);
    choosing->counts->resolved = cof_get_u32(bytes + 4);
    choosing->counts->failed = cof_get_u32(bytes + 8);
    return COF_OK;
}

cof_code check_page(struct call *call, const struct check *check, uint32_t position, char **ret_token)
{
    uint8_t bytes[POSITION_BYTES];
    char text[COF_BASE64URL_SIZE(sizeof bytes)];
    cof_put_u32(bytes, position);
    cof_put_u32(bytes + 4, check->counts->resolved);
    cof_put_u32(bytes + 8, check->counts->failed);
    cof_base64url_encode(cof_slice_of(bytes, sizeof bytes), text);
    const struct page_position place = {.parts = {cof_slice_text(text)}};
    return page_make(call, PAGE_RESOLVE, &place, ret_token);
}

/* --- Choosing ------------------------------------------------------------------------------------------------- */

static bool is_full(const struct choosing *choosing)
{
    return choosing->count > choosing->page;
}

static void note(struct choosing *choosing, const struct chosen *result, bool fails)
{
    if (!choosing->counted) {
        choosing->counts->resolved += !fails;
        choosing->counts->failed += fails;
    }
    if (fails && result->position >= choosing->first && !is_full(choosing)) {
        assert(choosing->chosen != NULL);
        choosing->chosen[choosing->count++] = *result;
    }
}

/* The items whose results were all on pages before. */
static void skip(struct choosing *choosing)
{
    while (choosing->counted && choosing->at < choosing->plan_count &&
           choosing->position + choosing->plans[choosing->at].environment_count <= choosing->first) {
        choosing->position += (uint32_t) choosing->plans[choosing->at++].environment_count;
    }
}

/* How many items are looked at together. */
static size_t items_at_once(const struct choosing *choosing)
{
    size_t results = 0;
    size_t end = choosing->at;
    while (end < choosing->plan_count && (!choosing->counted || results < (size_t) SWEPT_PAGES * choosing->page)) {
        results += choosing->plans[end++].environment_count;
    }
    return end - choosing->at;
}

static cof_code sweep(struct choosing *choosing)
{
    const size_t count = items_at_once(choosing);
    struct plan *plans = choosing->plans + choosing->at;
    struct sweep sweep = {0};
    TRY(sweep_run(choosing->call, plans, count, &sweep));
    for (size_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < plans[i].environment_count; k++) {
            const struct chosen result = {&plans[i], k, choosing->position++};
            note(choosing, &result, sweep_failed(&sweep, i, k));
        }
    }
    choosing->at += count;
    return COF_OK;
}

/* --- The page ------------------------------------------------------------------------------------------------- */

/* Plans with nothing but the environments that were chosen. */
static cof_code narrow(const struct choosing *choosing, struct check *check)
{
    struct cof_arena *arena = choosing->call->arena;
    struct cof_slice *environments = cof_arena_array(arena, check->count, sizeof *environments);
    check->plans = cof_arena_array(arena, check->count, sizeof *check->plans);
    check->positions = cof_arena_array(arena, check->count, sizeof *check->positions);
    if (environments == NULL || check->plans == NULL || check->positions == NULL) {
        return cof_arena_exhausted(choosing->call->err);
    }
    for (size_t i = 0; i < check->count; i++) {
        const struct chosen *result = &choosing->chosen[i];
        if (i == 0 || result->plan != choosing->chosen[i - 1].plan) {
            struct plan *plan = &check->plans[check->plan_count++];
            *plan = *result->plan;
            plan->environments = &environments[i];
            plan->environment_count = 0;
        }
        environments[i] = result->plan->environments[result->environment];
        check->plans[check->plan_count - 1].environment_count++;
        check->positions[i] = result->position;
    }
    return COF_OK;
}

cof_code check_choose(struct call *call, const Coffer__V1__ResolveRequest *request, struct plan *plans,
                      size_t count, struct check *ret_check)
{
    struct choosing choosing = {.call = call, .plans = plans, .plan_count = count};
    TRY(read_page(&choosing, request));
    skip(&choosing);
    while (choosing.at < count && !is_full(&choosing)) {
        TRY(sweep(&choosing));
    }
    struct check check = {.counts = choosing.counts, .count = choosing.count};
    if (is_full(&choosing)) {
        check.count = choosing.page;
        check.has_next = true;
        check.next = choosing.chosen[choosing.page].position;
    }
    TRY(narrow(&choosing, &check));
    *ret_check = check;
    return COF_OK;
}
