#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/dispatch/exchange.h"

/*
 * How many lines the log gets about calls of peers whom nobody knows: whoever connects can make such calls, and must not
 * fill the disk. Of one peer so many are written in a window; the others are counted, and the count is told at its end.
 * A peer is an IPv4 address, the /64 of an IPv6 address, or a user of this host. A few peers are told apart; all that come
 * beyond them share one budget, so that many addresses get no more than that. Thread-safe.
 */

enum {
    LINE_LIMIT_LINES = 100,
    LINE_LIMIT_WINDOW_US = 10000000,
    LINE_LIMIT_PEERS = 8,
    LINE_LIMIT_PEER_TEXT = 64,
};

struct line_limit;

/* NULL if there is no memory. */
struct line_limit *line_limit_new(void);
void line_limit_free(struct line_limit *limit); /* NULL is allowed */

/* Whether a line about the peer may be written now; else it is counted. */
bool line_limit_take(struct line_limit *limit, const struct exchange_peer *peer, int64_t now_us);

/* What was left out of one peer's lines in a window that is over. */
struct line_limit_rest {
    char peer[LINE_LIMIT_PEER_TEXT]; /* "192.0.2.7", "2001:db8::/64", "uid 1000", "others" */
    uint64_t lines;
    int64_t window_us; /* since its first line */
};

/* The next of them, each once; false: there is none now. Cheap if there is none. At the end, INT64_MAX ends all windows,
 * which are then told as of the usual length. */
bool line_limit_rest(struct line_limit *limit, int64_t now_us, struct line_limit_rest *ret_rest);
