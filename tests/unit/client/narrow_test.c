#include <stdlib.h>
#include <string.h>

#include <coffer/token.h>

#include "common/narrowed.h"
#include "tests/support/test.h"

/* What a program can do wrong with the public function; the bytes are the business of conformance/narrowed_tokens. */

enum { PATTERNS = 300 };

/* Of tests/golden/tokens.txt. */
static const char token[] =
    "cof_ws_wyd1DM7wjKxP8RfrrHRfbj6aO7NUQUw3OugU5vv9m4yS6oOIkrtqlNKy4qy6jacYKBzSx7vs5bNY0hANysPGxN3fHeq6";

static char narrowed[COFFER_NARROWED_SIZE];

/* The field of the refusal, or its reason if it names none; "OK" for none. In a static buffer. */
static const char *refused(const coffer_narrowing *narrowing)
{
    static char text[128];
    coffer_error *error = NULL;
    memset(narrowed, 'x', sizeof narrowed);
    if (coffer_token_narrow(token, sizeof token - 1, narrowing, narrowed, &error) == COFFER_OK) {
        return "OK";
    }
    const char *field = coffer_error_field(error);
    (void) snprintf(text, sizeof text, "%s%s%s", coffer_reason_name(coffer_error_reason(error)),
                    field[0] == '\0' ? "" : " ", field);
    if (narrowed[0] != '\0' || strstr(coffer_error_message(error), "cof_ws_") != NULL) {
        (void) snprintf(text, sizeof text, "something is left behind");
    }
    coffer_error_free(error);
    return text;
}

static void every_wrong_wish_is_refused_with_its_field_and_leaves_an_empty_text(void)
{
    static const char *const good[] = {"prod"};
    static const char *const hole[] = {"prod", NULL};
    static const char *const wrong[] = {"prod", "a b"};
    static const char *many[PATTERNS];
    coffer_narrowing narrowing = COFFER_NARROWING_INIT;
    CHECK_TEXT(refused(&narrowing), "FIELD_REQUIRED narrowing");
    narrowing.environments = good;
    narrowing.environment_count = 1;
    CHECK_TEXT(refused(&narrowing), "OK");
    narrowing.workspace = "not-a-uuid";
    CHECK_TEXT(refused(&narrowing), "FIELD_INVALID workspace");
    narrowing.workspace = NULL;
    narrowing.names = hole;
    narrowing.name_count = 2;
    CHECK_TEXT(refused(&narrowing), "FIELD_REQUIRED names");
    narrowing.names = wrong;
    CHECK_TEXT(refused(&narrowing), "FIELD_INVALID names");
    narrowing.names = NULL;
    CHECK_TEXT(refused(&narrowing), "FIELD_REQUIRED names");
    for (size_t i = 0; i < PATTERNS; i++) {
        many[i] = "same";
    }
    narrowing.names = many;
    narrowing.name_count = PATTERNS;
    CHECK_TEXT(refused(&narrowing), "FIELD_INVALID names");
    narrowing.name_count = COF_CAVEAT_PATTERNS_MAX;
    CHECK_TEXT(refused(&narrowing), "OK");
    narrowing.workflow_id = "";
    CHECK_TEXT(refused(&narrowing), "FIELD_INVALID workflow_id");
    narrowing.workflow_id = NULL;
    narrowing.run_id = "\xff";
    CHECK_TEXT(refused(&narrowing), "FIELD_INVALID run_id");
    narrowing.run_id = NULL;
    narrowing.expire_time_ms = -1;
    CHECK_TEXT(refused(&narrowing), "FIELD_INVALID expire_time_ms");
}

static void something_that_is_missing_is_told(void)
{
    coffer_narrowing narrowing = COFFER_NARROWING_INIT;
    narrowing.run_id = "r";
    CHECK_INT(coffer_token_narrow(NULL, 0, &narrowing, narrowed, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_token_narrow(token, sizeof token - 1, NULL, narrowed, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_token_narrow(token, sizeof token - 1, &narrowing, NULL, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_token_narrow("", 0, &narrowing, narrowed, NULL), COFFER_UNAUTHENTICATED);
    CHECK_INT(coffer_token_narrow(token, sizeof token - 1, &narrowing, narrowed, NULL), COFFER_OK);
    coffer_token_wipe(NULL, 0);
}

/* A program that was built before `workflow_id` was there gives none, whatever lies behind its struct. */
static void program_that_knows_fewer_fields_is_understood(void)
{
    coffer_narrowing narrowing = COFFER_NARROWING_INIT;
    char expected[COFFER_NARROWED_SIZE];
    narrowing.workspace = "0f0e0d0c-0b0a-4908-8706-050403020100";
    CHECK_TEXT(refused(&narrowing), "OK");
    memcpy(expected, narrowed, sizeof expected);
    narrowing.struct_size = offsetof(coffer_narrowing, workflow_id);
    narrowing.workflow_id = "garbage";
    narrowing.run_id = "garbage";
    CHECK_TEXT(refused(&narrowing), "OK");
    CHECK_TEXT(narrowed, expected);
}

static void program_that_asks_for_what_came_later_gets_no_token_that_may_do_more(void)
{
    struct {
        coffer_narrowing known;
        uint8_t later[64];
    } narrowing = {.known = COFFER_NARROWING_INIT};
    narrowing.known.run_id = "r";
    narrowing.known.struct_size = sizeof narrowing;
    CHECK_TEXT(refused(&narrowing.known), "OK");
    narrowing.later[63] = 1;
    CHECK_TEXT(refused(&narrowing.known), "NOT_AVAILABLE narrowing");
}

static void wiped_text_is_zero(void)
{
    static const char zero[COFFER_NARROWED_SIZE];
    coffer_narrowing narrowing = COFFER_NARROWING_INIT;
    narrowing.run_id = "r";
    CHECK_TEXT(refused(&narrowing), "OK");
    coffer_token_wipe(narrowed, sizeof narrowed);
    CHECK_BYTES(narrowed, zero, sizeof zero);
}

TEST_MAIN(TEST(every_wrong_wish_is_refused_with_its_field_and_leaves_an_empty_text),
          TEST(something_that_is_missing_is_told), TEST(program_that_knows_fewer_fields_is_understood),
          TEST(program_that_asks_for_what_came_later_gets_no_token_that_may_do_more), TEST(wiped_text_is_zero))
