#include <stdio.h>
#include <stdlib.h>

#include "common/expression.h"
#include "common/references.h"
#include "tests/support/test.h"

/* What cases in a file cannot show: messages, facts, the limit of references. The language itself is in
 * tests/conformance. */

enum { POOL = 8 << 20, TEXT = 1 << 16 };

struct scanned {
    struct cof_template_scan scan;
    struct cof_template template;
    struct cof_error err;
    bool found;
};

static cof_code next(struct scanned *scanned)
{
    cof_error_clear(&scanned->err);
    return cof_template_next(&scanned->scan, &scanned->template, &scanned->found, &scanned->err);
}

static void begin(struct scanned *scanned, const char *text)
{
    cof_template_scan_init(&scanned->scan, cof_slice_text(text));
}

static const char *fact(const struct cof_error *err, const char *key)
{
    for (uint32_t i = 0; i < err->fact_count; i++) {
        if (strcmp(err->facts[i].key, key) == 0) {
            return err->facts[i].value;
        }
    }
    return NULL;
}

static void invalid_reference_says_what_is_wrong_where_and_how_to_write_it(void)
{
    struct scanned scanned;
    begin(&scanned, "first line\nthen ${{ SECRETS.slack }}");
    CHECK_FAILS(next(&scanned), &scanned.err, EXPRESSION_INVALID);
    CHECK_TEXT(
        scanned.err.message,
        "line 2, column 24: the key is missing; write SECRETS.<name>.<KEY>, or SECRETS['<name>'].<KEY> for a "
        "name that is no identifier");
    CHECK_TEXT(fact(&scanned.err, "offset"), "34");
    CHECK_TEXT(fact(&scanned.err, "line"), "2");
    CHECK_TEXT(fact(&scanned.err, "column"), "24");
    CHECK_INT(scanned.scan.fault.offset, 34);
}

static void each_kind_of_mistake_has_a_message_of_its_own(void)
{
    static const char *const cases[][2] = {
        {"${{ SECRETS }}", "the secret's name is missing"},
        {"${{ SECRETS.a }}", "the key is missing"},
        {"${{ SECRETS..K }}", "an identifier is missing behind the dot"},
        {"${{ SECRETS.a.K.L }}", "a reference ends with its key, and has two parts"},
        {"${{ SECRETS[a].K }}", "a name in quotes is missing behind ["},
        {"${{ SECRETS['a'.K }}", "a ] is missing"},
        {"${{ SECRETS['a b'].K }}", "no secret can have this name"},
        {"${{ SECRETS.a['1'] }}", "no key can have this name"},
        {"${{ SECRETS.a.K || 'x }}", "this quote is not closed on its line"},
        {"${{ SECRETS.a.K", "this ${{ has no }}, though a reference follows it"},
        {"${{ ${{ SECRETS.a.K }}", "a ${{ stands within another"},
    };
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        struct scanned scanned;
        begin(&scanned, cases[i][0]);
        CHECK_FAILS(next(&scanned), &scanned.err, EXPRESSION_INVALID);
        CHECK_CONTAINS(scanned.err.message, cases[i][1]);
        CHECK_CONTAINS(scanned.err.message, "; ");
    }
}

static void scan_goes_on_behind_what_is_wrong(void)
{
    struct scanned scanned;
    begin(&scanned, "${{ SECRETS.a }} ${{ SECRETS.b.K }} ${{ SECRETS }}");
    CHECK_FAILS(next(&scanned), &scanned.err, EXPRESSION_INVALID);
    CHECK_OK(next(&scanned), &scanned.err);
    CHECK(scanned.found && scanned.template.place.column == 18);
    CHECK_FAILS(next(&scanned), &scanned.err, EXPRESSION_INVALID);
    CHECK_OK(next(&scanned), &scanned.err);
    CHECK(!scanned.found);
}

static void text_that_is_too_large_is_refused_and_not_read(void)
{
    struct scanned scanned;
    char *text = calloc(1, COF_TEXT_MAX + 1);
    CHECK(text != NULL);
    cof_template_scan_init(&scanned.scan, cof_slice_of(text, COF_TEXT_MAX + 1));
    CHECK_FAILS(next(&scanned), &scanned.err, TEXT_TOO_LARGE);
    CHECK_INT(scanned.err.code, COF_RESOURCE_EXHAUSTED);
    CHECK_OK(next(&scanned), &scanned.err);
    CHECK(!scanned.found);
    free(text);
}

