#include "client/libcoffer/retry.h"

#include "common/encode.h"

enum { DOUBLINGS = 6 };

bool retry_helps(const struct cof_error *err)
{
    return err->code == COF_UNAVAILABLE || (err->code == COF_RESOURCE_EXHAUSTED && err->retry_after_ms > 0);
}

uint32_t retry_delay_ms(uint32_t failures, uint32_t advice_ms, uint64_t random)
{
    const uint32_t doublings = failures > DOUBLINGS ? DOUBLINGS : failures;
    const uint32_t grown = (uint32_t) RETRY_FIRST_MS << doublings;
    const uint32_t backoff = grown > RETRY_MOST_MS ? RETRY_MOST_MS : grown;
    const uint32_t advised = advice_ms > RETRY_MOST_MS ? RETRY_MOST_MS : advice_ms;
    const uint32_t most = backoff > advised ? backoff : advised;
    const uint32_t jitter = (uint32_t) (random % (most + 1));
    return advice_ms > UINT32_MAX - jitter ? UINT32_MAX : advice_ms + jitter;
}

bool retry_take(struct retry_budget *budget)
{
    unsigned used = atomic_load(&budget->used);
    do {
        if (used + RETRY_SUCCESSES > RETRY_BUDGET * RETRY_SUCCESSES) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&budget->used, &used, used + RETRY_SUCCESSES));
    return true;
}

/* While nothing is refused this only reads. */
void retry_earn(struct retry_budget *budget)
{
    unsigned used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    while (used > 0 && !atomic_compare_exchange_weak(&budget->used, &used, used - 1)) {
    }
}

/* The request ID ends in 62 random bits, so that no other source is needed; the mixing is SplitMix64's. */
uint64_t retry_random(const uint8_t request_id[16], uint32_t failures)
{
    uint64_t z = cof_get_u64(request_id + 8) + (failures + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}
