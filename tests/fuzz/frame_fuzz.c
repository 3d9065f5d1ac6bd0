#include <string.h>

#include <coffer/rpc/v1/frame.pb-c.h>

#include "common/frame.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes as a frame: what can be read can be written again, is then read as the same, and by others, too. */

static bool same_metadata(const struct cof_metadata *a, const struct cof_metadata *b)
{
    bool same = a->count == b->count;
    for (uint32_t i = 0; i < a->count && same; i++) {
        same = cof_slice_equal(a->entries[i].key, b->entries[i].key) &&
               cof_slice_equal(a->entries[i].value, b->entries[i].value);
    }
    return same;
}

static void try_request(struct cof_slice bytes)
{
    static struct cof_request_frame frame;
    static struct cof_request_frame back;
    struct cof_error err;
    if (cof_request_frame_decode(bytes, &frame, &err) != COF_OK) {
        MUST(err.reason != COF_REASON_NONE && err.message[0] != '\0');
        return;
    }
    const size_t size = cof_request_frame_size(&frame);
    uint8_t *written = malloc(size);
    MUST(written != NULL && cof_request_frame_encode(&frame, written) == size);
    MUST(cof_request_frame_decode(cof_slice_of(written, size), &back, &err) == COF_OK);
    MUST(cof_slice_equal(frame.method, back.method) && cof_slice_equal(frame.payload, back.payload));
    MUST(frame.timeout_ms == back.timeout_ms && frame.attempt == back.attempt);
    MUST(cof_slice_equal(frame.request_id, back.request_id) && same_metadata(&frame.metadata, &back.metadata));
    Coffer__Rpc__V1__RequestFrame *other = coffer__rpc__v1__request_frame__unpack(NULL, size, written);
    MUST(other != NULL && coffer__rpc__v1__request_frame__get_packed_size(other) == size);
    coffer__rpc__v1__request_frame__free_unpacked(other, NULL);
    free(written);
}

static void try_response(struct cof_slice bytes)
{
    static struct cof_response_frame frame;
    static struct cof_response_frame back;
    struct cof_error err;
    if (cof_response_frame_decode(bytes, &frame, &err) != COF_OK) {
        MUST(err.reason == COF_REASON_REPLY_INVALID);
        return;
    }
    cof_error_from_frame(&frame, &err);
    MUST(memchr(err.message, '\0', sizeof err.message) != NULL && err.fact_count <= COF_ERROR_FACTS);
    if (frame.code < 0) {
        return; /* Read from 32 bits; written, as protobuf wants it, with 64, which no server sends. */
    }
    const size_t size = cof_response_frame_size(&frame);
    uint8_t *written = malloc(size);
    MUST(written != NULL && cof_response_frame_encode(&frame, written) == size);
    MUST(cof_response_frame_decode(cof_slice_of(written, size), &back, &err) == COF_OK);
    MUST(frame.code == back.code && frame.server_time_us == back.server_time_us);
    MUST(cof_slice_equal(frame.message, back.message) && cof_slice_equal(frame.payload, back.payload));
    MUST(frame.detail_count == back.detail_count && same_metadata(&frame.metadata, &back.metadata));
    free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_request(cof_slice_of(data, size));
    try_response(cof_slice_of(data, size));
    return 0;
}
