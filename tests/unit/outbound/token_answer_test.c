#include <stdio.h>
#include <stdlib.h>

#include "common/attr.h"
#include "server/outbound/token_answer.h"
#include "tests/support/test.h"

enum {
    ARENA = 1 << 20,
    LINE = 640,
    COLUMNS = 7,
    ROWS_LEAST = 60, /* of the table: measures.md, T13 */
};

#define SENT "the-refresh-token-that-was-sent"
#define NOW_US (INT64_C(1795608000) * 1000000) /* 2026-11-25 12:00:00 UTC */

static void begin(struct cof_arena *arena, size_t limit)
{
    static struct cof_pool *pool;
    struct cof_error err;
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, limit);
}

/* --- The table ------------------------------------------------------------------------------------------------ */

struct row {
    int number;
    char *columns[COLUMNS];
};

/* Without the spaces and back ticks around it. */
static char *trimmed(char *text)
{
    while (*text == ' ') {
        text++;
    }
    size_t length = strlen(text);
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\n')) {
        text[--length] = '\0';
    }
    if (length > 1 && text[0] == '`' && text[length - 1] == '`') {
        text[length - 1] = '\0';
        text++;
    }
    return text;
}

static bool read_row(char *line, struct row *ret_row)
{
    char *rest = line;
    if (line[0] != '|' || line[2] < '0' || line[2] > '9') {
        return false;
    }
    (void) strsep(&rest, "|");
    for (size_t i = 0; i < COLUMNS; i++) {
        if (rest == NULL) {
            return false; /* the row is missed by the one behind it */
        }
        ret_row->columns[i] = trimmed(strsep(&rest, "|"));
    }
    ret_row->number = (int) strtol(ret_row->columns[0], NULL, 10);
    return true;
}

/* With the line ends that cannot stand in a table, and with what was sent. */
static size_t body_of(const char *text, char *to)
{
    size_t length = 0;
    while (*text != '\0') {
        if (text[0] == '\\' && text[1] == 'n') {
            to[length++] = '\n';
            text += 2;
        } else if (strncmp(text, "SENT", 4) == 0) {
            memcpy(to + length, SENT, sizeof SENT - 1);
            length += sizeof SENT - 1;
            text += 4;
        } else {
            to[length++] = *text++;
        }
    }
    return length;
}

static token_end end_of(const char *text)
{
    static const char *const names[] = {"whole", "cut", "large", "lost", "unsent"};
    for (size_t i = 0; i < COF_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (token_end) i;
        }
    }
    abort();
}

/* --- What came of it, in the words of the table --------------------------------------------------------------- */

static void add(char *to, const char *before, struct cof_slice text)
{
    (void) strncat(to, before, LINE - strlen(to) - 1);
    if (text.len < LINE - strlen(to)) {
        (void) strncat(to, (const char *) text.data, text.len);
    }
}

static void add_number(char *to, const char *before, int64_t number)
{
    const size_t length = strlen(to);
    (void) snprintf(to + length, LINE - length, "%s%" PRId64 " s", before, number);
}

static void words_of(const struct token_found *found, char words[LINE])
{
    static const char *const verdicts[] = {"granted", "refused", "configuration", "unavailable"};
    (void) snprintf(words, LINE, "%s", verdicts[found->verdict]);
    if (found->verdict == TOKEN_GRANTED) {
        add(words, " ", found->access_token);
    }
    if (found->life_s != 0) {
        add_number(words, "; ", found->life_s);
    }
    if (found->refresh_token.len > 0) {
        add(words, "; new refresh token ", found->refresh_token);
    }
    if (found->refresh_life_s != 0) {
        add_number(words, "; refresh token ends in ", found->refresh_life_s);
    }
    if (found->refresh_forever) {
        add(words, "; refresh token does not end", cof_slice_text(""));
    }
    if (found->scope.len > 0) {
        add(words, "; scope ", found->scope);
    }
    if (found->code[0] != '\0') {
        add(words, "; ", cof_slice_text(found->code));
    }
    if (found->description[0] != '\0') {
        add(words, "; ", cof_slice_text(found->description));
    }
    if (found->retry_after_s != 0) {
        add_number(words, "; after ", found->retry_after_s);
    }
    if (found->may_be_spent) {
        add(words, "; ", cof_slice_text("spent?"));
    }
}

