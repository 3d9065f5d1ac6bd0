#include "client/reflect/message_print.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/reflect/special.h"
#include "common/encode.h"
#include "common/name.h"
#include "common/sink.h"
#include "common/wire.h"

enum { NUMBER_TEXT = 320, FLOAT_DIGITS = 9, DOUBLE_DIGITS = 17, INDENT = 2 };

/* Written twice by the same code: the first time only counted. */
struct print {
    struct cof_sink sink;
    struct cof_arena *arena;
    struct cof_error *err;
};

static cof_code refuse(const struct print *print, const struct schema_entry *message)
{
    return cof_fail(print->err, COF_REASON_REPLY_INVALID, "the answer is no %s; %s", message->name,
                    cof_reason_next_step(COF_REASON_REPLY_INVALID));
}

/* --- Texts ---------------------------------------------------------------------------------------------------- */

static void put(struct print *print, const char *text)
{
    cof_sink_put_raw(&print->sink, cof_slice_text(text));
}

static void put_line(struct print *print, unsigned depth)
{
    static const char spaces[] = "                                ";
    size_t left = (size_t) INDENT * depth;
    put(print, "\n");
    while (left > 0) {
        const size_t part = left < sizeof spaces - 1 ? left : sizeof spaces - 1;
        cof_sink_put_raw(&print->sink, cof_slice_of(spaces, part));
        left -= part;
    }
}

/* What YAML has escaped, JSON reads the same; it is more than JSON asks for, and all that a terminal would obey. */
static void put_quoted(struct print *print, struct cof_slice text)
{
    put(print, "\"");
    cof_sink_put(&print->sink, COF_ENCODING_YAML, text);
    put(print, "\"");
}

static cof_code put_base64(struct print *print, struct cof_slice bytes)
{
    char *text = cof_arena_alloc(print->arena, COF_BASE64_SIZE(bytes.len));
    if (text == NULL) {
        return cof_arena_exhausted(print->err);
    }
    cof_base64_encode(bytes, text);
    put_quoted(print, cof_slice_text(text));
    return COF_OK;
}

/* --- Numbers -------------------------------------------------------------------------------------------------- */

/* The fewest digits that read back as the same number. */
static void real_text(double real, bool narrow, char text[NUMBER_TEXT])
{
    const int most = narrow ? FLOAT_DIGITS : DOUBLE_DIGITS;
    bool same = false;
    if (!isfinite(real)) {
        (void) snprintf(text, NUMBER_TEXT, "\"%s\"", isnan(real) ? "NaN" : real > 0 ? "Infinity" : "-Infinity");
        return;
    }
    for (int digits = 1; digits <= most && !same; digits++) {
        (void) snprintf(text, NUMBER_TEXT, "%.*g", digits, real);
        const double again = narrow ? (double) strtof(text, NULL) : strtod(text, NULL);
        same = again <= real && again >= real;
    }
}

static void put_real(struct print *print, schema_type type, uint64_t bits)
{
    char text[NUMBER_TEXT];
    double real;
    if (type == SCHEMA_TYPE_FLOAT) {
        const uint32_t narrow = (uint32_t) bits;
        float single;
        memcpy(&single, &narrow, sizeof single);
        real = (double) single;
    } else {
        memcpy(&real, &bits, sizeof real);
    }
    real_text(real, type == SCHEMA_TYPE_FLOAT, text);
    put(print, text);
}

static void put_enum(struct print *print, const struct schema_entry *type, int32_t number)
{
    char text[NUMBER_TEXT];
    for (size_t i = 0; i < type->value_count; i++) {
        if (type->values[i].number == number) {
            put_quoted(print, cof_slice_text(type->values[i].name));
            return;
        }
    }
    (void) snprintf(text, sizeof text, "%" PRId32, number);
    put(print, text);
}

static int64_t unzigzag(uint64_t bits)
{
    return (int64_t) (bits >> 1 ^ (~(bits & 1) + 1));
}

