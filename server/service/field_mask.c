#include "server/service/field_mask.h"

static unsigned bit_of(const char *path, const struct mask_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(path, fields[i].path) == 0) {
            return fields[i].bit;
        }
    }
    return 0;
}

cof_code mask_read(struct call *call, const Google__Protobuf__FieldMask *mask, const struct mask_field *fields,
                   size_t count, const char *known, unsigned *ret_mask)
{
    *ret_mask = 0;
    if (mask == NULL || mask->n_paths == 0) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, "update_mask",
                              "update_mask is empty; name the fields that change");
    }
    for (size_t i = 0; i < mask->n_paths; i++) {
        const unsigned bit = bit_of(mask->paths[i], fields, count);
        if (bit == 0) {
            return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "update_mask",
                                  "update_mask names a field that cannot be changed; %s can", known);
        }
        *ret_mask |= bit;
    }
    return COF_OK;
}
