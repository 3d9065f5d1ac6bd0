#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/name.h"
#include "tests/support/test.h"

/* One message of the socket is one write of the log. */
struct capture {
    int ends[2];
    struct cof_log log;
    size_t len; /* of the last line */
};

static char last_line[8192];

static int64_t fixed_wall(void *context)
{
    (void) context;
    return 1700000000123456;
}

static const struct cof_clock fixed_clock = {fixed_wall, fixed_wall, NULL};

static void capture_init(struct capture *capture, cof_log_format format, cof_log_level level)
{
    (void) unsetenv("JOURNAL_STREAM");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, capture->ends) != 0) {
        abort();
    }
    cof_log_init(&capture->log, capture->ends[1], format, level, &fixed_clock);
}

static void capture_done(struct capture *capture)
{
    (void) close(capture->ends[0]);
    (void) close(capture->ends[1]);
}

/* The next line without its line feed; NULL if nothing was written or the write held no whole line. */
static const char *next_line(struct capture *capture)
{
    const ssize_t got = recv(capture->ends[0], last_line, sizeof last_line - 1, MSG_DONTWAIT);
    if (got <= 0 || last_line[got - 1] != '\n') {
        return NULL;
    }
    capture->len = (size_t) got - 1;
    last_line[capture->len] = '\0';
    return last_line;
}

/* A strict reader of JSON's strings: the position behind the string, or NULL. */
static const char *skip_string(const char *at)
{
    if (*at++ != '"') {
        return NULL;
    }
    for (; *at != '"'; at++) {
        if ((unsigned char) *at < ' ') {
            return NULL;
        }
        if (*at != '\\') {
            continue;
        }
        at++;
        if (*at == 'u' && strspn(at + 1, "0123456789abcdef") >= 4) {
            at += 4;
        } else if (*at != '"' && *at != '\\') {
            return NULL;
        }
    }
    return at + 1;
}

static const char *skip_value(const char *at)
{
    if (*at == '"') {
        return skip_string(at);
    }
    const size_t length = strspn(at, "-0123456789truefals");
    return length == 0 ? NULL : at + length;
}

/* Whether the line is one flat JSON object of valid text. */
static bool is_json(const char *at)
{
    bool more = *at++ == '{' && cof_text_valid(cof_slice_text(at));
    while (more) {
        at = skip_string(at);
        if (at == NULL || *at++ != ':' || *at == ',' || (at = skip_value(at)) == NULL) {
            return false;
        }
        more = *at == ',';
        at += more;
    }
    return strcmp(at, "}") == 0;
}

static void json_line_has_its_keys_in_order(void)
{
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    const struct cof_log_field yes = {"yes", COF_LOG_BOOL, {NULL, 0}, 1};
    COF_LOG(&capture.log, COF_LOG_WARN, "listening", "it works", cof_log_text("address", "tcp://*:1"),
            cof_log_number("number", INT64_MIN), yes);
    CHECK_TEXT(
        next_line(&capture),
        "{\"ts\":\"2023-11-14T22:13:20.123Z\",\"level\":\"warn\",\"event\":\"listening\",\"msg\":\"it works\","
        "\"address\":\"tcp://*:1\",\"number\":-9223372036854775808,\"yes\":true}");
    CHECK(next_line(&capture) == NULL);
}

static void text_line_is_for_people(void)
{
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_TEXT, COF_LOG_INFO);
    const struct cof_log_field no = {"no", COF_LOG_BOOL, {NULL, 0}, 0};
    COF_LOG(&capture.log, COF_LOG_INFO, "listening", "it works", cof_log_text("plain", "a/b"),
            cof_log_text("quoted", "a b=\"c\"\n"), cof_log_number("number", 7), no);
    CHECK_TEXT(
        next_line(&capture),
        "2023-11-14T22:13:20.123Z info  it works plain=a/b quoted=\"a b=\\\"c\\\"\\u000a\" number=7 no=false");
}

static void colour_is_taken_back_at_the_end_of_the_line(void)
{
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_TEXT, COF_LOG_INFO);
    CHECK(!capture.log.colour);
    capture.log.colour = true;
    COF_LOG(&capture.log, COF_LOG_ERROR, "e", "red", cof_log_number("n", 1));
    CHECK_TEXT(next_line(&capture), "\033[31m2023-11-14T22:13:20.123Z error  red n=1\033[0m");
}

