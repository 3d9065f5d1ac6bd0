#include <pthread.h>
#include <stdlib.h>

#include "tests/support/test.h"
#include "tests/unit/client/stage.h"

enum { SEEN = 512 };

/* What the server was asked for: "name,name ${{...}}|name". */
static char seen[SEEN];

static void note_item(const Coffer__V1__ResolveItem *item, size_t *used)
{
    for (size_t i = 0; i < item->n_references; i++) {
        *used += (size_t) snprintf(seen + *used, sizeof seen - *used, "%s%s", i > 0 ? "," : "",
                                   item->references[i]->name);
    }
    for (size_t i = 0; i < item->n_expressions; i++) {
        *used += (size_t) snprintf(seen + *used, sizeof seen - *used, "%s%s", *used > 0 ? " " : "",
                                   item->expressions[i]);
    }
}

/* The values of `binary` are no text. */
static void note(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                 Coffer__V1__ResolveResponse *answer)
{
    size_t used = 0;
    (void) script;
    (void) number;
    for (size_t i = 0; i < asked->n_items; i++) {
        note_item(asked->items[i], &used);
    }
    for (size_t i = 0; i < answer->n_results && answer->results[i]->n_secrets > 0; i++) {
        if (strcmp(answer->results[i]->secrets[0]->name, "binary") == 0) {
            answer->results[i]->secrets[0]->values[0]->value.data[0] = 0xFF;
        }
    }
}

#define STAGE()  \
    seen[0] = 0; \
    STAGE_WITH(note, NULL, "coalesce_requests=1")

static coffer_status parse(struct stage *stage, coffer_template_kind kind, const char *text)
{
    return coffer_template_new(kind, text, strlen(text), NULL, &stage->parsed, &stage->error);
}

static coffer_status resolve(struct stage *stage)
{
    coffer_request_add_template(stage->request, stage->parsed);
    return stage_resolve(stage);
}

static coffer_status expand(struct stage *stage, size_t index)
{
    return coffer_template_expand(stage->parsed, stage->result, index, &stage->text, &stage->error);
}

static bool is(const struct stage *stage, const char *expected)
{
    const coffer_bytes bytes = coffer_text_bytes(stage->text);
    if (bytes.length == strlen(expected) && memcmp(bytes.data, expected, bytes.length) == 0) {
        return true;
    }
    fprintf(stderr, "it is %.*s\n", (int) bytes.length, (const char *) bytes.data);
    return false;
}

static void text_is_read_resolved_and_expanded(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "Bearer ${{ SECRETS.slack.TOKEN }} ${{ FN.f(SECRETS.a.K) }}"),
              COFFER_OK);
    CHECK_INT(coffer_template_reference_count(stage.parsed), 2);
    CHECK_TEXT(coffer_template_reference_secret(stage.parsed, 0), "slack");
    CHECK_TEXT(coffer_template_reference_key(stage.parsed, 0), "TOKEN");
    CHECK(coffer_template_reference_required(stage.parsed, 1));
    CHECK(coffer_template_reference_secret(stage.parsed, 2) == NULL);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "Bearer default/slack/TOKEN ${{ FN.f(SECRETS.a.K) }}"));
    CHECK_TEXT(seen, "slack,a");
}

static void documents_are_expanded_in_each_environment(void)
{
    STAGE();
    coffer_request_add_environment(stage.request, "prod");
    coffer_request_add_environment(stage.request, "customer-a");
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_JSON, "{\"n\": 1.10, \"t\": \"${{ SECRETS.slack.TOKEN }}\"}"),
              COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "{\"n\": 1.10, \"t\": \"prod/slack/TOKEN\"}"));
    coffer_text_free(TAKE(stage.text));
    CHECK_INT(expand(&stage, 1), COFFER_OK);
    coffer_result_free(TAKE(stage.result));
    CHECK(is(&stage, "{\"n\": 1.10, \"t\": \"customer-a/slack/TOKEN\"}"));
}

static void yaml_is_expanded(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_YAML, "a: ${{ SECRETS.slack.TOKEN }} # why\n"), COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "a: \"default/slack/TOKEN\" # why\n"));
}

static void reference_that_may_be_missing_does_not_fail_the_item(void)
{
    STAGE();
    coffer_request_add_environment(stage.request, "prod");
    coffer_request_add_environment(stage.request, "dev");
    CHECK_INT(
        parse(&stage, COFFER_TEMPLATE_TEXT,
              "${{ SECRETS.missing.A || SECRETS.b.K || 'x' }} ${{ SECRETS.missing2.A || 'y' }} ${{ SECRETS.c.K }}"),
        COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, "c ${{SECRETS.missing.A||SECRETS.b.K||'-'}} ${{SECRETS.missing2.A||'-'}}");
    CHECK_INT(coffer_result_count(stage.result), 2);
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK(coffer_result_item(stage.result, 2) == NULL);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "prod/b/K y prod/c/K"));
    coffer_text_free(TAKE(stage.text));
    CHECK_INT(expand(&stage, 1), COFFER_OK);
    CHECK(is(&stage, "dev/b/K y dev/c/K"));
    CHECK_INT(coffer_result_mask_count(stage.result), 4);
}

