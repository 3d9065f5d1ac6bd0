#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/slice.h"

/* UUIDs of RFC 9562. */
struct cof_uuid {
    uint8_t bytes[16];
};

enum { COF_UUID_TEXT = 37 }; /* with the NUL */

/* The system workspace: all zero. */
extern const struct cof_uuid cof_uuid_zero;

/* A random UUID, version 4. Aborts the process if the system has no randomness. */
struct cof_uuid cof_uuid_random(void);

/* A UUID of version 7: the clock's milliseconds, then random bits. */
struct cof_uuid cof_uuid_time(const struct cof_clock *clock);

/* Milliseconds since 1970 in a version 7 UUID. */
int64_t cof_uuid_time_ms(const struct cof_uuid *uuid);

int cof_uuid_version(const struct cof_uuid *uuid);
bool cof_uuid_equal(const struct cof_uuid *a, const struct cof_uuid *b);

/* The one behind it in their order, in which the first one follows on the last. */
struct cof_uuid cof_uuid_next(const struct cof_uuid *uuid);

/* For hash tables. A peer can choose UUIDs but does not know the key. */
uint32_t cof_uuid_hash(const struct cof_uuid *uuid, uint64_t key);

/* Reads the 36 characters of the lower-case form; false for anything else. */
bool cof_uuid_parse(struct cof_slice text, struct cof_uuid *ret_uuid);

/* Writes the lower-case form and a NUL. */
void cof_uuid_format(const struct cof_uuid *uuid, char text[COF_UUID_TEXT]);
