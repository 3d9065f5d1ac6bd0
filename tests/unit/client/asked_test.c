#include <stdlib.h>

#include "tests/support/test.h"
#include "tests/unit/client/stage.h"

/* Declarations and expressions: how they are asked for, and their results. */

static const char *const id_and_secret[] = {"ID", "SECRET"};
static const char *const region[] = {"REGION"};

static coffer_declaration declare(const char *secret)
{
    coffer_declaration declaration = COFFER_DECLARATION_INIT;
    declaration.secret = secret;
    declaration.keys = id_and_secret;
    declaration.key_count = 2;
    return declaration;
}

static void see_declarations(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked,
                             unsigned number, Coffer__V1__ResolveResponse *answer)
{
    char *seen = script->context;
    const Coffer__V1__ResolveItem *item = asked->items[0];
    (void) number;
    (void) answer;
    (void) snprintf(seen, 256, "%zu %s %zu %s %zu %s %d %d|%s %zu %zu %d|%zu %d", item->n_declarations,
                    item->declarations[0]->name, item->declarations[0]->n_keys, item->declarations[0]->keys[1],
                    item->declarations[0]->n_optional_keys, item->declarations[0]->optional_keys[0],
                    item->declarations[0]->optional, (int) item->declarations[0]->type, item->declarations[1]->name,
                    item->declarations[1]->n_keys, item->declarations[1]->n_optional_keys,
                    item->declarations[1]->optional, asked->items[1]->n_declarations, item->environment_view);
}

static void declarations_are_sent_with_all_that_was_set(void)
{
    char seen[256] = "";
    STAGE_WITH(see_declarations, seen, "");
    coffer_declaration first = declare("aws");
    coffer_declaration second = COFFER_DECLARATION_INIT;
    first.optional_keys = region;
    first.optional_key_count = 1;
    first.type = COFFER_SECRET_CUSTOM;
    second.secret = "whole";
    second.optional = true;
    coffer_request_add_declaration(stage.request, &first);
    coffer_request_add_declaration(stage.request, &second);
    coffer_request_set_environment_view(stage.request);
    coffer_request_next_item(stage.request);
    coffer_request_add_reference(stage.request, "b", "K");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, "2 aws 2 SECRET 1 REGION 0 1|whole 0 0 1|0 1");
}

static void declarations_have_outcomes_of_their_own(void)
{
    STAGE_WITH(NULL, NULL, "");
    const coffer_declaration there = declare("aws");
    coffer_declaration absent = declare("absent");
    coffer_declaration whole = COFFER_DECLARATION_INIT;
    absent.optional = true;
    whole.secret = "whole";
    coffer_request_add_reference(stage.request, "b", "K");
    coffer_request_add_declaration(stage.request, &there);
    coffer_request_add_declaration(stage.request, &absent);
    coffer_request_add_declaration(stage.request, &whole);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    CHECK_INT(coffer_item_status(item), COFFER_OK);
    CHECK_INT(coffer_item_reference_count(item), 6);
    CHECK_INT(coffer_item_declaration_count(item), 3);
    CHECK_INT(coffer_item_declaration_outcome(item, 0), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_declaration_outcome(item, 1), COFFER_OUTCOME_ABSENT);
    CHECK_INT(coffer_item_declaration_outcome(item, 2), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_declaration_outcome(item, 3), COFFER_OUTCOME_UNSPECIFIED);
    CHECK_TEXT(coffer_item_declaration_message(item, 1), "");
    CHECK_TEXT(coffer_item_declaration_message(item, 3), "");
    CHECK_INT(coffer_item_value(item, "aws", "ID").length, strlen("default/aws/ID"));
    CHECK(coffer_item_value(item, "absent", "ID").data == NULL);
}

