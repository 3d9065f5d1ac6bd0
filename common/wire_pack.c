#include <endian.h>

#include "common/varint.h"
#include "common/wire.h"

/*
 * Messages written from their end to their beginning: what an inner message takes is known when its length is written, so
 * nothing is measured before. protobuf-c measures every message first, which costs as much as packing it.
 *
 * The bytes are those that protobuf-c packs.
 */

struct packing {
    uint8_t *start;
    uint8_t *at; /* the bytes from here on are written */
    bool full;
};

/* Room before what is written; NULL if there is none. */
static uint8_t *take(struct packing *packing, size_t size)
{
    if ((size_t) (packing->at - packing->start) < size) {
        packing->full = true;
        return NULL;
    }
    packing->at -= size;
    return packing->at;
}

static void put_bytes(struct packing *packing, const void *data, size_t size)
{
    uint8_t *to = size == 0 ? NULL : take(packing, size);
    if (to != NULL) {
        memcpy(to, data, size);
    }
}

/* Nearly all are tags, lengths and counts of one byte. */
static void put_varint(struct packing *packing, uint64_t value)
{
    const bool small = value < 128;
    uint8_t *to = take(packing, small ? 1 : varint_size(value));
    if (to != NULL && small) {
        *to = (uint8_t) value;
    } else if (to != NULL) {
        (void) varint_put(to, value);
    }
}

static void put_tag(struct packing *packing, uint32_t number, wire_type type)
{
    put_varint(packing, (uint64_t) number << 3 | type);
}

/* Of what was written since. */
static void put_length(struct packing *packing, const uint8_t *end)
{
    put_varint(packing, (uint64_t) (end - packing->at));
}

/* --- Values --------------------------------------------------------------------------------------------------- */

static uint32_t word_at(const void *member)
{
    uint32_t word;
    memcpy(&word, member, sizeof word);
    return word;
}

static uint64_t long_word_at(const void *member)
{
    uint64_t word;
    memcpy(&word, member, sizeof word);
    return word;
}

static void put_fixed32(struct packing *packing, const void *member)
{
    const uint32_t word = htole32(word_at(member));
    put_bytes(packing, &word, sizeof word);
}

static void put_fixed64(struct packing *packing, const void *member)
{
    const uint64_t word = htole64(long_word_at(member));
    put_bytes(packing, &word, sizeof word);
}

static uint64_t zigzag(int64_t value)
{
    return (uint64_t) value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

static void put_text(struct packing *packing, const void *member)
{
    const char *text = *(const char *const *) member;
    const size_t length = text == NULL ? 0 : strlen(text);
    put_bytes(packing, text, length);
    put_varint(packing, length);
}

static void put_data(struct packing *packing, const void *member)
{
    const ProtobufCBinaryData *data = member;
    put_bytes(packing, data->data, data->len);
    put_varint(packing, data->len);
}

static void put_message(struct packing *packing, const ProtobufCMessage *message);

static void put_inner(struct packing *packing, const void *member)
{
    const ProtobufCMessage *inner = *(const ProtobufCMessage *const *) member;
    const uint8_t *end = packing->at;
    if (inner != NULL) {
        put_message(packing, inner);
    }
    put_length(packing, end);
}

/* Puts a value without its tag; returns how it stands on the wire. */
static wire_type put_value(struct packing *packing, ProtobufCType type, const void *member)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_ENUM:
        put_varint(packing, (uint64_t) (int64_t) (int32_t) word_at(member));
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_UINT32:
        put_varint(packing, word_at(member));
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_SINT32:
        put_varint(packing, (uint32_t) zigzag((int32_t) word_at(member)));
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_BOOL:
        put_varint(packing, word_at(member) != 0);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        put_varint(packing, long_word_at(member));
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_SINT64:
        put_varint(packing, zigzag((int64_t) long_word_at(member)));
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        put_fixed32(packing, member);
        return WIRE_FIXED32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        put_fixed64(packing, member);
        return WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
        put_text(packing, member);
        return WIRE_BYTES;
    case PROTOBUF_C_TYPE_BYTES:
        put_data(packing, member);
        return WIRE_BYTES;
    case PROTOBUF_C_TYPE_MESSAGE:
        put_inner(packing, member);
        break;
    }
    return WIRE_BYTES;
}

/* --- Fields --------------------------------------------------------------------------------------------------- */

