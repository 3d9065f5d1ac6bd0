#include <string.h>

#include "common/error.h"
#include "common/name.h"
#include "tests/support/test.h"

static void failure_carries_the_reasons_own_code(void)
{
    struct cof_error err;
    CHECK_INT(cof_fail(&err, COF_REASON_SECRET_NOT_FOUND, "no secret %s in %s", "stripe", "prod"), COF_NOT_FOUND);
    CHECK_INT(err.code, COF_NOT_FOUND);
    CHECK_INT(err.reason, COF_REASON_SECRET_NOT_FOUND);
    CHECK_INT(err.origin, COF_ORIGIN_OWN);
    CHECK_TEXT(err.message, "no secret stripe in prod");
    CHECK_TEXT(err.trail, "");
}

static void new_failure_leaves_nothing_of_the_one_before(void)
{
    struct cof_error err;
    cof_ignore(cof_fail_field(&err, COF_REASON_FIELD_INVALID, "items[0].name", "first"));
    cof_ignore(cof_error_fact(&err, "secret", "stripe"));
    cof_ignore(cof_error_retry_after(&err, 250));
    cof_ignore(cof_note(&err, "somewhere"));
    cof_ignore(cof_fail(&err, COF_REASON_SERVER_BUSY, "second"));
    CHECK_TEXT(err.field, "");
    CHECK_TEXT(err.trail, "");
    CHECK_INT(err.fact_count, 0);
    CHECK_INT(err.retry_after_ms, 0);
    cof_error_clear(&err);
    CHECK_INT(err.code, COF_OK);
    CHECK_TEXT(err.message, "");
}

static void notes_add_to_the_trail_and_change_nothing_else(void)
{
    struct cof_error err;
    cof_ignore(cof_fail_internal(&err, COF_ORIGIN_POSTGRESQL, "40001", "insert"));
    CHECK_INT(cof_note(&err, "writing %s", "a secret"), COF_INTERNAL);
    CHECK_INT(cof_note(&err, "CreateSecret"), COF_INTERNAL);
    CHECK_TEXT(err.trail, "insert < writing a secret < CreateSecret");
    CHECK_TEXT(err.native, "40001");
    CHECK_INT(err.origin, COF_ORIGIN_POSTGRESQL);
}

static void internal_failure_tells_the_peer_nothing_but_that(void)
{
    struct cof_error err;
    cof_ignore(cof_fail_internal(&err, COF_ORIGIN_OPENSSL, NULL, "the inner cause"));
    CHECK_TEXT(err.message, "an internal error; give the request ID to the operator; the log has the cause");
    CHECK(strstr(err.message, "inner") == NULL);
    CHECK_TEXT(err.native, "");
    CHECK_TEXT(err.trail, "the inner cause");
}

static void full_trail_takes_more_notes_without_harm(void)
{
    struct cof_error err;
    cof_ignore(cof_fail_internal(&err, COF_ORIGIN_OWN, "", "begin"));
    for (int i = 0; i < 1000; i++) {
        cof_ignore(cof_note(&err, "step %d", i));
    }
    CHECK(strlen(err.trail) < sizeof err.trail);
    CHECK_INT(strncmp(err.trail, "begin < step 0 < step 1", 23), 0);
}

/* Characters of one to four bytes at every offset from the end of the buffer. */
static void cut_message_is_still_valid_text(void)
{
    static const char *const characters[] = {"a", "\xC3\xA9", "\xE6\x97\xA5", "\xF0\x9F\x94\x91"};
    char text[COF_ERROR_MESSAGE_SIZE * 2];
    for (size_t kind = 0; kind < COF_COUNT(characters); kind++) {
        for (size_t offset = 0; offset < 8; offset++) {
            struct cof_error err;
            size_t used = offset;
            memset(text, 'x', offset);
            for (const size_t step = strlen(characters[kind]); used + step < sizeof text; used += step) {
                memcpy(text + used, characters[kind], step);
            }
            text[used] = '\0';
            cof_ignore(cof_fail(&err, COF_REASON_FIELD_INVALID, "%s", text));
            CHECK(strlen(err.message) >= sizeof err.message - 8);
            CHECK(cof_text_valid(cof_slice_text(err.message)));
        }
    }
}

static void facts_beyond_the_limit_are_dropped(void)
{
    struct cof_error err;
    cof_ignore(cof_fail(&err, COF_REASON_PERMISSION_DENIED, "no"));
    for (int i = 0; i < COF_ERROR_FACTS + 3; i++) {
        CHECK_INT(cof_error_fact(&err, "number", "%d", i), COF_PERMISSION_DENIED);
    }
    CHECK_INT(err.fact_count, COF_ERROR_FACTS);
    CHECK_TEXT(err.facts[COF_ERROR_FACTS - 1].value, "3");
}

static void long_field_and_fact_are_cut(void)
{
    struct cof_error err;
    char text[400];
    memset(text, 'f', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    cof_ignore(cof_fail_field(&err, COF_REASON_FIELD_INVALID, text, "m"));
    cof_ignore(cof_error_fact(&err, "secret", "%s", text));
    CHECK_INT(strlen(err.field), COF_ERROR_FIELD_SIZE - 1);
    CHECK(strlen(err.facts[0].value) >= COF_ERROR_FACT_SIZE - 2);
}

static void numbers_outside_of_the_tables_have_a_name_too(void)
{
    const int outside = 9999;
    CHECK_TEXT(cof_code_name((cof_code) outside), "UNKNOWN");
    CHECK_TEXT(cof_reason_name((cof_reason) outside), "UNSPECIFIED");
    CHECK_INT(cof_reason_code((cof_reason) outside), COF_UNKNOWN);
    CHECK_TEXT(cof_reason_name(COF_REASON_NONE), "UNSPECIFIED");
}

static cof_code pass_on(cof_code code, bool *reached_end)
{
    TRY(code);
    *reached_end = true;
    return COF_OK;
}

static void try_passes_failures_on_and_nothing_else(void)
{
    bool reached_end = false;
    CHECK_INT(pass_on(COF_ABORTED, &reached_end), COF_ABORTED);
    CHECK(!reached_end);
    CHECK_INT(pass_on(COF_OK, &reached_end), COF_OK);
    CHECK(reached_end);
}

TEST_MAIN(TEST(failure_carries_the_reasons_own_code), TEST(new_failure_leaves_nothing_of_the_one_before),
          TEST(notes_add_to_the_trail_and_change_nothing_else),
          TEST(internal_failure_tells_the_peer_nothing_but_that), TEST(full_trail_takes_more_notes_without_harm),
          TEST(cut_message_is_still_valid_text), TEST(facts_beyond_the_limit_are_dropped),
          TEST(long_field_and_fact_are_cut), TEST(numbers_outside_of_the_tables_have_a_name_too),
          TEST(try_passes_failures_on_and_nothing_else))
