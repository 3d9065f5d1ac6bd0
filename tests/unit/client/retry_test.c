#include "client/libcoffer/retry.h"
#include "common/error.h"
#include "tests/support/test.h"

static void only_unavailable_and_advised_limits_are_repeated(void)
{
    struct cof_error err;
    for (unsigned code = COF_OK; code <= COF_UNAUTHENTICATED; code++) {
        cof_error_clear(&err);
        err.code = (cof_code) code;
        CHECK_INT(retry_helps(&err), code == COF_UNAVAILABLE);
        err.retry_after_ms = 5;
        CHECK_INT(retry_helps(&err), code == COF_UNAVAILABLE || code == COF_RESOURCE_EXHAUSTED);
    }
}

static void delay_grows_with_full_jitter_up_to_a_second(void)
{
    CHECK_INT(retry_delay_ms(0, 0, 20), 20);
    CHECK_INT(retry_delay_ms(0, 0, 21), 0);
    CHECK_INT(retry_delay_ms(1, 0, 40), 40);
    CHECK_INT(retry_delay_ms(5, 0, 640), 640);
    CHECK_INT(retry_delay_ms(6, 0, 1000), 1000);
    CHECK_INT(retry_delay_ms(4000000000U, 0, 1000), 1000);
    CHECK_INT(retry_delay_ms(4000000000U, 0, 1001), 0);
}

static void advice_is_waited_for_before_the_jitter(void)
{
    CHECK_INT(retry_delay_ms(0, 250, 0), 250);
    CHECK_INT(retry_delay_ms(0, 250, 20), 270);
    CHECK_INT(retry_delay_ms(0, 250, 250), 500);
    CHECK_INT(retry_delay_ms(0, 250, 251), 250);
    CHECK_INT(retry_delay_ms(0, 5000, 1000), 6000);
    CHECK_INT(retry_delay_ms(0, 5000, 1001), 5000);
    CHECK_INT(retry_delay_ms(0, UINT32_MAX, 20), UINT32_MAX);
}

static void random_differs_by_attempt_and_by_call(void)
{
    const uint8_t one[16] = {[15] = 1};
    const uint8_t two[16] = {[15] = 2};
    CHECK(retry_random(one, 0) != retry_random(one, 1));
    CHECK(retry_random(one, 0) != retry_random(two, 0));
    CHECK(retry_random(one, 3) == retry_random(one, 3));
}

static void repeats_of_refused_calls_end_with_their_budget_and_successes_earn_others(void)
{
    struct retry_budget budget = {0};
    for (unsigned i = 0; i < RETRY_BUDGET; i++) {
        CHECK(retry_take(&budget));
    }
    CHECK(!retry_take(&budget));
    for (unsigned i = 0; i < RETRY_SUCCESSES - 1; i++) {
        retry_earn(&budget);
        CHECK(!retry_take(&budget));
    }
    retry_earn(&budget);
    CHECK(retry_take(&budget));
    CHECK(!retry_take(&budget));
}

static void budget_never_grows_beyond_its_size(void)
{
    struct retry_budget budget = {0};
    for (unsigned i = 0; i < 1000; i++) {
        retry_earn(&budget);
    }
    unsigned taken = 0;
    while (retry_take(&budget)) {
        taken++;
    }
    CHECK_INT(taken, RETRY_BUDGET);
}

TEST_MAIN(TEST(repeats_of_refused_calls_end_with_their_budget_and_successes_earn_others),
          TEST(budget_never_grows_beyond_its_size), TEST(only_unavailable_and_advised_limits_are_repeated),
          TEST(delay_grows_with_full_jitter_up_to_a_second), TEST(advice_is_waited_for_before_the_jitter),
          TEST(random_differs_by_attempt_and_by_call))
