#include "common/wire.h"

#include <assert.h>
#include <stdio.h>

#include "common/name.h"
#include "common/varint.h"

/* The most fields that a message type may have; the contract's largest has 16. */
enum { COUNTERS = 64 };

_Static_assert(COF_WIRE_REPEATED_MAX < UINT16_MAX, "elements are counted in 16 bits");

/* --- Scanning ------------------------------------------------------------------------------------------------- */

/* Where the scan is: a chain on the stack, walked only to name a field in an error. */
struct place {
    const struct place *outer;
    const char *field;
    size_t index;
    bool repeated;
};

static size_t write_path(const struct place *place, char *path, size_t size)
{
    size_t used = 0;
    if (place == NULL) {
        path[0] = '\0';
        return 0;
    }
    if (place->outer != NULL) {
        used = write_path(place->outer, path, size);
        used += (size_t) snprintf(path + used, size - used, ".");
    }
    used +=
        (size_t) snprintf(path + used, size - used, place->repeated ? "%s[%zu]" : "%s", place->field, place->index);
    return used < size ? used : size - 1;
}

static cof_code refuse(const struct place *place, cof_reason reason, const char *what, struct cof_error *err)
{
    char path[COF_ERROR_FIELD_SIZE];
    (void) write_path(place, path, sizeof path);
    return cof_fail_field(err, reason, path, "%s%s%s; %s", path[0] == '\0' ? "the payload" : path,
                          path[0] == '\0' ? " " : ": ", what, cof_reason_next_step(reason));
}

static wire_type wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_FIXED32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        break;
    }
    return WIRE_VARINT;
}

static cof_code too_many(const struct place *place, struct cof_error *err)
{
    return refuse(place, COF_REASON_PAYLOAD_INVALID, "the field has too many elements", err);
}

/* Elements of packed numbers: each varint ends with a byte below 128. False if they are cut. */
static bool count_packed(struct cof_slice bytes, wire_type type, size_t *ret_count)
{
    if (type == WIRE_FIXED32 || type == WIRE_FIXED64) {
        const size_t size = type == WIRE_FIXED32 ? 4 : 8;
        *ret_count = bytes.len / size;
        return bytes.len % size == 0;
    }
    size_t count = 0;
    for (; bytes.len > 0; count++) {
        uint64_t value;
        if (!varint_take(&bytes, &value)) {
            return false;
        }
    }
    *ret_count = count;
    return true;
}

static cof_code scan_packed(wire_type type, struct cof_slice bytes, const struct place *place, uint16_t *count,
                            struct cof_error *err)
{
    size_t packed;
    if (!count_packed(bytes, type, &packed)) {
        return refuse(place, COF_REASON_PAYLOAD_INVALID, "packed numbers are cut", err);
    }
    if (packed > (size_t) (COF_WIRE_REPEATED_MAX - *count)) {
        return too_many(place, err);
    }
    *count = (uint16_t) (*count + packed);
    return COF_OK;
}

static cof_code scan(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, const struct place *outer,
                     unsigned depth, struct cof_error *err);

static cof_code scan_bytes(const ProtobufCFieldDescriptor *known, struct cof_slice bytes, const struct place *place,
                           unsigned depth, struct cof_error *err)
{
    if (known->type == PROTOBUF_C_TYPE_MESSAGE) {
        return scan(known->descriptor, bytes, place, depth + 1, err);
    }
    if (known->type == PROTOBUF_C_TYPE_STRING && !cof_text_valid(bytes)) {
        return refuse(place, COF_REASON_STRING_INVALID, cof_reason_meaning(COF_REASON_STRING_INVALID), err);
    }
    return COF_OK;
}

static cof_code count_element(const ProtobufCFieldDescriptor *known, const struct place *place, uint16_t *count,
                              struct cof_error *err)
{
    if (place->repeated && *count == COF_WIRE_REPEATED_MAX) {
        return too_many(place, err);
    }
    if (!place->repeated && known->type == PROTOBUF_C_TYPE_MESSAGE && *count > 0) {
        /* Decoders merge the two, so that their repeated fields could outgrow the limit together. */
        return refuse(place, COF_REASON_PAYLOAD_INVALID, "the message occurs twice", err);
    }
    if (place->repeated || known->type == PROTOBUF_C_TYPE_MESSAGE) {
        (*count)++;
    }
    return COF_OK;
}

