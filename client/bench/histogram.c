#include "client/bench/histogram.h"

#include <math.h>

enum { LINEAR = 1 << (HISTOGRAM_BITS + 1) }; /* smaller values have a bucket each */

static unsigned shift_of(uint64_t value)
{
    const unsigned top = 63U - (unsigned) __builtin_clzll(value | 1);
    return top > HISTOGRAM_BITS ? top - HISTOGRAM_BITS : 0;
}

static unsigned bucket_of(uint64_t value)
{
    const unsigned shift = shift_of(value);
    return (shift << HISTOGRAM_BITS) + (unsigned) (value >> shift);
}

/* The largest value that falls into the bucket. */
static uint64_t top_of(unsigned bucket)
{
    if (bucket < LINEAR) {
        return bucket;
    }
    const unsigned shift = (bucket >> HISTOGRAM_BITS) - 1;
    const uint64_t begin = bucket - (shift << HISTOGRAM_BITS);
    return (begin << shift) + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->buckets[bucket_of(value)]++;
    histogram->count++;
    histogram->largest = value > histogram->largest ? value : histogram->largest;
}

void histogram_merge(struct histogram *histogram, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        histogram->buckets[i] += from->buckets[i];
    }
    histogram->count += from->count;
    histogram->largest = from->largest > histogram->largest ? from->largest : histogram->largest;
}

double histogram_quantile(const struct histogram *histogram, double share)
{
    const double wanted = ceil(share * (double) histogram->count);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double) seen >= wanted) {
            const uint64_t top = top_of(i);
            return (double) (top < histogram->largest ? top : histogram->largest);
        }
    }
    return (double) histogram->largest;
}

uint64_t histogram_upto(const struct histogram *histogram, uint64_t value)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && top_of(i) <= value; i++) {
        seen += histogram->buckets[i];
    }
    return seen;
}
