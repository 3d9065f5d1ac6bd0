#include "common/import/json.h"

#include <stdio.h>

#include "common/encode.h"
#include "common/import/format.h"

/* No allowed key begins with $, so no key is ever taken for it. */
#define BYTES_NAME "$base64"

/* --- Events --------------------------------------------------------------------------------------------------- */

void cof_import_json_init(struct cof_import_json *json, const struct cof_import_source *source,
                          struct cof_import_builder *builder)
{
    *json = (struct cof_import_json){.arena = source->arena, .err = source->err, .builder = builder};
    cof_json_scan_init(&json->scan, source->text);
}

/* The scanner's failures are those of any document; here it is always a file. */
cof_code cof_import_json_next(struct cof_import_json *json, struct cof_json_event *ret_event)
{
    const cof_code code = cof_json_next(&json->scan, ret_event, json->err);
    if (code != COF_OK) {
        json->err->reason = COF_REASON_FILE_INVALID;
        json->err->code = cof_reason_code(COF_REASON_FILE_INVALID);
        return json->err->code;
    }
    return COF_OK;
}

static const char *kind_of(const struct cof_json_event *event)
{
    switch (event->kind) {
    case COF_JSON_OBJECT:
        return "an object";
    case COF_JSON_ARRAY:
        return "an array";
    case COF_JSON_KEY:
    case COF_JSON_STRING:
        return "a text";
    case COF_JSON_WORD:
        return event->raw.data[0] == 'n'                                ? "null"
               : event->raw.data[0] == 't' || event->raw.data[0] == 'f' ? "true or false"
                                                                        : "a number";
    case COF_JSON_OBJECT_END:
    case COF_JSON_ARRAY_END:
    case COF_JSON_END:
        break;
    }
    return "an end";
}

static cof_code refuse_kind(const struct cof_import_json *json, const struct cof_json_event *event,
                            const char *wanted)
{
    return cof_import_refuse(json->err, event->place, "%s stands where %s must", kind_of(event), wanted);
}

cof_code cof_import_json_expect(struct cof_import_json *json, cof_json_kind kind, struct cof_json_event *ret_event)
{
    TRY(cof_import_json_next(json, ret_event));
    if (ret_event->kind == kind) {
        return COF_OK;
    }
    return refuse_kind(json, ret_event, kind == COF_JSON_ARRAY ? "an array" : "an object");
}

cof_code cof_import_json_text(struct cof_import_json *json, const struct cof_json_event *event,
                              struct cof_slice *ret_text)
{
    if (event->kind != COF_JSON_STRING && event->kind != COF_JSON_KEY) {
        return refuse_kind(json, event, "a text in double quotes");
    }
    uint8_t *text = cof_arena_alloc(json->arena, event->raw.len);
    size_t length = 0;
    if (text == NULL) {
        return cof_arena_exhausted(json->err);
    }
    if (!cof_json_decode(event->raw, text, &length)) {
        return cof_import_refuse(json->err, event->place, "half of a surrogate pair, which is no character");
    }
    *ret_text = cof_slice_of(text, length);
    return COF_OK;
}

cof_code cof_import_json_skip(struct cof_import_json *json)
{
    const size_t depth = json->scan.depth;
    struct cof_json_event event;
    do {
        TRY(cof_import_json_next(json, &event));
    } while (json->scan.depth > depth);
    return COF_OK;
}

/* --- Values --------------------------------------------------------------------------------------------------- */

static cof_code read_base64(struct cof_import_json *json, struct cof_slice *ret_bytes)
{
    struct cof_json_event event;
    struct cof_slice text = {NULL, 0};
    size_t size = 0;
    TRY(cof_import_json_next(json, &event));
    TRY(cof_import_json_text(json, &event, &text));
    uint8_t *bytes = cof_arena_alloc(json->arena, text.len);
    if (bytes == NULL) {
        return cof_arena_exhausted(json->err);
    }
    if (!cof_base64_decode(text, bytes, &size)) {
        return cof_import_refuse(json->err, event.place,
                                 "this is not base64 with its padding (RFC 4648, section 4)");
    }
    *ret_bytes = cof_slice_of(bytes, size);
    return COF_OK;
}

