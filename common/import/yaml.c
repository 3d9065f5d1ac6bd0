#include <string.h>

#include <yaml.h>

#include "common/encode.h"
#include "common/import/format.h"
#include "common/secret.h"

/*
 * A part of YAML: one document of mappings whose values are texts, as they are written, whatever YAML's schemas would
 * make of them. What would have to be interpreted (null, aliases, merge keys, other tags) is refused.
 */

#define TAG_TEXT "tag:yaml.org,2002:str"
#define TAG_BYTES "tag:yaml.org,2002:binary"
#define TAG_MAPPING "tag:yaml.org,2002:map"

struct reader {
    yaml_parser_t parser;
    const struct cof_import_source *source;
    struct cof_import_builder *builder;
};

/* Events are of one reader at a time; a value may lie in them. */
static void event_done(yaml_event_t *event)
{
    if (event->type == YAML_SCALAR_EVENT && event->data.scalar.value != NULL) {
        cof_wipe(event->data.scalar.value, event->data.scalar.length);
    }
    yaml_event_delete(event);
}

/* --- Events --------------------------------------------------------------------------------------------------- */

/* The offset counts characters here, which tells as well what comes first. */
static struct cof_place place_of(yaml_mark_t mark)
{
    return (struct cof_place){mark.index, (uint32_t) mark.line + 1, (uint32_t) mark.column + 1};
}

static cof_code refuse(const struct reader *reader, const yaml_event_t *event, const char *problem)
{
    return cof_import_refuse(reader->source->err, place_of(event->start_mark), "%s", problem);
}

/* libyaml's own texts hold nothing of the file. Bytes that it does not take have an offset instead of a mark. */
static cof_code refuse_syntax(const struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    struct cof_import_source ahead = *reader->source;
    if (parser->error == YAML_MEMORY_ERROR) {
        return cof_arena_exhausted(ahead.err);
    }
    const char *problem = parser->problem == NULL ? "this is not YAML" : parser->problem;
    if (parser->error == YAML_READER_ERROR) {
        (void) cof_import_source_take(&ahead, parser->problem_offset);
        return cof_import_refuse(ahead.err, ahead.at, "%s", problem);
    }
    return cof_import_refuse(ahead.err, place_of(parser->problem_mark), "%s", problem);
}

static bool is_named(const yaml_char_t *name, const char *expected)
{
    return strcmp((const char *) name, expected) == 0;
}

static cof_code check_scalar(const struct reader *reader, const yaml_event_t *event)
{
    const yaml_char_t *tag = event->data.scalar.tag;
    if (event->data.scalar.anchor != NULL) {
        return refuse(reader, event, "an anchor; write the value itself");
    }
    if (tag != NULL && !is_named(tag, "!") && !is_named(tag, TAG_TEXT) && !is_named(tag, TAG_BYTES)) {
        return refuse(reader, event, "a tag other than !!str and !!binary; take it away");
    }
    return COF_OK;
}

static cof_code check_mapping(const struct reader *reader, const yaml_event_t *event)
{
    const yaml_char_t *tag = event->data.mapping_start.tag;
    if (event->data.mapping_start.anchor != NULL) {
        return refuse(reader, event, "an anchor; write the keys themselves");
    }
    if (tag != NULL && !is_named(tag, "!") && !is_named(tag, TAG_MAPPING)) {
        return refuse(reader, event, "a mapping with a tag; take it away");
    }
    return COF_OK;
}

static cof_code check_event(const struct reader *reader, const yaml_event_t *event)
{
    switch ((int) event->type) {
    case YAML_SCALAR_EVENT:
        return check_scalar(reader, event);
    case YAML_MAPPING_START_EVENT:
        return check_mapping(reader, event);
    case YAML_SEQUENCE_START_EVENT:
        return refuse(reader, event, "a list; values are texts");
    case YAML_ALIAS_EVENT:
        return refuse(reader, event, "an alias; write the value itself");
    default:
        return COF_OK;
    }
}

/* The next event, which the caller ends with event_done, also after a failure. */
static cof_code next(struct reader *reader, yaml_event_t *event)
{
    return yaml_parser_parse(&reader->parser, event) == 1 ? check_event(reader, event) : refuse_syntax(reader);
}

/* --- Texts ---------------------------------------------------------------------------------------------------- */

static struct cof_slice text_of(const yaml_event_t *event)
{
    return cof_slice_of(event->data.scalar.value, event->data.scalar.length);
}

/* Without quotes and tag, so YAML may take it for something else than a text. */
static bool is_plain(const yaml_event_t *event)
{
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && event->data.scalar.tag == NULL;
}

static bool is_null(const yaml_event_t *event)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; is_plain(event) && i < COF_COUNT(nulls); i++) {
        if (cof_slice_equal(text_of(event), cof_slice_text(nulls[i]))) {
            return true;
        }
    }
    return false;
}