static void declaration_that_fails_names_its_fault_and_fails_the_item(void)
{
    STAGE_WITH(NULL, NULL, "");
    const coffer_declaration there = declare("aws");
    const coffer_declaration missing = declare("missing");
    coffer_request_add_declaration(stage.request, &there);
    coffer_request_add_declaration(stage.request, &missing);
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    CHECK_INT(coffer_item_status(item), COFFER_NOT_FOUND);
    CHECK_INT(coffer_item_value_count(item), 0);
    CHECK_INT(coffer_item_declaration_outcome(item, 0), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_declaration_outcome(item, 1), COFFER_OUTCOME_SECRET_NOT_FOUND);
    CHECK_TEXT(coffer_item_declaration_message(item, 1), "there is no such secret; check the name");
    CHECK_INT(coffer_item_fault_count(item), 2);
    CHECK_INT(coffer_fault_reference(coffer_item_fault(item, 0)), 2);
}

static void see_expressions(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                            Coffer__V1__ResolveResponse *answer)
{
    (void) number;
    (void) answer;
    (void) snprintf(script->context, 256, "%s", asked->items[0]->expressions[0]);
}

static void expressions_have_values_of_their_own(void)
{
    char seen[256] = "";
    STAGE_WITH(see_expressions, seen, "");
    coffer_request_add_expression(stage.request, " ${{ SECRETS.missing.K || SECRETS.a.K || 'x' }} ");
    coffer_request_add_expression(stage.request, "${{ SECRETS.missing.K || 'literal' }}");
    coffer_request_add_expression(stage.request, "${{ SECRETS.missing2.K || None }}");
    coffer_request_add_expression(stage.request, "${{ SECRETS.missing3.K || '' }}");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, " ${{ SECRETS.missing.K || SECRETS.a.K || 'x' }} ");
    const coffer_item *item = coffer_result_item(stage.result, 0);
    CHECK_INT(coffer_item_status(item), COFFER_OK);
    CHECK_INT(coffer_item_outcome(item), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_expression_count(item), 4);
    CHECK_INT(coffer_item_expression_kind(item, 0), COFFER_EXPRESSION_VALUE);
    CHECK_BYTES(coffer_item_expression_value(item, 0).data, "default/a/K", 11);
    CHECK_BYTES(coffer_item_expression_value(item, 1).data, "literal", 7);
    CHECK_INT(coffer_item_expression_kind(item, 2), COFFER_EXPRESSION_NULL);
    CHECK(coffer_item_expression_value(item, 2).data == NULL);
    CHECK_INT(coffer_item_expression_kind(item, 3), COFFER_EXPRESSION_VALUE);
    CHECK(coffer_item_expression_value(item, 3).data != NULL && coffer_item_expression_value(item, 3).length == 0);
    CHECK_INT(coffer_item_expression_outcome(item, 3), COFFER_OUTCOME_RESOLVED);
    CHECK_TEXT(coffer_item_expression_message(item, 0), "");
    CHECK_INT(coffer_item_expression_kind(item, 4), COFFER_EXPRESSION_NONE);
    CHECK_INT(coffer_item_expression_outcome(item, 4), COFFER_OUTCOME_UNSPECIFIED);
    CHECK_INT(coffer_item_reference_outcome(item, 0), COFFER_OUTCOME_SECRET_NOT_FOUND);
    CHECK_INT(coffer_item_fault_count(item), 4);
}

static void expression_that_fails_says_why_and_gives_nothing(void)
{
    STAGE_WITH(NULL, NULL, "");
    coffer_request_add_expression(stage.request, "${{ SECRETS.a.K }}");
    coffer_request_add_expression(stage.request, "${{ SECRETS.missing.K || SECRETS.denied.K || 'x' }}");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    CHECK_INT(coffer_item_status(item), COFFER_PERMISSION_DENIED);
    CHECK_INT(coffer_item_expression_outcome(item, 0), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_expression_kind(item, 0), COFFER_EXPRESSION_NONE);
    CHECK(coffer_item_expression_value(item, 0).data == NULL);
    CHECK_INT(coffer_item_expression_outcome(item, 1), COFFER_OUTCOME_PERMISSION_DENIED);
    CHECK_TEXT(coffer_item_expression_message(item, 1), "it is not permitted; ask for a grant");
}