static void put_number(struct print *print, const struct schema_field *field, uint64_t bits)
{
    char text[NUMBER_TEXT] = "";
    switch (field->type) {
    case SCHEMA_TYPE_DOUBLE:
    case SCHEMA_TYPE_FLOAT:
        put_real(print, field->type, bits);
        break;
    case SCHEMA_TYPE_BOOL:
        put(print, bits == 0 ? "false" : "true");
        break;
    case SCHEMA_TYPE_ENUM:
        put_enum(print, field->of, (int32_t) bits);
        break;
    case SCHEMA_TYPE_INT64:
    case SCHEMA_TYPE_SFIXED64:
        (void) snprintf(text, sizeof text, "\"%" PRId64 "\"", (int64_t) bits);
        break;
    case SCHEMA_TYPE_SINT64:
        (void) snprintf(text, sizeof text, "\"%" PRId64 "\"", unzigzag(bits));
        break;
    case SCHEMA_TYPE_UINT64:
    case SCHEMA_TYPE_FIXED64:
        (void) snprintf(text, sizeof text, "\"%" PRIu64 "\"", bits);
        break;
    case SCHEMA_TYPE_INT32:
    case SCHEMA_TYPE_SFIXED32:
        (void) snprintf(text, sizeof text, "%" PRId32, (int32_t) bits);
        break;
    case SCHEMA_TYPE_SINT32:
        (void) snprintf(text, sizeof text, "%" PRId32, (int32_t) unzigzag((uint32_t) bits));
        break;
    case SCHEMA_TYPE_UINT32:
    case SCHEMA_TYPE_FIXED32:
        (void) snprintf(text, sizeof text, "%" PRIu32, (uint32_t) bits);
        break;
    case SCHEMA_TYPE_STRING:
    case SCHEMA_TYPE_MESSAGE:
    case SCHEMA_TYPE_BYTES:
        break;
    }
    put(print, text);
}

/* --- Fields on the wire --------------------------------------------------------------------------------------- */

/* The next field of that number; false at the end. `*ret_bad`: it is cut, or no field. */
static bool next_of(struct cof_slice *rest, uint32_t number, struct wire_field *ret_field, bool *ret_bad)
{
    while (rest->len > 0) {
        if (!wire_take(rest, ret_field)) {
            *ret_bad = true;
            return false;
        }
        if (ret_field->number == number) {
            return true;
        }
    }
    return false;
}

/* Of a field that stands there again the last is meant; messages are merged, which their bytes in a row are. */
static cof_code find_single(const struct print *print, const struct schema_entry *message,
                            const struct schema_field *field, struct cof_slice bytes, struct wire_field *ret_field,
                            bool *ret_found)
{
    struct cof_slice rest = bytes;
    struct wire_field found = {0};
    bool bad = false;
    *ret_found = false;
    while (next_of(&rest, field->number, &found, &bad)) {
        if (found.type != schema_wire(field->type)) {
            return refuse(print, message);
        }
        if (*ret_found && field->type == SCHEMA_TYPE_MESSAGE) {
            uint8_t *both = cof_arena_alloc(print->arena, ret_field->bytes.len + found.bytes.len);
            if (both == NULL) {
                return cof_arena_exhausted(print->err);
            }
            memcpy(both, ret_field->bytes.data, ret_field->bytes.len);
            memcpy(both + ret_field->bytes.len, found.bytes.data, found.bytes.len);
            found.bytes = cof_slice_of(both, ret_field->bytes.len + found.bytes.len);
        }
        *ret_field = found;
        *ret_found = true;
    }
    return bad ? refuse(print, message) : COF_OK;
}

/* Whether the last branch of the field's oneof is another. */
static bool is_overruled(const struct schema_entry *message, const struct schema_field *field,
                         struct cof_slice bytes)
{
    struct wire_field found;
    uint32_t last = field->number;
    while (field->oneof != SCHEMA_NO_ONEOF && bytes.len > 0 && wire_take(&bytes, &found)) {
        for (size_t i = 0; i < message->field_count; i++) {
            const struct schema_field *other = &message->fields[i];
            last = other->oneof == field->oneof && other->number == found.number ? other->number : last;
        }
    }
    return last != field->number;
}

/* --- Messages ------------------------------------------------------------------------------------------------- */

static cof_code print_message(struct print *print, const struct schema_entry *message, struct cof_slice bytes,
                              unsigned depth);

static cof_code read_span(const struct print *print, const struct schema_entry *message, struct cof_slice bytes,
                          struct special_span *ret_span)
{
    struct wire_field field;
    *ret_span = (struct special_span){0, 0};
    while (bytes.len > 0) {
        if (!wire_take(&bytes, &field)) {
            return refuse(print, message);
        }
        if (field.number == 1 && field.type == WIRE_VARINT) {
            ret_span->seconds = (int64_t) field.value;
        } else if (field.number == 2 && field.type == WIRE_VARINT) {
            ret_span->nanos = (int32_t) field.value;
        }
    }
    return COF_OK;
}

