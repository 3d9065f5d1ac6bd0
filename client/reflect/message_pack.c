#include "client/reflect/message_pack.h"

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/reflect/special.h"
#include "common/encode.h"
#include "common/json.h"

enum {
    NUMBER_TEXT = 400,
    PATH_TEXT = 200,
    INDEX_TEXT = 24,
    PROBLEM_TEXT = 200,
    NAME_SHOWN = 60,
    WIRE_BITS = 3,
    NO_INDEX = -1
};

/* Whole numbers up to here are exact in a double. */
#define EXACT_MOST 9007199254740992.0

struct pack {
    struct cof_json_scan scan;
    struct cof_arena *arena;
    struct cof_error *err;
    uint8_t *data;
    size_t used;
    size_t room;
};

/* Where a value belongs: a field of the message above, perhaps an item of it. */
struct spot {
    const struct spot *up;
    const struct schema_field *field;
    long index;
    struct cof_place place;
};

/* --- Failures ------------------------------------------------------------------------------------------------- */

/* "items[3].references", cut if it is long; returns its length. Nothing for NULL, the message itself. */
static size_t path_text(const struct spot *spot, char text[PATH_TEXT])
{
    char index[INDEX_TEXT] = "";
    text[0] = '\0';
    if (spot == NULL) {
        return 0;
    }
    const size_t begin = path_text(spot->up, text);
    if (spot->index != NO_INDEX) {
        (void) snprintf(index, sizeof index, "[%ld]", spot->index);
    }
    (void) snprintf(text + begin, PATH_TEXT - begin, "%s%.80s%s", begin == 0 ? "" : ".", spot->field->json_name,
                    index);
    return begin + strlen(text + begin);
}

/* `spot` is NULL for the message itself. */
static cof_code refuse(const struct pack *pack, const struct spot *spot, struct cof_place place, const char *format,
                       ...) COF_PRINTF(4, 5);

static cof_code refuse(const struct pack *pack, const struct spot *spot, struct cof_place place, const char *format,
                       ...)
{
    char path[PATH_TEXT];
    char problem[PROBLEM_TEXT];
    va_list args;
    va_start(args, format);
    (void) vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    (void) path_text(spot, path);
    return cof_fail_field(pack->err, COF_REASON_FIELD_INVALID, path, "line %u, column %u: %s%s%s", place.line,
                          place.column, path, path[0] == '\0' ? "" : ": ", problem);
}

static cof_code wants(const struct pack *pack, const struct spot *spot, const char *what)
{
    return refuse(pack, spot, spot->place, "%s must stand here", what);
}

/* --- Output --------------------------------------------------------------------------------------------------- */

static cof_code make_room(const struct pack *pack, size_t more)
{
    if (more <= pack->room - pack->used) {
        return COF_OK;
    }
    return cof_fail(pack->err, COF_REASON_LIMIT_EXCEEDED,
                    "the request has more than %zu bytes, which no server takes; send less at once", pack->room);
}

static cof_code put(struct pack *pack, struct cof_slice bytes)
{
    TRY(make_room(pack, bytes.len));
    if (bytes.len > 0) {
        memcpy(pack->data + pack->used, bytes.data, bytes.len);
    }
    pack->used += bytes.len;
    return COF_OK;
}

static cof_code put_varint(struct pack *pack, uint64_t value)
{
    TRY(make_room(pack, varint_size(value)));
    pack->used = (size_t) (varint_put(pack->data + pack->used, value) - pack->data);
    return COF_OK;
}

/* Little-endian. */
static cof_code put_fixed(struct pack *pack, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t) (value >> (8 * i));
    }
    return put(pack, cof_slice_of(bytes, size));
}

static cof_code put_tag(struct pack *pack, uint32_t number, wire_type type)
{
    return put_varint(pack, (uint64_t) number << WIRE_BITS | (uint64_t) type);
}

/* Puts its length in front of what was written since `begin`. */
static cof_code put_length_at(struct pack *pack, size_t begin)
{
    const size_t length = pack->used - begin;
    const size_t size = varint_size(length);
    TRY(make_room(pack, size));
    memmove(pack->data + begin + size, pack->data + begin, length);
    (void) varint_put(pack->data + begin, length);
    pack->used += size;
    return COF_OK;
}

