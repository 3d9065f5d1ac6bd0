#include "server/service/consistency.h"

#include <stdatomic.h>

enum { CONSISTENCY_FORMAT = 1 };

void consistency_format(const struct service *service, uint64_t revision, char text[CONSISTENCY_TOKEN_TEXT])
{
    uint8_t bytes[CONSISTENCY_TOKEN_BYTES];
    bytes[0] = CONSISTENCY_FORMAT;
    cof_put_u64(bytes + 1, atomic_load(&service->epoch));
    cof_put_u64(bytes + 9, revision);
    cof_base64url_encode(cof_slice_of(bytes, sizeof bytes), text);
}

cof_code consistency_parse(const struct service *service, const char *text, uint64_t *ret_revision,
                           struct cof_error *err)
{
    uint8_t bytes[CONSISTENCY_TOKEN_BYTES];
    *ret_revision = 0;
    if (text[0] == '\0') {
        return COF_OK;
    }
    if (!cof_base64url_decode(cof_slice_text(text), bytes, sizeof bytes) || bytes[0] != CONSISTENCY_FORMAT) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, "consistency_token",
                              "consistency_token is none that a server gave out; pass it on unchanged");
    }
    if (cof_get_u64(bytes + 1) != atomic_load(&service->epoch)) {
        return cof_fail_field(err, COF_REASON_CONSISTENCY_TOKEN_UNKNOWN, "consistency_token", "%s; %s",
                              cof_reason_meaning(COF_REASON_CONSISTENCY_TOKEN_UNKNOWN),
                              cof_reason_next_step(COF_REASON_CONSISTENCY_TOKEN_UNKNOWN));
    }
    *ret_revision = cof_get_u64(bytes + 9);
    return COF_OK;
}
