#include <stdio.h>
#include <stdlib.h>

#include <coffer/preflight.h>
#include <coffer/template.h>
#include <coffer/view.h>

#include "common/attr.h"
#include "common/slice.h"
#include "tests/support/test.h"

/*
 * libcoffer against a whole server, which api_test.py has filled: in `prod` the secrets a {K, EMPTY}, b {K}, twin {K};
 * in each of LARGE environments `large-0`, `large-1`, ... the secret big with four keys of 50,000 bytes, each of them the
 * number of its environment as a letter.
 */

enum { LARGE = 24, BIG_KEYS = 4, BIG_VALUE = 50000, TEXT_MAX = 1 << 20 };

/* A call's parts. */
struct stage {
    coffer_client *client;
    coffer_request *request;
    coffer_result *result;
    coffer_error *error;
    coffer_template *parsed;
    coffer_text *text;
    coffer_view *view;
};

static void stage_done(struct stage *stage)
{
    coffer_view_free(stage->view);
    coffer_text_free(stage->text);
    coffer_template_free(stage->parsed);
    coffer_result_free(stage->result);
    coffer_error_free(stage->error);
    coffer_request_free(stage->request);
    coffer_client_close(stage->client);
}

static void stage_open(struct stage *stage, const char *environment)
{
    if (coffer_client_open("timeout=3min connect_timeout=1min memory=64MiB", &stage->client, &stage->error) !=
        COFFER_OK) {
        fprintf(stderr, "%s\n", coffer_error_message(stage->error));
        exit(2);
    }
    stage->request = coffer_request_new();
    if (environment != NULL) {
        coffer_request_add_environment(stage->request, environment);
    }
}

#define STAGE(environment)                     \
    AUTO(stage_done) struct stage stage = {0}; \
    stage_open(&stage, (environment))

static const coffer_item *resolve(struct stage *stage)
{
    if (coffer_resolve(stage->client, stage->request, &stage->result, &stage->error) != COFFER_OK) {
        fprintf(stderr, "%s\n", coffer_error_message(stage->error));
        exit(2);
    }
    return coffer_result_item(stage->result, 0);
}

static bool same(coffer_bytes value, const char *expected)
{
    return value.data != NULL && value.length == strlen(expected) &&
           memcmp(value.data, expected, value.length) == 0;
}

static const char *const only_k[] = {"K"};
static const char *const only_other[] = {"OTHER"};

static coffer_declaration declare(const char *secret, bool optional)
{
    coffer_declaration declaration = COFFER_DECLARATION_INIT;
    declaration.secret = secret;
    declaration.keys = only_k;
    declaration.key_count = 1;
    declaration.optional_keys = only_other;
    declaration.optional_key_count = 1;
    declaration.optional = optional;
    return declaration;
}

static void declarations_of_several_actions_are_taken_together(void)
{
    STAGE("prod");
    const coffer_declaration first = declare("a", true);
    const coffer_declaration second = declare("none", true);
    const coffer_declaration third = declare("b", false);
    coffer_request_add_declaration(stage.request, &first);
    coffer_request_add_declaration(stage.request, &second);
    coffer_request_add_declaration(stage.request, &third);
    const coffer_item *item = resolve(&stage);
    CHECK_INT(coffer_item_status(item), COFFER_OK);
    CHECK_INT(coffer_item_declaration_outcome(item, 0), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_declaration_outcome(item, 1), COFFER_OUTCOME_ABSENT);
    CHECK_INT(coffer_item_declaration_outcome(item, 2), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_reference_outcome(item, 1), COFFER_OUTCOME_ABSENT);
    CHECK_INT(coffer_item_value_count(item), 2);
    CHECK(same(coffer_item_value(item, "b", "K"), "value-b"));
}

static void what_one_declaration_requires_is_required(void)
{
    STAGE("prod");
    const coffer_declaration lax = declare("none", true);
    const coffer_declaration strict = declare("none", false);
    coffer_request_add_declaration(stage.request, &lax);
    coffer_request_add_declaration(stage.request, &strict);
    const coffer_item *item = resolve(&stage);
    CHECK_INT(coffer_item_status(item), COFFER_NOT_FOUND);
    CHECK_INT(coffer_item_declaration_outcome(item, 0), COFFER_OUTCOME_SECRET_NOT_FOUND);
    CHECK_INT(coffer_item_declaration_outcome(item, 1), COFFER_OUTCOME_SECRET_NOT_FOUND);
    CHECK_CONTAINS(coffer_item_declaration_message(item, 1), "none");
}