/* --- Numbers -------------------------------------------------------------------------------------------------- */

/* The decoded text of a key or string, in the arena. */
static cof_code text_of(const struct pack *pack, const struct spot *spot, struct cof_slice raw,
                        struct cof_slice *ret_text)
{
    uint8_t *text = cof_arena_alloc(pack->arena, raw.len);
    size_t length = 0;
    if (text == NULL) {
        return cof_arena_exhausted(pack->err);
    }
    if (!cof_json_decode(raw, text, &length)) {
        return refuse(pack, spot, pack->scan.at, "half of a surrogate pair, which is no character");
    }
    *ret_text = cof_slice_of(text, length);
    return COF_OK;
}

static bool is_word(const struct cof_json_event *event, const char *word)
{
    return event->kind == COF_JSON_WORD && cof_slice_equal(event->raw, cof_slice_text(word));
}

/* The text of a number, which JSON may give as a number or as a string; with a NUL behind it. */
static cof_code number_text(const struct pack *pack, const struct spot *spot, const struct cof_json_event *event,
                            char text[NUMBER_TEXT])
{
    struct cof_slice given = event->raw;
    if (event->kind == COF_JSON_STRING) {
        TRY(text_of(pack, spot, event->raw, &given));
    }
    const bool given_so = event->kind == COF_JSON_STRING || event->kind == COF_JSON_WORD;
    const bool word = is_word(event, "true") || is_word(event, "false") || is_word(event, "null");
    if (!given_so || word || given.len >= NUMBER_TEXT || memchr(given.data, '\0', given.len) != NULL) {
        return wants(pack, spot, "a number");
    }
    memcpy(text, given.data, given.len);
    text[given.len] = '\0';
    return COF_OK;
}

/* strtod and strtoll pass over white space and a plus sign, which no number of JSON begins with. */
static bool begins_number(const char *text)
{
    text += text[0] == '-';
    return text[0] >= '0' && text[0] <= '9';
}

struct range {
    int64_t least;
    uint64_t most;
};

static struct range range_of(schema_type type)
{
    switch (schema_wire(type) == WIRE_FIXED32 ? SCHEMA_TYPE_INT32 : type) {
    case SCHEMA_TYPE_INT64:
    case SCHEMA_TYPE_SINT64:
    case SCHEMA_TYPE_SFIXED64:
        return (struct range){INT64_MIN, INT64_MAX};
    case SCHEMA_TYPE_UINT64:
    case SCHEMA_TYPE_FIXED64:
        return (struct range){0, UINT64_MAX};
    case SCHEMA_TYPE_UINT32:
        return (struct range){0, UINT32_MAX};
    case SCHEMA_TYPE_INT32:
    case SCHEMA_TYPE_SINT32:
    case SCHEMA_TYPE_ENUM:
    case SCHEMA_TYPE_DOUBLE:
    case SCHEMA_TYPE_FLOAT:
    case SCHEMA_TYPE_FIXED32:
    case SCHEMA_TYPE_SFIXED32:
    case SCHEMA_TYPE_BOOL:
    case SCHEMA_TYPE_STRING:
    case SCHEMA_TYPE_BYTES:
    case SCHEMA_TYPE_MESSAGE:
        break;
    }
    return type == SCHEMA_TYPE_FIXED32 ? (struct range){0, UINT32_MAX} : (struct range){INT32_MIN, INT32_MAX};
}

/* A whole number in two's complement; also "1e3" and "2.0", as the mapping has it. */
static bool read_whole(const char *text, struct range range, uint64_t *ret_number)
{
    char *end = NULL;
    const bool negative = text[0] == '-';
    if (!begins_number(text)) {
        return false;
    }
    errno = 0;
    uint64_t number = negative ? (uint64_t) strtoll(text, &end, 10) : strtoull(text, &end, 10);
    bool fits = errno == 0;
    if (*end != '\0') {
        const double real = strtod(text, &end);
        const int64_t whole = fabs(real) <= EXACT_MOST ? (int64_t) real : INT64_MAX;
        fits = *end == '\0' && (double) whole <= real && (double) whole >= real;
        number = (uint64_t) whole;
    }
    *ret_number = number;
    return fits && (negative ? (int64_t) number >= range.least : number <= range.most);
}

