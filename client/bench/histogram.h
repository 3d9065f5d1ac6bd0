#pragma once

#include <stdint.h>

/*
 * Counts durations in buckets whose width grows with the duration, as HdrHistogram does: 128 for each doubling, so that
 * a quantile is at most 0.8 % above the true one and never below it. Any number fits. No locks.
 */

enum { HISTOGRAM_BITS = 7, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS };

struct histogram {
    uint64_t count;
    uint64_t largest;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* An empty one is all zero. */
void histogram_add(struct histogram *histogram, uint64_t value);

/* Adds everything that `from` has counted. */
void histogram_merge(struct histogram *histogram, const struct histogram *from);

/* The value that a share of all (0 to 1) does not exceed; 0 if nothing was counted. */
double histogram_quantile(const struct histogram *histogram, double share);

/* How many are not larger than `value`; exact where that is one less than a power of two from 256 on, and below. */
uint64_t histogram_upto(const struct histogram *histogram, uint64_t value);