static void declared_type_is_demanded(void)
{
    STAGE("prod");
    coffer_declaration declaration = declare("a", false);
    declaration.type = COFFER_SECRET_SSH_KEY;
    coffer_request_add_declaration(stage.request, &declaration);
    const coffer_item *item = resolve(&stage);
    CHECK(coffer_item_status(item) != COFFER_OK);
    CHECK_INT(coffer_item_declaration_outcome(item, 0), COFFER_OUTCOME_DECLARATION_NOT_SATISFIED);
    CHECK(coffer_item_declaration_message(item, 0)[0] != '\0');
}

static void operands_that_fell_through_are_no_failure(void)
{
    STAGE("prod");
    coffer_request_add_expression(stage.request,
                                  "${{ SECRETS.none.K || SECRETS.a.NONE || SECRETS.a.EMPTY || SECRETS.a.K }}");
    coffer_request_add_expression(stage.request, "${{ SECRETS.b.K || SECRETS.none.K }}");
    coffer_request_add_expression(stage.request, "${{ SECRETS.none.K || None }}");
    coffer_request_add_expression(stage.request, "${{ FN.upper(SECRETS.b.K) }}");
    const coffer_item *item = resolve(&stage);
    CHECK_INT(coffer_item_status(item), COFFER_OK);
    CHECK(same(coffer_item_expression_value(item, 0), "value-a"));
    CHECK(same(coffer_item_expression_value(item, 1), "value-b"));
    CHECK_INT(coffer_item_expression_kind(item, 2), COFFER_EXPRESSION_NULL);
    CHECK_INT(coffer_item_expression_kind(item, 3), COFFER_EXPRESSION_NOT_EVALUATED);
    CHECK_INT(coffer_item_reference_outcome(item, 0), COFFER_OUTCOME_SECRET_NOT_FOUND);
    CHECK_INT(coffer_item_reference_outcome(item, 1), COFFER_OUTCOME_KEY_NOT_FOUND);
    CHECK_INT(coffer_item_reference_outcome(item, 5), COFFER_OUTCOME_NOT_NEEDED);
    CHECK(same(coffer_item_value(item, "b", "K"), "value-b"));
}

static void wrong_expression_is_told_with_its_place(void)
{
    STAGE("prod");
    coffer_request_add_expression(stage.request, "${{ SECRETS.a.K }}");
    coffer_request_add_expression(stage.request, "${{ SECRETS.a }}");
    coffer_request_add_expression(stage.request, "${{ SECRETS.none.K }}");
    const coffer_item *item = resolve(&stage);
    CHECK(coffer_item_status(item) != COFFER_OK);
    CHECK_INT(coffer_item_expression_outcome(item, 0), COFFER_OUTCOME_RESOLVED);
    CHECK_INT(coffer_item_expression_kind(item, 0), COFFER_EXPRESSION_NONE);
    CHECK_INT(coffer_item_expression_outcome(item, 1), COFFER_OUTCOME_EXPRESSION_INVALID);
    CHECK_CONTAINS(coffer_item_expression_message(item, 1), "line 1, column 15: the key is missing");
    CHECK_INT(coffer_item_expression_outcome(item, 2), COFFER_OUTCOME_SECRET_NOT_FOUND);
    CHECK_CONTAINS(coffer_item_expression_message(item, 2), "none");
}

static void conflict_of_variables_is_told_by_server_and_view_alike(void)
{
    char told[512];
    STAGE("prod");
    coffer_request_add_reference(stage.request, "a", "K");
    coffer_request_add_reference(stage.request, "twin", "K");
    CHECK_INT(coffer_item_status(resolve(&stage)), COFFER_OK);
    CHECK_INT(coffer_view_new(stage.result, 0, &stage.view, &stage.error), COFFER_FAILED_PRECONDITION);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_ENVIRONMENT_VIEW_CONFLICT);
    (void) snprintf(told, sizeof told, "%s", coffer_error_message(stage.error));
    coffer_error_free(TAKE(stage.error));
    coffer_request_set_environment_view(stage.request);
    coffer_result_free(TAKE(stage.result));
    const coffer_item *item = resolve(&stage);
    CHECK_INT(coffer_item_outcome(item), COFFER_OUTCOME_ENVIRONMENT_VIEW_CONFLICT);
    CHECK_TEXT(coffer_fault_message(coffer_item_fault(item, 0)), told);
}