static cof_code read_integer(const struct pack *pack, const struct spot *spot, const struct cof_json_event *event,
                             uint64_t *ret_bits)
{
    char text[NUMBER_TEXT] = "";
    const schema_type type = spot->field->type;
    const struct range range = range_of(type);
    uint64_t number = 0;
    TRY(number_text(pack, spot, event, text));
    if (!read_whole(text, range, &number)) {
        return refuse(pack, spot, spot->place, "a whole number from %lld to %llu must stand here",
                      (long long) range.least, (unsigned long long) range.most);
    }
    if (type == SCHEMA_TYPE_SINT32 || type == SCHEMA_TYPE_SINT64) {
        number = number << 1 ^ ((int64_t) number < 0 ? UINT64_MAX : 0);
    }
    *ret_bits = number;
    return COF_OK;
}

static cof_code read_real(const struct pack *pack, const struct spot *spot, const struct cof_json_event *event,
                          uint64_t *ret_bits)
{
    char text[NUMBER_TEXT] = "";
    char *end = text;
    TRY(number_text(pack, spot, event, text));
    const bool named = strcmp(text, "NaN") == 0 || strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0;
    const double real = named || begins_number(text) ? strtod(text, &end) : 0;
    const bool narrow = spot->field->type == SCHEMA_TYPE_FLOAT;
    const bool fits = named || (isfinite(real) && (!narrow || fabs(real) <= (double) FLT_MAX));
    if (end == text || *end != '\0' || strpbrk(text, "xXpP") != NULL || !fits) {
        return wants(pack, spot, narrow ? "a number that a float holds" : "a number that a double holds");
    }
    if (narrow) {
        const float single = (float) real;
        uint32_t bits;
        memcpy(&bits, &single, sizeof bits);
        *ret_bits = bits;
    } else {
        memcpy(ret_bits, &real, sizeof real);
    }
    return COF_OK;
}

static cof_code read_enum(const struct pack *pack, const struct spot *spot, const struct cof_json_event *event,
                          uint64_t *ret_bits)
{
    const struct schema_entry *type = spot->field->of;
    struct cof_slice name = {NULL, 0};
    if (event->kind != COF_JSON_STRING) {
        return read_integer(pack, spot, event, ret_bits);
    }
    TRY(text_of(pack, spot, event->raw, &name));
    for (size_t i = 0; i < type->value_count; i++) {
        if (cof_slice_equal(cof_slice_text(type->values[i].name), name)) {
            *ret_bits = (uint64_t) (int64_t) type->values[i].number;
            return COF_OK;
        }
    }
    return refuse(pack, spot, spot->place, "this is no value of %s; coffer rpc describe %s lists them", type->name,
                  type->name);
}

/* The bits of a number on the wire. */
static cof_code read_bits(const struct pack *pack, const struct spot *spot, const struct cof_json_event *event,
                          uint64_t *ret_bits)
{
    const schema_type type = spot->field->type;
    if (type == SCHEMA_TYPE_ENUM) {
        return read_enum(pack, spot, event, ret_bits);
    }
    if (type == SCHEMA_TYPE_DOUBLE || type == SCHEMA_TYPE_FLOAT) {
        return read_real(pack, spot, event, ret_bits);
    }
    if (type == SCHEMA_TYPE_BOOL) {
        *ret_bits = is_word(event, "true");
        return *ret_bits != 0 || is_word(event, "false") ? COF_OK : wants(pack, spot, "true or false");
    }
    return read_integer(pack, spot, event, ret_bits);
}

static cof_code put_bits(struct pack *pack, schema_type type, uint64_t bits)
{
    const wire_type wire = schema_wire(type);
    return wire == WIRE_VARINT ? put_varint(pack, bits)
                               : put_fixed(pack, bits, wire == WIRE_FIXED32 ? sizeof(uint32_t) : sizeof bits);
}

/* --- Texts ---------------------------------------------------------------------------------------------------- */

