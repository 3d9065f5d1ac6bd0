#include <errno.h>

#include "common/condition.h"
#include "tests/support/test.h"

static int64_t us_of(struct timespec moment)
{
    return (int64_t) moment.tv_sec * 1000000 + moment.tv_nsec / 1000;
}

static int64_t now_us(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return us_of(now);
}

static void wait_ends_at_its_moment(void)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition;
    cof_condition_init(&condition);
    (void) pthread_mutex_lock(&lock);
    const struct timespec end = cof_condition_in(20000);
    int ended = 0;
    while (ended == 0) {
        ended = pthread_cond_timedwait(&condition, &lock, &end);
    }
    (void) pthread_mutex_unlock(&lock);
    CHECK_INT(ended, ETIMEDOUT);
    CHECK(now_us() >= us_of(end));
    (void) pthread_cond_destroy(&condition);
}

/* By any part of a second, so that one of them carries. */
static void moment_is_as_far_as_was_said(void)
{
    for (int64_t us = 1; us < 10000000; us += 123457) {
        const int64_t before = now_us();
        const struct timespec moment = cof_condition_in(us);
        const int64_t after = now_us();
        CHECK(moment.tv_nsec >= 0 && moment.tv_nsec < 1000000000);
        CHECK(us_of(moment) >= before + us && us_of(moment) <= after + us);
    }
}

static void moment_that_is_past_is_now(void)
{
    const int64_t before = now_us();
    const struct timespec moment = cof_condition_in(-1500000);
    CHECK(us_of(moment) >= before && us_of(moment) <= now_us());
}

TEST_MAIN(TEST(wait_ends_at_its_moment), TEST(moment_is_as_far_as_was_said), TEST(moment_that_is_past_is_now))
