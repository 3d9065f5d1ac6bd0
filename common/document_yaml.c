#include <yaml.h>

#include "common/document_walk.h"

/*
 * A YAML document on its walk. libyaml counts characters, and the text is bytes: a cursor goes along. Values of
 * secrets never pass through libyaml, which keeps what it reads in memory of its own.
 */
struct reader {
    struct cof_walk *walk;
    yaml_parser_t parser;
    size_t at;         /* bytes */
    size_t characters; /* before `at` */
    bool in_mapping[COF_PATH_DEPTH + 1];
    bool key_expected[COF_PATH_DEPTH + 1];
};

static struct cof_place place_of(const yaml_mark_t *mark, size_t offset)
{
    return (struct cof_place){offset, (uint32_t) mark->line + 1, (uint32_t) mark->column + 1};
}

/* --- Where a scalar stands ------------------------------------------------------------------------------------ */

static size_t offset_of(struct reader *reader, size_t character)
{
    const struct cof_slice text = reader->walk->document->text;
    if (character < reader->characters) {
        reader->at = 0;
        reader->characters = 0;
    }
    while (reader->characters < character && reader->at < text.len) {
        reader->at++;
        while (reader->at < text.len && (text.data[reader->at] & 0xC0U) == 0x80U) {
            reader->at++;
        }
        reader->characters++;
    }
    return reader->at;
}

/* What libyaml takes for the end of a line: LF, CR, NEL, LS, PS. */
static const char *const line_ends[] = {"\n", "\r", "\xC2\x85", "\xE2\x80\xA8", "\xE2\x80\xA9"};

/* Bytes of the line's end that the text begins with; 0: none. */
static size_t line_end_length(struct cof_slice text)
{
    for (size_t i = 0; i < COF_COUNT(line_ends); i++) {
        const struct cof_slice line_end = cof_slice_text(line_ends[i]);
        if (cof_slice_starts_with(text, line_end)) {
            return line_end.len;
        }
    }
    return 0;
}

static bool blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

/* Bytes of white space, a line's end included, that the text begins with; 0: none. */
static size_t space_length(struct cof_slice text)
{
    return text.len > 0 && blank(text.data[0]) ? 1 : line_end_length(text);
}

static struct cof_slice part(struct cof_slice text, size_t begin, size_t end)
{
    return cof_slice_of(text.data + begin, end - begin);
}

/* Behind white space and comments. */
static size_t skip_blank(struct cof_slice text, size_t at, size_t end)
{
    bool comment = false;
    while (at < end) {
        const struct cof_slice rest = part(text, at, end);
        const size_t space = space_length(rest);
        comment = (comment || rest.data[0] == '#') && line_end_length(rest) == 0;
        if (space == 0 && !comment) {
            return at;
        }
        at += space > 0 ? space : 1;
    }
    return at;
}

static bool in_anchor(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           byte == '_' || byte == '-';
}

/* An event begins at the tag and the anchor of its scalar, which stay. A scalar can follow an anchor at once. */
static size_t skip_properties(struct cof_slice text, size_t at, size_t end)
{
    while (at < end && (text.data[at] == '!' || text.data[at] == '&')) {
        const bool anchor = text.data[at] == '&';
        at++;
        while (at < end && (anchor ? in_anchor(text.data[at]) : space_length(part(text, at, end)) == 0)) {
            at++;
        }
        at = skip_blank(text, at, end);
    }
    return at;
}

/* A block scalar ends behind its last line's end. Line ends and empty lines are left, for something must part it
 * from what follows. */
static size_t without_last_lines(struct cof_slice text, size_t begin, size_t end)
{
    size_t last = end;
    for (size_t at = begin; at < end;) {
        const size_t space = space_length(part(text, at, end));
        last = space == 0 ? end : last == end ? at : last;
        at += space == 0 ? 1 : space;
    }
    return last;
}

/* Whether nothing but white space stands before it in its line. */
static bool is_first_in_line(struct cof_slice text, size_t at)
{
    while (at > 0 && blank(text.data[at - 1])) {
        at--;
    }
    for (size_t i = 0; i < COF_COUNT(line_ends); i++) {
        const size_t length = strlen(line_ends[i]);
        if (at >= length && memcmp(text.data + at - length, line_ends[i], length) == 0) {
            return true;
        }
    }
    return at == 0;
}

static void find_bytes(struct reader *reader, const yaml_event_t *event, struct cof_walk_string *string)
{
    const struct cof_slice text = reader->walk->document->text;
    const yaml_scalar_style_t style = event->data.scalar.style;
    const bool decorated = event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
    string->begin = offset_of(reader, event->start_mark.index);
    string->end = offset_of(reader, event->end_mark.index);
    if (decorated) {
        const size_t properties = string->begin;
        string->begin = skip_properties(text, string->begin, string->end);
        string->leading = string->begin > properties && in_anchor(text.data[string->begin - 1]);
    }
    if (style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE) {
        /* libyaml takes block scalars that are not indented below their key. Any other scalar there would be a key. */
        string->leading = string->leading || is_first_in_line(text, string->begin);
        string->end = without_last_lines(text, string->begin, string->end);
    }
}

