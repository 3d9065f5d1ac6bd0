#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What becomes of the rounds of a measurement: their order, which of them count, and what they say together. */

enum { ROUNDS_MAX = 100 };

/* Small and repeatable (SplitMix64); the state may be any number. Not for secrets. */
uint64_t statistics_random(uint64_t *state);

/* Brings the numbers 0 to `count` - 1 into a random order. */
void statistics_shuffle(size_t *order, size_t count, uint64_t *state);

/* The middle of at most ROUNDS_MAX numbers, in any order; of an even count the mean of the middle two; 0 of none. */
double statistics_median(const double *values, size_t count);

/* Marks the rounds in which the control is further from its own median than `percent`. Marks that are set stay. */
void statistics_void(const double *control, size_t count, double percent, bool *marks);

struct spread {
    double median;
    double least;
    double most;
};

/* The ratio of `value` to `base` round by round, over the rounds that are not void and have both. Zeroes if none. */
struct spread statistics_ratio(const double *value, const double *base, const bool *marks, size_t count);

/* The same for plain values. */
struct spread statistics_spread(const double *value, const bool *marks, size_t count);
