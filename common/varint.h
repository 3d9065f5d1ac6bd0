#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"

/* Reading and writing protobuf's wire format (protobuf.dev, Encoding), without allocation. */

typedef enum wire_type {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_FIXED32 = 5,
} wire_type;

/* One field as it stands on the wire. */
struct wire_field {
    uint32_t number;
    wire_type type;
    uint64_t value;         /* WIRE_VARINT, WIRE_FIXED32, WIRE_FIXED64 */
    struct cof_slice bytes; /* WIRE_BYTES */
};

/* Takes a varint off the front; false if it is cut or longer than 10 bytes. */
bool varint_take(struct cof_slice *rest, uint64_t *ret_value);

/* Takes a field off the front; false if it is cut, a group, or has no valid number. */
bool wire_take(struct cof_slice *rest, struct wire_field *ret_field);

static inline size_t varint_size(uint64_t value)
{
    return value < 128 ? 1 : (size_t) (70 - __builtin_clzll(value)) / 7;
}

static inline uint8_t *varint_put(uint8_t *to, uint64_t value)
{
    while (value >= 128) {
        *to++ = (uint8_t) (value | 128U);
        value >>= 7;
    }
    *to++ = (uint8_t) value;
    return to;
}

/* Fields with numbers below 16, whose tag is one byte. Zero numbers and empty bytes are left out, as proto3 does.
 */
static inline size_t wire_number_size(uint64_t value)
{
    return value == 0 ? 0 : 1 + varint_size(value);
}

static inline size_t wire_bytes_size(size_t len)
{
    return len == 0 ? 0 : 1 + varint_size(len) + len;
}

uint8_t *wire_put_number(uint8_t *to, uint32_t number, uint64_t value);
uint8_t *wire_put_bytes(uint8_t *to, uint32_t number, struct cof_slice bytes);
/* The tag and length of bytes that the caller writes, also if there are none. */
uint8_t *wire_put_header(uint8_t *to, uint32_t number, size_t len);
