#include <coffer/preflight.h>

#include "tests/support/test.h"
#include "tests/unit/client/stage.h"

/* A preflight against a server that tells two of five failures on a page. */

enum { FAILURES = 5, PAGE = 2 };

struct pages {
    unsigned validating; /* requests that asked for no values */
    char tokens[64];
};

static void tell_page(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                      Coffer__V1__ResolveResponse *answer)
{
    static Coffer__V1__ResolveCounts counts;
    static const char *const next[] = {"p1", "p2", ""};
    static char token[8];
    struct pages *pages = script->context;
    const size_t page = asked->page_token[0] == '\0' ? 0 : (size_t) (asked->page_token[1] - '0');
    const size_t first = page * PAGE;
    (void) number;
    pages->validating += asked->validate_only != 0;
    (void) strncat(pages->tokens, asked->page_token, sizeof pages->tokens - strlen(pages->tokens) - 1);
    coffer__v1__resolve_counts__init(&counts);
    counts.resolved = 40;
    counts.failed = FAILURES;
    answer->counts = &counts;
    (void) snprintf(token, sizeof token, "%s", next[page]);
    answer->next_page_token = token;
    for (size_t i = 0; i < PAGE && first + i < FAILURES; i++) {
        answer->results[i] = answer->results[first + i];
    }
    answer->n_results = FAILURES - first < PAGE ? FAILURES - first : PAGE;
}

static void ask(struct stage *stage)
{
    for (int i = 0; i < FAILURES; i++) {
        char name[16];
        (void) snprintf(name, sizeof name, "env-%d", i);
        coffer_request_add_environment(stage->request, name);
    }
    coffer_request_add_reference(stage->request, "missing", "K");
    coffer_request_add_expression(stage->request, "${{ SECRETS.missing.K || SECRETS.a.K }}");
}

static void all_pages_are_gone_through(void)
{
    struct pages pages = {0};
    coffer_preflight *preflight = NULL;
    const coffer_item *item = NULL;
    STAGE_WITH(tell_page, &pages, "");
    ask(&stage);
    CHECK_INT(coffer_preflight_new(stage.client, stage.request, &preflight, &stage.error), COFFER_OK);
    coffer_request_free(TAKE(stage.request));
    CHECK_INT(coffer_preflight_would_resolve(preflight), 40);
    CHECK_INT(coffer_preflight_would_fail(preflight), FAILURES);
    for (int i = 0; i < FAILURES; i++) {
        char name[16];
        (void) snprintf(name, sizeof name, "env-%d", i);
        CHECK_INT(coffer_preflight_next(preflight, &item, &stage.error), COFFER_OK);
        CHECK_TEXT(coffer_item_environment(item), name);
        CHECK_INT(coffer_item_outcome(item), COFFER_OUTCOME_SECRET_NOT_FOUND);
        CHECK_INT(coffer_item_expression_outcome(item, 0), COFFER_OUTCOME_RESOLVED);
        CHECK_TEXT(coffer_fault_secret(coffer_item_fault(item, 0)), "missing");
        CHECK_INT(coffer_item_value_count(item), 0);
    }
    CHECK_INT(coffer_preflight_next(preflight, &item, &stage.error), COFFER_OK);
    CHECK(item == NULL);
    CHECK_INT(coffer_preflight_next(preflight, &item, NULL), COFFER_OK);
    CHECK(item == NULL);
    coffer_preflight_free(preflight);
    CHECK_INT(scripted_server_requests(stage.server), 3);
    CHECK_INT(pages.validating, 3);
    CHECK_TEXT(pages.tokens, "p1p2");
}

static void request_that_asks_for_values_is_left_as_it_is(void)
{
    coffer_preflight *preflight = NULL;
    STAGE_WITH(NULL, NULL, "");
    coffer_request_add_reference(stage.request, "a", "K");
    CHECK_INT(coffer_preflight_new(stage.client, stage.request, &preflight, NULL), COFFER_OK);
    coffer_preflight_free(preflight);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(coffer_item_value_count(coffer_result_item(stage.result, 0)), 1);
}

static void wrong_request_is_told(void)
{
    coffer_preflight *preflight = NULL;
    STAGE_WITH(NULL, NULL, "");
    CHECK_INT(coffer_preflight_new(stage.client, stage.request, &preflight, &stage.error), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_FIELD_REQUIRED);
    CHECK(preflight == NULL);
    coffer_request_add_reference(stage.request, "a b", "K");
    CHECK_INT(coffer_preflight_new(stage.client, stage.request, &preflight, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_preflight_new(NULL, stage.request, &preflight, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_preflight_new(stage.client, NULL, &preflight, NULL), COFFER_INVALID_ARGUMENT);
    coffer_preflight_free(NULL);
    CHECK_INT(scripted_server_requests(stage.server), 0);
}

TEST_MAIN(TEST(all_pages_are_gone_through), TEST(request_that_asks_for_values_is_left_as_it_is),
          TEST(wrong_request_is_told))
