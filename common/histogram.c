#include "common/histogram.h"

const struct cof_histogram_bound cof_histogram_bounds[COF_HISTOGRAM_BOUNDS] = {
    {50, "5e-05"},   {100, "0.0001"}, {250, "0.00025"}, {500, "0.0005"}, {1000, "0.001"}, {2500, "0.0025"},
    {5000, "0.005"}, {10000, "0.01"}, {25000, "0.025"}, {50000, "0.05"}, {100000, "0.1"}, {250000, "0.25"},
    {500000, "0.5"}, {1000000, "1"},  {2500000, "2.5"}, {5000000, "5"},
};

static void add(_Atomic uint64_t *to, uint64_t more)
{
    (void) atomic_fetch_add_explicit(to, more, memory_order_relaxed);
}

void cof_histogram_count(struct cof_histogram *histogram, int64_t us)
{
    size_t i = 0;
    while (i < COF_HISTOGRAM_BOUNDS && us > cof_histogram_bounds[i].us) {
        i++;
    }
    add(&histogram->buckets[i], 1);
    add(&histogram->sum_us, us < 0 ? 0 : (uint64_t) us);
}

void cof_histogram_add(struct cof_histogram_sum *sum, const struct cof_histogram *histogram)
{
    for (size_t i = 0; i < COF_HISTOGRAM_BUCKETS; i++) {
        const uint64_t count = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        sum->buckets[i] += count;
        sum->count += count;
    }
    sum->sum_us += atomic_load_explicit(&histogram->sum_us, memory_order_relaxed);
}

unsigned cof_part_of_thread(void)
{
    static atomic_uint threads;
    static _Thread_local unsigned own;
    if (own == 0) {
        own = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % COF_PARTS;
    }
    return own - 1;
}
