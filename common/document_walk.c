#include "common/document_walk.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FIRST_ROOM = 16,
    YAML_KEY_MAX = 1000, /* bytes; libyaml and others take no key of more than 1,024 characters */
};

struct cof_walk_key {
    struct cof_slice text; /* as it will be */
    struct cof_slice was;  /* as it stands in the document */
    struct cof_place place;
    bool changed;
};

/* --- Faults --------------------------------------------------------------------------------------------------- */

static void write_path(const void *context, char *to, size_t size)
{
    cof_path_write(context, to, size);
}

static struct cof_where where(const struct cof_walk *walk, const struct cof_walk_string *string)
{
    return (struct cof_where){.place = string->place, .write_path = write_path, .context = walk->path};
}

static void add_fault(const struct cof_walk *walk, const struct cof_walk_string *string, cof_reason reason,
                      const char *problem)
{
    const struct cof_where place = where(walk, string);
    const struct cof_expansion expansion = {.faults = walk->faults, .where = &place};
    cof_text_fault(&expansion, string->place, reason, problem);
}

/* --- Strings -------------------------------------------------------------------------------------------------- */

static bool may_hold_template(struct cof_slice text)
{
    const uint8_t *dollar = text.len == 0 ? NULL : memchr(text.data, '$', text.len);
    while (dollar != NULL) {
        const size_t left = text.len - (size_t) (dollar - text.data);
        if (cof_slice_starts_with(cof_slice_of(dollar, left), cof_slice_text("${{"))) {
            return true;
        }
        dollar = memchr(dollar + 1, '$', left - 1);
    }
    return false;
}

/* Whether nothing has to be done for a string: no template, or its part is left alone. */
static bool is_idle(const struct cof_walk *walk, const struct cof_walk_string *string)
{
    return cof_path_rule_here(walk->path) == COF_PATH_EXCLUDED || !may_hold_template(string->text);
}

/* Strings in which nothing can be put: a reference in one is a fault. */
static bool is_barred(const struct cof_walk *walk, const struct cof_walk_string *string)
{
    const char *problem = string->flaw;
    if (walk->in_key > 0) {
        problem = "a reference stands within a key that is a mapping or a list; write the key as a string";
    }
    if (problem != NULL && cof_text_refers(string->text)) {
        add_fault(walk, string, COF_REASON_DOCUMENT_INVALID, problem);
    }
    return problem != NULL;
}

static cof_code collect(struct cof_walk *walk, const struct cof_walk_string *string)
{
    const struct cof_where place = where(walk, string);
    const struct cof_expansion expansion = {.faults = walk->faults, .where = &place};
    if (cof_path_rule_here(walk->path) == COF_PATH_REDACTED || is_barred(walk, string)) {
        return COF_OK;
    }
    return cof_text_references(&expansion, string->text, walk->references, walk->err);
}

/* The text that a string becomes, without any encoding. */
static cof_expanded write_text(const struct cof_walk *walk, const struct cof_walk_string *string,
                               cof_encoding encoding, struct cof_sink *sink)
{
    const struct cof_where place = where(walk, string);
    const struct cof_expansion expansion = {
        .lookup = walk->lookup, .faults = walk->faults, .where = &place, .encoding = encoding};
    if (cof_path_rule_here(walk->path) == COF_PATH_REDACTED) {
        if (!cof_text_refers(string->text)) {
            return COF_EXPANDED_SAME;
        }
        cof_sink_put_raw(sink, cof_slice_text("***"));
        return COF_EXPANDED_TEXT;
    }
    return cof_text_write(&expansion, string->text, sink);
}

/* Writes the document up to a string and then what it becomes, unless it stays as it is. */
static cof_expanded replace(struct cof_walk *walk, const struct cof_walk_string *string)
{
    const struct cof_slice before =
        cof_slice_of(walk->document->text.data + walk->copied, string->begin - walk->copied);
    const size_t used = walk->sink.used;
    const bool redacted = cof_path_rule_here(walk->path) == COF_PATH_REDACTED;
    if (!redacted && is_barred(walk, string)) {
        return COF_EXPANDED_SAME;
    }
    const char *space = string->leading ? " " : "";
    cof_sink_put_raw(&walk->sink, before);
    cof_sink_put_raw(&walk->sink, cof_slice_text(space));
    cof_sink_put_raw(&walk->sink, cof_slice_text("\""));
    const cof_expanded expanded = write_text(walk, string, walk->encoding, &walk->sink);
    switch (expanded) {
    case COF_EXPANDED_SAME:
        walk->sink.used = used;
        return expanded;
    case COF_EXPANDED_TEXT:
        cof_sink_put_raw(&walk->sink, cof_slice_text("\""));
        break;
    case COF_EXPANDED_NULL:
        walk->sink.used = used;
        cof_sink_put_raw(&walk->sink, before);
        cof_sink_put_raw(&walk->sink, cof_slice_text(space));
        cof_sink_put_raw(&walk->sink, cof_slice_text("null"));
        break;
    }
    walk->copied = string->end;
    return expanded;
}

