#include <stdlib.h>

#include "client/bench/histogram.h"
#include "tests/support/test.h"

enum { MANY = 100000 };

static struct histogram first;
static struct histogram second;

static void clear(void)
{
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
}

static void nothing_counted_gives_zero(void)
{
    clear();
    CHECK(histogram_quantile(&first, 0.5) == 0);
    CHECK(histogram_quantile(&first, 1) == 0);
}

static void small_values_are_exact(void)
{
    clear();
    for (uint64_t i = 1; i <= 200; i++) {
        histogram_add(&first, i);
    }
    CHECK(histogram_quantile(&first, 0.5) == 100);
    CHECK(histogram_quantile(&first, 0.99) == 198);
    CHECK(histogram_quantile(&first, 1) == 200);
}

static void smallest_and_largest_numbers_fit(void)
{
    clear();
    histogram_add(&first, 0);
    CHECK(histogram_quantile(&first, 1) == 0);
    histogram_add(&first, UINT64_MAX);
    CHECK_INT(first.count, 2);
    CHECK(first.largest == UINT64_MAX);
    CHECK(histogram_quantile(&first, 1) == (double) UINT64_MAX);
    CHECK(histogram_quantile(&first, 0.5) == 0);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *) a;
    const uint64_t right = *(const uint64_t *) b;
    return (left > right) - (left < right);
}

/* Of any size, so that every bucket's width occurs. */
static void quantiles_are_never_below_the_sorted_ones_and_less_than_a_hundredth_above(void)
{
    static uint64_t values[MANY];
    static const double shares[] = {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
    uint64_t state = test_seed();
    clear();
    for (size_t i = 0; i < MANY; i++) {
        values[i] = test_random(&state) >> (test_random(&state) % 60 + 4);
        histogram_add(&first, values[i]);
    }
    qsort(values, MANY, sizeof *values, by_size);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        size_t rank = (size_t) (shares[i] * MANY);
        rank += (double) rank < shares[i] * MANY;
        const double exact = (double) values[rank - 1];
        const double got = histogram_quantile(&first, shares[i]);
        CHECK(got >= exact);
        CHECK(got <= exact * 1.008 + 1);
    }
}

static void merged_histograms_count_as_one(void)
{
    clear();
    for (uint64_t i = 1; i <= 100; i++) {
        histogram_add(i % 2 == 0 ? &first : &second, i);
    }
    histogram_merge(&first, &second);
    CHECK_INT(first.count, 100);
    CHECK(histogram_quantile(&first, 0.5) == 50);
    CHECK(histogram_quantile(&first, 1) == 100);
}

static void counts_up_to_one_less_than_a_power_of_two_are_exact(void)
{
    clear();
    for (uint64_t i = 1; i <= 5000; i++) {
        histogram_add(&first, i);
    }
    CHECK_INT(histogram_upto(&first, 0), 0);
    CHECK_INT(histogram_upto(&first, 255), 255);
    CHECK_INT(histogram_upto(&first, 1023), 1023);
    CHECK_INT(histogram_upto(&first, 4095), 4095);
    CHECK_INT(histogram_upto(&first, UINT64_MAX), 5000);
}

TEST_MAIN(TEST(nothing_counted_gives_zero), TEST(small_values_are_exact), TEST(smallest_and_largest_numbers_fit),
          TEST(quantiles_are_never_below_the_sorted_ones_and_less_than_a_hundredth_above),
          TEST(merged_histograms_count_as_one), TEST(counts_up_to_one_less_than_a_power_of_two_are_exact))
