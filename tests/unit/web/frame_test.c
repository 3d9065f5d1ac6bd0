#include <stdlib.h>

#include "common/web/frame.h"
#include "tests/support/test.h"

enum { MOST = 1 << 20 };

static const uint8_t mask[COF_WEB_MASK] = {0x37, 0xfa, 0x21, 0x3d};

static struct cof_web_event read_one(struct cof_web_reader *reader, const void *bytes, size_t size)
{
    static uint8_t copy[MOST];
    size_t at = 0;
    struct cof_web_event event;
    memcpy(copy, bytes, size);
    cof_web_read(reader, copy, size, &at, &event);
    return event;
}

/* The examples of RFC 6455, section 5.7, as binary messages. */
static void the_examples_of_the_rfc_are_read(void)
{
    struct cof_web_reader client = {.masked = true, .most = MOST};
    struct cof_web_event event = read_one(&client, "\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11);
    CHECK_INT(event.kind, COF_WEB_PART);
    CHECK(event.end && event.last && event.size == 5);
    CHECK_BYTES(event.bytes, "Hello", 5);
    struct cof_web_reader server = {.most = MOST};
    event = read_one(&server, "\x02\x03Hel", 5);
    CHECK(event.kind == COF_WEB_PART && !event.end && !event.last && event.announced == 3);
    CHECK(cof_web_begun(&server));
    event = read_one(&server, "\x89\x05Hello", 7);
    CHECK(event.kind == COF_WEB_PINGED && event.size == 5);
    event = read_one(&server, "\x80\x02lo", 4);
    CHECK(event.kind == COF_WEB_PART && event.end && event.announced == 5);
    CHECK(!cof_web_begun(&server));
}

static void what_is_written_is_read_whatever_its_size(void)
{
    static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, 70000};
    static uint8_t frame[COF_WEB_HEADER_MOST + 70000];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct cof_web_reader reader = {.masked = true, .most = MOST};
        const size_t header = cof_web_header(frame, COF_WEB_BINARY, sizes[i], mask);
        CHECK_INT(header, cof_web_header_size(sizes[i]) + COF_WEB_MASK);
        memset(frame + header, 'x', sizes[i]);
        cof_web_mask(mask, frame + header, sizes[i]);
        const struct cof_web_event event = read_one(&reader, frame, header + sizes[i]);
        CHECK(event.kind == COF_WEB_PART && event.end && event.size == sizes[i] && event.announced == sizes[i]);
        CHECK(sizes[i] == 0 || (event.bytes[0] == 'x' && event.bytes[sizes[i] - 1] == 'x'));
    }
}

static void a_frame_may_come_byte_by_byte(void)
{
    struct cof_web_reader reader = {.masked = true, .most = MOST};
    uint8_t frame[COF_WEB_HEADER_MOST + 200];
    uint8_t got[200];
    size_t count = 0;
    const size_t header = cof_web_header(frame, COF_WEB_BINARY, sizeof got, mask);
    memset(frame + header, 'y', sizeof got);
    cof_web_mask(mask, frame + header, sizeof got);
    for (size_t i = 0; i < header + sizeof got; i++) {
        const struct cof_web_event event = read_one(&reader, frame + i, 1);
        CHECK(event.kind == (i < header ? COF_WEB_SHORT : COF_WEB_PART));
        if (event.kind == COF_WEB_PART) {
            got[count++] = event.bytes[0];
            CHECK(event.end == (count == sizeof got));
        }
    }
    CHECK(count == sizeof got && got[0] == 'y' && got[199] == 'y');
}

static void a_message_over_the_limit_is_refused_in_one_frame_or_in_many(void)
{
    struct cof_web_reader reader = {.most = 10};
    CHECK_INT(read_one(&reader, "\x82\x0b", 2).code, COF_WEB_TOO_LARGE);
    reader = (struct cof_web_reader){.most = 10};
    CHECK_INT(read_one(&reader,
                       "\x02\x06"
                       "aaaaaa",
                       8)
                  .kind,
              COF_WEB_PART);
    CHECK_INT(read_one(&reader, "\x00\x05", 2).code, COF_WEB_TOO_LARGE);
    reader = (struct cof_web_reader){.most = 10};
    CHECK_INT(read_one(&reader, "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10).code, COF_WEB_TOO_LARGE);
}

static void a_close_tells_its_code(void)
{
    struct cof_web_reader reader = {.most = MOST};
    struct cof_web_event event = read_one(&reader,
                                          "\x88\x05\x03\xe8"
                                          "bye",
                                          7);
    CHECK(event.kind == COF_WEB_CLOSED && event.code == COF_WEB_NORMAL);
    reader = (struct cof_web_reader){.most = MOST};
    event = read_one(&reader, "\x88\x00", 2);
    CHECK(event.kind == COF_WEB_CLOSED && event.code == COF_WEB_NONE);
    reader = (struct cof_web_reader){.most = MOST};
    event = read_one(&reader, "\x88\x02\x03\xed", 4);
    CHECK(event.kind == COF_WEB_REFUSED && event.code == COF_WEB_PROTOCOL_ERROR);
}

static void masking_is_the_clients_and_only_the_clients(void)
{
    struct cof_web_reader of_client = {.masked = true, .most = MOST};
    CHECK_INT(read_one(&of_client, "\x82\x01x", 3).code, COF_WEB_PROTOCOL_ERROR);
    struct cof_web_reader of_server = {.most = MOST};
    CHECK_INT(read_one(&of_server, "\x82\x81\0\0\0\0x", 7).code, COF_WEB_PROTOCOL_ERROR);
}

TEST_MAIN(TEST(the_examples_of_the_rfc_are_read), TEST(what_is_written_is_read_whatever_its_size),
          TEST(a_frame_may_come_byte_by_byte), TEST(a_message_over_the_limit_is_refused_in_one_frame_or_in_many),
          TEST(a_close_tells_its_code), TEST(masking_is_the_clients_and_only_the_clients))
