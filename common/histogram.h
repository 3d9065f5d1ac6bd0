#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/*
 * How often something took how long, in buckets that are the same for everything. A count is an addition in memory, so it
 * waits for nobody. Thread-safe.
 */

enum { COF_HISTOGRAM_BOUNDS = 16, COF_HISTOGRAM_BUCKETS = COF_HISTOGRAM_BOUNDS + 1 };

/* The upper end of a bucket; behind the last one comes infinity. */
struct cof_histogram_bound {
    int64_t us;
    const char *text; /* in seconds */
};
extern const struct cof_histogram_bound cof_histogram_bounds[COF_HISTOGRAM_BOUNDS];

/* All zero at first. */
struct cof_histogram {
    _Atomic uint64_t buckets[COF_HISTOGRAM_BUCKETS];
    _Atomic uint64_t sum_us;
};

void cof_histogram_count(struct cof_histogram *histogram, int64_t us);

/* The sum of several. */
struct cof_histogram_sum {
    uint64_t buckets[COF_HISTOGRAM_BUCKETS];
    uint64_t sum_us;
    uint64_t count;
};

void cof_histogram_add(struct cof_histogram_sum *sum, const struct cof_histogram *histogram);

/* Which of COF_PARTS this thread counts in, where much is counted: its own, as long as there are few threads. */
enum { COF_PARTS = 8 };
unsigned cof_part_of_thread(void);
