#include <stdio.h>
#include <stdlib.h>

#include <coffer/rpc/v1/frame.pb-c.h>
#include <google/rpc/error_details.pb-c.h>

#include "common/encode.h"
#include "common/frame.h"
#include "common/varint.h"
#include "tests/support/test.h"

enum { ROOM = 1 << 16, GOLDEN_LINE = 1024 };

static const char method[] = "coffer.v1.SecretService/CreateSecret";

/* A frame under construction, in memory of its own so that a read beyond it is seen. */
struct bytes {
    uint8_t *data;
    size_t len;
};

static void bytes_done(struct bytes *bytes)
{
    free(bytes->data);
}

static struct bytes new_bytes(void)
{
    struct bytes bytes = {calloc(1, ROOM), 0};
    if (bytes.data == NULL) {
        abort();
    }
    return bytes;
}

static void add_raw(struct bytes *bytes, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(bytes->data + bytes->len, data, len);
    }
    bytes->len += len;
}

static void add_number(struct bytes *bytes, uint64_t value)
{
    bytes->len = (size_t) (varint_put(bytes->data + bytes->len, value) - bytes->data);
}

static void add_tag(struct bytes *bytes, uint64_t number, unsigned type)
{
    add_number(bytes, number << 3 | type);
}

static void add_varint(struct bytes *bytes, uint64_t number, uint64_t value)
{
    add_tag(bytes, number, WIRE_VARINT);
    add_number(bytes, value);
}

static void add_bytes(struct bytes *bytes, uint64_t number, const void *data, size_t len)
{
    add_tag(bytes, number, WIRE_BYTES);
    add_number(bytes, len);
    add_raw(bytes, data, len);
}

static void add_entry(struct bytes *bytes, uint64_t number, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    AUTO(bytes_done) struct bytes entry = new_bytes();
    add_bytes(&entry, 1, key, key_len);
    add_bytes(&entry, 2, value, value_len);
    add_bytes(bytes, number, entry.data, entry.len);
}

/* Every field of a request, in order. */
static void whole_request(struct bytes *bytes)
{
    add_varint(bytes, 1, 1);
    add_bytes(bytes, 2, method, strlen(method));
    add_bytes(bytes, 3, "\0payload\xFF", 9);
    add_varint(bytes, 4, 30000);
    add_bytes(bytes, 5, "0123456789abcdef", 16);
    add_varint(bytes, 6, 2);
    add_entry(bytes, 7, "authorization", 13, "Bearer x", 8);
}

/* Decodes a copy of exactly as many bytes; the slices of the result must not be read. */
static cof_code decode(const struct bytes *bytes, struct cof_request_frame *frame, struct cof_error *err)
{
    uint8_t *copy = malloc(bytes->len + (bytes->len == 0));
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, bytes->data, bytes->len);
    cof_error_clear(err);
    const cof_code code = cof_request_frame_decode(cof_slice_of(copy, bytes->len), frame, err);
    free(copy);
    return code;
}

static bool is_text(struct cof_slice slice, const char *text)
{
    return cof_slice_equal(slice, cof_slice_text(text));
}

static bool same_bytes(struct cof_slice slice, const ProtobufCBinaryData *data)
{
    return cof_slice_equal(slice, cof_slice_of(data->data, data->len));
}

/* --- Against the generated code ------------------------------------------------------------------------------- */

enum { TEXTS = 64, TEXT_SIZE = 400 };

/* Random texts that live as long as a test. */
struct material {
    uint64_t state;
    char texts[TEXTS][TEXT_SIZE];
    size_t used;
};

static struct cof_slice random_text(struct material *material, size_t least, size_t most)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    char *text = material->texts[material->used++ % TEXTS];
    const size_t len = least + test_random(&material->state) % (most - least + 1);
    for (size_t i = 0; i < len; i++) {
        text[i] = letters[test_random(&material->state) % (sizeof letters - 1)];
    }
    text[len] = '\0';
    return cof_slice_of(text, len);
}

/* Numbers of every length, zero among them. */
static uint32_t random_number(struct material *material)
{
    const uint64_t number = test_random(&material->state);
    return (uint32_t) number >> (number >> 32) % 32 & (number >> 60 == 0 ? 0 : UINT32_MAX);
}