static void variables_of_an_item_that_was_checked_are_its_values(void)
{
    STAGE("prod");
    const coffer_declaration declaration = declare("a", false);
    coffer_request_add_declaration(stage.request, &declaration);
    coffer_request_add_reference(stage.request, "a", "EMPTY");
    coffer_request_set_environment_view(stage.request);
    CHECK_INT(coffer_item_status(resolve(&stage)), COFFER_OK);
    CHECK_INT(coffer_view_new(stage.result, 0, &stage.view, &stage.error), COFFER_OK);
    CHECK_INT(coffer_view_count(stage.view), 2);
    CHECK_TEXT(coffer_view_strings(stage.view)[0], "EMPTY=");
    CHECK_TEXT(coffer_view_strings(stage.view)[1], "K=value-a");
}

static bool is_all(coffer_bytes value, char letter)
{
    size_t right = 0;
    while (right < value.length && value.data[right] == (uint8_t) letter) {
        right++;
    }
    return value.length == BIG_VALUE && right == value.length;
}

static size_t count_right(const coffer_item *item, size_t number)
{
    size_t right = 0;
    for (size_t k = 0; k < BIG_KEYS; k++) {
        char key[8];
        (void) snprintf(key, sizeof key, "K%zu", k);
        right += is_all(coffer_item_value(item, "big", key), (char) ('a' + number));
    }
    return right;
}

/* Together they are larger than an answer may be. */
static void results_that_have_no_room_in_one_answer_all_come(void)
{
    STAGE(NULL);
    for (size_t i = 0; i < LARGE; i++) {
        char name[16];
        (void) snprintf(name, sizeof name, "large-%zu", i);
        coffer_request_add_environment(stage.request, name);
    }
    for (size_t k = 0; k < BIG_KEYS; k++) {
        char key[8];
        (void) snprintf(key, sizeof key, "K%zu", k);
        coffer_request_add_reference(stage.request, "big", key);
    }
    (void) resolve(&stage);
    CHECK_INT(coffer_result_count(stage.result), LARGE);
    CHECK_INT(coffer_result_failed(stage.result), 0);
    for (size_t i = 0; i < LARGE; i++) {
        CHECK_INT(count_right(coffer_result_item(stage.result, i), i), BIG_KEYS);
    }
}

/* A JSON list of as many texts as go into a mebibyte, every third one with a reference. */
static size_t write_large(char *to)
{
    static const char *const parts[] = {"\"${{ SECRETS.a.K || 'x' }}\",", "\"plain text of some length\",",
                                        "1.10,"};
    size_t used = 1;
    to[0] = '[';
    for (size_t i = 0; used + 64 < TEXT_MAX; i++) {
        const size_t length = strlen(parts[i % COF_COUNT(parts)]);
        memcpy(to + used, parts[i % COF_COUNT(parts)], length);
        used += length;
    }
    memcpy(to + used, "null]", 5);
    used += 5;
    memset(to + used, ' ', TEXT_MAX - used);
    return TEXT_MAX;
}

static void document_of_a_mebibyte_is_expanded(void)
{
    STAGE("prod");
    char *source = malloc(TEXT_MAX);
    CHECK(source != NULL);
    const size_t length = write_large(source);
    const coffer_status status =
        coffer_template_new(COFFER_TEMPLATE_JSON, source, length, NULL, &stage.parsed, &stage.error);
    free(source);
    CHECK_INT(status, COFFER_OK);
    coffer_request_add_template(stage.request, stage.parsed);
    CHECK_INT(coffer_item_status(resolve(&stage)), COFFER_OK);
    CHECK_INT(coffer_template_expand(stage.parsed, stage.result, 0, &stage.text, &stage.error), COFFER_OK);
    const coffer_bytes bytes = coffer_text_bytes(stage.text);
    CHECK(bytes.length < TEXT_MAX && bytes.length > TEXT_MAX / 2);
    CHECK_BYTES(bytes.data, "[\"value-a\",\"plain text of some length\",1.10,\"value-a\",", 52);
}

static coffer_status parse_nested(struct stage *stage, size_t depth)
{
    static const char middle[] = "\"${{ SECRETS.b.K }}\"";
    char source[512];
    memset(source, '[', depth);
    memcpy(source + depth, middle, sizeof middle - 1);
    memset(source + depth + sizeof middle - 1, ']', depth);
    return coffer_template_new(COFFER_TEMPLATE_JSON, source, 2 * depth + sizeof middle - 1, NULL, &stage->parsed,
                               &stage->error);
}

static void document_is_nested_as_deep_as_the_limit(void)
{
    STAGE("prod");
    CHECK_INT(parse_nested(&stage, 64), COFFER_OK);
    coffer_request_add_template(stage.request, stage.parsed);
    CHECK_INT(coffer_item_status(resolve(&stage)), COFFER_OK);
    CHECK_INT(coffer_template_expand(stage.parsed, stage.result, 0, &stage.text, &stage.error), COFFER_OK);
    CHECK_INT(coffer_text_bytes(stage.text).length, (size_t) 2 * 64 + strlen("\"value-b\""));
    coffer_template_free(TAKE(stage.parsed));
    CHECK(parse_nested(&stage, 65) != COFFER_OK);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_DOCUMENT_TOO_DEEP);
}

