#include "common/permission.h"

#include "common/attr.h"

enum { W = 1 << COF_TOKEN_WORKSPACE, F = 1 << COF_TOKEN_FLEET, S = 1 << COF_TOKEN_SYSTEM };

struct permission_row {
    const char *name;
    const char *what;
    int kinds;
};

/* Indexed by the bit. */
static const struct permission_row permissions[] = {
#define PERMISSION(symbol, bit, name, kinds, what) [bit] = {name, what, kinds},
#include "common/permission.def"
#undef PERMISSION
};

_Static_assert(COF_COUNT(permissions) == COF_PERMISSION_COUNT, "COF_PERMISSION_COUNT is wrong");

int cof_permission_parse(struct cof_slice name)
{
    for (int i = 0; i < COF_PERMISSION_COUNT; i++) {
        if (cof_slice_equal(cof_slice_text(permissions[i].name), name)) {
            return i;
        }
    }
    return -1;
}

const char *cof_permission_name(cof_permission permission)
{
    return permissions[permission].name;
}

const char *cof_permission_what(cof_permission permission)
{
    return permissions[permission].what;
}

cof_permission_set cof_permission_usable(cof_token_kind kind)
{
    cof_permission_set set = 0;
    for (int i = 0; i < COF_PERMISSION_COUNT; i++) {
        if ((permissions[i].kinds & 1 << kind) != 0) {
            set |= COF_PERMISSION_BIT(i);
        }
    }
    return set;
}