static const uint8_t element_sizes[] = {
    [PROTOBUF_C_TYPE_INT32] = sizeof(uint32_t),          [PROTOBUF_C_TYPE_SINT32] = sizeof(uint32_t),
    [PROTOBUF_C_TYPE_SFIXED32] = sizeof(uint32_t),       [PROTOBUF_C_TYPE_INT64] = sizeof(uint64_t),
    [PROTOBUF_C_TYPE_SINT64] = sizeof(uint64_t),         [PROTOBUF_C_TYPE_SFIXED64] = sizeof(uint64_t),
    [PROTOBUF_C_TYPE_UINT32] = sizeof(uint32_t),         [PROTOBUF_C_TYPE_FIXED32] = sizeof(uint32_t),
    [PROTOBUF_C_TYPE_UINT64] = sizeof(uint64_t),         [PROTOBUF_C_TYPE_FIXED64] = sizeof(uint64_t),
    [PROTOBUF_C_TYPE_FLOAT] = sizeof(uint32_t),          [PROTOBUF_C_TYPE_DOUBLE] = sizeof(uint64_t),
    [PROTOBUF_C_TYPE_BOOL] = sizeof(protobuf_c_boolean), [PROTOBUF_C_TYPE_ENUM] = sizeof(uint32_t),
    [PROTOBUF_C_TYPE_STRING] = sizeof(void *),           [PROTOBUF_C_TYPE_BYTES] = sizeof(ProtobufCBinaryData),
    [PROTOBUF_C_TYPE_MESSAGE] = sizeof(void *),
};

_Static_assert(sizeof(protobuf_c_boolean) == sizeof(uint32_t), "booleans are read as words");

static void put_repeated(struct packing *packing, const ProtobufCFieldDescriptor *field, size_t count,
                         const uint8_t *items)
{
    const size_t size = element_sizes[field->type];
    const bool packed = (field->flags & PROTOBUF_C_FIELD_FLAG_PACKED) != 0;
    const uint8_t *end = packing->at;
    for (size_t i = count; i-- > 0 && !packing->full;) {
        const wire_type type = put_value(packing, field->type, items + i * size);
        if (!packed) {
            put_tag(packing, field->id, type);
        }
    }
    if (packed && count > 0) {
        put_length(packing, end);
        put_tag(packing, field->id, WIRE_BYTES);
    }
}

/* Whether a number or boolean is 0, a text empty or not there, bytes without length, a message not there. */
static bool is_zero(ProtobufCType type, const void *member)
{
    if (type == PROTOBUF_C_TYPE_STRING) {
        const char *text = *(const char *const *) member;
        return text == NULL || text[0] == '\0';
    }
    /* Zero with a sign is zero, too: without the sign all bits are. */
    if (type == PROTOBUF_C_TYPE_FLOAT) {
        return word_at(member) << 1 == 0;
    }
    if (type == PROTOBUF_C_TYPE_DOUBLE) {
        return long_word_at(member) << 1 == 0;
    }
    return element_sizes[type] == sizeof(uint32_t) ? word_at(member) == 0 : long_word_at(member) == 0;
}

_Static_assert(sizeof(size_t) == sizeof(uint64_t) && offsetof(ProtobufCBinaryData, len) == 0,
               "the length of bytes is read as their first long word");

/* Whether a field that may be left out is there. */
static bool is_there(const ProtobufCFieldDescriptor *field, const void *member, const void *quantifier)
{
    const bool pointer = field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 && word_at(quantifier) != field->id) {
        return false;
    }
    if (field->label == PROTOBUF_C_LABEL_NONE && (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) {
        return !is_zero(field->type, member);
    }
    if (pointer) {
        const void *value = *(const void *const *) member;
        return value != NULL && value != field->default_value;
    }
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 || word_at(quantifier) != 0;
}

static void put_field(struct packing *packing, const ProtobufCFieldDescriptor *field, const uint8_t *message)
{
    const uint8_t *member = message + field->offset;
    const uint8_t *quantifier = message + field->quantifier_offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        put_repeated(packing, field, long_word_at(quantifier), *(const uint8_t *const *) (const void *) member);
    } else if (field->label == PROTOBUF_C_LABEL_REQUIRED || is_there(field, member, quantifier)) {
        put_tag(packing, field->id, put_value(packing, field->type, member));
    }
}

static void put_message(struct packing *packing, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    for (unsigned i = message->n_unknown_fields; i-- > 0;) {
        const ProtobufCMessageUnknownField *unknown = &message->unknown_fields[i];
        put_bytes(packing, unknown->data, unknown->len);
        put_tag(packing, unknown->tag, (wire_type) unknown->wire_type);
    }
    for (unsigned i = type->n_fields; i-- > 0 && !packing->full;) {
        put_field(packing, &type->fields[i], (const uint8_t *) message);
    }
}

bool cof_wire_pack_at_end(const ProtobufCMessage *message, uint8_t *room, size_t size, struct cof_slice *ret_bytes)
{
    struct packing packing = {.start = room, .at = room + size};
    put_message(&packing, message);
    *ret_bytes = cof_slice_of(packing.at, (size_t) (room + size - packing.at));
    return !packing.full;
}
