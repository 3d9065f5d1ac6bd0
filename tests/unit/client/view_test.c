#include <stdio.h>
#include <stdlib.h>

#include <coffer/mask.h>

#include "tests/support/test.h"
#include "tests/unit/client/stage.h"

struct reference {
    const char *secret;
    const char *key;
};

static void ask(struct stage *stage, const struct reference *references, size_t count)
{
    coffer_request_add_environment(stage->request, "prod");
    for (size_t i = 0; i < count; i++) {
        coffer_request_add_reference(stage->request, references[i].secret, references[i].key);
    }
    if (stage_resolve(stage) != COFFER_OK) {
        abort();
    }
}

#define STAGE(edit, ...)                                      \
    STAGE_WITH(edit, NULL, "");                               \
    static const struct reference references[] = __VA_ARGS__; \
    ask(&stage, references, COF_COUNT(references))

static coffer_status view(struct stage *stage, size_t index)
{
    return coffer_view_new(stage->result, index, &stage->view, &stage->error);
}

static void environment_is_the_actions_then_the_workflows_then_default(void)
{
    CHECK_TEXT(coffer_environment_choose("customer-a", "prod"), "customer-a");
    CHECK_TEXT(coffer_environment_choose(NULL, "prod"), "prod");
    CHECK_TEXT(coffer_environment_choose("", "prod"), "prod");
    CHECK_TEXT(coffer_environment_choose("customer-a", NULL), "customer-a");
    CHECK_TEXT(coffer_environment_choose("", ""), "default");
    CHECK_TEXT(coffer_environment_choose(NULL, NULL), "default");
    CHECK_TEXT(coffer_environment_choose("012345678901", "prod"), "012345678901");
}

static void values_are_variables_sorted_by_name_that_outlive_the_result(void)
{
    STAGE(NULL, {{"slack", "ZED"}, {"github", "BOT_TOKEN"}, {"slack", "ALPHA"}});
    const char *name = NULL;
    CHECK_INT(view(&stage, 0), COFFER_OK);
    CHECK(stage.error == NULL);
    coffer_result_free(stage.result);
    stage.result = NULL;
    CHECK_INT(coffer_view_count(stage.view), 3);
    CHECK_TEXT((const char *) coffer_view_at(stage.view, 0, &name).data, "prod/slack/ALPHA");
    CHECK_TEXT(name, "ALPHA");
    CHECK_INT(coffer_view_at(stage.view, 1, NULL).length, strlen("prod/github/BOT_TOKEN"));
    CHECK_TEXT((const char *) coffer_view_get(stage.view, "ZED").data, "prod/slack/ZED");
    CHECK(coffer_view_get(stage.view, "zed").data == NULL);
    CHECK(coffer_view_at(stage.view, 3, &name).data == NULL);
    CHECK(name == NULL);
    char *const *strings = coffer_view_strings(stage.view);
    CHECK_TEXT(strings[0], "ALPHA=prod/slack/ALPHA");
    CHECK_TEXT(strings[1], "BOT_TOKEN=prod/github/BOT_TOKEN");
    CHECK_TEXT(strings[2], "ZED=prod/slack/ZED");
    CHECK(strings[3] == NULL);
}

static void same_key_of_two_secrets_is_an_error_that_names_both(void)
{
    STAGE(NULL, {{"jira", "API_TOKEN"}, {"slack", "BOT_TOKEN"}, {"confluence", "API_TOKEN"}});
    CHECK_INT(view(&stage, 0), COFFER_FAILED_PRECONDITION);
    CHECK(stage.view == NULL);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_ENVIRONMENT_VIEW_CONFLICT);
    CHECK_TEXT(
        coffer_error_message(stage.error),
        "the secrets \"confluence\" and \"jira\" both have the key \"API_TOKEN\"; rename one of the keys, or do "
        "without the view");
    CHECK_TEXT(coffer_error_fact(stage.error, "secret"), "confluence");
    CHECK_TEXT(coffer_error_fact(stage.error, "other_secret"), "jira");
    CHECK_TEXT(coffer_error_fact(stage.error, "key"), "API_TOKEN");
}

static void keys_that_differ_in_case_only_are_two_variables(void)
{
    STAGE(NULL, {{"jira", "API_TOKEN"}, {"confluence", "api_token"}});
    CHECK_INT(view(&stage, 0), COFFER_OK);
    CHECK_INT(coffer_view_count(stage.view), 2);
}