static bool holds_opening(struct cof_slice text)
{
    for (size_t i = 0; i + 2 < text.len; i++) {
        if (text.data[i] == '$' && text.data[i + 1] == '{' && text.data[i + 2] == '{') {
            return true;
        }
    }
    return false;
}

/* Whatever libyaml's marks say, nothing is written where no scalar is. */
static cof_code check_bytes(const struct reader *reader, struct cof_walk_string *string)
{
    if (string->begin < string->end) {
        return COF_OK;
    }
    if (cof_text_refers(string->text)) {
        return cof_fail(reader->walk->err, COF_REASON_DOCUMENT_INVALID,
                        "line %u, column %u: where this text begins cannot be told; write it in double quotes",
                        string->place.line, string->place.column);
    }
    string->text = cof_slice_of(NULL, 0);
    return COF_OK;
}

static cof_code read_scalar(struct reader *reader, const yaml_event_t *event, struct cof_walk_string *string)
{
    *string = (struct cof_walk_string){
        .text = cof_slice_of(event->data.scalar.value, event->data.scalar.length),
        .place = place_of(&event->start_mark, event->start_mark.index),
        .typed = event->data.scalar.tag != NULL,
    };
    if (holds_opening(string->text)) {
        find_bytes(reader, event, string);
        string->place.offset = string->begin;
        return check_bytes(reader, string);
    }
    return COF_OK;
}

/* --- Events --------------------------------------------------------------------------------------------------- */

/* Whether the node that comes is a key; what comes after it then is not, and the reverse. */
static bool take_turn(struct reader *reader)
{
    const size_t depth = reader->walk->depth;
    const bool key = reader->in_mapping[depth] && reader->key_expected[depth];
    reader->key_expected[depth] = !reader->key_expected[depth];
    return key;
}

static cof_code take_scalar(struct reader *reader, const yaml_event_t *event)
{
    struct cof_walk_string string;
    const bool key = take_turn(reader);
    TRY(read_scalar(reader, event, &string));
    return key ? cof_walk_take_key(reader->walk, &string) : cof_walk_take_string(reader->walk, &string);
}

static cof_code take_alias(struct reader *reader, const yaml_event_t *event)
{
    if (take_turn(reader)) {
        const struct cof_walk_string string = {.place = place_of(&event->start_mark, event->start_mark.index),
                                               .alias = true};
        return cof_walk_take_key(reader->walk, &string);
    }
    cof_walk_take_other(reader->walk);
    return COF_OK;
}

static cof_code begin(struct reader *reader, bool mapping, const yaml_event_t *event)
{
    const struct cof_place place = place_of(&event->start_mark, event->start_mark.index);
    if (take_turn(reader)) {
        cof_walk_enter_key(reader->walk);
    }
    TRY(cof_walk_enter(reader->walk, mapping, &place));
    reader->in_mapping[reader->walk->depth] = mapping;
    reader->key_expected[reader->walk->depth] = true;
    return COF_OK;
}

static cof_code take(struct reader *reader, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(reader, event);
    case YAML_ALIAS_EVENT:
        return take_alias(reader, event);
    case YAML_MAPPING_START_EVENT:
        return begin(reader, true, event);
    case YAML_SEQUENCE_START_EVENT:
        return begin(reader, false, event);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        cof_walk_leave(reader->walk);
        break;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    return COF_OK;
}

static cof_code refuse(const struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const struct cof_place place = place_of(&parser->problem_mark, parser->problem_mark.index);
    if (parser->error == YAML_MEMORY_ERROR) {
        return cof_fail(reader->walk->err, COF_REASON_OUT_OF_MEMORY,
                        "the process has no memory left for a document");
    }
    cof_ignore(cof_fail(reader->walk->err, COF_REASON_DOCUMENT_INVALID, "line %u, column %u: %s%s", place.line,
                        place.column, parser->problem == NULL ? "is not YAML" : parser->problem,
                        holds_opening(reader->walk->document->text)
                            ? "; correct it, and put a template within [...] or {...} into quotes"
                            : "; correct it"));
    cof_ignore(cof_error_fact(reader->walk->err, "line", "%u", place.line));
    return cof_error_fact(reader->walk->err, "column", "%u", place.column);
}

static cof_code read_events(struct reader *reader)
{
    for (;;) {
        yaml_event_t event;
        if (yaml_parser_parse(&reader->parser, &event) != 1) {
            return refuse(reader);
        }
        const bool last = event.type == YAML_STREAM_END_EVENT;
        const cof_code code = take(reader, &event);
        yaml_event_delete(&event);
        if (code != COF_OK || last) {
            return code;
        }
    }
}

cof_code cof_walk_yaml(struct cof_walk *walk)
{
    struct reader reader = {.walk = walk};
    if (yaml_parser_initialize(&reader.parser) != 1) {
        return cof_fail(walk->err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a document");
    }
    /* UTF-8 alone, so that a character is what offset_of takes for one. */
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, walk->document->text.data, walk->document->text.len);
    const cof_code code = read_events(&reader);
    yaml_parser_delete(&reader.parser);
    return code;
}
