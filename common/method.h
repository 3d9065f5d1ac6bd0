#pragma once

#include <stdbool.h>

#include "common/permission.h"
#include "common/slice.h"

/* The methods of the server (common/method.def), as both sides know them. */

typedef enum cof_method_access {
    COF_METHOD_OPEN,
    COF_METHOD_CALLER,
    COF_METHOD_PERMITTED,
} cof_method_access;

struct cof_method {
    const char *name; /* SERVICE/METHOD, as on the wire */
    cof_method_access access;
    cof_permission permission; /* of those that ask for one */
};

size_t cof_method_count(void);

/* That of this row of the table. */
const struct cof_method *cof_method_at(size_t index);

/* Finds the row of a name; false for one that is unknown. */
bool cof_method_find(struct cof_slice name, size_t *ret_index);