static void journal_gets_the_priority_in_front(void)
{
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    CHECK(!capture.log.journal);
    CHECK_INT(setenv("JOURNAL_STREAM", "8:1", 1), 0);
    cof_log_init(&capture.log, capture.ends[1], COF_LOG_TEXT, COF_LOG_DEBUG, &fixed_clock);
    CHECK_INT(unsetenv("JOURNAL_STREAM"), 0);
    COF_LOG(&capture.log, COF_LOG_DEBUG, "e", "m", cof_log_number("n", 1));
    CHECK_TEXT(next_line(&capture), "<7>2023-11-14T22:13:20.123Z debug  m n=1");
}

static void what_is_no_terminal_gets_json(void)
{
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_AUTO, COF_LOG_INFO);
    CHECK(capture.log.json);
    CHECK(!capture.log.colour);
}

static void lower_levels_are_left_out(void)
{
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_WARN);
    cof_log_event(&capture.log, COF_LOG_DEBUG, "e", "m", NULL, 0);
    cof_log_event(&capture.log, COF_LOG_INFO, "e", "m", NULL, 0);
    CHECK(next_line(&capture) == NULL);
    cof_log_event(&capture.log, COF_LOG_WARN, "e", "m", NULL, 0);
    cof_log_event(&capture.log, COF_LOG_ERROR, "e", "m", NULL, 0);
    CHECK_CONTAINS(next_line(&capture), "\"warn\"");
    CHECK_CONTAINS(next_line(&capture), "\"error\"");
}

static void empty_texts_are_left_out_and_zeroes_are_not(void)
{
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    COF_LOG(&capture.log, COF_LOG_INFO, "e", "m", cof_log_text("empty", ""), cof_log_number("zero", 0));
    const char *line = next_line(&capture);
    CHECK_CONTAINS(line, "\"zero\":0");
    CHECK(strstr(line, "empty") == NULL);
}

static void bytes_that_are_no_text_become_replacement_characters(void)
{
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    const struct cof_slice bytes = cof_slice_of("a\xFF\xC3\xA9\xE2\x82\0\"\\\n\x7F\xC2\x9B", 13);
    COF_LOG(&capture.log, COF_LOG_INFO, "e", "m", cof_log_slice("f", bytes));
    CHECK_CONTAINS(next_line(&capture),
                   "\"f\":\"a\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\\u0000\\\"\\\\\\u000a"
                   "\\u007f\\u009b\"");
}

static void any_bytes_give_one_line_that_a_terminal_does_not_obey(void)
{
    uint64_t state = test_seed();
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    for (int i = 0; i < 3000; i++) {
        char message[64];
        uint8_t value[300];
        for (size_t k = 0; k < sizeof value; k++) {
            value[k] = (uint8_t) test_random(&state);
        }
        memcpy(message, value, sizeof message - 1);
        message[sizeof message - 1] = '\0';
        capture.log.json = i % 2 == 0;
        COF_LOG(&capture.log, COF_LOG_INFO, "e", message,
                cof_log_slice("value", cof_slice_of(value, test_random(&state) % sizeof value)));
        const char *line = next_line(&capture);
        CHECK(line != NULL);
        CHECK_INT(strlen(line), capture.len);
        CHECK(strpbrk(line, "\n\r\033\x7F") == NULL);
        CHECK(capture.log.json ? is_json(line) : cof_text_valid(cof_slice_text(line)));
    }
}

/* Text is read several bytes at a time where it can be. */
static void byte_is_written_alike_wherever_it_stands(void)
{
    enum { LENGTH = 20 };
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    for (unsigned byte = 0; byte <= UINT8_MAX; byte++) {
        char alone[16];
        COF_LOG(&capture.log, COF_LOG_INFO, "e", "m",
                cof_log_slice("f", cof_slice_of((uint8_t[]){(uint8_t) byte}, 1)));
        const char *written = strstr(next_line(&capture), "\"f\":\"") + strlen("\"f\":\"");
        const size_t length = strlen(written) - strlen("\"}");
        CHECK(length < sizeof alone);
        memcpy(alone, written, length);
        alone[length] = '\0';
        for (int place = 0; place < LENGTH; place++) {
            char expected[64];
            char text[LENGTH + 1] = "~ !#[]{|^_`az09AZ./,";
            (void) snprintf(expected, sizeof expected, "\"%.*s%s%s\"}", place, text, alone, text + place + 1);
            text[place] = (char) byte;
            COF_LOG(&capture.log, COF_LOG_INFO, "e", "m", cof_log_slice("f", cof_slice_of(text, LENGTH)));
            CHECK_CONTAINS(next_line(&capture), expected);
        }
    }
}

