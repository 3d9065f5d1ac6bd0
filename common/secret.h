#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/slice.h"

/* Wipes bytes in a way that no compiler removes. */
void cof_wipe(void *data, size_t len);

/* Compares in a time that depends on the lengths only. */
bool cof_secret_equal(struct cof_slice a, struct cof_slice b);
