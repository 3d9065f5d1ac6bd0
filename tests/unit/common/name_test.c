#include <stdio.h>
#include <string.h>

#include "common/name.h"
#include "tests/support/test.h"

enum { KINDS = COF_NAME_ACTION + 1, ROOM = 256 };

/* The rules once more, as product.md writes them. */
static const struct rule {
    size_t max;
    const char *allowed;
    const char *first;
    const char *last;
} rules[KINDS] = {
#define DIGITS "0123456789"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define ALNUM UPPER LOWER DIGITS
    [COF_NAME_ENVIRONMENT] = {100, ALNUM "._-", ALNUM, ALNUM "._-"},
    [COF_NAME_SECRET] = {100, ALNUM "_.-", ALNUM "_", ALNUM "_.-"},
    [COF_NAME_KEY] = {128, ALNUM "_.-", UPPER LOWER "_", ALNUM "_.-"},
    [COF_NAME_WORKSPACE] = {100, LOWER DIGITS "-", LOWER DIGITS, LOWER DIGITS},
    [COF_NAME_ACCOUNT] = {100, ALNUM "._-", ALNUM, ALNUM "._-"},
    [COF_NAME_ACTION] = {200, ALNUM "_.-", UPPER LOWER "_", ALNUM "_.-"},
};

static bool among(const char *set, int byte)
{
    return byte != 0 && strchr(set, byte) != NULL;
}

static void every_byte_is_judged_by_its_place(void)
{
    for (int kind = 0; kind < KINDS; kind++) {
        for (int byte = 0; byte < 256; byte++) {
            const uint8_t first[] = {(uint8_t) byte, 'a', 'a'};
            const uint8_t middle[] = {'a', (uint8_t) byte, 'a'};
            const uint8_t last[] = {'a', 'a', (uint8_t) byte};
            const struct rule *rule = &rules[kind];
            CHECK_INT(cof_name_valid((cof_name_kind) kind, cof_slice_of(first, 3)), among(rule->first, byte));
            CHECK_INT(cof_name_valid((cof_name_kind) kind, cof_slice_of(middle, 3)), among(rule->allowed, byte));
            CHECK_INT(cof_name_valid((cof_name_kind) kind, cof_slice_of(last, 3)), among(rule->last, byte));
        }
    }
}

static void longest_name_is_taken_and_one_more_is_not(void)
{
    char text[ROOM];
    memset(text, 'a', sizeof text);
    for (int kind = 0; kind < KINDS; kind++) {
        struct cof_error err;
        const size_t max = rules[kind].max;
        CHECK_OK(cof_name_check((cof_name_kind) kind, cof_slice_of(text, 1), "name", &err), &err);
        CHECK_OK(cof_name_check((cof_name_kind) kind, cof_slice_of(text, max), "name", &err), &err);
        CHECK(cof_name_valid((cof_name_kind) kind, cof_slice_of(text, max)));
        CHECK(!cof_name_valid((cof_name_kind) kind, cof_slice_of(text, max + 1)));
        CHECK_FAILS(cof_name_check((cof_name_kind) kind, cof_slice_of(text, max + 1), "name", &err), &err,
                    FIELD_INVALID);
        char told[32];
        (void) snprintf(told, sizeof told, "%zu characters", max + 1);
        CHECK_CONTAINS(err.message, told);
    }
}

static void account_numbers_stay_names(void)
{
    CHECK(cof_name_valid(COF_NAME_ENVIRONMENT, cof_slice_text("012345678901")));
    CHECK(cof_name_valid(COF_NAME_ENVIRONMENT, cof_slice_text(COF_DEFAULT_ENVIRONMENT)));
}

static void empty_name_is_a_field_to_fill(void)
{
    struct cof_error err;
    CHECK(!cof_name_valid(COF_NAME_SECRET, cof_slice_of(NULL, 0)));
    CHECK_FAILS(cof_name_check(COF_NAME_SECRET, cof_slice_of(NULL, 0), "secret.name", &err), &err, FIELD_REQUIRED);
    CHECK_TEXT(err.field, "secret.name");
    CHECK_CONTAINS(err.message, "1 to 100 of");
}