/* Makes the standard alphabet with padding of the other forms that the mapping allows, in place. */
static cof_code standard_base64(const struct pack *pack, struct cof_slice *text)
{
    uint8_t *padded = cof_arena_alloc(pack->arena, text->len + 3);
    size_t length = text->len;
    if (padded == NULL) {
        return cof_arena_exhausted(pack->err);
    }
    for (size_t i = 0; i < length; i++) {
        const uint8_t byte = text->data[i];
        padded[i] = byte == '-' ? '+' : byte == '_' ? '/' : byte;
    }
    while (length % 4 != 0) {
        padded[length++] = '=';
    }
    *text = cof_slice_of(padded, length);
    return COF_OK;
}

static cof_code put_base64(struct pack *pack, const struct spot *spot, struct cof_slice text)
{
    size_t size = 0;
    TRY(standard_base64(pack, &text));
    uint8_t *bytes = cof_arena_alloc(pack->arena, text.len);
    if (bytes == NULL) {
        return cof_arena_exhausted(pack->err);
    }
    if (!cof_base64_decode(text, bytes, &size)) {
        return wants(pack, spot, "bytes in base64 (printf '%s' VALUE | base64)");
    }
    return put(pack, cof_slice_of(bytes, size));
}

/* The body of a string or of bytes. */
static cof_code put_text(struct pack *pack, const struct spot *spot, const struct cof_json_event *event)
{
    struct cof_slice text = {NULL, 0};
    const bool bytes = spot->field->type == SCHEMA_TYPE_BYTES;
    if (event->kind != COF_JSON_STRING && event->kind != COF_JSON_KEY) {
        return wants(pack, spot, bytes ? "bytes as a text in base64" : "a text in double quotes");
    }
    TRY(text_of(pack, spot, event->raw, &text));
    return bytes ? put_base64(pack, spot, text) : put(pack, text);
}

static cof_code put_span(struct pack *pack, struct special_span span)
{
    if (span.seconds != 0) {
        TRY(put_tag(pack, 1, WIRE_VARINT));
        TRY(put_varint(pack, (uint64_t) span.seconds));
    }
    if (span.nanos != 0) {
        TRY(put_tag(pack, 2, WIRE_VARINT));
        TRY(put_varint(pack, (uint64_t) (int64_t) span.nanos));
    }
    return COF_OK;
}

static cof_code put_mask(struct pack *pack, const struct spot *spot, struct cof_slice text)
{
    uint8_t *path = cof_arena_array(pack->arena, text.len, 2);
    size_t length = 0;
    if (path == NULL) {
        return cof_arena_exhausted(pack->err);
    }
    while (text.len > 0) {
        const uint8_t *comma = memchr(text.data, ',', text.len);
        const size_t size = comma == NULL ? text.len : (size_t) (comma - text.data);
        if (!special_snake(cof_slice_of(text.data, size), path, &length)) {
            return wants(pack, spot, "names of fields in lowerCamelCase, separated by commas,");
        }
        TRY(put_tag(pack, 1, WIRE_BYTES));
        TRY(put_varint(pack, length));
        TRY(put(pack, cof_slice_of(path, length)));
        text = comma == NULL ? cof_slice_of(NULL, 0) : cof_slice_of(comma + 1, text.len - size - 1);
    }
    return COF_OK;
}

/* The body of a message that JSON gives as a text. */
static cof_code put_special(struct pack *pack, const struct spot *spot, const struct cof_json_event *event)
{
    const schema_special special = spot->field->of->special;
    struct cof_slice text = {NULL, 0};
    struct special_span span = {0, 0};
    if (event->kind == COF_JSON_STRING) {
        TRY(text_of(pack, spot, event->raw, &text));
        if (special == SCHEMA_FIELD_MASK) {
            return put_mask(pack, spot, text);
        }
        if (special == SCHEMA_TIMESTAMP ? special_read_time(text, &span) : special_read_duration(text, &span)) {
            return put_span(pack, span);
        }
    }
    return wants(pack, spot,
                 special == SCHEMA_TIMESTAMP  ? "a time such as \"2027-01-31T12:00:00Z\""
                 : special == SCHEMA_DURATION ? "a duration such as \"90s\""
                                              : "names of fields such as \"displayName,tags\"");
}

/* --- Messages ------------------------------------------------------------------------------------------------- */

static cof_code pack_members(struct pack *pack, const struct schema_entry *message, const struct spot *up);

