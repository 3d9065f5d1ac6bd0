#include "common/encode.h"
#include "common/secret.h"
#include "tests/support/test.h"

enum { SIZE = 64 };

static void fill(uint8_t *bytes, size_t len, uint64_t *state)
{
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t) test_random(state);
    }
}

static void numbers_are_big_endian(void)
{
    uint8_t bytes[8];
    cof_put_u16(bytes, 0x0102);
    CHECK_BYTES(bytes, "\x01\x02", 2);
    cof_put_u32(bytes, 0xFF020304);
    CHECK_BYTES(bytes, "\xFF\x02\x03\x04", 4);
    cof_put_u64(bytes, 0x8002030405060708);
    CHECK_BYTES(bytes, "\x80\x02\x03\x04\x05\x06\x07\x08", 8);
    CHECK_INT(cof_get_u16(bytes), 0x8002);
    CHECK_INT(cof_get_u32(bytes), 0x80020304);
    CHECK(cof_get_u64(bytes) == 0x8002030405060708);
}

static void hex_is_lower_case_and_read_in_either(void)
{
    uint8_t bytes[4] = {0};
    char text[9];
    cof_hex_encode(cof_slice_of("\x00\x9A\xBC\xFF", 4), text);
    CHECK_TEXT(text, "009abcff");
    CHECK(cof_hex_decode(cof_slice_text("009AbcFf"), bytes, 4));
    CHECK_BYTES(bytes, "\x00\x9A\xBC\xFF", 4);
    cof_hex_encode(cof_slice_of(NULL, 0), text);
    CHECK_TEXT(text, "");
}

static void hex_of_another_length_or_with_a_foreign_digit_is_refused(void)
{
    uint8_t bytes[2];
    CHECK(!cof_hex_decode(cof_slice_text("001"), bytes, 2));
    CHECK(!cof_hex_decode(cof_slice_text("00112"), bytes, 2));
    for (int digit = 0; digit < 256; digit++) {
        const uint8_t text[] = {'0', '0', '0', (uint8_t) digit};
        const bool hex =
            (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f') || (digit >= 'A' && digit <= 'F');
        CHECK_INT(cof_hex_decode(cof_slice_of(text, 4), bytes, 2), hex);
    }
}

/* RFC 4648, section 10, without padding; and the two digits that base64url has of its own. */
static void base64url_gives_the_published_texts(void)
{
    static const char *const vectors[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xFB\xFF", "-_8"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        char text[COF_BASE64URL_SIZE(6)];
        uint8_t back[6];
        const struct cof_slice bytes = cof_slice_text(vectors[i][0]);
        cof_base64url_encode(bytes, text);
        CHECK_TEXT(text, vectors[i][1]);
        CHECK_INT(strlen(text) + 1, COF_BASE64URL_SIZE(bytes.len));
        CHECK(cof_base64url_decode(cof_slice_text(text), back, bytes.len));
        CHECK_BYTES(back, bytes.data, bytes.len);
    }
}

/* The same section, with padding. */
static void base64_gives_the_published_texts(void)
{
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xFB\xFF", "+/8="},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        char text[COF_BASE64_SIZE(6)];
        uint8_t back[6];
        size_t size = SIZE;
        const struct cof_slice bytes = cof_slice_text(vectors[i][0]);
        cof_base64_encode(bytes, text);
        CHECK_TEXT(text, vectors[i][1]);
        CHECK_INT(strlen(text) + 1, COF_BASE64_SIZE(bytes.len));
        CHECK(cof_base64_decode(cof_slice_text(text), back, &size));
        CHECK_INT(size, bytes.len);
        CHECK_BYTES(back, bytes.data, bytes.len);
    }
}

static void base64_has_one_text_for_each_value(void)
{
    static const char *const wrong[] = {"Zg",   "Zg=",  "Zh==",  "Zm9=",     "Zg===", "=",    "==",
                                        "====", "Z===", "Zm8=x", "Zg==Zg==", "-_8=",  "Zm 9", "Zm9v\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t bytes[SIZE];
        size_t size = SIZE;
        CHECK(!cof_base64_decode(cof_slice_text(wrong[i]), bytes, &size));
        CHECK_INT(size, SIZE);
    }
}

