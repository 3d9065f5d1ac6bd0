#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether a group of requests that keep failing gets another one (docs/decisions/0021-outside-calls.md). Pure: no clock,
 * no randomness of its own; times are monotonic.
 *
 * Closed: all go. After `BREAKER_FAILURES` in a row it opens: none goes, for a pause that begins at one second and doubles
 * up to a minute. Then one goes to try; if it succeeds the breaker closes, if it fails the next pause begins.
 */

enum {
    BREAKER_FAILURES = 5,
    BREAKER_PAUSE_FIRST_MS = 1000,
    BREAKER_PAUSE_MOST_MS = 60000,
};

/* All zero: closed. */
struct breaker {
    uint32_t failures; /* in a row */
    uint32_t pause_ms; /* the last one; 0: closed */
    int64_t until_us;  /* when the pause ends */
    bool trying;       /* one is under way to try */
};

typedef enum breaker_word {
    BREAKER_GO,
    BREAKER_TRY, /* this one is the one to try: its end must be told */
    BREAKER_NO,
} breaker_word;

/* Asked for a request that is about to be sent. */
breaker_word breaker_ask(struct breaker *breaker, int64_t now_us);

/* Whether one would go: changes nothing. */
bool breaker_would_go(const struct breaker *breaker, int64_t now_us);

/* Milliseconds until it is worth asking again; 0: now. */
uint32_t breaker_wait_ms(const struct breaker *breaker, int64_t now_us);

/* How a request ended that went, with the word that it went with. `random` spreads the pauses: up to a quarter is added. */
void breaker_succeeded(struct breaker *breaker);
void breaker_failed(struct breaker *breaker, breaker_word word, int64_t now_us, uint32_t random);
/* It says nothing of the provider: refused by ourselves, or the server ends. */
void breaker_unknown(struct breaker *breaker, breaker_word word);

/* Whether it is as new. */
bool breaker_is_new(const struct breaker *breaker);