static void random_metadata(struct material *material, struct cof_metadata *metadata)
{
    metadata->count = (uint32_t) (test_random(&material->state) % 12);
    for (uint32_t i = 0; i < metadata->count; i++) {
        metadata->entries[i].key = random_text(material, 1, COF_FRAME_METADATA_KEY);
        metadata->entries[i].value = random_text(material, 0, 300);
    }
}

static void random_request(struct material *material, struct cof_request_frame *frame)
{
    frame->revision = COF_FRAME_REVISION;
    frame->timeout_ms = random_number(material);
    frame->attempt = random_number(material);
    frame->method = random_text(material, 0, COF_FRAME_METHOD_MAX);
    frame->payload = random_text(material, 0, TEXT_SIZE - 1);
    frame->request_id = random_text(material, 16, 16);
    random_metadata(material, &frame->metadata);
}

static bool same_metadata(const struct cof_metadata *metadata, Coffer__Rpc__V1__MetadataEntry *const *entries,
                          size_t count)
{
    bool same = metadata->count == count;
    for (size_t i = 0; i < count && same; i++) {
        same = is_text(metadata->entries[i].key, entries[i]->key) &&
               same_bytes(metadata->entries[i].value, &entries[i]->value);
    }
    return same;
}

static bool same_request(const struct cof_request_frame *frame, const Coffer__Rpc__V1__RequestFrame *other)
{
    return frame->revision == other->revision && is_text(frame->method, other->method) &&
           same_bytes(frame->payload, &other->payload) && frame->timeout_ms == other->timeout_ms &&
           same_bytes(frame->request_id, &other->request_id) && frame->attempt == other->attempt &&
           same_metadata(&frame->metadata, other->metadata, other->n_metadata);
}

static void check_request_both_ways(const struct cof_request_frame *frame)
{
    AUTO(bytes_done) struct bytes ours = new_bytes();
    AUTO(bytes_done) struct bytes theirs = new_bytes();
    struct cof_error err;
    struct cof_request_frame back;
    ours.len = cof_request_frame_encode(frame, ours.data);
    CHECK_INT(ours.len, cof_request_frame_size(frame));
    Coffer__Rpc__V1__RequestFrame *other = coffer__rpc__v1__request_frame__unpack(NULL, ours.len, ours.data);
    CHECK(other != NULL);
    const bool same = same_request(frame, other);
    theirs.len = coffer__rpc__v1__request_frame__pack(other, theirs.data);
    const cof_code code = cof_request_frame_decode(cof_slice_of(theirs.data, theirs.len), &back, &err);
    const bool same_back = code == COF_OK && same_request(&back, other);
    coffer__rpc__v1__request_frame__free_unpacked(other, NULL);
    CHECK(same);
    CHECK_OK(code, &err);
    CHECK(same_back);
    CHECK_INT(theirs.len, ours.len);
    CHECK_BYTES(theirs.data, ours.data, ours.len);
}

static void requests_are_those_of_the_generated_code_in_both_directions(void)
{
    static struct material material;
    static struct cof_request_frame frame;
    material.state = test_seed();
    for (int i = 0; i < 500 && test_failures == 0; i++) {
        random_request(&material, &frame);
        check_request_both_ways(&frame);
    }
}

static void random_response(struct material *material, struct cof_response_frame *frame)
{
    frame->revision = COF_FRAME_REVISION;
    frame->code = (int32_t) (random_number(material) % 17);
    frame->server_time_us = random_number(material);
    frame->message = random_text(material, 0, 300);
    frame->payload = random_text(material, 0, TEXT_SIZE - 1);
    frame->request_id = random_text(material, 0, 16);
    frame->detail_count = 0;
    random_metadata(material, &frame->metadata);
}

static bool same_response(const struct cof_response_frame *frame, const Coffer__Rpc__V1__ResponseFrame *other)
{
    return frame->revision == other->revision && frame->code == other->code &&
           is_text(frame->message, other->message) && same_bytes(frame->payload, &other->payload) &&
           same_bytes(frame->request_id, &other->request_id) && frame->server_time_us == other->server_time_us &&
           frame->detail_count == other->n_details &&
           same_metadata(&frame->metadata, other->metadata, other->n_metadata);
}

