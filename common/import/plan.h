#pragma once

#include "common/import/import.h"

/*
 * What an import would do: the list of a file against what is stored. Nothing is written; who shows the plan has a
 * dry run, and who carries it out goes through its steps.
 *
 * An import adds and changes keys. Keys that the file does not name stay as they are.
 */

/* A key that is stored. Its value is known only where the caller may see it. */
struct cof_import_held_key {
    struct cof_slice name;
    struct cof_slice value;
    bool has_value;
};

/* A secret that is stored in the environment. */
struct cof_import_held {
    struct cof_slice name;
    const struct cof_import_held_key *keys;
    size_t key_count;
};

typedef enum cof_import_action {
    COF_IMPORT_CREATE,
    COF_IMPORT_CHANGE,
    COF_IMPORT_UNCHANGED,
    COF_IMPORT_REFUSED,
} cof_import_action;

/* One entry of the file. */
struct cof_import_row {
    const struct cof_import_entry *entry;
    struct cof_slice key; /* the name that it gets; it is the file's unless `renamed` */
    bool renamed;
    bool compared; /* a change that is certain; one that is not may write what is stored already */
    cof_import_action action;
    cof_reason reason;   /* of a refusal */
    const char *problem; /* a sentence with the place; NULL if nothing is refused */
};

/*
 * One secret of the file: a CREATE makes it with all its rows' values; a CHANGE sets those of its rows that are not
 * UNCHANGED. If it or one of its rows is REFUSED nothing of it may be written.
 */
struct cof_import_step {
    struct cof_slice secret;
    bool renamed;
    cof_import_action action;
    cof_reason reason;
    const char *problem;
    struct cof_import_row *rows;
    size_t row_count;
};

struct cof_import_plan {
    struct cof_import_step *steps; /* in the file's order */
    size_t step_count;
    size_t counts[COF_IMPORT_REFUSED + 1]; /* of steps with each action */
};

/*
 * Makes the plan, in the arena; it borrows from the list. Fails with OUT_OF_MEMORY only: everything that is wrong
 * stands in the plan, all at once.
 */
COF_CODE cof_import_plan(const struct cof_import_list *list, const struct cof_import_held *held, size_t held_count,
                         struct cof_arena *arena, struct cof_import_plan *ret_plan, struct cof_error *err);
