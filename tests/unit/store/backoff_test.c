#include "server/store/backoff.h"
#include "tests/support/test.h"

static void there_is_nothing_to_wait_for_before_a_failure(void)
{
    struct backoff backoff;
    backoff_init(&backoff, 50, 1000);
    CHECK_INT(backoff_remaining_ms(&backoff, INT64_MIN), 0);
    CHECK_INT(backoff_remaining_ms(&backoff, 0), 0);
}

static void waits_double_up_to_the_limit_and_keep_at_least_half(void)
{
    struct backoff backoff;
    uint64_t state = test_seed();
    backoff_init(&backoff, 50, 1000);
    for (uint32_t expected = 50; expected < 100000; expected *= 2) {
        const uint32_t limit = expected < 1000 ? expected : 1000;
        const uint32_t wait = backoff_failed(&backoff, 0, test_random(&state));
        CHECK(wait >= limit / 2 && wait <= limit);
        CHECK_INT(backoff_remaining_ms(&backoff, 0), wait);
    }
}

static void chance_reaches_both_ends(void)
{
    struct backoff backoff;
    backoff_init(&backoff, 100, 1000);
    CHECK_INT(backoff_failed(&backoff, 0, 0), 50);
    backoff_succeeded(&backoff);
    CHECK_INT(backoff_failed(&backoff, 0, 50), 100);
}

static void remaining_time_is_rounded_up_and_ends(void)
{
    struct backoff backoff;
    backoff_init(&backoff, 100, 1000);
    const uint32_t wait = backoff_failed(&backoff, 1000, 0);
    CHECK_INT(wait, 50);
    CHECK_INT(backoff_remaining_ms(&backoff, 1001), 50);
    CHECK_INT(backoff_remaining_ms(&backoff, 1000 + 49999), 1);
    CHECK_INT(backoff_remaining_ms(&backoff, 1000 + 50000), 0);
}

static void success_begins_anew(void)
{
    struct backoff backoff;
    backoff_init(&backoff, 50, 1000);
    for (int i = 0; i < 10; i++) {
        CHECK(backoff_failed(&backoff, 0, 0) > 0);
    }
    backoff_succeeded(&backoff);
    CHECK_INT(backoff_remaining_ms(&backoff, 0), 0);
    CHECK_INT(backoff_failed(&backoff, 0, 0), 25);
}

static void limit_of_zero_never_waits(void)
{
    struct backoff backoff;
    backoff_init(&backoff, 50, 0);
    CHECK_INT(backoff_failed(&backoff, 0, UINT64_MAX), 0);
    CHECK_INT(backoff_remaining_ms(&backoff, 0), 0);
}

TEST_MAIN(TEST(there_is_nothing_to_wait_for_before_a_failure),
          TEST(waits_double_up_to_the_limit_and_keep_at_least_half), TEST(chance_reaches_both_ends),
          TEST(remaining_time_is_rounded_up_and_ends), TEST(success_begins_anew), TEST(limit_of_zero_never_waits))