static void read_answer(const struct row *row, char words[LINE])
{
    char body[LINE];
    struct cof_arena arena;
    struct cof_error err;
    struct token_found found;
    const struct cof_slice sent = cof_slice_text(SENT);
    const struct token_question question = {
        .grant = strcmp(row->columns[1], "own") == 0 ? TOKEN_GRANT_OWN : TOKEN_GRANT_REFRESH,
        .sent = &sent,
        .sent_count = 1,
    };
    const struct token_reply reply = {
        .end = end_of(row->columns[2]),
        .status = (int) strtol(row->columns[3], NULL, 10),
        .retry_after = cof_slice_text(row->columns[4]),
        .body = cof_slice_of(body, body_of(row->columns[5], body)),
        .now_us = NOW_US,
    };
    begin(&arena, ARENA);
    CHECK_OK(token_answer_read(&question, &reply, &arena, &found, &err), &err);
    CHECK(found.reason != NULL);
    words_of(&found, words);
    cof_arena_reset(&arena);
}

static void every_line_of_the_decision_table_holds(void)
{
    char line[LINE];
    int rows = 0;
    FILE *file = fopen(TABLE_FILE, "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        struct row row;
        char expected[LINE];
        char words[LINE];
        char actual[LINE];
        if (!read_row(line, &row)) {
            continue;
        }
        CHECK_INT(row.number, ++rows);
        read_answer(&row, words);
        (void) snprintf(expected, sizeof expected, "%d: %s", row.number, row.columns[6]);
        (void) snprintf(actual, sizeof actual, "%d: %.600s", row.number, words);
        CHECK_TEXT(actual, expected);
    }
    (void) fclose(file);
    CHECK(rows >= ROWS_LEAST);
}

/* --- What the table does not show ----------------------------------------------------------------------------- */

static void read_text(const char *member, const char *body, struct cof_arena *arena, struct token_found *ret_found)
{
    struct cof_error err;
    const struct token_question question = {.grant = TOKEN_GRANT_REFRESH, .member = member};
    const struct token_reply reply = {.status = 200, .body = cof_slice_text(body), .now_us = NOW_US};
    CHECK_OK(token_answer_read(&question, &reply, arena, ret_found, &err), &err);
}

static void tokens_may_stand_in_a_member_of_the_answer(void)
{
    struct cof_arena arena;
    struct token_found found;
    begin(&arena, ARENA);
    read_text(
        "authed_user",
        "{\"ok\":true,\"access_token\":\"bot\",\"team\":{\"access_token\":\"no\"},"
        "\"authed_user\":{\"id\":\"U1\",\"access_token\":\"user\",\"scope\":[\"a\",\"b\"],\"expires_in\":60}}",
        &arena, &found);
    CHECK_INT(found.verdict, TOKEN_GRANTED);
    CHECK(cof_slice_equal(found.access_token, cof_slice_text("user")));
    CHECK(cof_slice_equal(found.scope, cof_slice_text("a b")));
    CHECK_INT(found.life_s, 60);
    read_text("authed_user", "{\"ok\":false,\"error\":\"token_revoked\"}", &arena, &found);
    CHECK_INT(found.verdict, TOKEN_REFUSED);
    cof_arena_reset(&arena);
}

