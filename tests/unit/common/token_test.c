#include <stdio.h>
#include <stdlib.h>

#include "common/encode.h"
#include "common/token.h"
#include "tests/support/test.h"

enum { LINE = 1024 };

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static struct cof_token some_token(cof_token_kind kind)
{
    struct cof_token token = {.kind = kind, .workspace = cof_uuid_random(), .id = cof_uuid_random()};
    const struct cof_uuid halves[2] = {cof_uuid_random(), cof_uuid_random()};
    memcpy(token.secret, halves, sizeof token.secret);
    return token;
}

static bool same(const struct cof_token *a, const struct cof_token *b)
{
    return a->kind == b->kind && cof_uuid_equal(&a->workspace, &b->workspace) && cof_uuid_equal(&a->id, &b->id) &&
           memcmp(a->secret, b->secret, COF_TOKEN_SECRET) == 0;
}

/* Writes the right check behind the first `length` characters. */
static void put_check(char *text, size_t length)
{
    uint32_t check = cof_crc32(cof_slice_of(text, length));
    for (size_t i = COF_TOKEN_CHECK_TEXT; i-- > 0;) {
        text[length + i] = digits[check % 62];
        check /= 62;
    }
    text[length + COF_TOKEN_CHECK_TEXT] = '\0';
}

static cof_token_kind kind_of(const char *name)
{
    if (strcmp(name, "ws") == 0) {
        return COF_TOKEN_WORKSPACE;
    }
    return strcmp(name, "fleet") == 0 ? COF_TOKEN_FLEET : COF_TOKEN_SYSTEM;
}

/* Cuts a line at its blanks, in place. */
static size_t split(char *line, char **words, size_t max)
{
    size_t count = 0;
    while (*line != '\0' && count < max) {
        words[count++] = line;
        line += strcspn(line, " \n");
        if (*line != '\0') {
            *line++ = '\0';
        }
    }
    return count;
}

static void check_line(char **words)
{
    char text[COF_TOKEN_TEXT];
    struct cof_error err;
    struct cof_token read;
    struct cof_token token = {.kind = kind_of(words[0])};
    CHECK(cof_hex_decode(cof_slice_text(words[1]), token.workspace.bytes, 16));
    CHECK(cof_hex_decode(cof_slice_text(words[2]), token.id.bytes, 16));
    CHECK(cof_hex_decode(cof_slice_text(words[3]), token.secret, COF_TOKEN_SECRET));
    cof_token_format(&token, text);
    CHECK_TEXT(text, words[4]);
    CHECK_OK(cof_token_parse(cof_slice_text(words[4]), &read, &err), &err);
    CHECK(same(&read, &token));
}

static void golden_tokens_are_written_and_read_character_for_character(void)
{
    char line[LINE];
    size_t tokens = 0;
    FILE *file = fopen(GOLDEN_FILE, "re");
    CHECK(file != NULL);
    while (test_failures == 0 && fgets(line, sizeof line, file) != NULL) {
        char *words[5];
        if (line[0] != '#' && split(line, words, 5) == 5) {
            check_line(words);
            tokens++;
        }
    }
    (void) fclose(file);
    CHECK_INT(tokens, 12);
}

static void random_tokens_come_back_with_a_fixed_length(void)
{
    static const size_t prefixes[] = {[COF_TOKEN_WORKSPACE] = 7, [COF_TOKEN_FLEET] = 10, [COF_TOKEN_SYSTEM] = 8};
    for (int kind = COF_TOKEN_WORKSPACE; kind <= COF_TOKEN_SYSTEM; kind++) {
        for (int i = 0; i < 300; i++) {
            char text[COF_TOKEN_TEXT];
            struct cof_error err;
            struct cof_token read;
            const struct cof_token token = some_token((cof_token_kind) kind);
            cof_token_format(&token, text);
            CHECK_INT(strlen(text), prefixes[kind] + COF_TOKEN_PAYLOAD_TEXT + COF_TOKEN_CHECK_TEXT);
            CHECK_OK(cof_token_parse(cof_slice_text(text), &read, &err), &err);
            CHECK(same(&read, &token));
        }
    }
}

static void check_changed(char *text, size_t at)
{
    const char right = text[at];
    for (int byte = 0; byte < 256; byte++) {
        struct cof_error err;
        struct cof_token read;
        text[at] = (char) byte;
        CHECK(text[at] == right || cof_token_parse(cof_slice_of(text, strlen(text) > at ? strlen(text) : at + 1),
                                                   &read, &err) == COF_UNAUTHENTICATED);
    }
    text[at] = right;
}

static void any_one_character_changed_is_noticed(void)
{
    for (int kind = COF_TOKEN_WORKSPACE; kind <= COF_TOKEN_SYSTEM; kind++) {
        char text[COF_TOKEN_TEXT];
        const struct cof_token token = some_token((cof_token_kind) kind);
        cof_token_format(&token, text);
        for (size_t at = 0; text[at] != '\0'; at++) {
            check_changed(text, at);
        }
    }
}