/* Behind the name of {"$base64": "..."}. */
static cof_code read_bytes(struct cof_import_json *json, struct cof_slice *ret_bytes)
{
    struct cof_json_event event;
    TRY(read_base64(json, ret_bytes));
    TRY(cof_import_json_next(json, &event));
    return event.kind == COF_JSON_OBJECT_END
               ? COF_OK
               : cof_import_refuse(json->err, event.place, "nothing else may stand beside " BYTES_NAME);
}

/* Whether the event is the name that makes an object stand for bytes. */
static cof_code is_bytes(struct cof_import_json *json, const struct cof_json_event *event, bool *ret_bytes)
{
    struct cof_slice name = {NULL, 0};
    if (event->kind == COF_JSON_KEY) {
        TRY(cof_import_json_text(json, event, &name));
    }
    *ret_bytes = cof_slice_equal(name, cof_slice_text(BYTES_NAME));
    return COF_OK;
}

/* A value of a secret's key: a text, or an object that stands for bytes. */
static cof_code read_value(struct cof_import_json *json, struct cof_slice *ret_value)
{
    struct cof_json_event event;
    struct cof_json_event name;
    bool bytes = false;
    TRY(cof_import_json_next(json, &event));
    if (event.kind != COF_JSON_OBJECT) {
        return cof_import_json_text(json, &event, ret_value);
    }
    TRY(cof_import_json_next(json, &name));
    TRY(is_bytes(json, &name, &bytes));
    return bytes ? read_bytes(json, ret_value) : refuse_kind(json, &event, "a text in double quotes");
}

/* --- The document --------------------------------------------------------------------------------------------- */

/* The keys of a secret, of which the first, or the end, was read already. */
static cof_code read_secret(struct cof_import_json *json, struct cof_json_event event)
{
    while (event.kind == COF_JSON_KEY) {
        struct cof_slice key = {NULL, 0};
        struct cof_slice value = {NULL, 0};
        TRY(cof_import_json_text(json, &event, &key));
        TRY(read_value(json, &value));
        TRY(cof_import_add(json->builder, key, value, event.place));
        TRY(cof_import_json_next(json, &event));
    }
    return COF_OK;
}

/* What stands behind a name of the document: a secret with its keys, or the value of a key of the one secret. */
static cof_code read_member(struct cof_import_json *json, struct cof_slice name, struct cof_place place)
{
    struct cof_json_event event;
    struct cof_slice value = {NULL, 0};
    bool bytes = false;
    TRY(cof_import_json_next(json, &event));
    if (event.kind != COF_JSON_OBJECT) {
        TRY(cof_import_json_text(json, &event, &value));
        return cof_import_add_flat(json->builder, name, value, place);
    }
    TRY(cof_import_json_next(json, &event));
    TRY(is_bytes(json, &event, &bytes));
    if (bytes) {
        TRY(read_bytes(json, &value));
        return cof_import_add_flat(json->builder, name, value, place);
    }
    TRY(cof_import_begin_secret(json->builder, name, place));
    return read_secret(json, event);
}

cof_code cof_import_json_read(const struct cof_import_source *source, struct cof_import_builder *builder)
{
    struct cof_import_json json;
    struct cof_json_event event;
    cof_import_json_init(&json, source, builder);
    TRY(cof_import_json_expect(&json, COF_JSON_OBJECT, &event));
    TRY(cof_import_json_next(&json, &event));
    while (event.kind == COF_JSON_KEY) {
        struct cof_slice name = {NULL, 0};
        TRY(cof_import_json_text(&json, &event, &name));
        TRY(read_member(&json, name, event.place));
        TRY(cof_import_json_next(&json, &event));
    }
    return cof_import_json_next(&json, &event);
}