/* Cut after each byte: what arrived whole is taken, nothing that did not is. */
static void answer_that_is_cut_anywhere_gives_what_arrived_or_nothing(void)
{
    static const char body[] = "{\"expires_in\":60,\"access_token\":\"access-1\",\"refresh_token\":\"refresh-1\"}";
    const size_t access_end = (size_t) (strstr(body, "access-1\"") - body) + sizeof "access-1";
    const size_t refresh_end = (size_t) (strstr(body, "refresh-1\"") - body) + sizeof "refresh-1";
    struct cof_arena arena;
    begin(&arena, ARENA);
    for (size_t length = 0; length < sizeof body; length++) {
        struct token_found found;
        struct cof_error err;
        const struct token_question question = {.grant = TOKEN_GRANT_REFRESH};
        const struct token_reply reply = {.end = TOKEN_END_CUT, .status = 200, .body = cof_slice_of(body, length)};
        CHECK_OK(token_answer_read(&question, &reply, &arena, &found, &err), &err);
        CHECK_INT(found.verdict, length < access_end ? TOKEN_UNAVAILABLE : TOKEN_GRANTED);
        CHECK_INT(found.may_be_spent, length < refresh_end);
        CHECK_INT((int) found.refresh_token.len, length < refresh_end ? 0 : (int) sizeof "refresh-1" - 1);
        cof_arena_reset(&arena);
    }
}

static void token_has_a_limit(void)
{
    static char body[TOKEN_TEXT_MAX + 64];
    for (size_t more = 0; more < 2; more++) {
        struct cof_arena arena;
        struct token_found found;
        begin(&arena, ARENA);
        int head = snprintf(body, sizeof body, "{\"access_token\":\"");
        memset(body + head, 'a', TOKEN_TEXT_MAX + more);
        (void) snprintf(body + head + TOKEN_TEXT_MAX + more, 8, "\"}");
        read_text(NULL, body, &arena, &found);
        CHECK_INT(found.verdict, more == 0 ? TOKEN_GRANTED : TOKEN_UNAVAILABLE);
        cof_arena_reset(&arena);
    }
}

static void description_is_bounded_and_a_code_is_a_code(void)
{
    static char body[2048];
    char words[600];
    struct cof_arena arena;
    struct token_found found;
    begin(&arena, ARENA);
    memset(words, 'w', sizeof words - 1);
    words[sizeof words - 1] = '\0';
    (void) snprintf(body, sizeof body, "{\"error\":\"%s\",\"error_description\":\"%s\"}", words, words);
    read_text(NULL, body, &arena, &found);
    CHECK_INT(found.verdict, TOKEN_UNAVAILABLE);
    CHECK_TEXT(found.code, "");
    CHECK_INT((int) strlen(found.description), TOKEN_DESCRIPTION_MAX);
    cof_arena_reset(&arena);
}

static void exhausted_memory_is_a_failure_and_no_verdict(void)
{
    static char body[2 * COF_ARENA_CHUNK];
    struct cof_arena arena;
    struct cof_error err;
    struct token_found found;
    const struct token_question question = {.grant = TOKEN_GRANT_REFRESH};
    int head = snprintf(body, sizeof body, "{\"access_token\":\"");
    memset(body + head, 'a', COF_ARENA_CHUNK);
    (void) snprintf(body + head + COF_ARENA_CHUNK, 8, "\"}");
    const struct token_reply reply = {.status = 200, .body = cof_slice_text(body)};
    begin(&arena, COF_ARENA_CHUNK);
    CHECK_FAILS(token_answer_read(&question, &reply, &arena, &found, &err), &err, OUT_OF_MEMORY);
    cof_arena_reset(&arena);
    begin(&arena, ARENA);
    CHECK_OK(token_answer_read(&question, &reply, &arena, &found, &err), &err);
    CHECK_INT(found.verdict, TOKEN_GRANTED);
    cof_arena_reset(&arena);
}

TEST_MAIN(TEST(every_line_of_the_decision_table_holds), TEST(tokens_may_stand_in_a_member_of_the_answer),
          TEST(answer_that_is_cut_anywhere_gives_what_arrived_or_nothing), TEST(token_has_a_limit),
          TEST(description_is_bounded_and_a_code_is_a_code), TEST(exhausted_memory_is_a_failure_and_no_verdict))