/* Answers that claim success, and are none in one of their parts. */
static void claim_success(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                          Coffer__V1__ResolveResponse *answer)
{
    const int unknown = 99;
    (void) script;
    (void) asked;
    (void) number;
    answer->results[0]->outcomes[0] = COFFER__V1__OUTCOME__OUTCOME_SECRET_NOT_FOUND;
    answer->results[1]->outcomes[1] = COFFER__V1__OUTCOME__OUTCOME_CORRUPTED;
    answer->results[2]->expressions[0]->outcome = (Coffer__V1__Outcome) unknown;
    answer->results[3]->expressions[0]->result_case = COFFER__V1__EXPRESSION_RESULT__RESULT__NOT_SET;
    answer->results[4]->n_expressions = 0;
    answer->results[5]->n_outcomes = 1;
}

static void part_that_is_not_known_as_success_is_an_error(void)
{
    STAGE_WITH(claim_success, NULL, "");
    for (int i = 0; i < 7; i++) {
        char name[16];
        (void) snprintf(name, sizeof name, "env-%d", i);
        coffer_request_add_environment(stage.request, name);
    }
    coffer_request_add_reference(stage.request, "b", "K");
    coffer_request_add_expression(stage.request, "${{ SECRETS.missing.K || SECRETS.a.K }}");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    for (size_t i = 0; i < 6; i++) {
        CHECK_INT(coffer_item_status(coffer_result_item(stage.result, i)), COFFER_UNKNOWN);
        CHECK_INT(coffer_item_value_count(coffer_result_item(stage.result, i)), 0);
        CHECK_INT(coffer_item_expression_kind(coffer_result_item(stage.result, i), 0), COFFER_EXPRESSION_NONE);
    }
    CHECK_INT(coffer_item_status(coffer_result_item(stage.result, 6)), COFFER_OK);
    CHECK_INT(coffer_result_failed(stage.result), 6);
}

static void fail_as_a_whole(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                            Coffer__V1__ResolveResponse *answer)
{
    static char message[] = "the workspace is disabled; enable it";
    Coffer__V1__ResolveResult *result = answer->results[0];
    (void) script;
    (void) asked;
    (void) number;
    result->status->code = COFFER_FAILED_PRECONDITION;
    result->status->outcome = COFFER__V1__OUTCOME__OUTCOME_WORKSPACE_DISABLED;
    result->status->message = message;
    result->n_outcomes = result->n_expressions = result->n_faults = result->n_secrets = 0;
}

static void item_that_failed_as_a_whole_says_so_of_each_part(void)
{
    STAGE_WITH(fail_as_a_whole, NULL, "");
    const coffer_declaration declaration = declare("aws");
    coffer_request_add_declaration(stage.request, &declaration);
    coffer_request_add_expression(stage.request, "${{ SECRETS.a.K }}");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    CHECK_INT(coffer_item_declaration_outcome(item, 0), COFFER_OUTCOME_WORKSPACE_DISABLED);
    CHECK_CONTAINS(coffer_item_declaration_message(item, 0), "is disabled");
    CHECK_INT(coffer_item_expression_outcome(item, 0), COFFER_OUTCOME_WORKSPACE_DISABLED);
    CHECK_CONTAINS(coffer_item_expression_message(item, 0), "is disabled");
}

static void item_of_references_has_neither(void)
{
    STAGE_WITH(NULL, NULL, "");
    coffer_request_add_reference(stage.request, "a", "K");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    const coffer_item *item = coffer_result_item(stage.result, 0);
    CHECK_INT(coffer_item_declaration_count(item), 0);
    CHECK_INT(coffer_item_expression_count(item), 0);
    CHECK_INT(coffer_item_declaration_outcome(item, 0), COFFER_OUTCOME_UNSPECIFIED);
    CHECK_INT(coffer_item_expression_outcome(item, 0), COFFER_OUTCOME_UNSPECIFIED);
    CHECK_TEXT(coffer_item_expression_message(item, 0), "");
}