static void check_response_both_ways(const struct cof_response_frame *frame)
{
    AUTO(bytes_done) struct bytes ours = new_bytes();
    AUTO(bytes_done) struct bytes around = new_bytes();
    static struct cof_response_frame back;
    struct cof_error err;
    ours.len = cof_response_frame_encode(frame, ours.data);
    CHECK_INT(ours.len, cof_response_frame_size(frame));
    Coffer__Rpc__V1__ResponseFrame *other = coffer__rpc__v1__response_frame__unpack(NULL, ours.len, ours.data);
    CHECK(other != NULL);
    const cof_code code = cof_response_frame_decode(cof_slice_of(ours.data, ours.len), &back, &err);
    const bool same = same_response(frame, other) && code == COF_OK && same_response(&back, other);
    CHECK_INT(coffer__rpc__v1__response_frame__get_packed_size(other), ours.len);
    coffer__rpc__v1__response_frame__free_unpacked(other, NULL);
    CHECK(same);
    uint8_t *payload = cof_response_frame_encode_around(frame, around.data);
    if (frame->payload.len > 0) {
        memcpy(payload, frame->payload.data, frame->payload.len);
    }
    CHECK_BYTES(around.data, ours.data, ours.len);
}

static void responses_are_those_of_the_generated_code_in_both_directions(void)
{
    static struct material material;
    static struct cof_response_frame frame;
    static uint8_t details[COF_ERROR_DETAILS_SIZE];
    material.state = test_seed();
    for (int i = 0; i < 500 && test_failures == 0; i++) {
        struct cof_error err;
        random_response(&material, &frame);
        if (i % 2 == 0) {
            cof_ignore(cof_fail_field(&err, COF_REASON_SECRET_EXPIRED, "name", "no"));
            (void) cof_error_details(&err, &frame, details, sizeof details);
        }
        check_response_both_ways(&frame);
    }
}

/* --- Broken frames -------------------------------------------------------------------------------------------- */

static void frame_cut_at_any_byte_is_read_only_between_fields(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    whole_request(&bytes);
    const size_t whole = bytes.len;
    for (size_t len = 2; len <= whole; len++) {
        struct cof_error err;
        bytes.len = len;
        const cof_code code = decode(&bytes, &frame, &err);
        Coffer__Rpc__V1__RequestFrame *other = coffer__rpc__v1__request_frame__unpack(NULL, len, bytes.data);
        const bool readable = other != NULL;
        coffer__rpc__v1__request_frame__free_unpacked(other, NULL);
        CHECK_INT(code == COF_OK, readable);
        CHECK(readable || err.reason == COF_REASON_FRAME_INVALID);
    }
}

static void field_that_occurs_twice_is_refused(void)
{
    for (uint64_t number = 1; number <= 7; number++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        static struct cof_request_frame frame;
        struct cof_error err;
        whole_request(&bytes);
        switch (number) {
        case 1:
        case 4:
        case 6:
            add_varint(&bytes, number, 1);
            break;
        case 5:
            add_bytes(&bytes, number, "0123456789abcdef", 16);
            break;
        case 7:
            add_entry(&bytes, number, "authorization", 13, "", 0);
            CHECK_OK(decode(&bytes, &frame, &err), &err);
            CHECK_INT(frame.metadata.count, 2);
            continue;
        default:
            add_bytes(&bytes, number, "", 0);
            break;
        }
        CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_INVALID);
        CHECK_CONTAINS(err.message, "twice");
    }
}

static void check_wrong_type(uint64_t number, unsigned type)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    struct cof_error err;
    add_tag(&bytes, number, type);
    add_raw(&bytes, "\0\0\0\0\0\0\0\0", type == WIRE_FIXED64 ? 8 : type == WIRE_FIXED32 ? 4 : 1);
    CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_INVALID);
}

static void wrong_wire_types_and_groups_are_refused(void)
{
    for (uint64_t number = 1; number <= 7; number++) {
        const unsigned right = number == 1 || number == 4 || number == 6 ? WIRE_VARINT : WIRE_BYTES;
        for (unsigned type = 0; type < 8; type++) {
            if (type != right) {
                check_wrong_type(number, type);
            }
        }
    }
}

