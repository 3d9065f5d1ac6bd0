#include "server/service/expected_uid.h"

cof_code expected_uid_check(struct call *call, const char *expected, const struct cof_uuid *uid)
{
    struct cof_uuid wanted;
    if (expected == NULL || expected[0] == '\0') {
        return COF_OK;
    }
    if (!cof_uuid_parse(cof_slice_text(expected), &wanted)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "expected_uid",
                              "expected_uid is no UUID in lower case");
    }
    if (!cof_uuid_equal(&wanted, uid)) {
        return cof_fail(call->err, COF_REASON_UID_MISMATCH, "%s; %s", cof_reason_meaning(COF_REASON_UID_MISMATCH),
                        cof_reason_next_step(COF_REASON_UID_MISMATCH));
    }
    return COF_OK;
}
