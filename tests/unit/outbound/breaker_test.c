#include "server/outbound/breaker.h"
#include "tests/support/test.h"

enum { SECOND_US = 1000000 };

static void fail_times(struct breaker *breaker, unsigned times, int64_t now_us)
{
    for (unsigned i = 0; i < times; i++) {
        const breaker_word word = breaker_ask(breaker, now_us);
        breaker_failed(breaker, word, now_us, 0);
    }
}

static void failures_in_a_row_open_it_and_a_success_between_them_does_not(void)
{
    struct breaker breaker = {0};
    fail_times(&breaker, BREAKER_FAILURES - 1, 0);
    CHECK_INT(breaker_ask(&breaker, 0), BREAKER_GO);
    breaker_succeeded(&breaker);
    CHECK(breaker_is_new(&breaker));
    fail_times(&breaker, BREAKER_FAILURES - 1, 0);
    CHECK(breaker_would_go(&breaker, 0));
    fail_times(&breaker, 1, 0);
    CHECK_INT(breaker_ask(&breaker, 0), BREAKER_NO);
    CHECK_INT(breaker_wait_ms(&breaker, 0), BREAKER_PAUSE_FIRST_MS);
    CHECK(!breaker_is_new(&breaker));
}

static void after_its_pause_one_tries_and_closes_it(void)
{
    struct breaker breaker = {0};
    fail_times(&breaker, BREAKER_FAILURES, 0);
    CHECK_INT(breaker_ask(&breaker, SECOND_US - 1), BREAKER_NO);
    CHECK_INT(breaker_ask(&breaker, SECOND_US), BREAKER_TRY);
    CHECK_INT(breaker_ask(&breaker, SECOND_US), BREAKER_NO);
    CHECK(breaker_wait_ms(&breaker, SECOND_US) > 0);
    breaker_succeeded(&breaker);
    CHECK_INT(breaker_ask(&breaker, SECOND_US), BREAKER_GO);
}

static void pauses_double_up_to_the_longest(void)
{
    struct breaker breaker = {0};
    int64_t now_us = 0;
    uint32_t pause_ms = BREAKER_PAUSE_FIRST_MS;
    fail_times(&breaker, BREAKER_FAILURES, now_us);
    for (unsigned i = 0; i < 12; i++) {
        CHECK_INT(breaker_wait_ms(&breaker, now_us), pause_ms);
        now_us += (int64_t) pause_ms * 1000;
        CHECK_INT(breaker_ask(&breaker, now_us), BREAKER_TRY);
        breaker_failed(&breaker, BREAKER_TRY, now_us, 0);
        pause_ms = pause_ms * 2 < BREAKER_PAUSE_MOST_MS ? pause_ms * 2 : BREAKER_PAUSE_MOST_MS;
    }
    CHECK_INT(pause_ms, BREAKER_PAUSE_MOST_MS);
}

static void failures_of_requests_that_went_before_it_opened_do_not_lengthen_its_pause(void)
{
    struct breaker breaker = {0};
    fail_times(&breaker, BREAKER_FAILURES, 0);
    for (unsigned i = 0; i < 100; i++) {
        breaker_failed(&breaker, BREAKER_GO, SECOND_US / 2, 0);
    }
    CHECK_INT(breaker_ask(&breaker, SECOND_US), BREAKER_TRY);
    breaker_failed(&breaker, BREAKER_GO, SECOND_US, 0);
    CHECK_INT(breaker_ask(&breaker, SECOND_US), BREAKER_NO);
    breaker_unknown(&breaker, BREAKER_GO);
    CHECK_INT(breaker_ask(&breaker, SECOND_US), BREAKER_NO);
}

static void try_that_says_nothing_leaves_the_next_one_to_try(void)
{
    struct breaker breaker = {0};
    fail_times(&breaker, BREAKER_FAILURES, 0);
    CHECK_INT(breaker_ask(&breaker, SECOND_US), BREAKER_TRY);
    breaker_unknown(&breaker, BREAKER_TRY);
    CHECK_INT(breaker_ask(&breaker, SECOND_US), BREAKER_TRY);
}

/* Whatever happens: an open one lets through one at a time, and never keeps closed for longer than it may. */
static void at_random_it_lets_one_try_at_a_time_and_never_closes_out_for_ever(void)
{
    struct breaker breaker = {0};
    uint64_t state = test_seed();
    int64_t now_us = 0;
    unsigned trying = 0;
    for (unsigned step = 0; step < 100000; step++) {
        const uint64_t random = test_random(&state);
        const breaker_word word = breaker_ask(&breaker, now_us);
        CHECK(word != BREAKER_TRY || trying == 0);
        trying += word == BREAKER_TRY ? 1 : 0;
        if (word == BREAKER_NO && trying == 0) {
            CHECK(breaker_wait_ms(&breaker, now_us) <= BREAKER_PAUSE_MOST_MS + BREAKER_PAUSE_MOST_MS / 4);
        }
        const breaker_word ended = trying > 0 && (random & 1) != 0 ? BREAKER_TRY : BREAKER_GO;
        trying -= ended == BREAKER_TRY ? 1 : 0;
        if ((random >> 1 & 15) == 0) {
            breaker_succeeded(&breaker);
            trying = 0;
        } else if ((random >> 1 & 15) == 1) {
            breaker_unknown(&breaker, ended);
        } else {
            breaker_failed(&breaker, ended, now_us, (uint32_t) (random >> 32));
        }
        now_us += (int64_t) (random >> 8 & 0xfffff);
    }
}

TEST_MAIN(TEST(failures_in_a_row_open_it_and_a_success_between_them_does_not),
          TEST(after_its_pause_one_tries_and_closes_it), TEST(pauses_double_up_to_the_longest),
          TEST(failures_of_requests_that_went_before_it_opened_do_not_lengthen_its_pause),
          TEST(try_that_says_nothing_leaves_the_next_one_to_try),
          TEST(at_random_it_lets_one_try_at_a_time_and_never_closes_out_for_ever))