static void put_nul_and_empty(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked,
                              unsigned number, Coffer__V1__ResolveResponse *answer)
{
    static uint8_t bytes[] = {'a', 0, 'b'};
    (void) script;
    (void) asked;
    (void) number;
    answer->results[0]->secrets[0]->values[0]->value = (ProtobufCBinaryData){0, NULL};
    if (answer->results[0]->n_secrets > 1) {
        answer->results[0]->secrets[1]->values[0]->value = (ProtobufCBinaryData){sizeof bytes, bytes};
    }
}

static void empty_value_is_an_empty_variable(void)
{
    STAGE(put_nul_and_empty, {{"slack", "EMPTY"}});
    CHECK_INT(view(&stage, 0), COFFER_OK);
    CHECK(coffer_view_get(stage.view, "EMPTY").data != NULL);
    CHECK_INT(coffer_view_get(stage.view, "EMPTY").length, 0);
    CHECK_TEXT(coffer_view_strings(stage.view)[0], "EMPTY=");
}

static void value_with_a_nul_byte_is_refused_not_cut(void)
{
    STAGE(put_nul_and_empty, {{"slack", "EMPTY"}, {"binary", "BLOB"}});
    CHECK_INT(view(&stage, 0), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_FIELD_INVALID);
    CHECK_CONTAINS(coffer_error_message(stage.error), "binary.BLOB holds a NUL byte");
}

static void refuse_item(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                        Coffer__V1__ResolveResponse *answer)
{
    (void) script;
    (void) asked;
    (void) number;
    answer->results[0]->status->code = COFFER_NOT_FOUND;
    answer->results[0]->status->outcome = COFFER__V1__OUTCOME__OUTCOME_SECRET_NOT_FOUND;
}

static void item_that_failed_or_is_not_there_has_no_view(void)
{
    STAGE(refuse_item, {{"slack", "BOT_TOKEN"}});
    CHECK_INT(view(&stage, 0), COFFER_INVALID_ARGUMENT);
    CHECK_CONTAINS(coffer_error_message(stage.error), "was not resolved");
    CHECK_TEXT(coffer_error_field(stage.error), "index");
    coffer_error_free(stage.error);
    CHECK_INT(view(&stage, 1), COFFER_INVALID_ARGUMENT);
    CHECK_CONTAINS(coffer_error_message(stage.error), "none with the index 1");
    CHECK(stage.view == NULL);
}

struct output {
    char text[256];
    size_t length;
};

static bool collect(const void *data, size_t length, void *context)
{
    struct output *output = context;
    memcpy(output->text + output->length, data, length);
    output->length += length;
    return true;
}

static void add_derived(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                        Coffer__V1__ResolveResponse *answer)
{
    static uint8_t derived[] = "derived";
    static ProtobufCBinaryData mask;
    (void) script;
    (void) asked;
    (void) number;
    mask = (ProtobufCBinaryData){sizeof derived - 1, derived};
    answer->results[0]->additional_masks = &mask;
    answer->results[0]->n_additional_masks = 1;
    answer->results[0]->unmasked_values = 2;
}

static void masker_of_a_result_has_its_values_derived_ones_and_further_ones(void)
{
    static const char input[] = "prod/slack/BOT_TOKEN derived further cHJvZC9zbGFjay9CT1RfVE9LRU4= fur";
    static const coffer_bytes further[] = {{(const uint8_t *) "further", 7}, {(const uint8_t *) "fur", 3}};
    STAGE(add_derived, {{"slack", "BOT_TOKEN"}});
    struct output output = {.length = 0};
    coffer_masker *masker = NULL;
    coffer_mask_stream *stream = NULL;
    CHECK_INT(coffer_masker_new(stage.result, further, 2, &masker, NULL), COFFER_OK);
    CHECK_INT(coffer_masker_unmasked(masker), 3);
    CHECK_INT(coffer_mask_stream_new(masker, collect, &output, &stream, NULL), COFFER_OK);
    CHECK_INT(coffer_mask_stream_feed(stream, input, sizeof input - 1), COFFER_OK);
    CHECK_INT(coffer_mask_stream_flush(stream), COFFER_OK);
    coffer_mask_stream_free(stream);
    coffer_masker_free(masker);
    CHECK_TEXT(output.text, "*** *** *** *** fur");
}

TEST_MAIN(TEST(environment_is_the_actions_then_the_workflows_then_default),
          TEST(values_are_variables_sorted_by_name_that_outlive_the_result),
          TEST(same_key_of_two_secrets_is_an_error_that_names_both),
          TEST(keys_that_differ_in_case_only_are_two_variables), TEST(empty_value_is_an_empty_variable),
          TEST(value_with_a_nul_byte_is_refused_not_cut), TEST(item_that_failed_or_is_not_there_has_no_view),
          TEST(masker_of_a_result_has_its_values_derived_ones_and_further_ones))
