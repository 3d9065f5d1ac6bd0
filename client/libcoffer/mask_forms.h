#pragma once

#include "common/arena.h"
#include "common/slice.h"

/*
 * The forms in which a value can stand in a text. coffer/mask.h lists them.
 */

enum {
    MASK_VALUE_MIN = 4, /* shorter values would blot the output; every form of longer ones has as many bytes */
    MASK_LINE_MIN = 8,  /* shorter lines are words such as `}` or `true` */
};

struct mask_forms {
    struct cof_slice *forms; /* in the order of their bytes, each once */
    size_t count;
    size_t bytes; /* of all together */
    size_t longest;
    size_t shortest;
};

/* The room that mask_forms_make takes at most for these values. */
size_t mask_forms_room(const struct cof_slice *values, size_t count);

/* Writes the forms of all values that are long enough into the arena. Fails with OUT_OF_MEMORY. */
COF_CODE mask_forms_make(const struct cof_slice *values, size_t count, struct cof_arena *arena,
                         struct mask_forms *ret_forms, struct cof_error *err);
