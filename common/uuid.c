#include "common/uuid.h"

#include <stdlib.h>
#include <sys/random.h>

#include "common/attr.h"
#include "common/encode.h"

const struct cof_uuid cof_uuid_zero;

/* From the system itself: OpenSSL would keep a generator for each thread, and nng's threads never end. Up to 256 bytes
 * come whole. */
static void random_bytes(uint8_t *to, size_t len)
{
    if (getrandom(to, len, 0) != (ssize_t) len) {
        abort();
    }
}

static void set_version(struct cof_uuid *uuid, unsigned version)
{
    uuid->bytes[6] = (uint8_t) ((uuid->bytes[6] & 0x0FU) | version << 4);
    uuid->bytes[8] = (uint8_t) ((uuid->bytes[8] & 0x3FU) | 0x80U);
}

struct cof_uuid cof_uuid_random(void)
{
    struct cof_uuid uuid;
    random_bytes(uuid.bytes, sizeof uuid.bytes);
    set_version(&uuid, 4);
    return uuid;
}

struct cof_uuid cof_uuid_time(const struct cof_clock *clock)
{
    struct cof_uuid uuid;
    uint8_t time[8];
    random_bytes(uuid.bytes + 6, sizeof uuid.bytes - 6);
    cof_put_u64(time, (uint64_t) (cof_clock_wall(clock) / 1000));
    memcpy(uuid.bytes, time + 2, 6);
    set_version(&uuid, 7);
    return uuid;
}

int64_t cof_uuid_time_ms(const struct cof_uuid *uuid)
{
    uint8_t time[8] = {0};
    memcpy(time + 2, uuid->bytes, 6);
    return (int64_t) cof_get_u64(time);
}

int cof_uuid_version(const struct cof_uuid *uuid)
{
    return uuid->bytes[6] >> 4;
}

bool cof_uuid_equal(const struct cof_uuid *a, const struct cof_uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

struct cof_uuid cof_uuid_next(const struct cof_uuid *uuid)
{
    struct cof_uuid next = *uuid;
    size_t i = sizeof next.bytes;
    while (i > 0 && ++next.bytes[i - 1] == 0) {
        i--;
    }
    return next;
}

uint32_t cof_uuid_hash(const struct cof_uuid *uuid, uint64_t key)
{
    uint64_t parts[2];
    memcpy(parts, uuid->bytes, sizeof parts);
    uint64_t mixed = (parts[0] ^ key) * 0x9E3779B97F4A7C15U;
    mixed ^= mixed >> 29;
    mixed = (mixed ^ parts[1]) * 0xBF58476D1CE4E5B9U;
    /* Once more, so that every bit of the result depends on every byte: tables use the low ones. */
    mixed = (mixed ^ (mixed >> 29)) * 0x94D049BB133111EBU;
    return (uint32_t) (mixed >> 32);
}

static bool dash_at(size_t index)
{
    return index == 8 || index == 13 || index == 18 || index == 23;
}

bool cof_uuid_parse(struct cof_slice text, struct cof_uuid *ret_uuid)
{
    uint8_t digits[32];
    size_t count = 0;
    if (text.len != COF_UUID_TEXT - 1) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (dash_at(i) != (text.data[i] == '-') || (text.data[i] >= 'A' && text.data[i] <= 'F')) {
            return false;
        }
        if (!dash_at(i)) {
            digits[count++] = text.data[i];
        }
    }
    return cof_hex_decode(cof_slice_of(digits, count), ret_uuid->bytes, sizeof ret_uuid->bytes);
}

/* Eight digits at once: the halves of the number are moved apart until each byte has four bits of it. */
static void put_hex(uint8_t to[8], uint32_t number)
{
    uint64_t apart = number;
    apart = (apart << 16 | apart) & UINT64_C(0x0000FFFF0000FFFF);
    apart = (apart << 8 | apart) & UINT64_C(0x00FF00FF00FF00FF);
    apart = (apart << 4 | apart) & UINT64_C(0x0F0F0F0F0F0F0F0F);
    const uint64_t letters =
        (apart + COF_EACH_BYTE(6U)) >> 4 & COF_EACH_BYTE(1U); /* 1 where there are 10 or more */
    cof_put_u64(to, apart + COF_EACH_BYTE((uint64_t) '0') + letters * ('a' - '0' - 10));
}

/* A call formats a dozen of them: for its answer, its record and its line in the log. */
void cof_uuid_format(const struct cof_uuid *uuid, char text[COF_UUID_TEXT])
{
    uint8_t digits[32];
    for (size_t i = 0; i < sizeof uuid->bytes; i += 4) {
        put_hex(digits + 2 * i, cof_get_u32(uuid->bytes + i));
    }
    memcpy(text, digits, 8);
    memcpy(text + 9, digits + 8, 4);
    memcpy(text + 14, digits + 12, 4);
    memcpy(text + 19, digits + 16, 4);
    memcpy(text + 24, digits + 20, 12);
    text[8] = text[13] = text[18] = text[23] = '-';
    text[COF_UUID_TEXT - 1] = '\0';
}