static void item_that_asks_only_for_what_may_be_missing_is_resolved(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.missing.A || None }}"), COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, "${{SECRETS.missing.A||None}}");
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_INT(coffer_item_status(coffer_result_item(stage.result, 0)), COFFER_OK);
    CHECK_INT(coffer_item_expression_kind(coffer_result_item(stage.result, 0), 0), COFFER_EXPRESSION_NULL);
    CHECK_INT(coffer_item_fault_count(coffer_result_item(stage.result, 0)), 1);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(coffer_text_is_null(stage.text) && coffer_text_bytes(stage.text).data == NULL);
}

static void refusal_is_an_error_even_where_something_may_be_missing(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.denied.A || 'x' }} ${{ SECRETS.a.K }}"), COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(coffer_result_failed(stage.result), 1);
    CHECK_INT(expand(&stage, 0), COFFER_PERMISSION_DENIED);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_PERMISSION_DENIED);
    CHECK_TEXT(coffer_error_message(stage.error),
               "line 1, column 5: SECRETS.denied.A: it is not permitted; ask for a grant");
}

static void reference_that_is_not_needed_does_not_fail_anything(void)
{
    STAGE();
    CHECK_INT(
        parse(&stage, COFFER_TEMPLATE_TEXT,
              "${{ SECRETS.a.K || SECRETS.missing.K }} ${{ SECRETS.b.K || SECRETS.denied.K }} ${{ SECRETS.c.K }}"),
        COFFER_OK);
    CHECK(coffer_template_reference_required(stage.parsed, 1));
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, "c ${{SECRETS.a.K||SECRETS.missing.K}} ${{SECRETS.b.K||SECRETS.denied.K}}");
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "default/a/K default/b/K default/c/K"));
}

static void last_operand_that_is_needed_and_missing_is_an_error(void)
{
    STAGE();
    CHECK_INT(
        parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.missing.A || SECRETS.missing.B }} ${{ SECRETS.c.K }}"),
        COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_NOT_FOUND);
    CHECK_INT(coffer_error_fault_count(stage.error), 1);
    CHECK_CONTAINS(coffer_error_message(stage.error), "SECRETS.missing.B: there is no such secret");
}

static void reference_that_is_needed_elsewhere_is_needed(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.a.K || 'x' }}"), COFFER_OK);
    coffer_request_add_template(stage.request, stage.parsed);
    coffer_request_add_reference(stage.request, "a", "K");
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, "a ${{SECRETS.a.K||'-'}}");
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "default/a/K"));
}

static void only_names_of_a_text_are_sent(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT,
                    "private ${{ SECRETS['a-1']['K.2']  ||  '' || \"hunter2\" || SECRETS.b.K }}, "
                    "${{ SECRETS['a-1']['K.2'] || '' || 'other' }} ${{ None || SECRETS._c9.K }}"),
              COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, "${{SECRETS['a-1']['K.2']||''||'-'}} ${{None||SECRETS._c9.K}}");
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "private default/a-1/K.2, default/a-1/K.2 default/_c9/K"));
}

static void reference_behind_a_literal_is_not_needed(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ 'x' || SECRETS.denied.K || SECRETS.b.K }}"), COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_TEXT(seen, "${{'-'||SECRETS.denied.K}}");
    CHECK_INT(coffer_result_failed(stage.result), 0);
    CHECK_INT(coffer_item_value_count(coffer_result_item(stage.result, 0)), 0);
    CHECK_INT(coffer_item_reference_outcome(coffer_result_item(stage.result, 0), 0), COFFER_OUTCOME_NOT_NEEDED);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "x"));
}

static void absent_value_is_null_or_an_error(void)
{
    static const char *const keys[] = {"K"};
    static const char inside[] = "x ${{ SECRETS.absent.K }}";
    coffer_declaration declaration = COFFER_DECLARATION_INIT;
    STAGE();
    declaration.secret = "absent";
    declaration.optional_keys = keys;
    declaration.optional_key_count = 1;
    declaration.optional = true;
    coffer_request_add_declaration(stage.request, &declaration);
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.absent.K }}"), COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(coffer_text_is_null(stage.text));
    coffer_text_free(TAKE(stage.text));
    coffer_template_free(TAKE(stage.parsed));
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, inside), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_FAILED_PRECONDITION);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_VALUE_ABSENT);
    coffer_error_free(TAKE(stage.error));
    coffer_template_free(TAKE(stage.parsed));
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.absent.OTHER }}"), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_INVALID_ARGUMENT);
    CHECK_CONTAINS(coffer_error_message(stage.error), "it was not asked for");
}

