#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/uuid.h"

/*
 * When tokens were used, until a job writes it down (server/jobs/write_use.h). A call only leaves its time here, under a
 * lock that is held for a few instructions: nothing is written for it. The table is bounded; what has no place is
 * forgotten, since a time of last use decides nothing.
 */

enum { TOKEN_USE_CAPACITY = 16384 };

struct token_use;

struct token_use_entry {
    struct cof_uuid workspace;
    struct cof_uuid token;
    int64_t time; /* µs since 1970 */
};

/* NULL if memory is exhausted. */
struct token_use *token_use_new(void);
void token_use_free(struct token_use *use);

/* The latest time stays. On any thread; NULL is allowed. */
void token_use_note(struct token_use *use, const struct cof_uuid *workspace, const struct cof_uuid *token,
                    int64_t time);

/* Takes up to `max` entries out; gives their number. `place` is 0 at first and is moved on, so that a walk ends however
 * much is noted meanwhile: 0 entries are its end. */
size_t token_use_take(struct token_use *use, size_t *place, struct token_use_entry *ret_entries, size_t max);
