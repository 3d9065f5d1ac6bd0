#pragma once

#include "server/service/resolve_lookup.h"

/*
 * What declarations make of outcomes (product.md, Resolve, rule 4).
 *
 * Declarations are taken together: a secret or key that one of them requires is required, whatever others say. What
 * a declaration says of the secret as a whole - its type, at least one of its keys - is its own, and stands in the
 * outcomes of all of its keys.
 */

/* Finds out what is said of each entry of the list. */
COF_CODE need_read(struct call *call, struct asked *asked);

/* Puts ABSENT in the place of what may be missing, and KEY_EMPTY where a value must not be blank. */
void need_apply(uint8_t needs, struct lookup *lookup);

/* Goes through the declarations once all of their keys were looked up. */
COF_CODE need_check(struct call *call, const struct asked *asked, struct cof_slice environment,
                    struct lookup *lookups);
