#include "common/expand.h"
#include "tests/support/test.h"

/* Look-ups, faults and bytes; the language itself is in tests/conformance. */

enum { POOL = 8 << 20 };

static struct cof_pool *pool;
static struct cof_arena arena;
static struct cof_fault_list faults;
static struct cof_value value;
static struct cof_error err;
static char asked[256]; /* the keys that were looked up */

static void begin(void)
{
    if (pool == NULL) {
        (void) (cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
        cof_arena_init(&arena, pool, SIZE_MAX);
    }
    cof_arena_reset(&arena);
    cof_fault_list_init(&faults, &arena);
    asked[0] = '\0';
}

/* The secret's name says what becomes of it; the value of `there` is its key. */
static void find(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found)
{
    static const uint8_t binary[] = {0xFF, 0x00, 0xFE};
    const size_t used = strlen(asked);
    (void) context;
    if (used + key.len + 2 < sizeof asked) {
        memcpy(asked + used, key.data, key.len);
        memcpy(asked + used + key.len, " ", 2);
    }
    if (cof_slice_equal(name, cof_slice_text("there"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = key};
    } else if (cof_slice_equal(name, cof_slice_text("empty"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE};
    } else if (cof_slice_equal(name, cof_slice_text("binary"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = cof_slice_of(binary, sizeof binary)};
    } else if (cof_slice_equal(name, cof_slice_text("absent"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_ABSENT};
    } else if (cof_slice_equal(name, cof_slice_text("denied"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_FAILED,
                                        .reason = COF_REASON_PERMISSION_DENIED,
                                        .message = "it is not permitted; ask for a grant"};
    } else {
        *ret_found = (struct cof_found){.kind = COF_FOUND_MISSING,
                                        .reason = COF_REASON_SECRET_NOT_FOUND,
                                        .message = "there is no such secret; check the name"};
    }
}

static cof_code expand(const char *text)
{
    static const struct cof_lookup lookup = {find, NULL};
    begin();
    return cof_text_expand(cof_slice_text(text), &lookup, &faults, &arena, &value, &err);
}

static bool is(const char *expected)
{
    return !value.null && cof_slice_equal(value.bytes, cof_slice_text(expected));
}

static void operands_behind_the_one_taken_are_not_looked_up(void)
{
    CHECK_OK(expand("${{ SECRETS.missing.A || SECRETS.there.B || SECRETS.denied.C || 'x' }}"), &err);
    CHECK(is("B"));
    CHECK_TEXT(asked, "A B A B "); /* once for the length, once for the bytes */
}

static void only_what_is_not_there_or_empty_falls_through(void)
{
    CHECK_OK(expand("${{ SECRETS.missing.A || SECRETS.absent.B || SECRETS.empty.C || '' || None || 'x' }}"), &err);
    CHECK(is("x"));
    CHECK_FAILS(expand("${{ SECRETS.denied.A || 'x' }}"), &err, PERMISSION_DENIED);
    CHECK_TEXT(err.message, "line 1, column 5: SECRETS.denied.A: it is not permitted; ask for a grant");
    CHECK_FAILS(expand("${{ SECRETS.empty.A || SECRETS.denied.B || 'x' }}"), &err, PERMISSION_DENIED);
}

static void last_operand_decides_if_none_is_there(void)
{
    CHECK_OK(expand("${{ SECRETS.missing.A || SECRETS.empty.B }}"), &err);
    CHECK(is(""));
    CHECK_OK(expand("${{ SECRETS.empty.A || SECRETS.absent.B }}"), &err);
    CHECK(value.null);
    CHECK_FAILS(expand("${{ SECRETS.empty.A || SECRETS.missing.B }}"), &err, SECRET_NOT_FOUND);
    CHECK_CONTAINS(err.message, "column 24: SECRETS.missing.B");
}

static void absent_value_is_null_by_itself_and_an_error_within_text(void)
{
    CHECK_OK(expand(" ${{ SECRETS.absent.A }}\n"), &err);
    CHECK(value.null);
    CHECK_FAILS(expand("x ${{ SECRETS.absent.A }}"), &err, VALUE_ABSENT);
    CHECK_CONTAINS(err.message, "|| ''");
    CHECK_OK(expand("x ${{ SECRETS.absent.A || '' }}"), &err);
    CHECK(is("x "));
}

static void expressions_of_the_engine_stay_and_their_references_are_looked_up(void)
{
    CHECK_OK(expand("${{ FN.f(SECRETS.there.A, SECRETS.absent.B) }} ${{ SECRETS.there.C }}"), &err);
    CHECK(is("${{ FN.f(SECRETS.there.A, SECRETS.absent.B) }} C"));
    CHECK_FAILS(expand("${{ FN.f(SECRETS.missing.A) }}"), &err, SECRET_NOT_FOUND);
}

static void all_faults_are_told(void)
{
    CHECK_FAILS(
        expand("${{ SECRETS.missing.A }}\n${{ SECRETS.b }} ${{ FN.f(SECRETS.denied.B, SECRETS.missing.C) }} "
               "${{ SECRETS.absent.D }}"),
        &err, SECRET_NOT_FOUND);
    static const cof_reason expected[] = {COF_REASON_SECRET_NOT_FOUND, COF_REASON_EXPRESSION_INVALID,
                                          COF_REASON_PERMISSION_DENIED, COF_REASON_SECRET_NOT_FOUND,
                                          COF_REASON_VALUE_ABSENT};
    CHECK_INT(faults.total, COF_COUNT(expected));
    for (size_t i = 0; i < COF_COUNT(expected); i++) {
        CHECK_INT(faults.items[i].reason, expected[i]);
        CHECK_INT(faults.items[i].place.line, i == 0 ? 1 : 2);
    }
    CHECK_TEXT(err.facts[2].value, "5");
}

static void faults_past_the_limit_are_counted(void)
{
    static char text[16 * (COF_FAULTS_MAX + 6)];
    for (size_t i = 0; i < COF_FAULTS_MAX + 5; i++) {
        memcpy(text + 16 * i, "${{ SECRETS.a }}", 16);
    }
    CHECK_FAILS(expand(text), &err, EXPRESSION_INVALID);
    CHECK_INT(faults.count, COF_FAULTS_MAX);
    CHECK_INT(faults.total, COF_FAULTS_MAX + 5);
}

static void text_by_itself_takes_any_bytes(void)
{
    CHECK_OK(expand("<${{ SECRETS.binary.A }}>"), &err);
    CHECK_INT(value.bytes.len, 5);
    CHECK_BYTES(value.bytes.data, "<\xFF\0\xFE>", 5);
}

static void text_that_outgrows_the_memory_is_out_of_memory(void)
{
    static char text[1 << 19];
    struct cof_pool *small = NULL;
    struct cof_arena tight;
    memset(text, 'x', sizeof text - 1);
    begin();
    CHECK_OK(cof_pool_new(1 << 16, COF_LOCK_BEST_EFFORT, &small, &err), &err);
    cof_arena_init(&tight, small, SIZE_MAX);
    static const struct cof_lookup lookup = {find, NULL};
    CHECK_FAILS(cof_text_expand(cof_slice_text(text), &lookup, &faults, &tight, &value, &err), &err, OUT_OF_MEMORY);
    cof_arena_reset(&tight);
    cof_pool_free(small);
}

/* Scans a text that is one template, and evaluates its operands from a list, without faults. */
static bool evaluate_list(const char *text)
{
    static const struct cof_lookup lookup = {find, NULL};
    const struct cof_expansion expansion = {.lookup = &lookup};
    struct cof_operand operands[8];
    struct cof_template_scan scan;
    struct cof_operand_scan places;
    struct cof_template template;
    bool found;
    size_t count = 0;
    begin();
    cof_template_scan_init(&scan, cof_slice_text(text));
    if (cof_template_next(&scan, &template, &found, &err) != COF_OK || !found) {
        return false;
    }
    cof_operand_scan_init(&places, &template);
    while (count < COF_COUNT(operands) && cof_operand_next(&places, &operands[count])) {
        count++;
    }
    return cof_operands_value(&expansion, &template, operands, count, &value);
}

static void operands_that_were_read_before_are_worth_the_same(void)
{
    CHECK(evaluate_list("${{ SECRETS.missing.A || SECRETS.empty.B || SECRETS.there.C || SECRETS.denied.D }}") &&
          is("C"));
    CHECK_TEXT(asked, "A B C ");
    CHECK(evaluate_list("${{ SECRETS.missing.A || None || 'x' || SECRETS.there.B }}") && is("x"));
    CHECK(evaluate_list("${{ SECRETS.missing.A || SECRETS.absent.B }}") && value.null);
    CHECK(!evaluate_list("${{ '' || SECRETS.missing.A }}"));
    CHECK(!evaluate_list("${{ SECRETS.denied.A || 'x' }}"));
    CHECK_INT(faults.total, 0);
}

TEST_MAIN(TEST(operands_that_were_read_before_are_worth_the_same),
          TEST(operands_behind_the_one_taken_are_not_looked_up),
          TEST(only_what_is_not_there_or_empty_falls_through), TEST(last_operand_decides_if_none_is_there),
          TEST(absent_value_is_null_by_itself_and_an_error_within_text),
          TEST(expressions_of_the_engine_stay_and_their_references_are_looked_up), TEST(all_faults_are_told),
          TEST(faults_past_the_limit_are_counted), TEST(text_by_itself_takes_any_bytes),
          TEST(text_that_outgrows_the_memory_is_out_of_memory))
