#pragma once

#include <stdbool.h>

#include <protobuf-c/protobuf-c.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/slice.h"

/*
 * Checks and decodes protobuf messages that come from a peer. protobuf-c alone would cut a string at an inner NUL
 * and accept invalid UTF-8, so every message is scanned against its descriptor first.
 */

enum {
    COF_WIRE_DEPTH = 64,
    COF_WIRE_REPEATED_MAX = 20000, /* elements of one repeated field */
};

/*
 * Scans the bytes: every `string` is valid UTF-8 without NUL, no group, no wrong wire type for a known field, no
 * singular message twice, depth and counts within the limits, nothing cut. Fails with PAYLOAD_INVALID or
 * STRING_INVALID, naming the field's path.
 */
COF_CODE cof_wire_scan(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, struct cof_error *err);

/* Scans and unpacks into the arena; the message has no free. Fails as the scan does, or with OUT_OF_MEMORY. */
COF_CODE cof_wire_unpack(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, struct cof_arena *arena,
                         ProtobufCMessage **ret_message, struct cof_error *err);

/*
 * Packs in one pass, backwards, so that the bytes end where the room ends. False if they do not fit: then a part of them
 * is written.
 */
bool cof_wire_pack_at_end(const ProtobufCMessage *message, uint8_t *room, size_t size, struct cof_slice *ret_bytes);

/* Packs into the arena. */
COF_CODE cof_wire_pack(const ProtobufCMessage *message, struct cof_arena *arena, struct cof_slice *ret_bytes,
                       struct cof_error *err);