/* The body of a single value, without a tag, whose first event is given. */
static cof_code pack_body(struct pack *pack, const struct spot *spot, const struct cof_json_event *event)
{
    const struct schema_field *field = spot->field;
    uint64_t bits = 0;
    assert(field->type != SCHEMA_TYPE_MESSAGE || field->of != NULL);
    if (schema_wire(field->type) != WIRE_BYTES) {
        TRY(read_bits(pack, spot, event, &bits));
        return put_bits(pack, field->type, bits);
    }
    const size_t begin = pack->used;
    if (field->type != SCHEMA_TYPE_MESSAGE) {
        TRY(put_text(pack, spot, event));
    } else if (field->of->special != SCHEMA_PLAIN) {
        TRY(put_special(pack, spot, event));
    } else if (event->kind == COF_JSON_OBJECT) {
        TRY(pack_members(pack, field->of, spot));
    } else {
        return wants(pack, spot, "an object");
    }
    return put_length_at(pack, begin);
}

/* Whether a body is one that proto3 leaves out: a zero, or no bytes. */
static bool is_zero(const struct pack *pack, size_t begin)
{
    for (size_t i = begin; i < pack->used; i++) {
        if (pack->data[i] != 0) {
            return false;
        }
    }
    return true;
}

static cof_code pack_single(struct pack *pack, const struct spot *spot, const struct cof_json_event *event)
{
    const size_t before = pack->used;
    TRY(put_tag(pack, spot->field->number, schema_wire(spot->field->type)));
    const size_t begin = pack->used;
    TRY(pack_body(pack, spot, event));
    if (!spot->field->presence && !spot->field->repeated && is_zero(pack, begin)) {
        pack->used = before;
    }
    return COF_OK;
}

static cof_code pack_list(struct pack *pack, const struct spot *spot)
{
    struct spot item = *spot;
    struct cof_json_event event;
    const size_t before = pack->used;
    if (spot->field->packed) {
        TRY(put_tag(pack, spot->field->number, WIRE_BYTES));
    }
    const size_t begin = pack->used;
    item.index = 0;
    TRY(cof_json_next(&pack->scan, &event, pack->err));
    while (event.kind != COF_JSON_ARRAY_END) {
        item.place = event.place;
        TRY(spot->field->packed ? pack_body(pack, &item, &event) : pack_single(pack, &item, &event));
        item.index++;
        TRY(cof_json_next(&pack->scan, &event, pack->err));
    }
    if (spot->field->packed && item.index == 0) {
        pack->used = before;
        return COF_OK;
    }
    return spot->field->packed ? put_length_at(pack, begin) : COF_OK;
}

/* Names of members are texts, also where a map's keys are numbers or truth values. */
static struct cof_json_event key_event(const struct schema_field *key, struct cof_json_event event)
{
    event.kind = key->type == SCHEMA_TYPE_BOOL ? COF_JSON_WORD : COF_JSON_STRING;
    if (key->type == SCHEMA_TYPE_BOOL) {
        event.raw = cof_slice_of(event.raw.data + 1, event.raw.len - 2);
    }
    return event;
}

static cof_code pack_map(struct pack *pack, const struct spot *spot)
{
    const struct schema_field *fields = spot->field->of->fields;
    struct cof_json_event event;
    TRY(cof_json_next(&pack->scan, &event, pack->err));
    while (event.kind != COF_JSON_OBJECT_END) {
        const struct spot key = {spot, &fields[0], NO_INDEX, event.place};
        struct spot value = {spot, &fields[1], NO_INDEX, event.place};
        const struct cof_json_event name = key_event(&fields[0], event);
        TRY(put_tag(pack, spot->field->number, WIRE_BYTES));
        const size_t begin = pack->used;
        TRY(pack_single(pack, &key, &name));
        TRY(cof_json_next(&pack->scan, &event, pack->err));
        value.place = event.place;
        TRY(pack_single(pack, &value, &event));
        TRY(put_length_at(pack, begin));
        TRY(cof_json_next(&pack->scan, &event, pack->err));
    }
    return COF_OK;
}