/* The place in a list or below a key that a value has. */
static void begin_value(struct cof_walk *walk)
{
    if (walk->depth > 0 && !walk->frames[walk->depth - 1].mapping) {
        cof_path_push_index(walk->path, walk->frames[walk->depth - 1].index++);
    }
}

static void end_value(struct cof_walk *walk)
{
    if (walk->depth > 0) {
        cof_path_pop(walk->path);
    }
}

static cof_code take_value(struct cof_walk *walk, const struct cof_walk_string *string)
{
    if (is_idle(walk, string)) {
        return COF_OK;
    }
    if (walk->mode == COF_WALK_COLLECT) {
        return collect(walk, string);
    }
    if (replace(walk, string) == COF_EXPANDED_NULL && string->typed) {
        add_fault(walk, string, COF_REASON_DOCUMENT_INVALID,
                  "the value is null, but a tag says what it must be; remove the tag or write a default behind ||");
    }
    return COF_OK;
}

cof_code cof_walk_take_string(struct cof_walk *walk, const struct cof_walk_string *string)
{
    begin_value(walk);
    const cof_code code = take_value(walk, string);
    end_value(walk);
    return code;
}

void cof_walk_take_other(struct cof_walk *walk)
{
    begin_value(walk);
    end_value(walk);
}

/* --- Keys ----------------------------------------------------------------------------------------------------- */

static cof_code add_key(struct cof_walk *walk, const struct cof_walk_key *key)
{
    if (walk->key_count == walk->key_room) {
        const size_t room = walk->key_room == 0 ? FIRST_ROOM : walk->key_room * 2;
        struct cof_walk_key *keys = cof_arena_array(walk->arena, room, sizeof *keys);
        if (keys == NULL) {
            return cof_arena_exhausted(walk->err);
        }
        if (walk->key_count > 0) {
            memcpy(keys, walk->keys, walk->key_count * sizeof *keys);
        }
        walk->keys = keys;
        walk->key_room = room;
    }
    walk->keys[walk->key_count++] = *key;
    return COF_OK;
}

static cof_code copy_text(struct cof_walk *walk, struct cof_slice text, struct cof_slice *ret_copy)
{
    const char *copy = cof_arena_text(walk->arena, text);
    if (copy == NULL) {
        return cof_arena_exhausted(walk->err);
    }
    *ret_copy = cof_slice_of(copy, text.len);
    return COF_OK;
}

/* The text of a key that was measured without a fault. */
static cof_code new_text(struct cof_walk *walk, const struct cof_walk_string *key, struct cof_slice *ret_text)
{
    struct cof_sink sink = {0};
    (void) write_text(walk, key, COF_ENCODING_RAW, &sink);
    sink = (struct cof_sink){.to = cof_arena_alloc(walk->arena, sink.used), .room = sink.used};
    if (sink.to == NULL) {
        return cof_arena_exhausted(walk->err);
    }
    sink.used = 0;
    (void) write_text(walk, key, COF_ENCODING_RAW, &sink);
    *ret_text = cof_slice_of(sink.to, sink.used);
    return COF_OK;
}

static size_t written_length(struct cof_slice text)
{
    struct cof_sink sink = {0};
    cof_sink_put(&sink, COF_ENCODING_YAML, text);
    return sink.used;
}

static cof_code measure_key(struct cof_walk *walk, const struct cof_walk_string *string)
{
    struct cof_walk_key key = {.place = string->place};
    const size_t faults = walk->faults->total;
    const cof_expanded expanded = is_idle(walk, string) ? COF_EXPANDED_SAME : replace(walk, string);
    TRY(copy_text(walk, string->text, &key.was));
    key.text = key.was;
    if (expanded == COF_EXPANDED_NULL) {
        add_fault(walk, string, COF_REASON_DOCUMENT_KEY_CONFLICT,
                  "this key would become null; write a default behind ||, or another key");
    }
    if (expanded == COF_EXPANDED_TEXT && walk->faults->total == faults) {
        TRY(new_text(walk, string, &key.text));
        key.changed = true;
    }
    if (key.changed && walk->document->kind == COF_DOCUMENT_YAML && written_length(key.text) > YAML_KEY_MAX) {
        add_fault(walk, string, COF_REASON_DOCUMENT_INVALID,
                  "this key would have more than 1000 bytes, with its escapes, which YAML does not take for a key; "
                  "make it shorter");
    }
    walk->frames[walk->depth - 1].changed |= key.changed;
    return add_key(walk, &key);
}