static void message_names_the_first_wrong_character_and_its_place(void)
{
    struct cof_error err;
    CHECK_FAILS(cof_name_check(COF_NAME_SECRET, cof_slice_text("strip e!"), "name", &err), &err, FIELD_INVALID);
    CHECK_CONTAINS(err.message, "name: character 6 (\\x20)");
    CHECK_FAILS(cof_name_check(COF_NAME_SECRET, cof_slice_text("stripe!"), "name", &err), &err, FIELD_INVALID);
    CHECK_CONTAINS(err.message, "character 7 (!)");
    CHECK_FAILS(cof_name_check(COF_NAME_KEY, cof_slice_text("1KEY"), "key", &err), &err, FIELD_INVALID);
    CHECK_CONTAINS(err.message, "character 1 (1)");
    CHECK_FAILS(cof_name_check(COF_NAME_WORKSPACE, cof_slice_text("acme-"), "workspace", &err), &err,
                FIELD_INVALID);
    CHECK_CONTAINS(err.message, "character 5 (-)");
}

static void messages_are_printable_and_echo_next_to_nothing(void)
{
    for (int byte = 0; byte < 256; byte++) {
        struct cof_error err;
        const uint8_t name[] = {'z', 'q', 'j', (uint8_t) byte, 'k', 'v'};
        if (cof_name_valid(COF_NAME_SECRET, cof_slice_of(name, sizeof name))) {
            continue;
        }
        CHECK_FAILS(cof_name_check(COF_NAME_SECRET, cof_slice_of(name, sizeof name), "name", &err), &err,
                    FIELD_INVALID);
        for (const char *at = err.message; *at != '\0'; at++) {
            CHECK(*at >= ' ' && *at <= '~');
        }
        CHECK(strstr(err.message, "zqj") == NULL);
    }
}

static void names_that_end_in_oauth_are_reserved(void)
{
    CHECK(cof_name_reserved(cof_slice_text("google_oauth")));
    CHECK(cof_name_reserved(cof_slice_text("_oauth")));
    CHECK(!cof_name_reserved(cof_slice_text("oauth")));
    CHECK(!cof_name_reserved(cof_slice_text("google_oauth2")));
    CHECK(!cof_name_reserved(cof_slice_text("google_OAUTH")));
    CHECK(!cof_name_reserved(cof_slice_of(NULL, 0)));
}

static void pattern_is_a_name_or_a_prefix_with_a_star(void)
{
    char longest[ROOM];
    memset(longest, 'a', sizeof longest);
    longest[100] = '*';
    CHECK(cof_pattern_valid(COF_NAME_SECRET, cof_slice_text("*")));
    CHECK(cof_pattern_valid(COF_NAME_SECRET, cof_slice_text("stripe")));
    CHECK(cof_pattern_valid(COF_NAME_SECRET, cof_slice_text("stripe_*")));
    CHECK(cof_pattern_valid(COF_NAME_WORKSPACE, cof_slice_text("acme-*")));
    CHECK(cof_pattern_valid(COF_NAME_SECRET, cof_slice_of(longest, 101)));
    longest[100] = 'a';
    longest[101] = '*';
    CHECK(!cof_pattern_valid(COF_NAME_SECRET, cof_slice_of(longest, 102)));
    CHECK(!cof_pattern_valid(COF_NAME_SECRET, cof_slice_of(NULL, 0)));
    CHECK(!cof_pattern_valid(COF_NAME_SECRET, cof_slice_text("**")));
    CHECK(!cof_pattern_valid(COF_NAME_SECRET, cof_slice_text("a*b")));
    CHECK(!cof_pattern_valid(COF_NAME_SECRET, cof_slice_text("*b")));
    CHECK(!cof_pattern_valid(COF_NAME_SECRET, cof_slice_text("a b*")));
    CHECK(!cof_pattern_valid(COF_NAME_ENVIRONMENT, cof_slice_text("-*")));
}

