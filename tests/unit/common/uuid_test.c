#include "common/uuid.h"
#include "tests/support/test.h"

static int64_t fixed_wall(void *context)
{
    return *(const int64_t *) context;
}

static void random_uuids_are_version_4_and_differ(void)
{
    struct cof_uuid before = cof_uuid_zero;
    for (int i = 0; i < 10000; i++) {
        const struct cof_uuid uuid = cof_uuid_random();
        CHECK_INT(cof_uuid_version(&uuid), 4);
        CHECK_INT(uuid.bytes[8] >> 6, 2);
        CHECK(!cof_uuid_equal(&uuid, &before));
        before = uuid;
    }
}

static void time_uuid_is_version_7_and_carries_the_clocks_milliseconds(void)
{
    int64_t now = 1645557742000999;
    const struct cof_clock clock = {fixed_wall, fixed_wall, &now};
    const struct cof_uuid first = cof_uuid_time(&clock);
    const struct cof_uuid second = cof_uuid_time(&clock);
    CHECK_INT(cof_uuid_version(&first), 7);
    CHECK_INT(first.bytes[8] >> 6, 2);
    CHECK_INT(cof_uuid_time_ms(&first), 1645557742000);
    CHECK(!cof_uuid_equal(&first, &second));
}

/* RFC 9562, appendix A.6. */
static void published_version_7_uuid_is_read(void)
{
    struct cof_uuid uuid;
    CHECK(cof_uuid_parse(cof_slice_text("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), &uuid));
    CHECK_INT(cof_uuid_version(&uuid), 7);
    CHECK_INT(cof_uuid_time_ms(&uuid), 0x017F22E279B0);
}

static void later_time_uuids_sort_behind_earlier_ones(void)
{
    int64_t now = 1000000;
    const struct cof_clock clock = {fixed_wall, fixed_wall, &now};
    struct cof_uuid before = cof_uuid_time(&clock);
    for (int i = 0; i < 1000; i++) {
        now += 1000;
        const struct cof_uuid uuid = cof_uuid_time(&clock);
        CHECK(memcmp(before.bytes, uuid.bytes, sizeof uuid.bytes) < 0);
        before = uuid;
    }
}

static void text_comes_back_as_the_same_uuid(void)
{
    for (int i = 0; i < 1000; i++) {
        char text[COF_UUID_TEXT];
        struct cof_uuid back;
        const struct cof_uuid uuid = cof_uuid_random();
        cof_uuid_format(&uuid, text);
        CHECK_INT(strlen(text), COF_UUID_TEXT - 1);
        CHECK(cof_uuid_parse(cof_slice_text(text), &back));
        CHECK(cof_uuid_equal(&uuid, &back));
    }
}

static void zero_uuid_has_its_text(void)
{
    char text[COF_UUID_TEXT];
    cof_uuid_format(&cof_uuid_zero, text);
    CHECK_TEXT(text, "00000000-0000-0000-0000-000000000000");
}

static void only_the_lower_case_form_is_read(void)
{
    static const char *const wrong[] = {
        "",
        "017F22E2-79b0-7cc3-98c4-dc0c0c07398f",
        "017f22e279b07cc398c4dc0c0c07398f",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f0",
        "017f22e27-9b0-7cc3-98c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        " 17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "017f22e2079b0-7cc3-98c4-dc0c0c07398f",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct cof_uuid uuid = cof_uuid_zero;
        CHECK(!cof_uuid_parse(cof_slice_text(wrong[i]), &uuid));
    }
}

static void monotonic_clock_never_goes_back(void)
{
    int64_t before = cof_clock_monotonic(&cof_system_clock);
    for (int i = 0; i < 10000; i++) {
        const int64_t now = cof_clock_monotonic(&cof_system_clock);
        CHECK(now >= before);
        before = now;
    }
    /* After 2020: the wall clock counts microseconds, not milliseconds. */
    CHECK(cof_clock_wall(&cof_system_clock) > 1577836800000000);
}

/* A peer may choose UUIDs that differ in one byte only; tables take the low bits. */
static void hashes_of_uuids_that_differ_in_one_byte_spread_over_low_bits(void)
{
    uint64_t random = test_seed();
    for (unsigned at = 0; at < 16; at++) {
        const uint64_t key = test_random(&random);
        unsigned counts[16] = {0};
        for (unsigned value = 0; value < 256; value++) {
            struct cof_uuid uuid = {{7}};
            uuid.bytes[at] = (uint8_t) value;
            counts[cof_uuid_hash(&uuid, key) % 16]++;
        }
        for (unsigned i = 0; i < 16; i++) {
            CHECK(counts[i] < 64); /* of 256 in 16 places */
        }
    }
}

TEST_MAIN(TEST(hashes_of_uuids_that_differ_in_one_byte_spread_over_low_bits),
          TEST(random_uuids_are_version_4_and_differ),
          TEST(time_uuid_is_version_7_and_carries_the_clocks_milliseconds), TEST(published_version_7_uuid_is_read),
          TEST(later_time_uuids_sort_behind_earlier_ones), TEST(text_comes_back_as_the_same_uuid),
          TEST(zero_uuid_has_its_text), TEST(only_the_lower_case_form_is_read),
          TEST(monotonic_clock_never_goes_back))
