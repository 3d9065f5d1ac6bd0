#include "client/bench/statistics.h"
#include "tests/support/test.h"

static void median_is_the_middle_in_any_order(void)
{
    const double odd[] = {9, 1, 5};
    const double even[] = {4, 1, 3, 2};
    CHECK(statistics_median(odd, 3) == 5);
    CHECK(statistics_median(even, 4) == 2.5);
    CHECK(statistics_median(odd, 1) == 9);
    CHECK(statistics_median(odd, 0) == 0);
}

static void rounds_whose_control_is_off_its_median_are_void(void)
{
    const double control[] = {100, 74, 76, 124, 126, 101, 99};
    bool marks[7] = {false};
    statistics_void(control, 7, 25, marks);
    for (size_t i = 0; i < 7; i++) {
        CHECK_INT(marks[i], i == 1 || i == 4);
    }
}

static void round_that_is_void_stays_void(void)
{
    const double control[] = {100, 100, 100};
    bool marks[3] = {false, true, false};
    statistics_void(control, 3, 25, marks);
    CHECK(!marks[0] && marks[1] && !marks[2]);
}

static void ratio_is_the_median_of_the_rounds_ratios_without_the_void_ones(void)
{
    const double value[] = {10, 30, 1000, 80};
    const double base[] = {10, 10, 1, 20};
    const bool marks[] = {false, false, true, false};
    const struct spread ratio = statistics_ratio(value, base, marks, 4);
    CHECK(ratio.median == 3);
    CHECK(ratio.least == 1);
    CHECK(ratio.most == 4);
}

static void ratio_of_rounds_that_are_all_void_is_zero(void)
{
    const double value[] = {10, 30};
    const bool marks[] = {true, true};
    const struct spread ratio = statistics_ratio(value, value, marks, 2);
    CHECK(ratio.median == 0 && ratio.least == 0 && ratio.most == 0);
}

static void round_without_a_figure_has_no_ratio(void)
{
    const double value[] = {10, 0, 30};
    const double base[] = {10, 10, 0};
    const bool marks[3] = {false};
    const struct spread ratio = statistics_ratio(value, base, marks, 3);
    CHECK(ratio.median == 1 && ratio.least == 1 && ratio.most == 1);
}

static void shuffled_order_has_every_number_once(void)
{
    size_t order[40];
    uint64_t state = test_seed();
    for (size_t count = 0; count <= 40; count++) {
        bool seen[40] = {false};
        statistics_shuffle(order, count, &state);
        for (size_t i = 0; i < count; i++) {
            CHECK(order[i] < count && !seen[order[i]]);
            seen[order[i]] = true;
        }
    }
}

/* Each number in each place about as often; the limits are seven standard deviations wide. */
static void every_place_is_as_likely_as_any_other(void)
{
    enum { COUNT = 5, TIMES = 50000 };
    int places[COUNT][COUNT] = {{0}};
    size_t order[COUNT];
    uint64_t state = test_seed();
    for (int i = 0; i < TIMES; i++) {
        statistics_shuffle(order, COUNT, &state);
        for (size_t k = 0; k < COUNT; k++) {
            places[k][order[k]]++;
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < COUNT; k++) {
            CHECK(places[i][k] > TIMES / COUNT - 630 && places[i][k] < TIMES / COUNT + 630);
        }
    }
}

static void same_seed_gives_the_same_order(void)
{
    size_t one[20];
    size_t two[20];
    uint64_t first = 77;
    uint64_t second = 77;
    statistics_shuffle(one, 20, &first);
    statistics_shuffle(two, 20, &second);
    CHECK_BYTES(one, two, sizeof one);
    CHECK(first == second);
}

TEST_MAIN(TEST(median_is_the_middle_in_any_order), TEST(rounds_whose_control_is_off_its_median_are_void),
          TEST(round_that_is_void_stays_void), TEST(ratio_is_the_median_of_the_rounds_ratios_without_the_void_ones),
          TEST(ratio_of_rounds_that_are_all_void_is_zero), TEST(round_without_a_figure_has_no_ratio),
          TEST(shuffled_order_has_every_number_once), TEST(every_place_is_as_likely_as_any_other),
          TEST(same_seed_gives_the_same_order))