static void unknown_fields_are_skipped(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    struct cof_error err;
    whole_request(&bytes);
    add_varint(&bytes, 8, 1);
    add_varint(&bytes, 8, 1);
    add_bytes(&bytes, 536870911, "\xFF\0", 2);
    add_tag(&bytes, 33, WIRE_FIXED64);
    add_raw(&bytes, "12345678", 8);
    add_tag(&bytes, 39, WIRE_FIXED32);
    add_raw(&bytes, "1234", 4);
    CHECK_OK(decode(&bytes, &frame, &err), &err);
    CHECK_INT(frame.attempt, 2);
}

static void field_numbers_outside_of_the_range_are_refused(void)
{
    static const uint64_t numbers[] = {0, 536870912, (uint64_t) 1 << 32, (uint64_t) 1 << 60};
    for (size_t i = 0; i < COF_COUNT(numbers); i++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        static struct cof_request_frame frame;
        struct cof_error err;
        whole_request(&bytes);
        add_varint(&bytes, numbers[i], 1);
        CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_INVALID);
    }
}

static void numbers_that_are_too_long_or_too_large_are_refused(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    struct cof_error err;
    add_varint(&bytes, 1, 1);
    add_varint(&bytes, 4, UINT32_MAX);
    CHECK_OK(decode(&bytes, &frame, &err), &err);
    CHECK_INT(frame.timeout_ms, UINT32_MAX);
    bytes.len = 2;
    add_varint(&bytes, 4, (uint64_t) UINT32_MAX + 1);
    CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_INVALID);
    bytes.len = 2;
    add_tag(&bytes, 4, WIRE_VARINT);
    add_raw(&bytes, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\1", 11);
    CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_INVALID);
    bytes.len -= 2;
    add_raw(&bytes, "\2", 1);
    CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_INVALID);
}

static void other_revisions_are_unimplemented_and_the_answer_names_ours(void)
{
    static const uint32_t revisions[] = {0, 2, UINT32_MAX};
    for (size_t i = 0; i < COF_COUNT(revisions); i++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        static struct cof_request_frame frame;
        struct cof_error err;
        add_varint(&bytes, 1, revisions[i]);
        CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_REVISION_UNSUPPORTED);
        CHECK_INT(err.code, COF_UNIMPLEMENTED);
        CHECK_TEXT(err.facts[0].key, "min");
        CHECK_TEXT(err.facts[0].value, "1");
        CHECK_TEXT(err.facts[1].key, "max");
    }
    AUTO(bytes_done) struct bytes empty = new_bytes();
    static struct cof_request_frame frame;
    struct cof_error err;
    CHECK_FAILS(decode(&empty, &frame, &err), &err, FRAME_REVISION_UNSUPPORTED);
}

static void request_id_has_16_bytes_or_none(void)
{
    static const uint8_t id[40] = {1};
    for (size_t len = 0; len <= sizeof id; len++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        static struct cof_request_frame frame;
        struct cof_error err;
        add_varint(&bytes, 1, 1);
        add_bytes(&bytes, 5, id, len);
        if (len == 0 || len == COF_FRAME_REQUEST_ID) {
            CHECK_OK(decode(&bytes, &frame, &err), &err);
        } else {
            CHECK_FAILS(decode(&bytes, &frame, &err), &err, REQUEST_ID_INVALID);
        }
        CHECK_INT(frame.request_id.len, len);
    }
}

static void method_is_text_of_at_most_256_bytes(void)
{
    static const struct {
        const char *bytes;
        size_t len;
    } wrong[] = {{"a\0b", 3}, {"\xFF", 1}, {"\xC0\x80", 2}, {"\xED\xA0\x80", 3}};
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    char longest[COF_FRAME_METHOD_MAX + 1];
    struct cof_error err;
    memset(longest, 'm', sizeof longest);
    add_varint(&bytes, 1, 1);
    add_bytes(&bytes, 2, longest, COF_FRAME_METHOD_MAX);
    CHECK_OK(decode(&bytes, &frame, &err), &err);
    bytes.len = 2;
    add_bytes(&bytes, 2, longest, COF_FRAME_METHOD_MAX + 1);
    CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_INVALID);
    for (size_t i = 0; i < COF_COUNT(wrong); i++) {
        bytes.len = 2;
        add_bytes(&bytes, 2, wrong[i].bytes, wrong[i].len);
        CHECK_FAILS(decode(&bytes, &frame, &err), &err, STRING_INVALID);
    }
}