/* Fields of every size around the end of the line, so that the cut falls at every place of a field. */
static void long_line_is_cut_at_a_field_and_says_so(void)
{
    static char text[6000];
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    memset(text, 'x', sizeof text);
    for (size_t size = 3500; size < 3900; size++) {
        COF_LOG(&capture.log, COF_LOG_INFO, "e", "m", cof_log_slice("first", cof_slice_of(text, size)),
                cof_log_number("a_number_with_a_long_name", INT64_MIN), cof_log_number("n", 1),
                cof_log_text("last", "\"\"\"\""));
        const char *line = next_line(&capture);
        CHECK(line != NULL && capture.len < 3800);
        CHECK(is_json(line));
        CHECK_INT(strstr(line, ",\"cut\":true}") != NULL, strstr(line, "\"last\"") == NULL);
    }
}

/* A message of three-byte characters, whose cut falls at every place of one. */
static void check_long_message(cof_log_format format, size_t offset)
{
    static char message[6000];
    AUTO(capture_done) struct capture capture;
    capture_init(&capture, format, COF_LOG_INFO);
    memset(message, 'x', offset);
    for (size_t at = offset; at + 3 < sizeof message; at += 3) {
        memcpy(message + at, "\xE6\x97\xA5", 4);
    }
    COF_LOG(&capture.log, COF_LOG_INFO, "e", message, cof_log_text("quoted", "a b"), cof_log_number("n", 1));
    const char *line = next_line(&capture);
    CHECK(line != NULL && capture.len < 3800);
    CHECK(cof_text_valid(cof_slice_text(line)));
    CHECK_CONTAINS(line, format == COF_LOG_JSON ? "\",\"cut\":true}" : "\xE6\x97\xA5...");
    CHECK(format == COF_LOG_TEXT || is_json(line));
}

static void long_message_is_cut_between_characters(void)
{
    for (size_t offset = 0; offset < 8; offset++) {
        check_long_message(COF_LOG_JSON, offset);
        check_long_message(COF_LOG_TEXT, offset);
    }
}

static void log_that_cannot_be_written_hurts_nobody(void)
{
    struct cof_log log;
    cof_log_init(&log, -1, COF_LOG_JSON, COF_LOG_INFO, &fixed_clock);
    COF_LOG(&log, COF_LOG_INFO, "e", "m", cof_log_number("n", 1));
    CHECK(log.json);
}

static void lines_that_are_held_are_written_at_once_when_they_are_let_go(void)
{
    struct capture capture;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    cof_log_hold();
    cof_log_event(&capture.log, COF_LOG_INFO, "one", "the first", NULL, 0);
    cof_log_event(&capture.log, COF_LOG_INFO, "two", "the second", NULL, 0);
    CHECK(next_line(&capture) == NULL);
    cof_log_let_go();
    const char *lines = next_line(&capture);
    CHECK(lines != NULL && strstr(lines, "\"one\"") != NULL && strstr(lines, "}\n{") != NULL &&
          strstr(lines, "\"two\"") != NULL);
    cof_log_event(&capture.log, COF_LOG_INFO, "three", "the third", NULL, 0);
    CHECK(next_line(&capture) != NULL);
    capture_done(&capture);
}

static void held_lines_are_written_whole_before_they_are_more_than_a_pipe_takes_at_once(void)
{
    enum { LINES = 100 };
    struct capture capture;
    size_t told = 0;
    capture_init(&capture, COF_LOG_JSON, COF_LOG_INFO);
    cof_log_hold();
    for (int i = 0; i < LINES; i++) {
        COF_LOG(&capture.log, COF_LOG_INFO, "event", "message", cof_log_number("number", i));
    }
    cof_log_let_go();
    for (const char *lines = next_line(&capture); lines != NULL; lines = next_line(&capture)) {
        CHECK(capture.len + 1 <= 4096);
        for (const char *at = lines; at != NULL; at = strchr(at + 1, '\n')) {
            told++;
        }
    }
    CHECK_INT(told, LINES);
    capture_done(&capture);
}

TEST_MAIN(TEST(lines_that_are_held_are_written_at_once_when_they_are_let_go),
          TEST(held_lines_are_written_whole_before_they_are_more_than_a_pipe_takes_at_once),
          TEST(json_line_has_its_keys_in_order), TEST(text_line_is_for_people),
          TEST(colour_is_taken_back_at_the_end_of_the_line), TEST(journal_gets_the_priority_in_front),
          TEST(what_is_no_terminal_gets_json), TEST(lower_levels_are_left_out),
          TEST(empty_texts_are_left_out_and_zeroes_are_not),
          TEST(bytes_that_are_no_text_become_replacement_characters),
          TEST(any_bytes_give_one_line_that_a_terminal_does_not_obey),
          TEST(byte_is_written_alike_wherever_it_stands), TEST(long_line_is_cut_at_a_field_and_says_so),
          TEST(long_message_is_cut_between_characters), TEST(log_that_cannot_be_written_hurts_nobody))