static void expression_that_is_too_long_has_a_reason_of_its_own(void)
{
    static char text[COF_EXPRESSION_MAX + 64] = "${{ SECRETS.a.K";
    memset(text + strlen(text), ' ', COF_EXPRESSION_MAX - 16);
    memcpy(text + COF_EXPRESSION_MAX - 1, "}} ${{ SECRETS.b.K }}", sizeof "}} ${{ SECRETS.b.K }}");
    struct scanned scanned;
    begin(&scanned, text);
    CHECK_FAILS(next(&scanned), &scanned.err, EXPRESSION_TOO_LONG);
    CHECK_CONTAINS(scanned.err.message, "has 8193 bytes, at most 8192 are allowed");
    CHECK_OK(next(&scanned), &scanned.err);
    CHECK(scanned.found);
}

static void operands_come_in_their_order(void)
{
    struct cof_operand_scan scan;
    struct cof_operand operand;
    struct scanned scanned;
    begin(&scanned, "${{ SECRETS.a.K || 'x' || None || SECRETS['b-c'].L }}");
    CHECK_OK(next(&scanned), &scanned.err);
    CHECK(scanned.template.evaluated);
    cof_operand_scan_init(&scan, &scanned.template);
    CHECK(cof_operand_next(&scan, &operand) && operand.kind == COF_OPERAND_REFERENCE && !operand.last);
    CHECK(cof_operand_next(&scan, &operand) && operand.kind == COF_OPERAND_LITERAL && operand.literal.len == 1);
    CHECK(cof_operand_next(&scan, &operand) && operand.kind == COF_OPERAND_NONE && !operand.last);
    CHECK(cof_operand_next(&scan, &operand) && operand.kind == COF_OPERAND_REFERENCE && operand.last);
    CHECK(cof_slice_equal(operand.name, cof_slice_text("b-c")) && operand.offset == 34);
    CHECK(!cof_operand_next(&scan, &operand));
}

/* Adds the references of a text with `count` different ones, each of them twice. */
static cof_code add_many(struct cof_references *references, size_t count, struct cof_error *err)
{
    for (size_t i = 0; i < 2 * count; i++) {
        char text[128];
        (void) snprintf(text, sizeof text, "${{ SECRETS.name_%zu.K || SECRETS.name_%zu.L }}", i % count, i % count);
        struct scanned scanned;
        begin(&scanned, text);
        TRY(next(&scanned));
        TRY(cof_references_add_template(references, &scanned.template, err));
    }
    return COF_OK;
}

static void choices_hold_names_only_and_stand_once_each(void)
{
    static const struct {
        const char *text;
        const char *choice; /* NULL: it is none */
    } cases[] = {
        {"${{ SECRETS.a.K }}", NULL},
        {"${{ FN.f(SECRETS.a.K || 'x') }}", NULL},
        {"${{ SECRETS.a.K  ||  'private' }}", "${{SECRETS.a.K||'-'}}"},
        {"${{ SECRETS.a.K || \"other\" || SECRETS.b.K }}", NULL},
        {"${{SECRETS.a.K||''||None||SECRETS['b-c']['d.e']}}", "${{SECRETS.a.K||''||None||SECRETS['b-c']['d.e']}}"},
        {"${{ SECRETS['a'].K || None }}", "${{SECRETS.a.K||None}}"},
        {"${{ 'x' || SECRETS.a.K || SECRETS.b.K }}", "${{'-'||SECRETS.a.K}}"},
    };
    struct cof_pool *pool = NULL;
    struct cof_references *references = NULL;
    struct cof_arena arena;
    struct cof_error err;
    size_t count = 0;
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    cof_arena_init(&arena, pool, SIZE_MAX);
    CHECK_OK(cof_references_new(&arena, &references, &err), &err);
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        struct scanned scanned;
        begin(&scanned, cases[i].text);
        CHECK_OK(next(&scanned), &scanned.err);
        CHECK_OK(cof_references_add_template(references, &scanned.template, &err), &err);
        count += cases[i].choice != NULL;
        CHECK_INT(cof_references_choice_count(references), count);
        if (cases[i].choice != NULL) {
            CHECK_TEXT((const char *) cof_references_choice_at(references, count - 1).data, cases[i].choice);
        }
    }
    CHECK_INT(count, 4);
    cof_arena_reset(&arena);
    cof_pool_free(pool);
}

