#pragma once

#include "common/expand.h"

/* A look-up in the field `given` of a case, whose node is the context: [secret, key, outcome, value], each. */
void given_find(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found);
