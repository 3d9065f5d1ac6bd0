#include "server/store/backoff.h"

#include <stdbool.h>

void backoff_init(struct backoff *backoff, uint32_t first_ms, uint32_t max_ms)
{
    *backoff = (struct backoff){.first_ms = first_ms, .max_ms = max_ms};
}

static uint64_t doubled(const struct backoff *backoff)
{
    uint64_t delay = backoff->first_ms;
    for (uint32_t i = 1; i < backoff->failures && delay < backoff->max_ms; i++) {
        delay *= 2;
    }
    return delay < backoff->max_ms ? delay : backoff->max_ms;
}

uint32_t backoff_failed(struct backoff *backoff, int64_t now_us, uint64_t chance)
{
    if (backoff->failures < UINT32_MAX) {
        backoff->failures++;
    }
    const uint64_t delay = doubled(backoff);
    const uint32_t wait = (uint32_t) (delay - delay / 2 + (delay == 0 ? 0 : chance % (delay / 2 + 1)));
    backoff->until_us = now_us + (int64_t) wait * 1000;
    return wait;
}

void backoff_succeeded(struct backoff *backoff)
{
    backoff->failures = 0;
    backoff->until_us = 0;
}

uint32_t backoff_remaining_ms(const struct backoff *backoff, int64_t now_us)
{
    const bool over = backoff->failures == 0 || now_us >= backoff->until_us;
    return over ? 0 : (uint32_t) ((backoff->until_us - now_us + 999) / 1000);
}
