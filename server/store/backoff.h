#pragma once

#include <stdint.h>

/*
 * When to connect again after failures: twice as long after each, up to a limit, with half of it left to chance so
 * that many servers do not come back at the same moment.
 */
struct backoff {
    uint32_t first_ms;
    uint32_t max_ms;
    uint32_t failures;
    int64_t until_us; /* monotonic */
};

void backoff_init(struct backoff *backoff, uint32_t first_ms, uint32_t max_ms);

/* Notes a failure; `chance` is any random number. Returns the milliseconds to wait. */
uint32_t backoff_failed(struct backoff *backoff, int64_t now_us, uint64_t chance);
void backoff_succeeded(struct backoff *backoff);

/* Milliseconds left to wait, rounded up; 0 if there is nothing to wait for. */
uint32_t backoff_remaining_ms(const struct backoff *backoff, int64_t now_us);
