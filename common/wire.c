#include "common/wire.h"

#include <stdio.h>

#include "common/name.h"
#include "common/varint.h"

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

/* Elements of a packed field: each varint ends with a byte below 128. */
static bool packed_fits(struct cof_slice bytes, wire_type type)
{
    if (type == WIRE_FIXED32 || type == WIRE_FIXED64) {
        const size_t size = type == WIRE_FIXED32 ? 4 : 8;
        return bytes.len % size == 0 && bytes.len / size <= COF_WIRE_REPEATED_MAX;
    }
    size_t count = 0;
    while (bytes.len > 0) {
        uint64_t value;
        if (!varint_take(&bytes, &value) || ++count > COF_WIRE_REPEATED_MAX) {
            return false;
        }
    }
    return true;
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

static cof_code scan_field(const ProtobufCFieldDescriptor *known, const struct wire_field *field,
                           const struct place *place, unsigned depth, struct cof_error *err)
{
    const wire_type expected = wire_type_of(known->type);
    if (field->type == expected) {
        return expected == WIRE_BYTES ? scan_bytes(known, field->bytes, place, depth, err) : COF_OK;
    }
    if (known->label == PROTOBUF_C_LABEL_REPEATED && field->type == WIRE_BYTES &&
        packed_fits(field->bytes, expected)) {
        return COF_OK;
    }
    return refuse(place, COF_REASON_PAYLOAD_INVALID, "the field has the wrong wire type", err);
}

/* The field of a number: the same one as before, or the next one, is the usual case. */
static const ProtobufCFieldDescriptor *find_known(const ProtobufCMessageDescriptor *type, uint32_t number,
                                                  const ProtobufCFieldDescriptor *last)
{
    if (last != NULL && last->id == number) {
        return last;
    }
    return protobuf_c_message_descriptor_get_field(type, number);
}

static cof_code scan(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, const struct place *outer,
                     unsigned depth, struct cof_error *err)
{
    const ProtobufCFieldDescriptor *last = NULL;
    struct place place = {.outer = outer};
    if (depth > COF_WIRE_DEPTH) {
        return refuse(outer, COF_REASON_PAYLOAD_INVALID, "messages are nested too deeply", err);
    }
    while (bytes.len > 0) {
        struct wire_field field;
        if (!wire_take(&bytes, &field)) {
            return refuse(outer, COF_REASON_PAYLOAD_INVALID, "is cut, or is no protobuf message", err);
        }
        const ProtobufCFieldDescriptor *known = find_known(type, field.number, last);
        if (known == NULL) {
            continue;
        }
        place.index = known == last ? place.index + 1 : 0;
        place.field = known->name;
        place.repeated = known->label == PROTOBUF_C_LABEL_REPEATED;
        if (place.repeated && place.index >= COF_WIRE_REPEATED_MAX) {
            return refuse(&place, COF_REASON_PAYLOAD_INVALID, "the field has too many elements", err);
        }
        TRY(scan_field(known, &field, &place, depth, err));
        last = known;
    }
    return COF_OK;
}

cof_code cof_wire_scan(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, struct cof_error *err)
{
    return scan(type, bytes, NULL, 0, err);
}

/* --- Packing -------------------------------------------------------------------------------------------------- */

cof_code cof_wire_unpack(const ProtobufCMessageDescriptor *type, struct cof_slice bytes, struct cof_arena *arena,
                         ProtobufCMessage **ret_message, struct cof_error *err)
{
    TRY(cof_wire_scan(type, bytes, err));
    /* protobuf-c reads a NULL pointer as an error, an empty message has one. */
    const uint8_t *data = bytes.data == NULL ? (const uint8_t *) "" : bytes.data;
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &arena->allocator, bytes.len, data);
    if (message == NULL) {
        /* The scan has seen every byte, so only memory can be missing, or a rule that protobuf-c alone has. */
        return cof_arena_alloc(arena, bytes.len * 2) == NULL
                   ? cof_arena_exhausted(err)
                   : cof_fail(err, COF_REASON_PAYLOAD_INVALID, "the payload cannot be decoded; %s",
                              cof_reason_next_step(COF_REASON_PAYLOAD_INVALID));
    }
    *ret_message = message;
    return COF_OK;
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
