#include "common/varint.h"

enum { VARINT_MAX = 10, FIELD_MAX = (1 << 29) - 1 };

bool varint_take(struct cof_slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < VARINT_MAX && i < rest->len; i++) {
        const uint8_t byte = rest->data[i];
        if (i == VARINT_MAX - 1 && byte > 1) {
            return false;
        }
        value |= (uint64_t) (byte & 127U) << (7 * i);
        if (byte < 128) {
            *rest = cof_slice_of(rest->data + i + 1, rest->len - i - 1);
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool take_fixed(struct cof_slice *rest, size_t len, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (rest->len < len) {
        return false;
    }
    for (size_t i = len; i-- > 0;) {
        value = value << 8 | rest->data[i];
    }
    *ret_value = value;
    *rest = cof_slice_of(rest->data + len, rest->len - len);
    return true;
}

static bool take_bytes(struct cof_slice *rest, struct cof_slice *ret_bytes)
{
    uint64_t length;
    if (!varint_take(rest, &length) || length > rest->len) {
        return false;
    }
    *ret_bytes = cof_slice_of(rest->data, (size_t) length);
    *rest = cof_slice_of(rest->data + length, rest->len - (size_t) length);
    return true;
}

bool wire_take(struct cof_slice *rest, struct wire_field *ret_field)
{
    uint64_t tag;
    if (!varint_take(rest, &tag) || tag >> 3 == 0 || tag >> 3 > FIELD_MAX) {
        return false;
    }
    *ret_field = (struct wire_field){.number = (uint32_t) (tag >> 3), .type = (wire_type) (tag & 7U)};
    switch (tag & 7U) {
    case WIRE_VARINT:
        return varint_take(rest, &ret_field->value);
    case WIRE_FIXED64:
        return take_fixed(rest, 8, &ret_field->value);
    case WIRE_BYTES:
        return take_bytes(rest, &ret_field->bytes);
    case WIRE_FIXED32:
        return take_fixed(rest, 4, &ret_field->value);
    default:
        return false;
    }
}

uint8_t *wire_put_number(uint8_t *to, uint32_t number, uint64_t value)
{
    if (value == 0) {
        return to;
    }
    *to++ = (uint8_t) (number << 3 | WIRE_VARINT);
    return varint_put(to, value);
}

uint8_t *wire_put_header(uint8_t *to, uint32_t number, size_t len)
{
    *to++ = (uint8_t) (number << 3 | WIRE_BYTES);
    return varint_put(to, len);
}

uint8_t *wire_put_bytes(uint8_t *to, uint32_t number, struct cof_slice bytes)
{
    if (bytes.len == 0) {
        return to;
    }
    to = wire_put_header(to, number, bytes.len);
    memcpy(to, bytes.data, bytes.len);
    return to + bytes.len;
}
