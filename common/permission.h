#pragma once

#include <stdint.h>

#include "common/slice.h"
#include "common/token.h"

/* The closed table of permissions. */

typedef enum cof_permission {
#define PERMISSION(symbol, bit, name, kinds, what) COF_PERMISSION_##symbol = (bit),
#include "common/permission.def"
#undef PERMISSION
} cof_permission;

enum { COF_PERMISSION_COUNT = 20 };

typedef uint64_t cof_permission_set;

#define COF_PERMISSION_BIT(permission) ((cof_permission_set) 1 << (permission))

/* The permission of a name; -1 if there is none. */
int cof_permission_parse(struct cof_slice name);
const char *cof_permission_name(cof_permission permission);
const char *cof_permission_what(cof_permission permission);

/* All permissions that an account of this kind can ever use. */
cof_permission_set cof_permission_usable(cof_token_kind kind);
