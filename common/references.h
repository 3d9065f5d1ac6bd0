#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/expression.h"

/*
 * The different references of a text, each once, in the order of their first mention; and its different choices, the
 * templates with a `||`, in the form in which a server is asked for them.
 */

enum { COF_REFERENCES_MAX = 1000 };

struct cof_reference {
    struct cof_slice name; /* of the secret */
    struct cof_slice key;
    /* Something needs it: it is the last of a `||`, or stands in an expression that is not evaluated here. Without
     * that it may be missing. Wherever one mention needs it, it is needed. */
    bool required;
    /* Something needs it whatever became of others: it stands alone, or in an expression that is not evaluated here.
     * Without that an operand before it may make it unnecessary. */
    bool unconditional;
};

struct cof_references;

/* An empty list, in the arena. Fails with OUT_OF_MEMORY. */
COF_CODE cof_references_new(struct cof_arena *arena, struct cof_references **ret_references, struct cof_error *err);

/* Adds one; its names are copied. Fails with TOO_MANY_REFERENCES or OUT_OF_MEMORY. */
COF_CODE cof_references_add(struct cof_references *references, const struct cof_operand *reference,
                            struct cof_error *err);

/* Adds those of a template, and the choice that it is. Fails with TOO_MANY_REFERENCES or OUT_OF_MEMORY. */
COF_CODE cof_references_add_template(struct cof_references *references, const struct cof_template *template,
                                     struct cof_error *err);

/* Whether it is in the list, and where. */
bool cof_references_find(struct cof_references *references, struct cof_slice name, struct cof_slice key,
                         size_t *ret_index);

size_t cof_references_count(const struct cof_references *references);
const struct cof_reference *cof_references_at(const struct cof_references *references, size_t index);

/*
 * A choice holds the references of a template, in their order, and of its other operands only what decides: `'-'` stands
 * for every literal that is not empty, so nothing of the text but names leaves the process. It is never longer than the
 * template, and ends with a NUL.
 */
size_t cof_references_choice_count(const struct cof_references *references);
struct cof_slice cof_references_choice_at(const struct cof_references *references, size_t index);
