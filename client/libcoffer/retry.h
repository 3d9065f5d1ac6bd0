#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

/* When a call is repeated (docs/protocol.md, section 5). */

enum {
    RETRY_FIRST_MS = 20,
    RETRY_MOST_MS = 1000,
    /*
     * Attempts of one call that may lose their connection after the request was sent. A request that makes servers
     * fall, or an answer that is larger than the limit, would otherwise be repeated until the deadline.
     */
    RETRY_LOST_MOST = 4,
};

/* Whether another attempt can end better: 14 always, 8 only with advice from the server. */
bool retry_helps(const struct cof_error *err);

/*
 * Milliseconds to wait before the next attempt: the server's advice, and up to 20 ms doubled for each failure so
 * far, at most 1 s, of which `random` takes its part (full jitter).
 */
uint32_t retry_delay_ms(uint32_t failures, uint32_t advice_ms, uint64_t random);

/* A well-mixed number for each attempt of a call. */
uint64_t retry_random(const uint8_t request_id[16], uint32_t failures);