static void broken_frame_still_tells_what_was_read_before(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    struct cof_error err;
    add_bytes(&bytes, 5, "0123456789abcdef", 16);
    add_raw(&bytes, "\xFF", 1);
    CHECK_FAILS(cof_request_frame_decode(cof_slice_of(bytes.data, bytes.len), &frame, &err), &err, FRAME_INVALID);
    CHECK(is_text(frame.request_id, "0123456789abcdef"));
}

/* Random bytes of a frame changed to random ones; the sanitizers watch. */
static void damaged_frames_are_refused_or_harmless(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    uint64_t state = test_seed();
    for (int i = 0; i < 20000; i++) {
        struct cof_error err;
        bytes.len = 0;
        whole_request(&bytes);
        for (uint64_t changes = 1 + test_random(&state) % 4; changes > 0; changes--) {
            bytes.data[test_random(&state) % bytes.len] = (uint8_t) test_random(&state);
        }
        const cof_code code = decode(&bytes, &frame, &err);
        CHECK(code == COF_OK || code == COF_INVALID_ARGUMENT || code == COF_UNIMPLEMENTED);
        CHECK(frame.metadata.count <= COF_FRAME_METADATA_MAX);
    }
}

/* --- Metadata ------------------------------------------------------------------------------------------------- */

static void metadata_keys_are_of_few_characters(void)
{
    for (int byte = 0; byte < 256; byte++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        static struct cof_request_frame frame;
        struct cof_error err;
        const uint8_t key[] = {'a', (uint8_t) byte};
        const bool allowed = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' ||
                             byte == '_' || byte == '-';
        add_varint(&bytes, 1, 1);
        add_entry(&bytes, 7, key, 2, "\0\xFF", 2);
        if (allowed) {
            CHECK_OK(decode(&bytes, &frame, &err), &err);
        } else {
            CHECK_FAILS(decode(&bytes, &frame, &err), &err, METADATA_INVALID);
        }
    }
}

static void metadata_keys_have_1_to_64_characters(void)
{
    char key[COF_FRAME_METADATA_KEY + 1];
    memset(key, 'k', sizeof key);
    for (size_t len = 0; len <= sizeof key; len++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        static struct cof_request_frame frame;
        struct cof_error err;
        add_varint(&bytes, 1, 1);
        add_entry(&bytes, 7, key, len, "", 0);
        if (len > 0 && len <= COF_FRAME_METADATA_KEY) {
            CHECK_OK(decode(&bytes, &frame, &err), &err);
        } else {
            CHECK_FAILS(decode(&bytes, &frame, &err), &err, METADATA_INVALID);
        }
    }
}

static void metadata_has_at_most_32_entries(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    struct cof_error err;
    add_varint(&bytes, 1, 1);
    for (int i = 0; i < COF_FRAME_METADATA_MAX; i++) {
        add_entry(&bytes, 7, "key", 3, "value", 5);
    }
    CHECK_OK(decode(&bytes, &frame, &err), &err);
    CHECK_INT(frame.metadata.count, COF_FRAME_METADATA_MAX);
    add_entry(&bytes, 7, "key", 3, "value", 5);
    CHECK_FAILS(decode(&bytes, &frame, &err), &err, METADATA_INVALID);
    CHECK_CONTAINS(err.message, "32");
}

static void metadata_has_at_most_8_kib_of_keys_and_values(void)
{
    static uint8_t value[COF_FRAME_METADATA_BYTES];
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    struct cof_error err;
    add_varint(&bytes, 1, 1);
    add_entry(&bytes, 7, "one", 3, value, 4000);
    add_entry(&bytes, 7, "two", 3, value, COF_FRAME_METADATA_BYTES - 4006);
    CHECK_OK(decode(&bytes, &frame, &err), &err);
    add_entry(&bytes, 7, "x", 1, "", 0);
    CHECK_FAILS(decode(&bytes, &frame, &err), &err, METADATA_INVALID);
    CHECK_CONTAINS(err.message, "8 KiB");
}