static void pattern_matches_exact_bytes_or_what_begins_with_the_prefix(void)
{
    CHECK(cof_pattern_matches(cof_slice_text("*"), cof_slice_text("anything")));
    CHECK(cof_pattern_matches(cof_slice_text("*"), cof_slice_of(NULL, 0)));
    CHECK(cof_pattern_matches(cof_slice_text("stripe"), cof_slice_text("stripe")));
    CHECK(!cof_pattern_matches(cof_slice_text("stripe"), cof_slice_text("Stripe")));
    CHECK(!cof_pattern_matches(cof_slice_text("stripe"), cof_slice_text("stripe2")));
    CHECK(cof_pattern_matches(cof_slice_text("stripe*"), cof_slice_text("stripe")));
    CHECK(cof_pattern_matches(cof_slice_text("stripe*"), cof_slice_text("stripe2")));
    CHECK(!cof_pattern_matches(cof_slice_text("stripe*"), cof_slice_text("strip")));
    CHECK(!cof_pattern_matches(cof_slice_of(NULL, 0), cof_slice_text("a")));
}

/* All patterns and names of up to three letters of a small alphabet. */
static size_t make_texts(char (*texts)[8], bool patterns)
{
    size_t count = 0;
    for (int length = patterns ? 0 : 1; length <= 3; length++) {
        for (int number = 0; number < 1 << length; number++) {
            for (int i = 0; i < length; i++) {
                texts[count][i] = (number >> i & 1) != 0 ? 'b' : 'a';
            }
            texts[count][length] = '\0';
            if (patterns) {
                memcpy(texts[count + 1], texts[count], 8);
                texts[count + 1][length] = '*';
                texts[count + 1][length + 1] = '\0';
                count++;
            }
            count++;
        }
    }
    return count;
}

static bool matches_all(const char *outer, const char *inner, char (*names)[8], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (cof_pattern_matches(cof_slice_text(inner), cof_slice_text(names[i])) &&
            !cof_pattern_matches(cof_slice_text(outer), cof_slice_text(names[i]))) {
            return false;
        }
    }
    return true;
}

static void check_covering(const char *outer, const char *inner, char names[32][8], size_t count)
{
    if (cof_pattern_covers(cof_slice_text(outer), cof_slice_text(inner))) {
        CHECK(matches_all(outer, inner, names, count));
    }
}

static void covering_pattern_matches_all_that_the_other_does(void)
{
    static char patterns[32][8];
    static char names[32][8];
    const size_t pattern_count = make_texts(patterns, true);
    const size_t name_count = make_texts(names, false);
    for (size_t i = 0; i < pattern_count; i++) {
        for (size_t k = 0; k < pattern_count; k++) {
            check_covering(patterns[i], patterns[k], names, name_count);
        }
    }
    CHECK(cof_pattern_covers(cof_slice_text("a*"), cof_slice_text("ab*")));
    CHECK(cof_pattern_covers(cof_slice_text("a*"), cof_slice_text("a")));
    CHECK(!cof_pattern_covers(cof_slice_text("ab*"), cof_slice_text("a*")));
    CHECK(!cof_pattern_covers(cof_slice_text("a"), cof_slice_text("a*")));
}

/* A decoder of its own: the number of a character, or -1. */
static long decode(const uint8_t *bytes, size_t length)
{
    static const long least[] = {0, 0, 0x80, 0x800, 0x10000};
    long value = length == 1 ? bytes[0] : bytes[0] & (0x7F >> length);
    const int marks[] = {0, 0, 0xC0, 0xE0, 0xF0};
    if (length == 1) {
        return bytes[0] < 0x80 ? value : -1;
    }
    if ((bytes[0] & (0xFF << (7 - length) & 0xFF)) != marks[length]) {
        return -1;
    }
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80) {
            return -1;
        }
        value = value << 6 | (bytes[i] & 0x3F);
    }
    return value >= least[length] && value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF) ? value : -1;
}

static bool valid_by_decoder(const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t length = 1;
        while (length <= 4 && (at + length > size || decode(bytes + at, length) <= 0)) {
            length++;
        }
        if (length > 4) {
            return false;
        }
        at += length;
    }
    return true;
}