static void cut_token_is_noticed_at_every_length(void)
{
    char text[COF_TOKEN_TEXT];
    const struct cof_token token = some_token(COF_TOKEN_FLEET);
    cof_token_format(&token, text);
    for (size_t length = 0; length < strlen(text); length++) {
        struct cof_error err;
        struct cof_token read;
        /* A copy without room behind it, so that reading on would be seen. */
        char *cut = malloc(length + 1);
        CHECK(cut != NULL);
        memcpy(cut, text, length);
        const cof_code code = cof_token_parse(cof_slice_of(cut, length), &read, &err);
        free(cut);
        CHECK_INT(code, COF_UNAUTHENTICATED);
        CHECK_INT(err.reason, COF_REASON_TOKEN_MALFORMED);
        CHECK_CONTAINS(err.message, length < 10 ? "no token of Coffer" : "is cut");
    }
}

static void added_character_is_noticed_at_every_place(void)
{
    char text[COF_TOKEN_TEXT];
    const struct cof_token token = some_token(COF_TOKEN_WORKSPACE);
    cof_token_format(&token, text);
    const size_t length = strlen(text);
    for (size_t at = 0; at <= length; at++) {
        char longer[COF_TOKEN_TEXT + 1];
        struct cof_error err;
        struct cof_token read;
        memcpy(longer, text, at);
        longer[at] = '0';
        memcpy(longer + at + 1, text + at, length - at);
        CHECK_FAILS(cof_token_parse(cof_slice_of(longer, length + 1), &read, &err), &err, TOKEN_MALFORMED);
    }
}

static void every_kind_of_mistake_has_its_own_message(void)
{
    static const char *const foreign[] = {"", "cof_", "ghp_abc", "Bearer cof_ws_", "cof_xx_000", "COF_WS_000"};
    char text[COF_TOKEN_TEXT];
    struct cof_error err;
    struct cof_token read;
    const struct cof_token token = some_token(COF_TOKEN_WORKSPACE);
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        CHECK_FAILS(cof_token_parse(cof_slice_text(foreign[i]), &read, &err), &err, TOKEN_MALFORMED);
        CHECK_CONTAINS(err.message, "no token of Coffer");
    }
    cof_token_format(&token, text);
    text[50] = text[50] == 'a' ? 'b' : 'a';
    CHECK_FAILS(cof_token_parse(cof_slice_text(text), &read, &err), &err, TOKEN_MALFORMED);
    CHECK_CONTAINS(err.message, "mistyped");
    text[50] = '-';
    CHECK_FAILS(cof_token_parse(cof_slice_text(text), &read, &err), &err, TOKEN_MALFORMED);
    CHECK_CONTAINS(err.message, "a character that no token has");
    CHECK_CONTAINS(err.message, "copy the whole token");
}

static void number_over_512_bits_is_refused_although_its_check_fits(void)
{
    char text[COF_TOKEN_TEXT];
    struct cof_error err;
    struct cof_token read;
    struct cof_token largest = {.kind = COF_TOKEN_WORKSPACE};
    const size_t end = 7 + COF_TOKEN_PAYLOAD_TEXT;
    memset(&largest.workspace, 0xFF, sizeof largest.workspace);
    memset(&largest.id, 0xFF, sizeof largest.id);
    memset(largest.secret, 0xFF, sizeof largest.secret);
    cof_token_format(&largest, text);
    CHECK_OK(cof_token_parse(cof_slice_text(text), &read, &err), &err);
    text[end - 1]++;
    put_check(text, end);
    CHECK_FAILS(cof_token_parse(cof_slice_text(text), &read, &err), &err, TOKEN_MALFORMED);
    CHECK_CONTAINS(err.message, "too large");
    memset(text + 7, 'z', COF_TOKEN_PAYLOAD_TEXT);
    put_check(text, end);
    CHECK_FAILS(cof_token_parse(cof_slice_text(text), &read, &err), &err, TOKEN_MALFORMED);
}

static void refused_token_is_neither_echoed_nor_written(void)
{
    char text[COF_TOKEN_TEXT];
    struct cof_error err;
    struct cof_token read = {.kind = COF_TOKEN_SYSTEM};
    const struct cof_token before = read;
    const struct cof_token token = some_token(COF_TOKEN_WORKSPACE);
    cof_token_format(&token, text);
    text[98] = text[98] == 'a' ? 'b' : 'a';
    CHECK_FAILS(cof_token_parse(cof_slice_text(text), &read, &err), &err, TOKEN_MALFORMED);
    CHECK(same(&read, &before));
    text[20] = '\0';
    CHECK(strstr(err.message, text + 10) == NULL);
}

TEST_MAIN(TEST(golden_tokens_are_written_and_read_character_for_character),
          TEST(random_tokens_come_back_with_a_fixed_length), TEST(any_one_character_changed_is_noticed),
          TEST(cut_token_is_noticed_at_every_length), TEST(added_character_is_noticed_at_every_place),
          TEST(every_kind_of_mistake_has_its_own_message),
          TEST(number_over_512_bits_is_refused_although_its_check_fits),
          TEST(refused_token_is_neither_echoed_nor_written))
