#include "server/outbound/breaker.h"

enum { TRY_WAIT_MS = 1000 }; /* while one tries */

bool breaker_would_go(const struct breaker *breaker, int64_t now_us)
{
    return breaker->pause_ms == 0 || (!breaker->trying && now_us >= breaker->until_us);
}

breaker_word breaker_ask(struct breaker *breaker, int64_t now_us)
{
    if (breaker->pause_ms == 0) {
        return BREAKER_GO;
    }
    if (!breaker_would_go(breaker, now_us)) {
        return BREAKER_NO;
    }
    breaker->trying = true;
    return BREAKER_TRY;
}

uint32_t breaker_wait_ms(const struct breaker *breaker, int64_t now_us)
{
    if (breaker_would_go(breaker, now_us)) {
        return 0;
    }
    const int64_t left_ms = (breaker->until_us - now_us + 999) / 1000;
    return left_ms > 0 ? (uint32_t) left_ms : TRY_WAIT_MS;
}

void breaker_succeeded(struct breaker *breaker)
{
    *breaker = (struct breaker){0};
}

static uint32_t next_pause(const struct breaker *breaker)
{
    if (breaker->pause_ms == 0) {
        return BREAKER_PAUSE_FIRST_MS;
    }
    return breaker->pause_ms < BREAKER_PAUSE_MOST_MS / 2 ? breaker->pause_ms * 2 : BREAKER_PAUSE_MOST_MS;
}

void breaker_failed(struct breaker *breaker, breaker_word word, int64_t now_us, uint32_t random)
{
    breaker->failures += breaker->failures < UINT32_MAX ? 1 : 0;
    /* Those that went before it opened say nothing new. */
    if (breaker->failures < BREAKER_FAILURES || (breaker->pause_ms != 0 && word != BREAKER_TRY)) {
        return;
    }
    const uint32_t pause_ms = next_pause(breaker);
    breaker->pause_ms = pause_ms;
    breaker->until_us = now_us + (int64_t) (pause_ms + random % (pause_ms / 4)) * 1000;
    breaker->trying = false;
}

void breaker_unknown(struct breaker *breaker, breaker_word word)
{
    if (word == BREAKER_TRY) {
        breaker->trying = false;
    }
}

bool breaker_is_new(const struct breaker *breaker)
{
    return breaker->failures == 0 && breaker->pause_ms == 0;
}
