#pragma once

#include <google/protobuf/field_mask.pb-c.h>

#include "server/service/call.h"

/* Which fields an update changes: the update_mask of its request as bits. */

struct mask_field {
    const char *path;
    unsigned bit;
};

/* Fails if the mask is empty or names a field that is not in the table; `known` tells those that are, for people. */
COF_CODE mask_read(struct call *call, const Google__Protobuf__FieldMask *mask, const struct mask_field *fields,
                   size_t count, const char *known, unsigned *ret_mask);