static void random_bytes_come_back(void)
{
    uint64_t state = test_seed();
    for (size_t len = 0; len <= SIZE; len++) {
        uint8_t bytes[SIZE];
        uint8_t back[SIZE];
        char text[2 * SIZE + 1];
        fill(bytes, len, &state);
        cof_base64url_encode(cof_slice_of(bytes, len), text);
        CHECK(cof_base64url_decode(cof_slice_text(text), back, len));
        CHECK_BYTES(back, bytes, len);
        size_t size = 0;
        cof_base64_encode(cof_slice_of(bytes, len), text);
        CHECK(cof_base64_decode(cof_slice_text(text), back, &size));
        CHECK_INT(size, len);
        CHECK_BYTES(back, bytes, len);
        cof_hex_encode(cof_slice_of(bytes, len), text);
        CHECK(cof_hex_decode(cof_slice_text(text), back, len));
        CHECK_BYTES(back, bytes, len);
    }
}

static void base64url_has_one_text_for_each_value(void)
{
    uint8_t bytes[2];
    CHECK(!cof_base64url_decode(cof_slice_text("Zh"), bytes, 1));
    CHECK(!cof_base64url_decode(cof_slice_text("Zm9"), bytes, 2));
    CHECK(!cof_base64url_decode(cof_slice_text("Zg=="), bytes, 1));
    CHECK(!cof_base64url_decode(cof_slice_text("Zg"), bytes, 2));
    CHECK(!cof_base64url_decode(cof_slice_text("Z"), bytes, 1));
    CHECK(!cof_base64url_decode(cof_slice_text("+w"), bytes, 1));
    CHECK(!cof_base64url_decode(cof_slice_text("/w"), bytes, 1));
    CHECK(!cof_base64url_decode(cof_slice_of("\0w", 2), bytes, 1));
}

/* The check value of the CRC catalogues. */
static void crc_gives_the_published_value(void)
{
    CHECK_INT(cof_crc32(cof_slice_text("123456789")), 0xCBF43926);
    CHECK_INT(cof_crc32(cof_slice_of(NULL, 0)), 0);
}

static void secrets_are_equal_only_if_every_byte_is(void)
{
    uint8_t a[SIZE] = {0};
    uint8_t b[SIZE] = {0};
    CHECK(cof_secret_equal(cof_slice_of(a, SIZE), cof_slice_of(b, SIZE)));
    CHECK(cof_secret_equal(cof_slice_of(NULL, 0), cof_slice_of(b, 0)));
    CHECK(!cof_secret_equal(cof_slice_of(a, SIZE), cof_slice_of(b, SIZE - 1)));
    for (size_t i = 0; i < SIZE; i++) {
        b[i] = 1;
        CHECK(!cof_secret_equal(cof_slice_of(a, SIZE), cof_slice_of(b, SIZE)));
        b[i] = 0;
    }
}

static void wiped_bytes_are_zero(void)
{
    uint8_t bytes[SIZE];
    const uint8_t zero[SIZE] = {0};
    uint64_t state = test_seed();
    fill(bytes, sizeof bytes, &state);
    cof_wipe(bytes, sizeof bytes);
    CHECK_BYTES(bytes, zero, sizeof bytes);
}

TEST_MAIN(TEST(numbers_are_big_endian), TEST(hex_is_lower_case_and_read_in_either),
          TEST(hex_of_another_length_or_with_a_foreign_digit_is_refused), TEST(base64url_gives_the_published_texts),
          TEST(random_bytes_come_back), TEST(base64_gives_the_published_texts),
          TEST(base64_has_one_text_for_each_value), TEST(base64url_has_one_text_for_each_value),
          TEST(crc_gives_the_published_value), TEST(secrets_are_equal_only_if_every_byte_is),
          TEST(wiped_bytes_are_zero))