static cof_code decode_base64(const struct reader *reader, const yaml_event_t *event, struct cof_slice *ret_bytes)
{
    const struct cof_slice text = text_of(event);
    uint8_t *digits = cof_arena_alloc(reader->source->arena, text.len);
    uint8_t *bytes = cof_arena_alloc(reader->source->arena, text.len);
    size_t count = 0;
    size_t size = 0;
    if (digits == NULL || bytes == NULL) {
        return cof_arena_exhausted(reader->source->err);
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] != ' ' && text.data[i] != '\n') {
            digits[count++] = text.data[i];
        }
    }
    if (!cof_base64_decode(cof_slice_of(digits, count), bytes, &size)) {
        return refuse(reader, event, "this is not base64 with its padding (RFC 4648, section 4)");
    }
    *ret_bytes = cof_slice_of(bytes, size);
    return COF_OK;
}

/* The value lies in the event or in the arena. */
static cof_code value_of(const struct reader *reader, const yaml_event_t *event, struct cof_slice *ret_value)
{
    if (event->data.scalar.tag != NULL && is_named(event->data.scalar.tag, TAG_BYTES)) {
        return decode_base64(reader, event, ret_value);
    }
    if (is_null(event)) {
        return refuse(reader, event, "no value; write \"\" for an empty one, and the word null in quotes");
    }
    *ret_value = text_of(event);
    return COF_OK;
}

/* A name is a text, too; `<<` without quotes would ask for another mapping's keys. */
static cof_code check_name(const struct reader *reader, const yaml_event_t *event)
{
    if (event->type != YAML_SCALAR_EVENT) {
        return refuse(reader, event, "a name must stand here");
    }
    if (event->data.scalar.tag != NULL && is_named(event->data.scalar.tag, TAG_BYTES)) {
        return refuse(reader, event, "a name of bytes; names are texts");
    }
    if (is_plain(event) && cof_slice_equal(text_of(event), cof_slice_text("<<"))) {
        return refuse(reader, event, "a merge key; write the keys themselves");
    }
    return COF_OK;
}

/* --- The document --------------------------------------------------------------------------------------------- */

static cof_code read_key(struct reader *reader, const yaml_event_t *name)
{
    AUTO(event_done) yaml_event_t event = {0};
    struct cof_slice value = {NULL, 0};
    TRY(next(reader, &event));
    if (event.type != YAML_SCALAR_EVENT) {
        return refuse(reader, &event, "a mapping inside of a secret; the values of its keys are texts");
    }
    TRY(value_of(reader, &event, &value));
    return cof_import_add(reader->builder, text_of(name), value, place_of(name->start_mark));
}

static cof_code read_secret(struct reader *reader)
{
    for (;;) {
        AUTO(event_done) yaml_event_t name = {0};
        TRY(next(reader, &name));
        if (name.type == YAML_MAPPING_END_EVENT) {
            return COF_OK;
        }
        TRY(check_name(reader, &name));
        TRY(read_key(reader, &name));
    }
}

/* A member of the document: a secret with its keys, or a key of the one secret. */
static cof_code read_member(struct reader *reader, const yaml_event_t *name)
{
    AUTO(event_done) yaml_event_t event = {0};
    struct cof_slice value = {NULL, 0};
    const struct cof_place place = place_of(name->start_mark);
    TRY(next(reader, &event));
    if (event.type == YAML_MAPPING_START_EVENT) {
        TRY(cof_import_begin_secret(reader->builder, text_of(name), place));
        return read_secret(reader);
    }
    TRY(value_of(reader, &event, &value));
    return cof_import_add_flat(reader->builder, text_of(name), value, place);
}

static cof_code read_mapping(struct reader *reader)
{
    for (;;) {
        AUTO(event_done) yaml_event_t name = {0};
        TRY(next(reader, &name));
        if (name.type == YAML_MAPPING_END_EVENT) {
            return COF_OK;
        }
        TRY(check_name(reader, &name));
        TRY(read_member(reader, &name));
    }
}

static cof_code read_root(struct reader *reader)
{
    AUTO(event_done) yaml_event_t event = {0};
    TRY(next(reader, &event));
    if (event.type == YAML_MAPPING_START_EVENT) {
        return read_mapping(reader);
    }
    return is_null(&event) ? COF_OK
                           : refuse(reader, &event, "a text; a mapping of secrets or keys must stand here");
}

/* What stands between the mappings: the begin and end of the stream and of its one document. */
static cof_code read_stream(struct reader *reader)
{
    bool read = false;
    for (;;) {
        AUTO(event_done) yaml_event_t event = {0};
        TRY(next(reader, &event));
        if (event.type == YAML_STREAM_END_EVENT) {
            return COF_OK;
        }
        if (event.type == YAML_DOCUMENT_START_EVENT) {
            if (read) {
                return refuse(reader, &event, "a second document; write one document into a file");
            }
            TRY(read_root(reader));
            read = true;
        }
    }
}

cof_code cof_import_yaml_read(const struct cof_import_source *source, struct cof_import_builder *builder)
{
    struct reader reader = {.source = source, .builder = builder};
    if (yaml_parser_initialize(&reader.parser) != 1) {
        return cof_arena_exhausted(source->err);
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, source->text.data, source->text.len);
    const cof_code code = read_stream(&reader);
    yaml_parser_delete(&reader.parser);
    return code;
}