cof_code cof_walk_take_key(struct cof_walk *walk, const struct cof_walk_string *key)
{
    assert(walk->depth > 0 && walk->frames[walk->depth - 1].mapping);
    cof_path_push_key(walk->path, key->text);
    walk->frames[walk->depth - 1].alias |= key->alias;
    switch (walk->mode) {
    case COF_WALK_COLLECT:
        return is_idle(walk, key) ? COF_OK : collect(walk, key);
    case COF_WALK_MEASURE:
        return measure_key(walk, key);
    case COF_WALK_WRITE:
        if (!is_idle(walk, key)) {
            (void) replace(walk, key);
        }
        break;
    }
    return COF_OK;
}

/* Orders keys by what they will be, and equal ones by where they stand. */
static int compare_keys(const void *a, const void *b)
{
    const struct cof_walk_key *left = a;
    const struct cof_walk_key *right = b;
    const int order = cof_slice_compare(left->text, right->text);
    if (order != 0) {
        return order;
    }
    const int lines = (left->place.line > right->place.line) - (left->place.line < right->place.line);
    return lines != 0 ? lines
                      : (left->place.column > right->place.column) - (left->place.column < right->place.column);
}

static void tell_equal(const struct cof_walk *walk, const struct cof_walk_key *first,
                       const struct cof_walk_key *second)
{
    char names[2][COF_PATH_SHOWN];
    char problem[sizeof names +
                 sizeof "the keys  and  (line 4294967295) of this mapping would become equal; rename one"];
    cof_path_show_key(first->was, names[0]);
    cof_path_show_key(second->was, names[1]);
    (void) snprintf(problem, sizeof problem,
                    "the keys %s and %s (line %u) of this mapping would become equal; rename one", names[0],
                    names[1], second->place.line);
    add_fault(walk, &(struct cof_walk_string){.place = first->place}, COF_REASON_DOCUMENT_KEY_CONFLICT, problem);
}

/* Keys that were equal before stay so; of those that became equal one has changed. */
static void check_keys(struct cof_walk *walk, const struct cof_walk_frame *frame)
{
    struct cof_walk_key *keys = walk->keys + frame->first_key;
    const size_t count = walk->key_count - frame->first_key;
    if (!frame->changed) {
        return;
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 1; i < count; i++) {
        if ((keys[i - 1].changed || keys[i].changed) && cof_slice_equal(keys[i - 1].text, keys[i].text)) {
            tell_equal(walk, &keys[i - 1], &keys[i]);
        }
    }
    if (frame->alias) {
        add_fault(walk, &(struct cof_walk_string){.place = keys[0].place}, COF_REASON_DOCUMENT_INVALID,
                  "an alias is a key of a mapping whose keys hold references; write the key itself");
    }
}

/* --- Mappings and lists --------------------------------------------------------------------------------------- */

cof_code cof_walk_enter(struct cof_walk *walk, bool mapping, const struct cof_place *place)
{
    const bool is_key = walk->key_follows;
    if (walk->depth == COF_PATH_DEPTH) {
        return cof_fail(walk->err, COF_REASON_DOCUMENT_TOO_DEEP,
                        "line %u, column %u: the document is nested more than %d deep; %s", place->line,
                        place->column, COF_PATH_DEPTH, cof_reason_next_step(COF_REASON_DOCUMENT_TOO_DEEP));
    }
    if (!is_key) {
        begin_value(walk);
    }
    walk->key_follows = false;
    walk->in_key += is_key;
    walk->frames[walk->depth++] =
        (struct cof_walk_frame){.mapping = mapping, .is_key = is_key, .first_key = walk->key_count};
    return COF_OK;
}

void cof_walk_enter_key(struct cof_walk *walk)
{
    assert(walk->depth > 0 && walk->frames[walk->depth - 1].mapping);
    cof_path_push_key(walk->path, cof_slice_text("?"));
    walk->key_follows = true;
}

void cof_walk_leave(struct cof_walk *walk)
{
    assert(walk->depth > 0);
    const struct cof_walk_frame frame = walk->frames[walk->depth - 1];
    if (walk->mode == COF_WALK_MEASURE) {
        check_keys(walk, &frame);
    }
    walk->key_count = frame.first_key;
    walk->in_key -= frame.is_key;
    walk->depth--;
    if (!frame.is_key) {
        end_value(walk);
    }
}