static void all_missing_references_are_told_with_their_places(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_JSON,
                    "{\"a\": \"${{ SECRETS.missing.A }}\",\n \"b\": [\"x ${{ SECRETS.b.K }}\", \"${{ "
                    "SECRETS.denied.C }}\"]}"),
              COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(coffer_result_failed(stage.result), 1);
    CHECK_INT(expand(&stage, 0), COFFER_NOT_FOUND);
    CHECK_INT(coffer_error_fault_count(stage.error), 2);
    CHECK_INT(coffer_error_fault_reason(stage.error, 0), COFFER_REASON_SECRET_NOT_FOUND);
    CHECK_TEXT(coffer_error_fault_path(stage.error, 0), "a");
    CHECK_INT(coffer_error_fault_line(stage.error, 1), 2);
    CHECK_INT(coffer_error_fault_column(stage.error, 1), 32);
    CHECK_TEXT(coffer_error_fault_path(stage.error, 1), "b.1");
    CHECK_CONTAINS(coffer_error_fault_message(stage.error, 1), "b.1: SECRETS.denied.C: it is not permitted");
    CHECK_INT(coffer_error_fault_reason(stage.error, 2), COFFER_REASON_NONE);
    CHECK_TEXT(coffer_error_fault_message(stage.error, 2), "");
    CHECK(stage.text == NULL);
}

static void item_that_failed_elsewhere_gives_no_text(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.a.K }}"), COFFER_OK);
    coffer_request_add_reference(stage.request, "missing", "K");
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_NOT_FOUND);
    CHECK_CONTAINS(coffer_error_message(stage.error), "SECRETS.a.K: there is no such secret; check the name");
    CHECK_INT(coffer_error_fault_count(stage.error), 0);
}

static void template_that_was_not_asked_for_is_refused(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.a.K }}"), COFFER_OK);
    coffer_request_add_reference(stage.request, "b", "K");
    CHECK_INT(coffer_resolve(stage.client, stage.request, &stage.result, &stage.error), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_INVALID_ARGUMENT);
    CHECK_CONTAINS(coffer_error_message(stage.error), "it was not asked for; call coffer_request_add_template");
    coffer_error_free(TAKE(stage.error));
    CHECK_INT(expand(&stage, 1), COFFER_INVALID_ARGUMENT);
    CHECK_TEXT(coffer_error_field(stage.error), "index");
}

static void value_that_is_no_text_stays_out_of_documents(void)
{
    STAGE();
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_YAML, "- ${{ SECRETS.binary.K }}\n"), COFFER_OK);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_FAILED_PRECONDITION);
    CHECK_INT(coffer_error_reason(stage.error), COFFER_REASON_VALUE_NOT_TEXT);
}

static void all_mistakes_of_a_text_are_told_when_it_is_read(void)
{
    coffer_template *parsed = NULL;
    coffer_error *error = NULL;
    static const char text[] = "${{ SECRETS.a }}\n${{ SECRETS.b.K.L }}";
    CHECK_INT(coffer_template_new(COFFER_TEMPLATE_TEXT, text, strlen(text), NULL, &parsed, &error),
              COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_EXPRESSION_INVALID);
    CHECK_INT(coffer_error_fault_count(error), 2);
    CHECK_INT(coffer_error_fault_line(error, 1), 2);
    CHECK_INT(coffer_error_fault_column(error, 1), 16);
    CHECK_TEXT(coffer_error_fact(error, "faults"), "2");
    CHECK(parsed == NULL);
    coffer_error_free(error);
    CHECK_INT(coffer_template_new(COFFER_TEMPLATE_TEXT, text, strlen(text), NULL, &parsed, NULL),
              COFFER_INVALID_ARGUMENT);
}

static void parts_are_excluded_and_redacted(void)
{
    STAGE();
    static const char text[] =
        "{\"a\": \"${{ SECRETS.missing.A }}\", \"b\": \"${{ SECRETS.missing.B }}\", \"c\": \"${{ SECRETS.c.K }}\"}";
    static const char *const exclude[] = {"a"};
    static const char *const redact[] = {"**.b"};
    coffer_template_options options = COFFER_TEMPLATE_OPTIONS_INIT;
    options.exclude = exclude;
    options.exclude_count = 1;
    options.redact = redact;
    options.redact_count = 1;
    CHECK_INT(coffer_template_new(COFFER_TEMPLATE_JSON, text, strlen(text), &options, &stage.parsed, &stage.error),
              COFFER_OK);
    CHECK_INT(coffer_template_reference_count(stage.parsed), 1);
    CHECK_INT(resolve(&stage), COFFER_OK);
    CHECK_INT(expand(&stage, 0), COFFER_OK);
    CHECK(is(&stage, "{\"a\": \"${{ SECRETS.missing.A }}\", \"b\": \"***\", \"c\": \"default/c/K\"}"));
}

