#pragma once

#include <stdatomic.h>
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
 * far, at most 1 s, or up to the advice once more (at most 1 s) if that is longer, so that those who were refused together do not
 * come together again. `random` takes its part of that (full jitter).
 */
uint32_t retry_delay_ms(uint32_t failures, uint32_t advice_ms, uint64_t random);

/*
 * Repeats of calls that an overloaded server has refused, of one client. A repeat that is refused again makes overload
 * worse, so there is a budget: RETRY_BUDGET repeats, to which every RETRY_SUCCESSES successes add one. Thread-safe.
 */
enum { RETRY_BUDGET = 100, RETRY_SUCCESSES = 10 };

struct retry_budget {
    atomic_uint used; /* in parts of a repeat: RETRY_SUCCESSES of them are one */
};

/* Takes one repeat; false if none is left. */
bool retry_take(struct retry_budget *budget);
/* A call has succeeded. */
void retry_earn(struct retry_budget *budget);

/* A well-mixed number for each attempt of a call. */
uint64_t retry_random(const uint8_t request_id[16], uint32_t failures);
