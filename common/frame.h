#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/slice.h"

/*
 * The frames of coffer.rpc.v1 (proto/coffer/rpc/v1/frame.proto), read and written without allocation. Slices of a
 * decoded frame borrow from the bytes that were decoded.
 */

enum {
    COF_FRAME_REVISION = 1,
    COF_FRAME_METADATA_MAX = 32,
    COF_FRAME_METADATA_BYTES = 8192,
    COF_FRAME_METADATA_KEY = 64,
    COF_FRAME_METHOD_MAX = 256,
    COF_FRAME_DETAILS_MAX = 8,
    COF_FRAME_REQUEST_ID = 16,
};

struct cof_metadata_entry {
    struct cof_slice key;
    struct cof_slice value;
};

struct cof_metadata {
    uint32_t count;
    struct cof_metadata_entry entries[COF_FRAME_METADATA_MAX];
};

struct cof_request_frame {
    uint32_t revision;
    uint32_t timeout_ms;
    uint32_t attempt;
    struct cof_slice method;
    struct cof_slice payload;
    struct cof_slice request_id;
    struct cof_metadata metadata;
};

struct cof_response_frame {
    uint32_t revision;
    int32_t code;
    uint32_t server_time_us;
    uint32_t detail_count;
    struct cof_slice message;
    struct cof_slice payload;
    struct cof_slice request_id;
    struct cof_slice details[COF_FRAME_DETAILS_MAX]; /* serialized google.protobuf.Any */
    struct cof_metadata metadata;
};

/*
 * Decodes a request. Fails with FRAME_INVALID (cut, duplicate field, wrong wire type, group), METADATA_INVALID,
 * STRING_INVALID, FRAME_REVISION_UNSUPPORTED or REQUEST_ID_INVALID. Whatever was read before the failure stands in
 * the result, so that an answer can carry the request's ID. Unknown fields are skipped.
 */
COF_CODE cof_request_frame_decode(struct cof_slice bytes, struct cof_request_frame *ret_frame,
                                  struct cof_error *err);

/* Decodes a response; fails with REPLY_INVALID. */
COF_CODE cof_response_frame_decode(struct cof_slice bytes, struct cof_response_frame *ret_frame,
                                   struct cof_error *err);

/* Bytes that the encoded frame takes. */
size_t cof_request_frame_size(const struct cof_request_frame *frame);
size_t cof_response_frame_size(const struct cof_response_frame *frame);

/* Writes the frame into exactly as many bytes as its size says and returns their number. */
size_t cof_request_frame_encode(const struct cof_request_frame *frame, uint8_t *to);
size_t cof_response_frame_encode(const struct cof_response_frame *frame, uint8_t *to);

/*
 * The same for a frame whose payload the caller writes itself: `payload.len` is taken, `payload.data` ignored, and
 * the place of the payload is returned.
 */
uint8_t *cof_response_frame_encode_around(const struct cof_response_frame *frame, uint8_t *to);

/* The value of a key; false if there is none. */
bool cof_metadata_find(const struct cof_metadata *metadata, const char *key, struct cof_slice *ret_value);

/*
 * The details of an error as serialized google.protobuf.Any messages, written into `to`; returns the bytes used.
 * ErrorInfo always; BadRequest if a field is named; RetryInfo if there is advice; PreconditionFailure for code 9.
 */
size_t cof_error_details(const struct cof_error *err, struct cof_response_frame *frame, uint8_t *to, size_t size);
enum { COF_ERROR_DETAILS_SIZE = 2048 };

/* The other direction, for clients: fills code, reason, message, field, facts and retry advice from a frame. */
void cof_error_from_frame(const struct cof_response_frame *frame, struct cof_error *ret_err);