/* `count` has the elements of this field that were seen before. */
static cof_code scan_field(const ProtobufCFieldDescriptor *known, const struct wire_field *field,
                           struct place *place, uint16_t *count, unsigned depth, struct cof_error *err)
{
    const wire_type expected = wire_type_of(known->type);
    place->field = known->name;
    place->repeated = known->label == PROTOBUF_C_LABEL_REPEATED;
    place->index = *count;
    if (field->type != expected) {
        return place->repeated && field->type == WIRE_BYTES
                   ? scan_packed(expected, field->bytes, place, count, err)
                   : refuse(place, COF_REASON_PAYLOAD_INVALID, "the field has the wrong wire type", err);
    }
    TRY(count_element(known, place, count, err));
    return expected == WIRE_BYTES ? scan_bytes(known, field->bytes, place, depth, err) : COF_OK;
}

/* The field of a number: the same one as before, or the next one, is the usual case. */
static const ProtobufCFieldDescriptor *find_known(const ProtobufCMessageDescriptor *type, uint32_t number,
                                                  const ProtobufCFieldDescriptor *last)
{
    if (last->id == number) {
        return last;
    }
    if (last + 1 < type->fields + type->n_fields && last[1].id == number) {
        return last + 1;
    }
    return protobuf_c_message_descriptor_get_field(type, number);
}

/* Elements are counted for each field of the message, in whatever order they come. */
static cof_code scan_fields(const ProtobufCMessageDescriptor *type, struct cof_slice bytes,
                            const struct place *outer, unsigned depth, struct cof_error *err)
{
    uint16_t counts[COUNTERS] = {0};
    struct place place = {.outer = outer};
    const ProtobufCFieldDescriptor *last = type->fields;
    assert(type->n_fields <= COUNTERS);
    while (bytes.len > 0) {
        struct wire_field field;
        if (!wire_take(&bytes, &field)) {
            return refuse(outer, COF_REASON_PAYLOAD_INVALID, "is cut, or is no protobuf message", err);
        }
        const ProtobufCFieldDescriptor *known = type->n_fields == 0 ? NULL : find_known(type, field.number, last);
        if (known != NULL) {
            TRY(scan_field(known, &field, &place, &counts[known - type->fields], depth, err));
            last = known;
        }
    }
    return COF_OK;
}

static cof_code scan(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, const struct place *outer,
                     unsigned depth, struct cof_error *err)
{
    return depth > COF_WIRE_DEPTH ? refuse(outer, COF_REASON_PAYLOAD_INVALID, "messages are nested too deeply", err)
                                  : scan_fields(type, bytes, outer, depth, err);
}

cof_code cof_wire_scan(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, struct cof_error *err)
{
    return scan(type, bytes, NULL, 0, err);
}

/* --- Packing -------------------------------------------------------------------------------------------------- */

/* Tells a message that does not fit into the arena from one that protobuf-c refuses. */
struct unpacking {
    struct cof_arena *arena;
    bool exhausted;
};

static void *allocate(void *context, size_t size)
{
    struct unpacking *unpacking = context;
    void *memory = cof_arena_alloc(unpacking->arena, size);
    unpacking->exhausted = unpacking->exhausted || memory == NULL;
    return memory;
}

static void keep(void *context, void *pointer)
{
    (void) context;
    (void) pointer;
}

cof_code cof_wire_unpack(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, struct cof_arena *arena,
                         ProtobufCMessage **ret_message, struct cof_error *err)
{
    TRY(cof_wire_scan(type, bytes, err));
    struct unpacking unpacking = {.arena = arena};
    ProtobufCAllocator allocator = {allocate, keep, &unpacking};
    /* protobuf-c takes a NULL pointer for an error, and an empty message may have one. */
    const uint8_t *data = bytes.data == NULL ? (const uint8_t *) "" : bytes.data;
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, bytes.len, data);
    if (message != NULL) {
        *ret_message = message;
        return COF_OK;
    }
    /* The scan has seen every byte; what is left are overlong tags and lengths, which protobuf-c refuses. */
    return unpacking.exhausted ? cof_arena_exhausted(err)
                               : cof_fail(err, COF_REASON_PAYLOAD_INVALID, "the payload cannot be decoded; %s",
                                          cof_reason_next_step(COF_REASON_PAYLOAD_INVALID));
}

cof_code cof_wire_pack(const ProtobufCMessage *message, struct cof_arena *arena, struct cof_slice *ret_bytes,
                       struct cof_error *err)
{
    const size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = cof_arena_alloc(arena, size);
    if (bytes == NULL) {
        return cof_arena_exhausted(err);
    }
    (void) protobuf_c_message_pack(message, bytes);
    *ret_bytes = cof_slice_of(bytes, size);
    return COF_OK;
}
