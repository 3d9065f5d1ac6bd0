#pragma once

#include "common/error.h"
#include "server/refresh/machine.h"

/*
 * The clock that tokens live by (docs/decisions/0022-refresh.md, Time): the database's, with what it has gone back by since,
 * `ahead`, which the instance's row has for all servers; between two looks this server's monotonic clock carries it on.
 * Whoever refreshes looks, whoever hands out asks. Thread-safe.
 */

struct token_clock;

COF_CODE token_clock_new(struct token_clock **ret_clock, struct cof_error *err);
/* NULL is allowed. */
void token_clock_free(struct token_clock *clock);

/* What the database said between the two. Returns what its clock has gone back by, which is to be added to `ahead`; 0:
 * nothing; also without a clock, NULL. */
int64_t token_clock_look(struct token_clock *clock, int64_t mono_asked, int64_t mono_answered,
                         int64_t database_time, int64_t ahead);

/* False before the first look; also without a clock, NULL. */
bool token_clock_read(struct token_clock *clock, int64_t mono, int64_t *ret_time);

/* As it was read last; 0 without a clock. */
int64_t token_clock_ahead(struct token_clock *clock);

/* The time of a statement that was answered just now, which is not before what this server has seen already. */
int64_t token_clock_time(struct token_clock *clock, int64_t mono, int64_t database_time);
