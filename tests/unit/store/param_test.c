#include "server/store/session.h"
#include "tests/support/test.h"

static void numbers_are_big_endian(void)
{
    const struct param wide = param_i64(-2);
    const struct param narrow = param_i32(0x01020304);
    CHECK_INT(wide.number_len, 8);
    CHECK_BYTES(wide.number, "\xff\xff\xff\xff\xff\xff\xff\xfe", 8);
    CHECK_INT(narrow.number_len, 4);
    CHECK_BYTES(narrow.number, "\x01\x02\x03\x04", 4);
    CHECK_BYTES(param_bool(true).number, "\x01", 1);
    CHECK_BYTES(param_bool(false).number, "\x00", 1);
}

static void times_count_from_the_year_2000(void)
{
    CHECK_BYTES(param_time(INT64_C(946684800000000)).number, "\0\0\0\0\0\0\0\0", 8);
    CHECK_BYTES(param_time(INT64_C(946684800000001)).number, "\0\0\0\0\0\0\0\1", 8);
}

static void empty_text_is_null_only_where_asked_for(void)
{
    CHECK(!param_text(cof_slice_text("")).null);
    CHECK(param_text_or_null(cof_slice_text("")).null);
    CHECK(!param_text_or_null(cof_slice_text("x")).null);
    CHECK(param_null().null);
}

static void array_of_texts_has_postgresqls_form(void)
{
    uint8_t to[64];
    const struct cof_slice items[] = {cof_slice_text("ab"), cof_slice_text("")};
    const struct param param = param_text_array(items, 2, to);
    static const char expected[] = "\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\2\0\0\0\1\0\0\0\2ab\0\0\0\0";
    CHECK_INT(param.bytes.len, sizeof expected - 1);
    CHECK_INT(array_text_size(items, 2), sizeof expected - 1);
    CHECK_BYTES(param.bytes.data, expected, sizeof expected - 1);
}

static void empty_array_has_no_dimension(void)
{
    uint8_t to[12];
    const struct param param = param_text_array(NULL, 0, to);
    CHECK_INT(param.bytes.len, sizeof to);
    CHECK_INT(array_text_size(NULL, 0), sizeof to);
    CHECK_BYTES(param.bytes.data, "\0\0\0\0\0\0\0\0\0\0\0\x19", sizeof to);
}

TEST_MAIN(TEST(numbers_are_big_endian), TEST(times_count_from_the_year_2000),
          TEST(empty_text_is_null_only_where_asked_for), TEST(array_of_texts_has_postgresqls_form),
          TEST(empty_array_has_no_dimension))