static void references_are_gathered_once_each_up_to_their_limit(void)
{
    struct cof_pool *pool = NULL;
    struct cof_references *references = NULL;
    struct cof_arena arena;
    struct cof_error err;
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    cof_arena_init(&arena, pool, SIZE_MAX);
    CHECK_OK(cof_references_new(&arena, &references, &err), &err);
    CHECK_OK(add_many(references, COF_REFERENCES_MAX / 2, &err), &err);
    CHECK_INT(cof_references_count(references), COF_REFERENCES_MAX);
    CHECK(!cof_references_at(references, 0)->required && cof_references_at(references, 1)->required);
    CHECK(!cof_references_at(references, 1)->unconditional);
    struct scanned scanned;
    begin(&scanned, "${{ SECRETS.one.MORE }}");
    CHECK_OK(next(&scanned), &scanned.err);
    CHECK_FAILS(cof_references_add_template(references, &scanned.template, &err), &err, TOO_MANY_REFERENCES);
    begin(&scanned, "${{ SECRETS.name_7.K }}");
    CHECK_OK(next(&scanned), &scanned.err);
    CHECK_OK(cof_references_add_template(references, &scanned.template, &err), &err);
    CHECK(cof_references_at(references, 14)->required && cof_references_at(references, 14)->unconditional);
    cof_arena_reset(&arena);
    cof_pool_free(pool);
}

static void references_without_memory_are_out_of_memory(void)
{
    struct cof_pool *pool = NULL;
    struct cof_references *references = NULL;
    struct cof_arena arena;
    struct cof_error err;
    CHECK_OK(cof_pool_new(COF_ARENA_CHUNK, COF_LOCK_BEST_EFFORT, &pool, &err), &err);
    cof_arena_init(&arena, pool, SIZE_MAX);
    CHECK_FAILS(cof_references_new(&arena, &references, &err), &err, OUT_OF_MEMORY);
    cof_arena_reset(&arena);
    cof_pool_free(pool);
}

/* Texts on which a scanner that reads parts again and again would stand still. */
static void adversarial_texts_are_read_in_one_go(void)
{
    static const char *const pieces[] = {"${{ ", "${{'",         "${{ x }}",      "'", "${{ '}}' ", "SECRETS",
                                         "}} ",  "\xE2\x80\x80", "${{SECRETS.a}}"};
    char *text = malloc(COF_TEXT_MAX);
    CHECK(text != NULL);
    for (size_t i = 0; i < COF_COUNT(pieces); i++) {
        const size_t length = strlen(pieces[i]);
        static struct scanned scanned;
        size_t faults = 0;
        for (size_t at = 0; at < COF_TEXT_MAX; at++) {
            text[at] = pieces[i][at % length];
        }
        cof_template_scan_init(&scanned.scan, cof_slice_of(text, COF_TEXT_MAX));
        while (next(&scanned) != COF_OK) {
            faults++;
        }
        CHECK(!scanned.found);
        CHECK_INT(faults, i + 1 == COF_COUNT(pieces) ? COF_TEXT_MAX / length : 0);
    }
    free(text);
}

TEST_MAIN(TEST(invalid_reference_says_what_is_wrong_where_and_how_to_write_it),
          TEST(each_kind_of_mistake_has_a_message_of_its_own), TEST(scan_goes_on_behind_what_is_wrong),
          TEST(text_that_is_too_large_is_refused_and_not_read),
          TEST(expression_that_is_too_long_has_a_reason_of_its_own), TEST(operands_come_in_their_order),
          TEST(choices_hold_names_only_and_stand_once_each),
          TEST(references_are_gathered_once_each_up_to_their_limit),
          TEST(references_without_memory_are_out_of_memory), TEST(adversarial_texts_are_read_in_one_go))
