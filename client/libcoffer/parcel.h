#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"
#include "common/web/frame.h"

/* A message on a connection: a frame, and room before it for what nanomsg puts there. Wiped when it is freed. */

enum {
    PARCEL_ID = 4,
    PARCEL_HEADER = COF_WEB_HEADER_MOST + PARCEL_ID,
};

/* What stands before each message, which begins with its SP request ID. */
typedef enum parcel_framing {
    PARCEL_LENGTH, /* its length in 64 bits */
    PARCEL_IPC,    /* the byte 01, then the same */
    PARCEL_WEB,    /* the header of WebSocket's frame; what follows is masked */
} parcel_framing;

struct parcel {
    struct parcel *next;
    size_t size; /* of the frame */
    uint32_t id;
    size_t header_size; /* of the last bytes of the header, once it is sealed */
    uint8_t header[PARCEL_HEADER];
    uint8_t frame[];
};

/* NULL if there is no memory. */
struct parcel *parcel_new(size_t size);
/* NULL is allowed. */
void parcel_free(struct parcel *parcel);

/* Writes the header, and for a WebSocket masks the frame; once. False if there is no randomness. */
bool parcel_seal(struct parcel *parcel, parcel_framing framing);
/* The bytes that go out. */
struct cof_slice parcel_sealed(const struct parcel *parcel);
