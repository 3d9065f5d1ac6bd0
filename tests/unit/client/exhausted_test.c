#include <stdlib.h>

#include <coffer/preflight.h>

#include "client/libcoffer/request.h"
#include "common/arena.h"
#include "tests/support/test.h"
#include "tests/unit/client/stage.h"

/*
 * Every request for memory that this thread makes is refused once, one in each round, until a round needs no more: what
 * was asked for fails with OUT_OF_MEMORY, or does without, and nothing is lost or half done.
 */

enum { ROUNDS_MAX = 2000 };

/* Requests until the one that is refused; 0 or less: none is. */
static _Thread_local long until_refusal;

static bool refused(void)
{
    return until_refusal > 0 && until_refusal-- == 1;
}

void *__real_calloc(size_t count, size_t size);
void *__real_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t most);
void *__real_cof_arena_alloc(struct cof_arena *arena, size_t size);
void *__real_cof_arena_array(struct cof_arena *arena, size_t count, size_t size);

void *__wrap_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t most);
void *__wrap_cof_arena_alloc(struct cof_arena *arena, size_t size);
void *__wrap_cof_arena_array(struct cof_arena *arena, size_t count, size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
    return refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_malloc(size_t size)
{
    return refused() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return refused() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return refused() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t most)
{
    return refused() ? NULL : __real_strndup(text, most);
}

void *__wrap_cof_arena_alloc(struct cof_arena *arena, size_t size)
{
    return refused() ? NULL : __real_cof_arena_alloc(arena, size);
}

void *__wrap_cof_arena_array(struct cof_arena *arena, size_t count, size_t size)
{
    return refused() ? NULL : __real_cof_arena_array(arena, count, size);
}

/* --- What is tried -------------------------------------------------------------------------------------------- */

static void build(coffer_request *request)
{
    static const char *const keys[] = {"ID", "SECRET", "REGION"};
    coffer_declaration declaration = COFFER_DECLARATION_INIT;
    declaration.secret = "aws";
    declaration.keys = keys;
    declaration.key_count = 2;
    declaration.optional_keys = keys + 2;
    declaration.optional_key_count = 1;
    coffer_request_set_id(request, "a1");
    coffer_request_set_run(request, "workflow", "run", "action");
    coffer_request_add_environment(request, "prod");
    coffer_request_add_environment(request, "dev");
    coffer_request_add_reference(request, "slack", "KEY");
    coffer_request_add_declaration(request, &declaration);
    coffer_request_add_expression(request, "${{ SECRETS.missing.K || SECRETS.a.K }}");
    coffer_request_next_item(request);
    coffer_request_add_expression(request, "${{ SECRETS.b.K }}");
}

static bool told(const struct cof_error *err)
{
    return err->code == COF_OK || err->reason == COF_REASON_OUT_OF_MEMORY;
}

/* Packs the request, a copy of it, and a part. */
static cof_code pack(const coffer_request *request, struct cof_error *err)
{
    static const bool marked[] = {false, true, true};
    static char none[] = "";
    AUTO(packed_request_done) struct packed_request whole = {.bytes = NULL};
    AUTO(packed_request_done) struct packed_request part = {.bytes = NULL};
    coffer_request *copy = NULL;
    TRY(request_pack(request, none, none, &whole, err));
    TRY(request_pack_part(&whole, marked, &part, err));
    TRY(request_copy(request, &copy, err));
    coffer_request_free(copy);
    return whole.values == 2 * 6 + 1 && whole.asked->items[0].count == 6 ? COF_OK : COF_INTERNAL;
}

/* Whether a round came to its end without a refusal. */
typedef bool (*attempt)(struct stage *stage, bool *ret_good);

static bool build_and_pack(struct stage *stage, bool *ret_good)
{
    struct cof_error err;
    (void) stage;
    cof_error_clear(&err);
    coffer_request *request = coffer_request_new();
    build(request);
    const cof_code code = request == NULL ? COF_RESOURCE_EXHAUSTED : pack(request, &err);
    *ret_good = request == NULL || (told(&err) && (code == COF_OK) == (err.code == COF_OK));
    coffer_request_free(request);
    return until_refusal > 0;
}

static bool error_is_told(coffer_status status, coffer_error *error)
{
    const bool good =
        status == COFFER_OK ? error == NULL : coffer_error_reason(error) == COFFER_REASON_OUT_OF_MEMORY;
    coffer_error_free(error);
    return good;
}

static bool resolve(struct stage *stage, bool *ret_good)
{
    coffer_result *result = NULL;
    coffer_error *error = NULL;
    const coffer_status status = coffer_resolve(stage->client, stage->request, &result, &error);
    *ret_good = error_is_told(status, error);
    if (status == COFFER_OK) {
        const coffer_item *item = coffer_result_item(result, 1);
        *ret_good = coffer_result_count(result) == 3 && coffer_result_failed(result) == 0 &&
                    coffer_item_declaration_outcome(item, 0) == COFFER_OUTCOME_RESOLVED &&
                    coffer_item_expression_kind(item, 0) == COFFER_EXPRESSION_VALUE;
    }
    coffer_result_free(result);
    return until_refusal > 0;
}

static bool check_first(struct stage *stage, bool *ret_good)
{
    coffer_preflight *preflight = NULL;
    coffer_error *error = NULL;
    const coffer_status status = coffer_preflight_new(stage->client, stage->request, &preflight, &error);
    *ret_good = error_is_told(status, error) && (preflight != NULL) == (status == COFFER_OK);
    coffer_preflight_free(preflight);
    return until_refusal > 0;
}

static bool expand(struct stage *stage, bool *ret_good)
{
    static const char source[] = "${{ SECRETS.missing.K || SECRETS.a.K }}, ${{ SECRETS.slack.KEY }}";
    coffer_template *parsed = NULL;
    coffer_text *text = NULL;
    coffer_error *error = NULL;
    coffer_request *request = coffer_request_new();
    coffer_status status = coffer_template_new(COFFER_TEMPLATE_TEXT, source, strlen(source), NULL, &parsed, &error);
    *ret_good = error_is_told(status, error);
    if (status == COFFER_OK) {
        coffer_request_add_template(request, parsed);
        status = coffer_template_expand(parsed, stage->result, 0, &text, &error);
        *ret_good = error_is_told(status, error) && (text != NULL) == (status == COFFER_OK);
    }
    coffer_text_free(text);
    coffer_template_free(parsed);
    coffer_request_free(request);
    return until_refusal > 0;
}

static void refuse_each(struct stage *stage, attempt try)
{
    bool over = false;
    long round = 1;
    for (; !over && round < ROUNDS_MAX; round++) {
        bool good = false;
        until_refusal = round;
        over = try(stage, &good);
        until_refusal = 0;
        if (!good) {
            fprintf(stderr, "request %ld for memory was refused\n", round);
        }
        CHECK(good);
    }
    CHECK(over && round > 5);
}

static void request_is_built_and_packed_or_says_why_not(void)
{
    refuse_each(NULL, build_and_pack);
}

static void resolve_fails_as_a_whole_and_can_be_repeated(void)
{
    STAGE_WITH(NULL, NULL, "timeout=60s coalesce=no");
    build(stage.request);
    refuse_each(&stage, resolve);
}

static void preflight_fails_as_a_whole_and_can_be_repeated(void)
{
    STAGE_WITH(NULL, NULL, "timeout=60s");
    build(stage.request);
    refuse_each(&stage, check_first);
}

static void text_is_read_and_expanded_or_says_why_not(void)
{
    STAGE_WITH(NULL, NULL, "timeout=60s");
    build(stage.request);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    refuse_each(&stage, expand);
}

TEST_MAIN(TEST(request_is_built_and_packed_or_says_why_not), TEST(resolve_fails_as_a_whole_and_can_be_repeated),
          TEST(preflight_fails_as_a_whole_and_can_be_repeated), TEST(text_is_read_and_expanded_or_says_why_not))
