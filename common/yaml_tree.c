#include "common/yaml_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <yaml.h>

enum { PROBLEM_SIZE = 400, SHOWN = 64 };

struct reader {
    yaml_parser_t parser;
    struct cof_arena *arena;
    struct cof_error *err;
    struct cof_yaml_node *root;
    struct cof_yaml_node *open; /* the innermost one that has not ended */
    size_t depth;
    struct cof_slice key; /* of a mapping, whose value comes next */
    bool has_key;
};

cof_code cof_yaml_refuse(struct cof_error *err, struct cof_place place, const char *format, ...)
{
    char problem[PROBLEM_SIZE];
    va_list args;
    va_start(args, format);
    (void) vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    cof_ignore(cof_fail(err, COF_REASON_FILE_INVALID, "line %u, column %u: %s", place.line, place.column, problem));
    cof_ignore(cof_error_fact(err, "line", "%u", place.line));
    return cof_error_fact(err, "column", "%u", place.column);
}

static struct cof_place place_of(yaml_mark_t mark)
{
    return (struct cof_place){mark.index, (uint32_t) mark.line + 1, (uint32_t) mark.column + 1};
}

static cof_code check_key(const struct reader *reader, struct cof_place place)
{
    for (const struct cof_yaml_node *node = reader->open->first; node != NULL; node = node->next) {
        if (cof_slice_equal(node->key, reader->key)) {
            return cof_yaml_refuse(reader->err, place, "a key that stands twice; leave one of them");
        }
    }
    return COF_OK;
}

static cof_code add_node(struct reader *reader, cof_yaml_kind kind, struct cof_place place,
                         struct cof_yaml_node **ret_node)
{
    struct cof_yaml_node *node = cof_arena_alloc(reader->arena, sizeof *node);
    struct cof_yaml_node *open = reader->open;
    if (node == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    *node = (struct cof_yaml_node){.kind = kind, .place = place, .above = open};
    if (open == NULL) {
        if (reader->root != NULL) {
            return cof_yaml_refuse(reader->err, place, "a second document; write one in a file");
        }
        reader->root = node;
    } else {
        if (open->kind == COF_YAML_MAPPING) {
            TRY(check_key(reader, place));
            node->key = reader->key;
            reader->has_key = false;
        }
        *(open->last == NULL ? &open->first : &open->last->next) = node;
        open->last = node;
    }
    *ret_node = node;
    return COF_OK;
}

static bool wants_key(const struct reader *reader)
{
    return reader->open != NULL && reader->open->kind == COF_YAML_MAPPING && !reader->has_key;
}

static cof_code keep_text(struct reader *reader, const yaml_event_t *event, struct cof_slice *ret_text)
{
    const char *copy =
        cof_arena_text(reader->arena, cof_slice_of(event->data.scalar.value, event->data.scalar.length));
    if (copy == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    *ret_text = cof_slice_of(copy, event->data.scalar.length);
    return COF_OK;
}

static cof_code take_scalar(struct reader *reader, const yaml_event_t *event)
{
    struct cof_yaml_node *node = NULL;
    if (wants_key(reader)) {
        reader->has_key = true;
        return keep_text(reader, event, &reader->key);
    }
    TRY(add_node(reader, COF_YAML_TEXT, place_of(event->start_mark), &node));
    assert(node != NULL);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return keep_text(reader, event, &node->text);
}

static cof_code begin(struct reader *reader, const yaml_event_t *event, cof_yaml_kind kind)
{
    struct cof_yaml_node *node = NULL;
    const struct cof_place place = place_of(event->start_mark);
    if (wants_key(reader)) {
        return cof_yaml_refuse(reader->err, place, "a key that is no text");
    }
    if (++reader->depth > COF_YAML_DEPTH_MAX) {
        return cof_yaml_refuse(reader->err, place, "this is nested too deep");
    }
    TRY(add_node(reader, kind, place, &node));
    reader->open = node;
    return COF_OK;
}

static void end(struct reader *reader)
{
    reader->open = reader->open->above;
    reader->depth--;
}

/* What makes a node mean something else than what stands there. */
static bool has_property(const yaml_event_t *event)
{
    switch ((int) event->type) {
    case YAML_ALIAS_EVENT:
        return true;
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor != NULL || event->data.sequence_start.tag != NULL;
    default:
        return false;
    }
}

static cof_code take_event(struct reader *reader, const yaml_event_t *event)
{
    if (has_property(event)) {
        return cof_yaml_refuse(reader->err, place_of(event->start_mark),
                               "an anchor, an alias or a tag; write out what is meant");
    }
    switch ((int) event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(reader, event);
    case YAML_MAPPING_START_EVENT:
        return begin(reader, event, COF_YAML_MAPPING);
    case YAML_SEQUENCE_START_EVENT:
        return begin(reader, event, COF_YAML_LIST);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        end(reader);
        return COF_OK;
    default:
        return COF_OK;
    }
}

static cof_code refuse_syntax(const struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        return cof_arena_exhausted(reader->err);
    }
    return cof_yaml_refuse(reader->err, place_of(parser->problem_mark), "%s",
                           parser->problem == NULL ? "this is not YAML" : parser->problem);
}

static cof_code read_events(struct reader *reader)
{
    bool ended = false;
    while (!ended) {
        yaml_event_t event;
        if (yaml_parser_parse(&reader->parser, &event) != 1) {
            return refuse_syntax(reader);
        }
        ended = event.type == YAML_STREAM_END_EVENT;
        const cof_code code = take_event(reader, &event);
        yaml_event_delete(&event);
        TRY(code);
    }
    return COF_OK;
}

cof_code cof_yaml_file_load(const char *setting, const char *path, size_t max, struct cof_arena *arena,
                            struct cof_slice *ret_file, struct cof_error *err)
{
    uint8_t *text = cof_arena_alloc(arena, max + 1);
    if (text == NULL) {
        return cof_arena_exhausted(err);
    }
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: %.200s cannot be opened: %s", setting, path,
                        strerrordesc_np(errno));
    }
    const size_t length = fread(text, 1, max + 1, file);
    const bool failed = ferror(file) != 0;
    (void) fclose(file);
    if (failed) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: %.200s cannot be read", setting, path);
    }
    *ret_file = cof_slice_of(text, length);
    return COF_OK;
}

