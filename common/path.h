#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/slice.h"

/*
 * Patterns that name parts of a document, and the way of a walk through it.
 *
 * A pattern is a row of steps: `actions.*.args.url`. A step is the key of a mapping or the place in a list, from 0;
 * `*` is any one step, `**` any number of them, also none; `['any key']` or `["any key"]` is a key with dots,
 * brackets, stars or quotes in it. A pattern matches a value, and with it all that is in the value.
 */

enum {
    COF_PATH_DEPTH = 64,         /* steps of a path */
    COF_PATH_STEPS_MAX = 63,     /* steps of a pattern: their states are bits of one number */
    COF_PATH_PATTERN_MAX = 1024, /* bytes of a pattern */
    COF_PATH_PATTERNS_MAX = 100,
    COF_PATH_SHOWN = 112, /* bytes of a key that is shown to people, with its NUL */
};

/* What happens to a part. Where several patterns match, the highest one. */
typedef enum cof_path_rule {
    COF_PATH_EXPANDED,
    COF_PATH_REDACTED,
    COF_PATH_EXCLUDED,
} cof_path_rule;

struct cof_path_rules;

/* An empty list, in the arena. Fails with OUT_OF_MEMORY. */
COF_CODE cof_path_rules_new(struct cof_arena *arena, struct cof_path_rules **ret_rules, struct cof_error *err);

/* Adds a pattern, whose text must stay. Fails with FIELD_INVALID, which says what is wrong with it, LIMIT_EXCEEDED or
 * OUT_OF_MEMORY. */
COF_CODE cof_path_rules_add(struct cof_path_rules *rules, cof_path_rule rule, struct cof_slice pattern,
                            struct cof_error *err);

/* Where a walk is, and which patterns match there. */
struct cof_path;

/* At the root. `rules` may be NULL. `text_max`: bytes that the keys of one path can have together. */
COF_CODE cof_path_new(struct cof_arena *arena, const struct cof_path_rules *rules, size_t text_max,
                      struct cof_path **ret_path, struct cof_error *err);

/* One step down; the key is copied. At most COF_PATH_DEPTH. */
void cof_path_push_key(struct cof_path *path, struct cof_slice key);
void cof_path_push_index(struct cof_path *path, size_t index);
void cof_path_pop(struct cof_path *path);

cof_path_rule cof_path_rule_here(const struct cof_path *path);

/* The path as a pattern names it, with a NUL; empty at the root. What has no room is left out. */
void cof_path_write(const struct cof_path *path, char *to, size_t size);

/* One key as a pattern names it. Long ones are cut between characters, control characters are shown as `?`. */
void cof_path_show_key(struct cof_slice key, char shown[COF_PATH_SHOWN]);