static void broken_metadata_entries_are_refused(void)
{
    static const struct {
        const char *bytes;
        size_t len;
    } wrong[] = {
        {"\x0A\1k\x0A\1k", 6},      /* the key twice */
        {"\x0A\1k\x12\0\x12\0", 7}, /* the value twice */
        {"\x0A\2k", 3},
        {"\x08\1", 2},
        {"\x0A\1k\x10\1", 5},
        {"\x0A\1k\xFF", 4},
    };
    for (size_t i = 0; i < COF_COUNT(wrong); i++) {
        AUTO(bytes_done) struct bytes bytes = new_bytes();
        static struct cof_request_frame frame;
        struct cof_error err;
        add_varint(&bytes, 1, 1);
        add_bytes(&bytes, 7, wrong[i].bytes, wrong[i].len);
        CHECK_FAILS(decode(&bytes, &frame, &err), &err, FRAME_INVALID);
    }
}

static void metadata_is_found_by_its_exact_key(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_request_frame frame;
    struct cof_error err;
    struct cof_slice value = {NULL, 0};
    whole_request(&bytes);
    CHECK_OK(cof_request_frame_decode(cof_slice_of(bytes.data, bytes.len), &frame, &err), &err);
    CHECK(cof_metadata_find(&frame.metadata, "authorization", &value));
    CHECK(is_text(value, "Bearer x"));
    CHECK(!cof_metadata_find(&frame.metadata, "authorizatio", &value));
    CHECK(!cof_metadata_find(&frame.metadata, "Authorization", &value));
    CHECK(!cof_metadata_find(&frame.metadata, "", &value));
}

/* --- Responses and their errors ------------------------------------------------------------------------------- */

static void broken_responses_are_reply_invalid(void)
{
    static const struct {
        const char *bytes;
        size_t len;
    } wrong[] = {
        {"", 0},
        {"\x08\2", 2},              /* another revision */
        {"\x08\1\x10", 3},          /* cut */
        {"\x08\1\x10\1\x10\1", 6},  /* the code twice */
        {"\x08\1\x1A\1\xFF", 5},    /* a message that is no text */
        {"\x08\1\x15\1\0\0\0", 7},  /* a wrong wire type */
        {"\x08\1\x42\3\x0A\1K", 7}, /* a metadata key that is not allowed */
    };
    for (size_t i = 0; i < COF_COUNT(wrong); i++) {
        static struct cof_response_frame frame;
        struct cof_error err;
        CHECK_FAILS(cof_response_frame_decode(cof_slice_of(wrong[i].bytes, wrong[i].len), &frame, &err), &err,
                    REPLY_INVALID);
    }
}

static void too_many_details_are_refused(void)
{
    AUTO(bytes_done) struct bytes bytes = new_bytes();
    static struct cof_response_frame frame;
    struct cof_error err;
    add_varint(&bytes, 1, 1);
    for (int i = 0; i < COF_FRAME_DETAILS_MAX; i++) {
        add_bytes(&bytes, 5, "", 0);
    }
    CHECK_OK(cof_response_frame_decode(cof_slice_of(bytes.data, bytes.len), &frame, &err), &err);
    CHECK_INT(frame.detail_count, COF_FRAME_DETAILS_MAX);
    add_bytes(&bytes, 5, "", 0);
    CHECK_FAILS(cof_response_frame_decode(cof_slice_of(bytes.data, bytes.len), &frame, &err), &err, REPLY_INVALID);
}

/* An error with everything that an error can have. */
static void full_error(struct cof_error *err)
{
    cof_ignore(cof_fail_field(err, COF_REASON_SECRET_EXPIRED, "items[0].name", "the secret has expired"));
    cof_ignore(cof_error_fact(err, "secret", "stripe"));
    cof_ignore(cof_error_fact(err, "environment", "prod"));
    cof_ignore(cof_error_retry_after(err, 1250));
}