static cof_code print_span(struct print *print, const struct schema_entry *message, struct cof_slice bytes)
{
    struct special_span span;
    char text[SPECIAL_TEXT];
    TRY(read_span(print, message, bytes, &span));
    if (message->special == SCHEMA_TIMESTAMP ? !special_write_time(span, text)
                                             : !special_write_duration(span, text)) {
        return refuse(print, message);
    }
    put_quoted(print, cof_slice_text(text));
    return COF_OK;
}

static cof_code print_mask(struct print *print, const struct schema_entry *message, struct cof_slice bytes)
{
    struct wire_field path;
    const char *between = "";
    bool bad = false;
    put(print, "\"");
    while (next_of(&bytes, 1, &path, &bad)) {
        uint8_t *text = cof_arena_alloc(print->arena, path.bytes.len);
        size_t length = 0;
        if (text == NULL) {
            return cof_arena_exhausted(print->err);
        }
        if (path.type != WIRE_BYTES || !cof_text_valid(path.bytes) || !special_camel(path.bytes, text, &length)) {
            return refuse(print, message);
        }
        put(print, between);
        cof_sink_put(&print->sink, COF_ENCODING_YAML, cof_slice_of(text, length));
        between = ",";
    }
    put(print, "\"");
    return bad ? refuse(print, message) : COF_OK;
}

/* A single value, which has the field's way to stand on the wire. */
static cof_code print_value(struct print *print, const struct schema_field *field, const struct wire_field *value,
                            unsigned depth)
{
    if (field->type == SCHEMA_TYPE_STRING) {
        put_quoted(print, value->bytes);
        return COF_OK;
    }
    if (field->type == SCHEMA_TYPE_BYTES) {
        return put_base64(print, value->bytes);
    }
    if (field->type != SCHEMA_TYPE_MESSAGE) {
        put_number(print, field, value->value);
        return COF_OK;
    }
    if (field->of->special == SCHEMA_FIELD_MASK) {
        return print_mask(print, field->of, value->bytes);
    }
    return field->of->special == SCHEMA_PLAIN ? print_message(print, field->of, value->bytes, depth)
                                              : print_span(print, field->of, value->bytes);
}

/* Texts are checked before anything is done with them. */
static cof_code print_checked(struct print *print, const struct schema_entry *message,
                              const struct schema_field *field, const struct wire_field *value, unsigned depth)
{
    const bool text = field->type == SCHEMA_TYPE_STRING;
    if (value->type != schema_wire(field->type) || (text && !cof_sink_accepts(value->bytes))) {
        return refuse(print, message);
    }
    return print_value(print, field, value, depth);
}

/* The next number of a packed field. */
static bool take_packed(struct cof_slice *rest, wire_type wire, uint64_t *ret_bits)
{
    if (wire == WIRE_VARINT) {
        return varint_take(rest, ret_bits);
    }
    const size_t size = wire == WIRE_FIXED32 ? sizeof(uint32_t) : sizeof(uint64_t);
    if (rest->len < size) {
        return false;
    }
    *ret_bits = 0;
    for (size_t i = 0; i < size; i++) {
        *ret_bits |= (uint64_t) rest->data[i] << (8 * i);
    }
    *rest = cof_slice_of(rest->data + size, rest->len - size);
    return true;
}

struct list {
    const struct schema_entry *message;
    const struct schema_field *field;
    unsigned depth;
    size_t count;
};

static void begin_item(struct print *print, struct list *list)
{
    put(print, list->count++ == 0 ? "" : ",");
    put_line(print, list->depth + 1);
}

/* One occurrence of a repeated field: an item, or several that are packed. */
static cof_code print_items(struct print *print, struct list *list, const struct wire_field *found)
{
    const wire_type wire = schema_wire(list->field->type);
    struct cof_slice rest = found->bytes;
    if (found->type != WIRE_BYTES || wire == WIRE_BYTES) {
        begin_item(print, list);
        return print_checked(print, list->message, list->field, found, list->depth + 1);
    }
    while (rest.len > 0) {
        struct wire_field item = {.number = found->number, .type = wire};
        if (!take_packed(&rest, wire, &item.value)) {
            return refuse(print, list->message);
        }
        begin_item(print, list);
        TRY(print_value(print, list->field, &item, list->depth + 1));
    }
    return COF_OK;
}

