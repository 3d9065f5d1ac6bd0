#include "server/service/watch_position.h"

#include <stdatomic.h>

enum { FORMAT = 1, EPOCH_AT = 1, WORKSPACE_AT = 9, REVISION_AT = 25 };

_Static_assert(REVISION_AT + sizeof(uint64_t) == WATCH_POSITION_BYTES, "the revision stands last");
_Static_assert(WORKSPACE_AT + sizeof(struct cof_uuid) == REVISION_AT, "a workspace is a UUID");

void watch_position_format(const struct service *service, const struct cof_uuid *workspace, uint64_t revision,
                           char text[WATCH_POSITION_TEXT])
{
    uint8_t bytes[WATCH_POSITION_BYTES];
    bytes[0] = FORMAT;
    cof_put_u64(bytes + EPOCH_AT, atomic_load(&service->epoch));
    memcpy(bytes + WORKSPACE_AT, workspace->bytes, sizeof workspace->bytes);
    cof_put_u64(bytes + REVISION_AT, revision);
    cof_base64url_encode(cof_slice_of(bytes, sizeof bytes), text);
}

static cof_code invalid(struct cof_error *err, const char *why)
{
    return cof_fail_field(err, COF_REASON_FIELD_INVALID, "resume_token", "resume_token %s", why);
}

cof_code watch_position_parse(const struct service *service, const struct cof_uuid *workspace, const char *text,
                              uint64_t *ret_revision, struct cof_error *err)
{
    uint8_t bytes[WATCH_POSITION_BYTES];
    struct cof_uuid of;
    if (!cof_base64url_decode(cof_slice_text(text), bytes, sizeof bytes) || bytes[0] != FORMAT) {
        return invalid(err, "is none that a server gave out; pass it on unchanged");
    }
    memcpy(of.bytes, bytes + WORKSPACE_AT, sizeof of.bytes);
    if (!cof_uuid_equal(&of, workspace)) {
        return invalid(err, "belongs to another workspace; name that one");
    }
    const uint64_t revision = cof_get_u64(bytes + REVISION_AT);
    /* What the database cannot count to was never given out either. */
    if (cof_get_u64(bytes + EPOCH_AT) != atomic_load(&service->epoch) || revision > INT64_MAX) {
        return watch_expired(err);
    }
    *ret_revision = revision;
    return COF_OK;
}

cof_code watch_expired(struct cof_error *err)
{
    return cof_fail_field(err, COF_REASON_WATCH_EXPIRED, "resume_token", "%s; %s",
                          cof_reason_meaning(COF_REASON_WATCH_EXPIRED),
                          cof_reason_next_step(COF_REASON_WATCH_EXPIRED));
}