static void utf8_is_judged_as_by_a_second_decoder(void)
{
    static const uint8_t edges[] = {0x00, 0x01, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                                    0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
    const size_t count = sizeof edges;
    for (size_t number = 0; number < count * count * count * count; number++) {
        uint8_t bytes[4];
        size_t rest = number;
        for (size_t i = 0; i < 4; i++) {
            bytes[i] = edges[rest % count];
            rest /= count;
        }
        CHECK_INT(cof_text_valid(cof_slice_of(bytes, 4)), valid_by_decoder(bytes, 4));
    }
}

static void check_wrong_bytes(uint8_t *text, size_t length, size_t at)
{
    static const uint8_t wrong[] = {0x00, 0x80, 0xC0, 0xE2, 0xFF};
    for (size_t i = 0; i < sizeof wrong; i++) {
        text[at] = wrong[i];
        CHECK(!cof_text_valid(cof_slice_of(text, length)));
    }
    text[at] = 0x01;
    CHECK(cof_text_valid(cof_slice_of(text, length)));
    text[at] = 'a';
}

static void wrong_byte_is_found_wherever_it_stands_in_a_long_text(void)
{
    for (size_t length = 1; length < 40; length++) {
        uint8_t text[40];
        memset(text, 'a', sizeof text);
        CHECK(cof_text_valid(cof_slice_of(text, length)));
        for (size_t at = 0; at < length; at++) {
            check_wrong_bytes(text, length, at);
        }
    }
}

static unsigned slow_distance(const char *a, const char *b)
{
    if (*a == '\0' || *b == '\0') {
        return (unsigned) (strlen(a) + strlen(b));
    }
    if (*a == *b) {
        return slow_distance(a + 1, b + 1);
    }
    const unsigned changed = slow_distance(a + 1, b + 1);
    const unsigned removed = slow_distance(a + 1, b);
    const unsigned added = slow_distance(a, b + 1);
    const unsigned less = changed < removed ? changed : removed;
    return 1 + (less < added ? less : added);
}

static void distance_is_that_of_the_definition_up_to_the_limit(void)
{
    uint64_t state = test_seed();
    for (int i = 0; i < 2000; i++) {
        char a[7];
        char b[7];
        const size_t a_length = test_random(&state) % 7;
        const size_t b_length = test_random(&state) % 7;
        for (size_t k = 0; k < 6; k++) {
            a[k] = k < a_length ? (char) ('a' + test_random(&state) % 3) : '\0';
            b[k] = k < b_length ? (char) ('a' + test_random(&state) % 3) : '\0';
        }
        a[6] = b[6] = '\0';
        const unsigned expected = slow_distance(a, b);
        for (unsigned limit = 0; limit < 8; limit++) {
            CHECK_INT(cof_name_distance(cof_slice_text(a), cof_slice_text(b), limit),
                      expected > limit ? limit + 1 : expected);
        }
    }
}

static void distance_of_names_over_the_longest_is_out_of_limit(void)
{
    char text[ROOM];
    memset(text, 'a', sizeof text);
    CHECK_INT(cof_name_distance(cof_slice_of(text, 128), cof_slice_of(text, 128), 2), 0);
    CHECK_INT(cof_name_distance(cof_slice_of(text, 129), cof_slice_of(text, 129), 2), 3);
    CHECK_INT(cof_name_distance(cof_slice_of(NULL, 0), cof_slice_of(NULL, 0), 0), 0);
    CHECK_INT(cof_name_distance(cof_slice_of(NULL, 0), cof_slice_of(text, 2), 2), 2);
}

TEST_MAIN(TEST(every_byte_is_judged_by_its_place), TEST(longest_name_is_taken_and_one_more_is_not),
          TEST(account_numbers_stay_names), TEST(empty_name_is_a_field_to_fill),
          TEST(message_names_the_first_wrong_character_and_its_place),
          TEST(messages_are_printable_and_echo_next_to_nothing), TEST(names_that_end_in_oauth_are_reserved),
          TEST(pattern_is_a_name_or_a_prefix_with_a_star),
          TEST(pattern_matches_exact_bytes_or_what_begins_with_the_prefix),
          TEST(covering_pattern_matches_all_that_the_other_does), TEST(utf8_is_judged_as_by_a_second_decoder),
          TEST(wrong_byte_is_found_wherever_it_stands_in_a_long_text),
          TEST(distance_is_that_of_the_definition_up_to_the_limit),
          TEST(distance_of_names_over_the_longest_is_out_of_limit))