/* Whether a value has quotes of its own: texts, and numbers of 64 bits. */
static bool is_quoted(schema_type type)
{
    return type != SCHEMA_TYPE_BOOL && type != SCHEMA_TYPE_INT32 && type != SCHEMA_TYPE_SINT32 &&
           type != SCHEMA_TYPE_UINT32 && schema_wire(type) != WIRE_FIXED32;
}

/* A map's entry; a key or value that is not there is its zero. */
static cof_code print_pair(struct print *print, const struct schema_entry *entry, struct cof_slice bytes,
                           unsigned depth)
{
    struct wire_field key = {.type = schema_wire(entry->fields[0].type)};
    struct wire_field value = {.type = schema_wire(entry->fields[1].type)};
    struct wire_field found;
    bool there = false;
    TRY(find_single(print, entry, &entry->fields[0], bytes, &found, &there));
    key = there ? found : key;
    TRY(find_single(print, entry, &entry->fields[1], bytes, &found, &there));
    value = there ? found : value;
    const char *quote = is_quoted(entry->fields[0].type) ? "" : "\"";
    put(print, quote);
    TRY(print_checked(print, entry, &entry->fields[0], &key, depth));
    put(print, quote);
    put(print, ": ");
    return print_checked(print, entry, &entry->fields[1], &value, depth);
}

static void put_name(struct print *print, const struct schema_field *field, unsigned depth, bool *any)
{
    put(print, *any ? "," : "");
    put_line(print, depth);
    put_quoted(print, cof_slice_text(field->json_name));
    put(print, ": ");
    *any = true;
}

static cof_code print_list(struct print *print, struct list *list, struct cof_slice bytes, bool *any)
{
    const bool map = list->field->of != NULL && list->field->of->is_map;
    struct wire_field found;
    bool bad = false;
    while (next_of(&bytes, list->field->number, &found, &bad)) {
        if (list->count == 0) {
            put_name(print, list->field, list->depth, any);
            put(print, map ? "{" : "[");
        }
        if (map && found.type == WIRE_BYTES) {
            begin_item(print, list);
            TRY(print_pair(print, list->field->of, found.bytes, list->depth + 1));
        } else {
            TRY(print_items(print, list, &found));
        }
    }
    if (list->count > 0) {
        put_line(print, list->depth);
        put(print, map ? "}" : "]");
    }
    return bad ? refuse(print, list->message) : COF_OK;
}

static bool is_zero(const struct schema_field *field, const struct wire_field *value)
{
    return schema_wire(field->type) == WIRE_BYTES ? value->bytes.len == 0 : value->value == 0;
}

static cof_code print_field(struct print *print, const struct schema_entry *message,
                            const struct schema_field *field, struct cof_slice bytes, struct list *list, bool *any)
{
    struct wire_field value;
    bool found = false;
    if (field->repeated) {
        return print_list(print, list, bytes, any);
    }
    TRY(find_single(print, message, field, bytes, &value, &found));
    if (!found || (!field->presence && is_zero(field, &value)) || is_overruled(message, field, bytes)) {
        return COF_OK;
    }
    put_name(print, field, list->depth, any);
    return print_checked(print, message, field, &value, list->depth);
}

static cof_code print_message(struct print *print, const struct schema_entry *message, struct cof_slice bytes,
                              unsigned depth)
{
    bool any = false;
    if (depth > COF_WIRE_DEPTH) {
        return refuse(print, message);
    }
    put(print, "{");
    for (size_t i = 0; i < message->field_count; i++) {
        struct list list = {message, &message->fields[i], depth + 1, 0};
        TRY(print_field(print, message, &message->fields[i], bytes, &list, &any));
    }
    if (any) {
        put_line(print, depth);
    }
    put(print, "}");
    return COF_OK;
}

cof_code message_print(const struct schema_entry *message, struct cof_slice bytes, struct cof_arena *arena,
                       struct cof_slice *ret_json, struct cof_error *err)
{
    struct print print = {.arena = arena, .err = err};
    TRY(print_message(&print, message, bytes, 0));
    const size_t size = print.sink.used + 1;
    print.sink = (struct cof_sink){.to = cof_arena_alloc(arena, size), .room = size};
    if (print.sink.to == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(print_message(&print, message, bytes, 0));
    put(&print, "\n");
    *ret_json = cof_slice_of(print.sink.to, print.sink.used);
    return COF_OK;
}