/* One thread's share of the test below. */
struct share {
    struct stage *stage;
    size_t index;
    int failed;
};

static void *expand_often(void *context)
{
    enum { ROUNDS = 200 };
    struct share *share = context;
    coffer_result *result = NULL;
    char expected[64];
    (void) snprintf(expected, sizeof expected, "env-%zu/a/K!", share->index);
    if (coffer_resolve(share->stage->client, share->stage->request, &result, NULL) != COFFER_OK) {
        share->failed = ROUNDS;
        return NULL;
    }
    for (int i = 0; i < ROUNDS; i++) {
        coffer_text *text = NULL;
        if (coffer_template_expand(share->stage->parsed, result, share->index, &text, NULL) != COFFER_OK) {
            share->failed++;
            continue;
        }
        const coffer_bytes bytes = coffer_text_bytes(text);
        share->failed += coffer_result_failed(result) > 0 || bytes.length != strlen(expected) ||
                         memcmp(bytes.data, expected, bytes.length) != 0;
        coffer_text_free(text);
    }
    coffer_result_free(result);
    return NULL;
}

/* Their calls travel together, with all that was added to them. */
static void threads_share_a_template(void)
{
    enum { THREADS = 4 };
    STAGE();
    pthread_t threads[THREADS];
    struct share shares[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        char name[16];
        (void) snprintf(name, sizeof name, "env-%zu", i);
        coffer_request_add_environment(stage.request, name);
    }
    CHECK_INT(parse(&stage, COFFER_TEMPLATE_TEXT, "${{ SECRETS.missing.K || SECRETS.a.K }}!"), COFFER_OK);
    coffer_request_add_template(stage.request, stage.parsed);
    for (size_t i = 0; i < THREADS; i++) {
        shares[i] = (struct share){&stage, i, 0};
        CHECK_INT(pthread_create(&threads[i], NULL, expand_often, &shares[i]), 0);
    }
    int failed = 0;
    for (size_t i = 0; i < THREADS; i++) {
        (void) pthread_join(threads[i], NULL);
        failed += shares[i].failed;
    }
    CHECK_INT(failed, 0);
}

static void wrong_settings_are_refused(void)
{
    static const char *const wrong[] = {"a..b"};
    coffer_template_options options = COFFER_TEMPLATE_OPTIONS_INIT;
    coffer_template *parsed = NULL;
    coffer_error *error = NULL;
    options.redact = wrong;
    options.redact_count = 1;
    CHECK_INT(coffer_template_new(COFFER_TEMPLATE_JSON, "1", 1, &options, &parsed, &error),
              COFFER_INVALID_ARGUMENT);
    CHECK_TEXT(coffer_error_field(error), "pattern");
    coffer_error_free(TAKE(error));
    CHECK_INT(coffer_template_new((coffer_template_kind) 9, "1", 1, NULL, &parsed, &error),
              COFFER_INVALID_ARGUMENT);
    CHECK_TEXT(coffer_error_field(error), "kind");
    coffer_error_free(TAKE(error));
    char *large = calloc(1, (1 << 20) + 1);
    CHECK(large != NULL);
    CHECK_INT(coffer_template_new(COFFER_TEMPLATE_YAML, large, (1 << 20) + 1, NULL, &parsed, &error),
              COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_TEXT_TOO_LARGE);
    free(large);
    coffer_error_free(error);
    coffer_template_free(NULL);
    coffer_text_free(NULL);
}

TEST_MAIN(TEST(text_is_read_resolved_and_expanded), TEST(documents_are_expanded_in_each_environment),
          TEST(yaml_is_expanded), TEST(reference_that_may_be_missing_does_not_fail_the_item),
          TEST(item_that_asks_only_for_what_may_be_missing_is_resolved),
          TEST(refusal_is_an_error_even_where_something_may_be_missing),
          TEST(reference_that_is_not_needed_does_not_fail_anything),
          TEST(last_operand_that_is_needed_and_missing_is_an_error),
          TEST(reference_that_is_needed_elsewhere_is_needed), TEST(only_names_of_a_text_are_sent),
          TEST(reference_behind_a_literal_is_not_needed), TEST(absent_value_is_null_or_an_error),
          TEST(all_missing_references_are_told_with_their_places), TEST(item_that_failed_elsewhere_gives_no_text),
          TEST(template_that_was_not_asked_for_is_refused), TEST(value_that_is_no_text_stays_out_of_documents),
          TEST(all_mistakes_of_a_text_are_told_when_it_is_read), TEST(parts_are_excluded_and_redacted),
          TEST(threads_share_a_template), TEST(wrong_settings_are_refused))