cof_code cof_yaml_tree_read(struct cof_slice file, struct cof_arena *arena, const struct cof_yaml_node **ret_root,
                            struct cof_error *err)
{
    struct reader reader = {.arena = arena, .err = err};
    if (yaml_parser_initialize(&reader.parser) != 1) {
        return cof_arena_exhausted(err);
    }
    yaml_parser_set_input_string(&reader.parser, file.data, file.len);
    const cof_code code = read_events(&reader);
    yaml_parser_delete(&reader.parser);
    TRY(code);
    *ret_root = reader.root;
    return COF_OK;
}

/* --- Fields --------------------------------------------------------------------------------------------------- */

const struct cof_yaml_node *cof_yaml_field(const struct cof_yaml_node *node, const char *key)
{
    const struct cof_yaml_node *found = node == NULL || node->kind != COF_YAML_MAPPING ? NULL : node->first;
    while (found != NULL && !cof_slice_equal(found->key, cof_slice_text(key))) {
        found = found->next;
    }
    return found;
}

bool cof_yaml_is_null(const struct cof_yaml_node *node)
{
    return node == NULL || (node->kind == COF_YAML_TEXT && node->plain &&
                            (node->text.len == 0 || cof_slice_equal(node->text, cof_slice_text("null")) ||
                             cof_slice_equal(node->text, cof_slice_text("~"))));
}

bool cof_yaml_is_text(const struct cof_yaml_node *node, const char *text)
{
    return node != NULL && node->kind == COF_YAML_TEXT && cof_slice_equal(node->text, cof_slice_text(text));
}

cof_code cof_yaml_text_field(const struct cof_yaml_node *node, const char *key,
                             const struct cof_yaml_node **ret_found, struct cof_error *err)
{
    const struct cof_yaml_node *found = cof_yaml_field(node, key);
    if (cof_yaml_is_null(found)) {
        return cof_yaml_refuse(err, node->place, "%s is missing", key);
    }
    if (found->kind != COF_YAML_TEXT) {
        return cof_yaml_refuse(err, found->place, "%s is no text", key);
    }
    *ret_found = found;
    return COF_OK;
}

cof_code cof_yaml_bool_field(const struct cof_yaml_node *node, const char *key, bool *ret_value,
                             struct cof_error *err)
{
    const struct cof_yaml_node *found = cof_yaml_field(node, key);
    *ret_value = cof_yaml_is_text(found, "true");
    return cof_yaml_is_null(found) || *ret_value || cof_yaml_is_text(found, "false")
               ? COF_OK
               : cof_yaml_refuse(err, found->place, "%s is neither true nor false", key);
}

cof_code cof_yaml_list_field(const struct cof_yaml_node *node, const char *key, size_t *ret_count,
                             const struct cof_yaml_node **ret_first, struct cof_error *err)
{
    const struct cof_yaml_node *found = cof_yaml_field(node, key);
    *ret_count = 0;
    *ret_first = NULL;
    if (cof_yaml_is_null(found)) {
        return COF_OK;
    }
    if (found->kind != COF_YAML_LIST) {
        return cof_yaml_refuse(err, found->place, "%s is no list", key);
    }
    *ret_first = found->first;
    for (const struct cof_yaml_node *item = found->first; item != NULL; item = item->next) {
        (*ret_count)++;
    }
    return COF_OK;
}

static bool is_among(struct cof_slice key, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (cof_slice_equal(key, cof_slice_text(keys[i]))) {
            return true;
        }
    }
    return false;
}

/* The beginning of a key, with nothing in it that a terminal would obey. */
static const char *show(struct cof_slice key, char shown[SHOWN])
{
    size_t length = 0;
    for (; length + 1 < SHOWN && length < key.len; length++) {
        const uint8_t byte = key.data[length];
        shown[length] = byte >= ' ' && byte <= '~' ? (char) byte : '?';
    }
    shown[length] = '\0';
    return shown;
}

cof_code cof_yaml_check_fields(const struct cof_yaml_node *node, const char *what, const char *const *keys,
                               size_t count, struct cof_error *err)
{
    char shown[SHOWN];
    if (node->kind != COF_YAML_MAPPING) {
        return cof_yaml_refuse(err, node->place, "%s is no mapping", what);
    }
    for (const struct cof_yaml_node *field = node->first; field != NULL; field = field->next) {
        if (!is_among(field->key, keys, count)) {
            return cof_yaml_refuse(err, field->place, "%s has no field \"%s\"", what, show(field->key, shown));
        }
    }
    return COF_OK;
}
