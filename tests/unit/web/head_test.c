#include "common/attr.h"
#include "common/web/handshake.h"
#include "tests/support/test.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static bool is(struct cof_slice text, const char *expected)
{
    return cof_slice_equal(text, cof_slice_text(expected));
}

static void a_request_is_taken_apart(void)
{
    struct cof_head head;
    struct cof_slice value;
    const char *text = "GET /a/b?c=d&e HTTP/1.1\r\nHost: x\r\nEmpty:\r\nA:  b c \t\r\nhost: y\r\n\r\nrest";
    CHECK_INT(cof_head_request(cof_slice_text(text), &head), COF_HEAD_DONE);
    CHECK(is(head.method, "GET") && is(head.path, "/a/b") && is(head.query, "c=d&e"));
    CHECK_INT(head.size, strlen(text) - strlen("rest"));
    CHECK_INT(cof_head_find(&head, "HOST", &value), 2);
    CHECK(is(value, "x"));
    CHECK_INT(cof_head_find(&head, "empty", &value), 1);
    CHECK_INT(value.len, 0);
    CHECK_INT(cof_head_find(&head, "a", &value), 1);
    CHECK(is(value, "b c"));
    CHECK_INT(cof_head_find(&head, "b", &value), 0);
}

static void a_head_is_short_until_its_empty_line_has_come(void)
{
    struct cof_head head;
    const struct cof_slice text = cof_slice_text("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    for (size_t size = 0; size < text.len; size++) {
        CHECK_INT(cof_head_request(cof_slice_of(text.data, size), &head), COF_HEAD_SHORT);
    }
    CHECK_INT(cof_head_request(text, &head), COF_HEAD_DONE);
}

static void what_could_be_read_in_two_ways_is_refused(void)
{
    static const char *const bad[] = {
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/2\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET /  HTTP/1.1\r\n\r\n",
        "GET x HTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\n A: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nA\r\n\r\n",
        "GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
        "GET /#a HTTP/1.1\r\n\r\n",
    };
    struct cof_head head;
    for (size_t i = 0; i < COF_COUNT(bad); i++) {
        if (cof_head_request(cof_slice_text(bad[i]), &head) != COF_HEAD_BAD) {
            fprintf(stderr, "taken: %s\n", bad[i]);
            test_failures++;
        }
    }
    CHECK_INT(cof_head_request(cof_slice_of("GET / HTTP/1.1\r\nA: \0\r\n\r\n", 23), &head), COF_HEAD_BAD);
    CHECK_INT(cof_head_request(cof_slice_of("\0SP\0\0\x30\0\0", 8), &head), COF_HEAD_BAD);
}

static void a_head_has_a_limit_in_bytes_and_in_fields(void)
{
    static char text[2 * COF_HEAD_MOST];
    struct cof_head head;
    memset(text, 'a', sizeof text);
    CHECK_INT(cof_head_request(cof_slice_of(text, COF_HEAD_MOST - 1), &head), COF_HEAD_SHORT);
    CHECK_INT(cof_head_request(cof_slice_of(text, COF_HEAD_MOST), &head), COF_HEAD_LARGE);
    size_t size = (size_t) snprintf(text, sizeof text, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < COF_HEAD_FIELDS; i++) {
        size += (size_t) snprintf(text + size, sizeof text - size, "A: b\r\n");
    }
    (void) snprintf(text + size, sizeof text - size, "\r\n");
    CHECK_INT(cof_head_request(cof_slice_text(text), &head), COF_HEAD_DONE);
    (void) snprintf(text + size, sizeof text - size, "A: b\r\n\r\n");
    CHECK_INT(cof_head_request(cof_slice_text(text), &head), COF_HEAD_LARGE);
}

static void lists_are_searched_token_by_token(void)
{
    struct cof_head head;
    CHECK_INT(cof_head_request(
                  cof_slice_text("GET / HTTP/1.1\r\nConnection: keep-alive , ,Upgrade\r\nConnection: x y\r\n\r\n"),
                  &head),
              COF_HEAD_DONE);
    CHECK(cof_head_lists(&head, "connection", "upgrade") && cof_head_lists(&head, "connection", "keep-alive"));
    CHECK(cof_head_lists(&head, "connection", "x y"));
    CHECK(!cof_head_lists(&head, "connection", "x") && !cof_head_lists(&head, "connection", "grade"));
    CHECK(!cof_head_lists(&head, "upgrade", "upgrade"));
}

/* The example of RFC 6455, section 1.3. */
static void the_key_is_answered_as_the_rfc_says(void)
{
    char accept[COF_WEB_ACCEPT];
    CHECK(cof_web_key_valid(cof_slice_text(KEY)));
    CHECK(cof_web_accept(cof_slice_text(KEY), accept));
    CHECK_TEXT(accept, ACCEPT);
    CHECK(!cof_web_key_valid(cof_slice_text("dGhlIHNhbXBsZSBub25jZQ")));
    CHECK(!cof_web_key_valid(cof_slice_text("dGhlIHNhbXBsZSBub25jZSE=")));
    CHECK(!cof_web_key_valid(cof_slice_text("")));
}

static bool accepted(const char *text)
{
    struct cof_head head;
    return cof_head_response(cof_slice_text(text), &head) == COF_HEAD_DONE && cof_web_accepted(&head, KEY);
}

static void only_the_answer_that_was_asked_for_opens_a_websocket(void)
{
#define FIELDS "Upgrade: WebSocket\r\nConnection: upgrade\r\n"
#define PROTOCOL "Sec-WebSocket-Protocol: rep.sp.nanomsg.org\r\n"
#define KEYED "Sec-WebSocket-Accept: " ACCEPT "\r\n"
    CHECK(accepted("HTTP/1.1 101 Switching Protocols\r\n" FIELDS PROTOCOL KEYED "\r\n"));
    CHECK(accepted("HTTP/1.1 101\r\n" FIELDS PROTOCOL KEYED "\r\n"));
    CHECK(!accepted("HTTP/1.1 200 OK\r\n" FIELDS PROTOCOL KEYED "\r\n"));
    CHECK(!accepted("HTTP/1.1 101 x\r\n" FIELDS PROTOCOL "\r\n"));
    CHECK(!accepted("HTTP/1.1 101 x\r\n" FIELDS KEYED "\r\n"));
    CHECK(!accepted("HTTP/1.1 101 x\r\n" PROTOCOL KEYED "\r\n"));
    CHECK(!accepted("HTTP/1.1 101 x\r\n" FIELDS PROTOCOL "Sec-WebSocket-Accept: " KEY "\r\n\r\n"));
    CHECK(!accepted("HTTP/1.1 101 x\r\n" FIELDS PROTOCOL KEYED
                    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"));
    CHECK(!accepted("HTTP/1.1 10 x\r\n" FIELDS PROTOCOL KEYED "\r\n"));
}

TEST_MAIN(TEST(a_request_is_taken_apart), TEST(a_head_is_short_until_its_empty_line_has_come),
          TEST(what_could_be_read_in_two_ways_is_refused), TEST(a_head_has_a_limit_in_bytes_and_in_fields),
          TEST(lists_are_searched_token_by_token), TEST(the_key_is_answered_as_the_rfc_says),
          TEST(only_the_answer_that_was_asked_for_opens_a_websocket))