static void error_comes_back_from_its_frame(void)
{
    static struct cof_response_frame frame;
    static uint8_t details[COF_ERROR_DETAILS_SIZE];
    struct cof_error err;
    struct cof_error back;
    full_error(&err);
    frame.code = (int32_t) err.code;
    frame.message = cof_slice_text(err.message);
    CHECK(cof_error_details(&err, &frame, details, sizeof details) <= sizeof details);
    CHECK_INT(frame.detail_count, 4);
    cof_error_from_frame(&frame, &back);
    CHECK_INT(back.code, COF_FAILED_PRECONDITION);
    CHECK_INT(back.reason, COF_REASON_SECRET_EXPIRED);
    CHECK_TEXT(back.message, err.message);
    CHECK_TEXT(back.field, "items[0].name");
    CHECK_INT(back.retry_after_ms, 1250);
    CHECK_INT(back.fact_count, 2);
    CHECK_TEXT(back.facts[0].key, "secret");
    CHECK_TEXT(back.facts[1].value, "prod");
}

static void error_info_is_readable_by_the_generated_code(void)
{
    static struct cof_response_frame frame;
    static uint8_t details[COF_ERROR_DETAILS_SIZE];
    struct cof_error err;
    full_error(&err);
    frame.detail_count = 0;
    (void) cof_error_details(&err, &frame, details, sizeof details);
    Google__Protobuf__Any *any = google__protobuf__any__unpack(NULL, frame.details[0].len, frame.details[0].data);
    CHECK(any != NULL);
    Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(NULL, any->value.len, any->value.data);
    const bool right = info != NULL && strcmp(any->type_url, "type.googleapis.com/google.rpc.ErrorInfo") == 0 &&
                       strcmp(info->reason, "SECRET_EXPIRED") == 0 && strcmp(info->domain, "coffer") == 0 &&
                       info->n_metadata == 2;
    google__rpc__error_info__free_unpacked(info, NULL);
    google__protobuf__any__free_unpacked(any, NULL);
    CHECK(right);
}

static void details_that_do_not_fit_are_left_out(void)
{
    static uint8_t details[COF_ERROR_DETAILS_SIZE];
    for (size_t size = 0; size <= sizeof details; size += 7) {
        static struct cof_response_frame frame;
        struct cof_error err;
        /* Exactly as much memory, so that a write beyond it is seen. */
        uint8_t *exact = malloc(size + 1);
        CHECK(exact != NULL);
        full_error(&err);
        frame.detail_count = 0;
        const size_t used = cof_error_details(&err, &frame, exact, size);
        free(exact);
        CHECK(used <= size);
        CHECK(frame.detail_count <= 4);
    }
}

static void largest_error_fits_into_the_size_for_details(void)
{
    static struct cof_response_frame frame;
    static uint8_t details[COF_ERROR_DETAILS_SIZE];
    char text[COF_ERROR_MESSAGE_SIZE];
    struct cof_error err;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    cof_ignore(cof_fail_field(&err, COF_REASON_CONSISTENCY_TOKEN_UNKNOWN, text, "%s", text));
    for (int i = 0; i < COF_ERROR_FACTS; i++) {
        cof_ignore(cof_error_fact(&err, "environment", "%s", text));
    }
    cof_ignore(cof_error_retry_after(&err, UINT32_MAX));
    frame.detail_count = 0;
    (void) cof_error_details(&err, &frame, details, sizeof details);
    CHECK_INT(frame.detail_count, 4);
}

static void unknown_codes_and_reasons_are_still_errors(void)
{
    static const int32_t codes[] = {17, 1000, -1, INT32_MIN};
    static struct cof_response_frame frame;
    struct cof_error err;
    for (size_t i = 0; i < COF_COUNT(codes); i++) {
        frame.code = codes[i];
        cof_error_from_frame(&frame, &err);
        CHECK_INT(err.code, COF_UNKNOWN);
        CHECK_INT(err.reason, COF_REASON_NONE);
    }
}

