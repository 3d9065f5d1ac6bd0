#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"

/* Text forms of bytes, and big-endian numbers. */

/* A word with this in each of its eight bytes. */
#define COF_EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

static inline void cof_put_u16(uint8_t to[2], uint16_t value)
{
    to[0] = (uint8_t) (value >> 8);
    to[1] = (uint8_t) value;
}

static inline void cof_put_u32(uint8_t to[4], uint32_t value)
{
    to[0] = (uint8_t) (value >> 24);
    to[1] = (uint8_t) (value >> 16);
    to[2] = (uint8_t) (value >> 8);
    to[3] = (uint8_t) value;
}

static inline void cof_put_u64(uint8_t to[8], uint64_t value)
{
    cof_put_u32(to, (uint32_t) (value >> 32));
    cof_put_u32(to + 4, (uint32_t) value);
}

static inline uint16_t cof_get_u16(const uint8_t from[2])
{
    return (uint16_t) ((uint16_t) (from[0] << 8) | from[1]);
}

static inline uint32_t cof_get_u32(const uint8_t from[4])
{
    return (uint32_t) from[0] << 24 | (uint32_t) from[1] << 16 | (uint32_t) from[2] << 8 | from[3];
}

static inline uint64_t cof_get_u64(const uint8_t from[8])
{
    return (uint64_t) cof_get_u32(from) << 32 | cof_get_u32(from + 4);
}

/* Lower-case hex with a NUL; `to` has 2 x len + 1 bytes. */
void cof_hex_encode(struct cof_slice bytes, char *to);
/* Reads exactly `size` bytes from 2 x size hex digits of either case. */
bool cof_hex_decode(struct cof_slice text, uint8_t *to, size_t size);

/* base64url without padding (RFC 4648, section 5) with a NUL; `to` has COF_BASE64URL_SIZE(len) bytes. */
#define COF_BASE64URL_SIZE(len) (((len) *4 + 2) / 3 + 1)
void cof_base64url_encode(struct cof_slice bytes, char *to);
/* Reads exactly `size` bytes; refuses padding, foreign characters and bits that are not zero at the end. */
bool cof_base64url_decode(struct cof_slice text, uint8_t *to, size_t size);

/* base64 with padding (RFC 4648, section 4) and a NUL; `to` has COF_BASE64_SIZE(len) bytes. */
#define COF_BASE64_SIZE(len) (((len) + 2) / 3 * 4 + 1)
void cof_base64_encode(struct cof_slice bytes, char *to);
/* Reads at most text.len / 4 * 3 bytes; refuses what cof_base64_encode would not have written. */
bool cof_base64_decode(struct cof_slice text, uint8_t *to, size_t *ret_size);

/* CRC-32 of IEEE 802.3, as zlib computes it. */
uint32_t cof_crc32(struct cof_slice bytes);