static void wrong_secret(coffer_request *request)
{
    const coffer_declaration declaration = declare("no/slash");
    coffer_request_add_declaration(request, &declaration);
}

static void wrong_key(coffer_request *request)
{
    static const char *const keys[] = {"GOOD", "1BAD"};
    coffer_declaration declaration = declare("aws");
    coffer_request_add_declaration(request, &declaration);
    declaration.optional_keys = keys;
    declaration.optional_key_count = 2;
    coffer_request_add_declaration(request, &declaration);
}

static void long_expression(coffer_request *request)
{
    char *text = calloc(1, 8194);
    memset(text, 'x', 8193);
    coffer_request_add_expression(request, "${{ SECRETS.a.K }}");
    coffer_request_add_expression(request, text);
    free(text);
}

static void expression_that_is_no_text(coffer_request *request)
{
    coffer_request_add_expression(request, "\xff");
}

static void unknown_way_with_pending(coffer_request *request)
{
    coffer_request_set_pending(request, (coffer_pending) 9);
}

static void mistakes_are_told_and_nothing_is_sent(void)
{
    static const struct {
        void (*build)(coffer_request *request);
        const char *field;
    } cases[] = {
        {wrong_secret, "items[0].declarations[0].name"}, {wrong_key, "items[0].declarations[1].optional_keys[1]"},
        {long_expression, "items[0].expressions[1]"},    {expression_that_is_no_text, "items[0].expressions[0]"},
        {unknown_way_with_pending, "pending"},
    };
    STAGE_WITH(NULL, NULL, "");
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        coffer_request_free(stage.request);
        coffer_error_free(TAKE(stage.error));
        stage.request = coffer_request_new();
        cases[i].build(stage.request);
        CHECK_INT(stage_resolve(&stage), COFFER_INVALID_ARGUMENT);
        CHECK_TEXT(coffer_error_field(stage.error), cases[i].field);
    }
    CHECK_INT(scripted_server_requests(stage.server), 0);
}

/* Results that had no room are put into their places in the list. */
static void defer_first(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                        Coffer__V1__ResolveResponse *answer)
{
    (void) script;
    (void) asked;
    if (number == 0) {
        answer->results[0]->status->code = COFFER_RESOURCE_EXHAUSTED;
        answer->results[0]->status->outcome = COFFER__V1__OUTCOME__OUTCOME_DEFERRED;
        answer->results[0]->n_secrets = answer->results[0]->n_outcomes = answer->results[0]->n_expressions = 0;
    }
}

static void deferred_items_keep_what_they_asked_for(void)
{
    STAGE_WITH(defer_first, NULL, "");
    const coffer_declaration declaration = declare("aws");
    coffer_request_add_declaration(stage.request, &declaration);
    coffer_request_next_item(stage.request);
    coffer_request_add_expression(stage.request, "${{ SECRETS.missing.K || 'x' }}");
    CHECK_INT(stage_resolve(&stage), COFFER_OK);
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_INT(coffer_item_declaration_outcome(coffer_result_item(stage.result, 0), 0), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_expression_kind(coffer_result_item(stage.result, 1), 0), COFFER_EXPRESSION_VALUE);
}

TEST_MAIN(TEST(declarations_are_sent_with_all_that_was_set), TEST(declarations_have_outcomes_of_their_own),
          TEST(declaration_that_fails_names_its_fault_and_fails_the_item),
          TEST(expressions_have_values_of_their_own), TEST(expression_that_fails_says_why_and_gives_nothing),
          TEST(part_that_is_not_known_as_success_is_an_error),
          TEST(item_that_failed_as_a_whole_says_so_of_each_part), TEST(item_of_references_has_neither),
          TEST(mistakes_are_told_and_nothing_is_sent), TEST(deferred_items_keep_what_they_asked_for))
