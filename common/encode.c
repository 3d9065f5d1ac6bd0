#include "common/encode.h"

#include <zlib.h>

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64url_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void cof_hex_encode(struct cof_slice bytes, char *to)
{
    for (size_t i = 0; i < bytes.len; i++) {
        *to++ = hex_digits[bytes.data[i] >> 4];
        *to++ = hex_digits[bytes.data[i] & 15U];
    }
    *to = '\0';
}

static int hex_value(uint8_t digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

bool cof_hex_decode(struct cof_slice text, uint8_t *to, size_t size)
{
    if (text.len != size * 2) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        const int high = hex_value(text.data[2 * i]);
        const int low = hex_value(text.data[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        to[i] = (uint8_t) (high << 4 | low);
    }
    return true;
}

/* Writes the digits without a NUL and returns where they end. */
static char *encode(const char digits[65], struct cof_slice bytes, char *to)
{
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        bits = bits << 8 | bytes.data[i];
        for (held += 8; held >= 6; held -= 6) {
            *to++ = digits[bits >> (held - 6) & 63U];
        }
    }
    if (held > 0) {
        *to++ = digits[bits << (6 - held) & 63U];
    }
    return to;
}

void cof_base64url_encode(struct cof_slice bytes, char *to)
{
    *encode(base64url_digits, bytes, to) = '\0';
}

void cof_base64_encode(struct cof_slice bytes, char *to)
{
    const char *begin = to;
    to = encode(base64_digits, bytes, to);
    while ((to - begin) % 4 != 0) {
        *to++ = '=';
    }
    *to = '\0';
}

static int digit_value(const char digits[65], uint8_t digit)
{
    if (digit >= 'A' && digit <= 'Z') {
        return digit - 'A';
    }
    if (digit >= 'a' && digit <= 'z') {
        return digit - 'a' + 26;
    }
    if (digit >= '0' && digit <= '9') {
        return digit - '0' + 52;
    }
    if (digit == (uint8_t) digits[62]) {
        return 62;
    }
    return digit == (uint8_t) digits[63] ? 63 : -1;
}

static bool decode(const char digits[65], struct cof_slice text, uint8_t *to, size_t size)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t written = 0;
    if (text.len != (size * 4 + 2) / 3) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        const int value = digit_value(digits, text.data[i]);
        if (value < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t) value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            to[written++] = (uint8_t) (bits >> held);
            bits &= (1U << held) - 1;
        }
    }
    return bits == 0 && written == size;
}

bool cof_base64url_decode(struct cof_slice text, uint8_t *to, size_t size)
{
    return decode(base64url_digits, text, to, size);
}

bool cof_base64_decode(struct cof_slice text, uint8_t *to, size_t *ret_size)
{
    size_t padding = 0;
    while (padding < 2 && padding < text.len && text.data[text.len - 1 - padding] == '=') {
        padding++;
    }
    const size_t size = text.len / 4 * 3 - padding;
    if (text.len % 4 != 0 || !decode(base64_digits, cof_slice_of(text.data, text.len - padding), to, size)) {
        return false;
    }
    *ret_size = size;
    return true;
}

uint32_t cof_crc32(struct cof_slice bytes)
{
    return (uint32_t) crc32_z(crc32_z(0, NULL, 0), bytes.data, bytes.len);
}