static void long_message_from_a_server_is_cut_between_characters(void)
{
    static struct cof_response_frame frame;
    char text[COF_ERROR_MESSAGE_SIZE + 10];
    for (size_t offset = 0; offset < 3; offset++) {
        struct cof_error err;
        size_t used = offset;
        memset(text, 'x', offset);
        for (; used + 3 <= sizeof text; used += 3) {
            memcpy(text + used, "\xE6\x97\xA5", 3);
        }
        frame.code = COF_INTERNAL;
        frame.message = cof_slice_of(text, used);
        cof_error_from_frame(&frame, &err);
        CHECK(strlen(err.message) >= sizeof err.message - 3);
        CHECK_INT((strlen(err.message) - offset) % 3, 0);
    }
}

static void check_golden_request(struct cof_slice bytes)
{
    static struct cof_request_frame frame;
    struct cof_error err;
    uint8_t written[GOLDEN_LINE];
    CHECK_OK(cof_request_frame_decode(bytes, &frame, &err), &err);
    CHECK_INT(cof_request_frame_size(&frame), bytes.len);
    CHECK_INT(cof_request_frame_encode(&frame, written), bytes.len);
    CHECK_BYTES(written, bytes.data, bytes.len);
}

static void check_golden_response(struct cof_slice bytes)
{
    static struct cof_response_frame frame;
    struct cof_error err;
    uint8_t written[GOLDEN_LINE];
    CHECK_OK(cof_response_frame_decode(bytes, &frame, &err), &err);
    CHECK_INT(cof_response_frame_size(&frame), bytes.len);
    CHECK_INT(cof_response_frame_encode(&frame, written), bytes.len);
    CHECK_BYTES(written, bytes.data, bytes.len);
}

static void golden_frames_are_read_and_written_byte_for_byte(void)
{
    char line[GOLDEN_LINE];
    uint8_t bytes[GOLDEN_LINE / 2];
    unsigned requests = 0;
    unsigned responses = 0;
    FILE *file = fopen(GOLDEN_FILE, "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        char *hex = strrchr(line, ' ') + 1;
        const size_t length = strcspn(hex, "\n");
        if (line[0] == '#') {
            continue;
        }
        CHECK(cof_hex_decode(cof_slice_of(hex, length), bytes, length / 2));
        if (strncmp(line, "request ", 8) == 0) {
            check_golden_request(cof_slice_of(bytes, length / 2));
            requests++;
        } else {
            check_golden_response(cof_slice_of(bytes, length / 2));
            responses++;
        }
    }
    (void) fclose(file);
    CHECK(requests >= 4 && responses >= 3);
}

TEST_MAIN(TEST(golden_frames_are_read_and_written_byte_for_byte),
          TEST(requests_are_those_of_the_generated_code_in_both_directions),
          TEST(responses_are_those_of_the_generated_code_in_both_directions),
          TEST(frame_cut_at_any_byte_is_read_only_between_fields), TEST(field_that_occurs_twice_is_refused),
          TEST(wrong_wire_types_and_groups_are_refused), TEST(unknown_fields_are_skipped),
          TEST(field_numbers_outside_of_the_range_are_refused),
          TEST(numbers_that_are_too_long_or_too_large_are_refused),
          TEST(other_revisions_are_unimplemented_and_the_answer_names_ours), TEST(request_id_has_16_bytes_or_none),
          TEST(method_is_text_of_at_most_256_bytes), TEST(broken_frame_still_tells_what_was_read_before),
          TEST(damaged_frames_are_refused_or_harmless), TEST(metadata_keys_are_of_few_characters),
          TEST(metadata_keys_have_1_to_64_characters), TEST(metadata_has_at_most_32_entries),
          TEST(metadata_has_at_most_8_kib_of_keys_and_values), TEST(broken_metadata_entries_are_refused),
          TEST(metadata_is_found_by_its_exact_key), TEST(broken_responses_are_reply_invalid),
          TEST(too_many_details_are_refused), TEST(error_comes_back_from_its_frame),
          TEST(error_info_is_readable_by_the_generated_code), TEST(details_that_do_not_fit_are_left_out),
          TEST(largest_error_fits_into_the_size_for_details), TEST(unknown_codes_and_reasons_are_still_errors),
          TEST(long_message_from_a_server_is_cut_between_characters))
