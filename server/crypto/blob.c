#include "server/crypto/blob.h"

const char *blob_kind_name(blob_kind kind)
{
    switch (kind) {
    case BLOB_SECRET_VERSION:
        return "secret_version";
    case BLOB_WORKSPACE_KEY:
        return "workspace_key";
    case BLOB_ANSWER:
        return "answer";
    case BLOB_NARROWING_KEY:
        return "narrowing_key";
    case BLOB_AUDIT_KEY:
        return "audit_key";
    case BLOB_ROW_KEY:
        return "row_key";
    case BLOB_CONNECTION_CREDENTIALS:
        return "connection_credentials";
    case BLOB_ACCESS_TOKEN:
        return "access_token";
    case BLOB_REFRESH_TOKEN:
        return "refresh_token";
    case BLOB_AUTHORIZATION:
        return "authorization";
    }
    return "unknown";
}

static uint8_t *put(uint8_t *to, struct cof_slice bytes)
{
    cof_put_u16(to, (uint16_t) bytes.len);
    memcpy(to + 2, bytes.data, bytes.len);
    return to + 2 + bytes.len;
}

struct cof_slice blob_associated(const struct blob_address *address, uint8_t to[BLOB_ASSOCIATED_MAX])
{
    const uint8_t format = BLOB_FORMAT;
    uint8_t version[8];
    cof_put_u64(version, address->version);
    uint8_t *end = put(to, cof_slice_of(&format, 1));
    end = put(end, cof_slice_text(blob_kind_name(address->kind)));
    end = put(end, cof_slice_of(address->workspace.bytes, sizeof address->workspace.bytes));
    end = put(end, cof_slice_of(address->object.bytes, sizeof address->object.bytes));
    end = put(end, cof_slice_of(version, sizeof version));
    return cof_slice_of(to, (size_t) (end - to));
}

uint32_t blob_generation(struct cof_slice blob)
{
    if (blob.len < BLOB_OVERHEAD || blob.data[0] != BLOB_FORMAT) {
        return 0;
    }
    return cof_get_u32(blob.data + 1);
}