static void faults_of_a_document_stand_with_their_places_in_the_order_of_the_document(void)
{
    static const char source[] =
        "a:\n  - ${{ SECRETS.none.K }}\n  - x ${{ SECRETS.a.NONE }}\nb: ${{ SECRETS.a.K }}\n"
        "c:\n  skipped: ${{ SECRETS.none.L }}\n";
    static const char *const exclude[] = {"c.skipped"};
    coffer_template_options options = COFFER_TEMPLATE_OPTIONS_INIT;
    options.exclude = exclude;
    options.exclude_count = 1;
    STAGE("prod");
    CHECK_INT(
        coffer_template_new(COFFER_TEMPLATE_YAML, source, strlen(source), &options, &stage.parsed, &stage.error),
        COFFER_OK);
    coffer_request_add_template(stage.request, stage.parsed);
    CHECK(coffer_item_status(resolve(&stage)) != COFFER_OK);
    CHECK(coffer_template_expand(stage.parsed, stage.result, 0, &stage.text, &stage.error) != COFFER_OK);
    CHECK_INT(coffer_error_fault_count(stage.error), 2);
    CHECK_TEXT(coffer_error_fault_path(stage.error, 0), "a.0");
    CHECK_INT(coffer_error_fault_reason(stage.error, 0), COFFER_REASON_SECRET_NOT_FOUND);
    CHECK_INT(coffer_error_fault_line(stage.error, 1), 3);
    CHECK_INT(coffer_error_fault_column(stage.error, 1), 5);
    CHECK_INT(coffer_error_fault_reason(stage.error, 1), COFFER_REASON_KEY_NOT_FOUND);
}

static void preflight_of_choices_follows_the_rules_of_the_language(void)
{
    coffer_preflight *preflight = NULL;
    const coffer_item *item = NULL;
    STAGE("prod");
    coffer_request_add_environment(stage.request, "nowhere");
    coffer_request_add_expression(stage.request, "${{ SECRETS.none.K || SECRETS.a.K }}");
    CHECK_INT(coffer_preflight_new(stage.client, stage.request, &preflight, &stage.error), COFFER_OK);
    CHECK_INT(coffer_preflight_would_resolve(preflight), 1);
    CHECK_INT(coffer_preflight_would_fail(preflight), 1);
    CHECK_INT(coffer_preflight_next(preflight, &item, &stage.error), COFFER_OK);
    CHECK_TEXT(coffer_item_environment(item), "nowhere");
    CHECK_INT(coffer_item_expression_outcome(item, 0), COFFER_OUTCOME_SECRET_NOT_FOUND);
    CHECK_INT(coffer_preflight_next(preflight, &item, &stage.error), COFFER_OK);
    CHECK(item == NULL);
    coffer_preflight_free(preflight);
}

static void result_gives_the_token_that_a_later_request_demands(void)
{
    STAGE("prod");
    coffer_request_add_reference(stage.request, "a", "K");
    char token[256];
    (void) snprintf(token, sizeof token, "%s", coffer_item_consistency_token(resolve(&stage)));
    coffer_result_free(TAKE(stage.result));
    coffer_request_set_consistency_token(stage.request, token);
    CHECK_INT(coffer_item_status(resolve(&stage)), COFFER_OK);
    coffer_result_free(TAKE(stage.result));
    coffer_request_set_consistency_token(stage.request, "no-token");
    CHECK(coffer_item_status(resolve(&stage)) != COFFER_OK);
}

TEST_MAIN(TEST(declarations_of_several_actions_are_taken_together), TEST(what_one_declaration_requires_is_required),
          TEST(declared_type_is_demanded), TEST(operands_that_fell_through_are_no_failure),
          TEST(wrong_expression_is_told_with_its_place),
          TEST(conflict_of_variables_is_told_by_server_and_view_alike),
          TEST(variables_of_an_item_that_was_checked_are_its_values),
          TEST(results_that_have_no_room_in_one_answer_all_come), TEST(document_of_a_mebibyte_is_expanded),
          TEST(document_is_nested_as_deep_as_the_limit),
          TEST(faults_of_a_document_stand_with_their_places_in_the_order_of_the_document),
          TEST(preflight_of_choices_follows_the_rules_of_the_language),
          TEST(result_gives_the_token_that_a_later_request_demands))
