#include "client/bench/statistics.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t statistics_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9E3779B97F4A7C15U;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9U;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
    return mixed ^ (mixed >> 31);
}

void statistics_shuffle(size_t *order, size_t count, uint64_t *state)
{
    for (size_t i = 0; i < count; i++) {
        const size_t other = statistics_random(state) % (i + 1);
        order[i] = order[other];
        order[other] = i;
    }
}

static int by_size(const void *a, const void *b)
{
    const double left = *(const double *) a;
    const double right = *(const double *) b;
    return (left > right) - (left < right);
}

double statistics_median(const double *values, size_t count)
{
    double sorted[ROUNDS_MAX];
    assert(count <= ROUNDS_MAX);
    if (count == 0) {
        return 0;
    }
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, by_size);
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

void statistics_void(const double *control, size_t count, double percent, bool *marks)
{
    const double median = statistics_median(control, count);
    for (size_t i = 0; i < count; i++) {
        marks[i] = marks[i] || fabs(control[i] - median) > median * percent / 100;
    }
}

static struct spread spread_of(const double *values, size_t count)
{
    struct spread spread = {.median = statistics_median(values, count)};
    for (size_t i = 0; i < count; i++) {
        spread.least = i == 0 || values[i] < spread.least ? values[i] : spread.least;
        spread.most = values[i] > spread.most ? values[i] : spread.most;
    }
    return spread;
}

struct spread statistics_ratio(const double *value, const double *base, const bool *marks, size_t count)
{
    double ratios[ROUNDS_MAX] = {0};
    size_t kept = 0;
    assert(count <= ROUNDS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!marks[i] && base[i] > 0 && value[i] > 0) {
            ratios[kept++] = value[i] / base[i];
        }
    }
    return spread_of(ratios, kept);
}

struct spread statistics_spread(const double *value, const bool *marks, size_t count)
{
    double kept_values[ROUNDS_MAX] = {0};
    size_t kept = 0;
    assert(count <= ROUNDS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!marks[i]) {
            kept_values[kept++] = value[i];
        }
    }
    return spread_of(kept_values, kept);
}
