#include <stdlib.h>

#include "client/cli/text.h"
#include "tests/support/test.h"

enum { WRAPS = 2000, WORDS = 30, WORD_MAX = 12 };

/* What text_wrap writes, to be freed. */
static char *wrapped(const char *text, size_t column, size_t indent, size_t room)
{
    char *shown = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&shown, &length);
    if (out == NULL) {
        return NULL;
    }
    text_wrap(out, text, column, indent, room);
    (void) fclose(out);
    return shown;
}

#define CHECK_WRAPPED(text, column, indent, room, expected)         \
    do {                                                            \
        char *shown_ = wrapped((text), (column), (indent), (room)); \
        char copy_[512] = "";                                       \
        (void) snprintf(copy_, sizeof copy_, "%s", shown_);         \
        free(shown_);                                               \
        CHECK_TEXT(copy_, (expected));                              \
    } while (0)

static void letters_take_the_columns_that_a_terminal_gives_them(void)
{
    CHECK_INT(text_width(""), 0);
    CHECK_INT(text_width("prod"), 4);
    CHECK_INT(text_width("größe"), 5);
    CHECK_INT(text_width("e\xcc\x81"), 1); /* e and an accent of its own */
    CHECK_INT(text_width("日本"), 4);
    CHECK_INT(text_width("🎉!"), 3);
    CHECK_INT(text_width("Привет"), 6);
}

static void bytes_that_are_no_text_take_one_column_each(void)
{
    CHECK_INT(text_width("a\xff\xfe"), 3);
    CHECK_INT(text_width("\xe6\x97"), 2); /* a character that is cut */
}

static void beginning_of_a_text_ends_at_a_whole_character(void)
{
    const char *const text = "a日本";
    CHECK_INT(text_end(text, 0) - text, 0);
    CHECK_INT(text_end(text, 1) - text, 1);
    CHECK_INT(text_end(text, 2) - text, 1);
    CHECK_INT(text_end(text, 3) - text, 4);
    CHECK_INT(text_end(text, 100) - text, 7);
}

static void mark_stays_with_its_letter(void)
{
    const char *const text = "e\xcc\x81x";
    CHECK_INT(text_end(text, 1) - text, 3);
}

static void lines_are_broken_at_blanks_and_go_on_at_the_indent(void)
{
    CHECK_WRAPPED("there is no secret", 0, 0, 9, "there is\nno secret");
    CHECK_WRAPPED("there is no secret", 8, 4, 16, "there is\n    no secret");
    CHECK_WRAPPED("there is no secret", 0, 0, 18, "there is no secret");
    CHECK_WRAPPED("there is no secret", 0, 0, 17, "there is no\nsecret");
}

static void text_is_not_broken_where_the_room_is_not_known(void)
{
    CHECK_WRAPPED("a b c d e f g", 40, 40, 0, "a b c d e f g");
}

static void word_that_is_wider_than_the_room_stays_whole_on_its_line(void)
{
    CHECK_WRAPPED("see /a/very/long/path now", 0, 2, 10, "see\n  /a/very/long/path\n  now");
    CHECK_WRAPPED("tls+tcp://host:7443", 30, 8, 20, "tls+tcp://host:7443");
}

static void letters_without_blanks_are_broken_between_each_other(void)
{
    CHECK_WRAPPED("日本語の説明", 0, 2, 6, "日本語\n  の説\n  明");
    CHECK_WRAPPED("id日本", 0, 0, 4, "id日\n本");
}

static void lines_of_the_text_begin_as_it_says(void)
{
    CHECK_WRAPPED("one of these:\n  coffer get\n  coffer set", 8, 8, 80,
                  "one of these:\n  coffer get\n  coffer set");
    CHECK_WRAPPED("a\n  b c d", 8, 4, 6, "a\n  b c\n    d");
}

static void blanks_within_a_line_are_kept_and_at_its_break_dropped(void)
{
    CHECK_WRAPPED("aaa  (bbb)", 0, 0, 10, "aaa  (bbb)");
    CHECK_WRAPPED("aaa  (bbb)", 0, 0, 9, "aaa\n(bbb)");
}

static uint64_t state;

static uint64_t below(uint64_t limit)
{
    return test_random(&state) % limit;
}

/* Words of Latin letters, of which none is wider than the room. */
static void fill(char *text)
{
    const uint64_t words = 1 + below(WORDS);
    size_t length = 0;
    for (uint64_t i = 0; i < words; i++) {
        const uint64_t letters = 1 + below(WORD_MAX);
        if (i > 0) {
            text[length++] = ' ';
        }
        for (uint64_t at = 0; at < letters; at++) {
            text[length++] = (char) ('a' + below(26));
        }
    }
    text[length] = '\0';
}

/* Whether no line is wider than the room, and putting the lines together gives the text. */
static bool holds(const char *text, char *shown, size_t indent, size_t room)
{
    size_t at = 0;
    char *save = NULL;
    for (char *line = strtok_r(shown, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        const size_t skip = at == 0 ? 0 : indent;
        const char *words = line + skip;
        if (text_width(line) > room || strncmp(text + at, words, strlen(words)) != 0) {
            return false;
        }
        at += strlen(words);
        at += text[at] == ' ';
    }
    return text[at] == '\0';
}

static void no_line_is_wider_than_the_room_and_nothing_is_lost(void)
{
    state = test_seed();
    for (int i = 0; i < WRAPS; i++) {
        char text[WORDS * (WORD_MAX + 1) + 1];
        const size_t indent = (size_t) below(10);
        const size_t room = indent + WORD_MAX + (size_t) below(80);
        fill(text);
        char *shown = wrapped(text, 0, indent, room);
        const bool right = shown != NULL && holds(text, shown, indent, room);
        free(shown);
        CHECK(right);
    }
}

TEST_MAIN(TEST(letters_take_the_columns_that_a_terminal_gives_them),
          TEST(bytes_that_are_no_text_take_one_column_each), TEST(beginning_of_a_text_ends_at_a_whole_character),
          TEST(mark_stays_with_its_letter), TEST(lines_are_broken_at_blanks_and_go_on_at_the_indent),
          TEST(text_is_not_broken_where_the_room_is_not_known),
          TEST(word_that_is_wider_than_the_room_stays_whole_on_its_line),
          TEST(letters_without_blanks_are_broken_between_each_other), TEST(lines_of_the_text_begin_as_it_says),
          TEST(blanks_within_a_line_are_kept_and_at_its_break_dropped),
          TEST(no_line_is_wider_than_the_room_and_nothing_is_lost))