static cof_code pack_field(struct pack *pack, const struct spot *spot, const struct cof_json_event *event)
{
    const struct schema_field *field = spot->field;
    assert(field != NULL);
    if (!field->repeated) {
        return pack_single(pack, spot, event);
    }
    if (field->of != NULL && field->of->is_map) {
        return event->kind == COF_JSON_OBJECT ? pack_map(pack, spot) : wants(pack, spot, "an object");
    }
    return event->kind == COF_JSON_ARRAY ? pack_list(pack, spot) : wants(pack, spot, "an array");
}

/* The name of a member, for messages: its beginning, with nothing in it that a terminal would obey. */
static void show_name(struct cof_slice name, char shown[NAME_SHOWN])
{
    size_t length = 0;
    for (; length + 1 < NAME_SHOWN && length < name.len; length++) {
        const uint8_t byte = name.data[length];
        shown[length] = byte >= ' ' && byte <= '~' ? (char) byte : '?';
    }
    shown[length] = '\0';
}

static cof_code find_field(const struct pack *pack, const struct schema_entry *message, const struct spot *up,
                           const struct cof_json_event *event, const struct schema_field **ret_field)
{
    struct cof_slice name = {NULL, 0};
    char shown[NAME_SHOWN];
    TRY(text_of(pack, up, event->raw, &name));
    for (size_t i = 0; i < message->field_count; i++) {
        const struct schema_field *field = &message->fields[i];
        if (cof_slice_equal(cof_slice_text(field->json_name), name) ||
            cof_slice_equal(cof_slice_text(field->name), name)) {
            *ret_field = field;
            return COF_OK;
        }
    }
    show_name(name, shown);
    return refuse(pack, up, event->place, "%s has no field \"%s\"; coffer rpc describe lists them", message->name,
                  shown);
}

/* Refuses a field that was given before, or another of its oneof. */
static cof_code note_given(const struct pack *pack, const struct schema_entry *message, bool *given,
                           const struct spot *spot)
{
    const size_t index = (size_t) (spot->field - message->fields);
    if (given[index]) {
        return refuse(pack, spot, spot->place, "it is given twice");
    }
    given[index] = true;
    for (size_t i = 0; i < message->field_count && spot->field->oneof != SCHEMA_NO_ONEOF; i++) {
        if (i != index && given[i] && message->fields[i].oneof == spot->field->oneof) {
            return refuse(pack, spot, spot->place, "only one of %s and %s can be given",
                          message->fields[i].json_name, spot->field->json_name);
        }
    }
    return COF_OK;
}

/* The members of an object that has begun, up to its end. */
static cof_code pack_members(struct pack *pack, const struct schema_entry *message, const struct spot *up)
{
    struct cof_json_event event;
    bool *given = cof_arena_array(pack->arena, message->field_count, sizeof *given);
    if (given == NULL) {
        return cof_arena_exhausted(pack->err);
    }
    TRY(cof_json_next(&pack->scan, &event, pack->err));
    while (event.kind == COF_JSON_KEY) {
        struct spot spot = {up, NULL, NO_INDEX, event.place};
        TRY(find_field(pack, message, up, &event, &spot.field));
        TRY(cof_json_next(&pack->scan, &event, pack->err));
        if (!is_word(&event, "null")) {
            TRY(note_given(pack, message, given, &spot));
            spot.place = event.place;
            TRY(pack_field(pack, &spot, &event));
        }
        TRY(cof_json_next(&pack->scan, &event, pack->err));
    }
    return COF_OK;
}

cof_code message_pack(const struct schema_entry *message, struct cof_slice json, size_t limit,
                      struct cof_arena *arena, struct cof_slice *ret_bytes, struct cof_error *err)
{
    struct pack pack = {.arena = arena, .err = err, .data = cof_arena_alloc(arena, limit), .room = limit};
    struct cof_json_event event;
    if (pack.data == NULL) {
        return cof_arena_exhausted(err);
    }
    cof_json_scan_init(&pack.scan, json);
    TRY(cof_json_next(&pack.scan, &event, err));
    if (event.kind != COF_JSON_OBJECT) {
        return refuse(&pack, NULL, event.place, "an object with the fields of %s must stand here", message->name);
    }
    TRY(pack_members(&pack, message, NULL));
    TRY(cof_json_next(&pack.scan, &event, err));
    *ret_bytes = cof_slice_of(pack.data, pack.used);
    return COF_OK;
}
