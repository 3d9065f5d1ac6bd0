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
    const uint32_t most = grown > RETRY_MOST_MS ? RETRY_MOST_MS : grown;
    const uint32_t jitter = (uint32_t) (random % (most + 1));
    return advice_ms > UINT32_MAX - jitter ? UINT32_MAX : advice_ms + jitter;
}

/* The request ID ends in 62 random bits, so that no other source is needed; the mixing is SplitMix64's. */
uint64_t retry_random(const uint8_t request_id[16], uint32_t failures)
{
    uint64_t z = cof_get_u64(request_id + 8) + (failures + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}
