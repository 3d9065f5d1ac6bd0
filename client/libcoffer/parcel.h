#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"

/* A message on a connection: a frame, and room before it for what nanomsg puts there. Wiped when it is freed. */

enum {
    PARCEL_ID = 4,
    PARCEL_HEADER = 1 + 8 + PARCEL_ID, /* the byte 01 on ipc, the length, the SP request ID */
};

struct parcel {
    struct parcel *next;
    size_t size; /* of the frame */
    uint32_t id;
    uint8_t header[PARCEL_HEADER];
    uint8_t frame[];
};

/* NULL if there is no memory. */
struct parcel *parcel_new(size_t size);
/* NULL is allowed. */
void parcel_free(struct parcel *parcel);

/* Writes the header and gives the bytes that go out. */
struct cof_slice parcel_sealed(struct parcel *parcel, bool ipc);
