#include "common/path.h"

#include <assert.h>
#include <stdio.h>

enum { INDEX_SIZE = 24, SHOWN_KEY = COF_PATH_SHOWN - 8 };

typedef enum step_kind {
    STEP_NAME,
    STEP_ONE, /* `*` */
    STEP_ANY, /* `**` */
} step_kind;

struct step {
    step_kind kind;
    struct cof_slice name;
};

struct pattern {
    cof_path_rule rule;
    size_t count;
    struct step *steps;
};

struct cof_path_rules {
    struct cof_arena *arena;
    size_t count;
    struct pattern items[COF_PATH_PATTERNS_MAX];
};

/* --- Patterns ------------------------------------------------------------------------------------------------- */

/* A pattern while it is read. */
struct reader {
    struct cof_slice text;
    size_t at;
    struct cof_error *err;
};

static cof_code refuse(const struct reader *reader, const char *problem)
{
    return cof_fail_field(reader->err, COF_REASON_FIELD_INVALID, "pattern",
                          "the path pattern is wrong at character %zu: %s", reader->at + 1, problem);
}

static uint8_t peek(const struct reader *reader)
{
    return reader->at < reader->text.len ? reader->text.data[reader->at] : 0;
}

static bool is_sign(uint8_t byte)
{
    return byte != 0 && strchr(".[]*'\"", byte) != NULL;
}

static cof_code read_quoted(struct reader *reader, struct step *step)
{
    reader->at++;
    const uint8_t quote = peek(reader);
    if (quote != '\'' && quote != '"') {
        return refuse(reader, "a key in quotes is missing behind [; write ['key']");
    }
    const size_t begin = ++reader->at;
    while (reader->at < reader->text.len && reader->text.data[reader->at] != quote) {
        reader->at++;
    }
    *step = (struct step){STEP_NAME, cof_slice_of(reader->text.data + begin, reader->at - begin)};
    reader->at++;
    if (peek(reader) != ']') {
        return refuse(reader, "the quote or the ] is missing; write ['key']");
    }
    reader->at++;
    return COF_OK;
}

static cof_code read_stars(struct reader *reader, struct step *step)
{
    const size_t begin = reader->at;
    while (peek(reader) == '*') {
        reader->at++;
    }
    *step = (struct step){.kind = reader->at - begin == 1 ? STEP_ONE : STEP_ANY};
    return reader->at - begin <= 2 ? COF_OK : refuse(reader, "there are * and **, but not more stars");
}

static cof_code read_step(struct reader *reader, struct step *step)
{
    const size_t begin = reader->at;
    if (peek(reader) == '[') {
        return read_quoted(reader, step);
    }
    if (peek(reader) == '*') {
        return read_stars(reader, step);
    }
    while (reader->at < reader->text.len && !is_sign(peek(reader))) {
        reader->at++;
    }
    *step = (struct step){STEP_NAME, cof_slice_of(reader->text.data + begin, reader->at - begin)};
    return reader->at > begin ? COF_OK : refuse(reader, "a step is missing; write a key, a number, * or **");
}

/* What stands between two steps: a dot, or nothing before a bracket. */
static cof_code read_joint(struct reader *reader)
{
    if (peek(reader) == '.') {
        reader->at++;
        return COF_OK;
    }
    return peek(reader) == '[' ? COF_OK
                               : refuse(reader, "a dot is missing; put keys with . [ ] * or quotes into ['...']");
}

static cof_code read_pattern(struct reader *reader, struct pattern *pattern)
{
    TRY(read_step(reader, &pattern->steps[0]));
    pattern->count = 1;
    while (reader->at < reader->text.len) {
        if (pattern->count == COF_PATH_STEPS_MAX) {
            return cof_fail(reader->err, COF_REASON_LIMIT_EXCEEDED,
                            "the path pattern has more than %d steps; make it shorter", COF_PATH_STEPS_MAX);
        }
        TRY(read_joint(reader));
        TRY(read_step(reader, &pattern->steps[pattern->count]));
        pattern->count++;
    }
    return COF_OK;
}

cof_code cof_path_rules_new(struct cof_arena *arena, struct cof_path_rules **ret_rules, struct cof_error *err)
{
    struct cof_path_rules *rules = cof_arena_alloc(arena, sizeof *rules);
    if (rules == NULL) {
        return cof_arena_exhausted(err);
    }
    rules->arena = arena;
    *ret_rules = rules;
    return COF_OK;
}

cof_code cof_path_rules_add(struct cof_path_rules *rules, cof_path_rule rule, struct cof_slice pattern,
                            struct cof_error *err)
{
    struct reader reader = {.text = pattern, .err = err};
    if (rules->count == COF_PATH_PATTERNS_MAX || pattern.len > COF_PATH_PATTERN_MAX) {
        return cof_fail(err, COF_REASON_LIMIT_EXCEEDED,
                        "at most %d path patterns of %d bytes each are allowed; use fewer or shorter ones",
                        COF_PATH_PATTERNS_MAX, COF_PATH_PATTERN_MAX);
    }
    struct pattern *item = &rules->items[rules->count];
    *item = (struct pattern){.rule = rule,
                             .steps = cof_arena_array(rules->arena, COF_PATH_STEPS_MAX, sizeof *item->steps)};
    if (item->steps == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(read_pattern(&reader, item));
    rules->count++;
    return COF_OK;
}

/* --- The way -------------------------------------------------------------------------------------------------- */

/* One step of the way. Of each pattern a bit says for each number of its steps whether so many of them lead here. */
struct place {
    bool is_index;
    size_t index;
    size_t text; /* where its key begins in the texts */
    cof_path_rule rule;
    uint64_t *states;
};

struct cof_path {
    const struct cof_path_rules *rules;
    size_t count;
    size_t depth;
    char *texts; /* the keys, one behind the other */
    size_t used;
    size_t room;
    struct place places[COF_PATH_DEPTH + 1];
};

/* `**` may stand for no step at all. */
static uint64_t skip_any(const struct pattern *pattern, uint64_t states)
{
    for (size_t i = 0; i < pattern->count; i++) {
        if ((states >> i & 1U) != 0 && pattern->steps[i].kind == STEP_ANY) {
            states |= (uint64_t) 1 << (i + 1);
        }
    }
    return states;
}

static uint64_t after_step(const struct pattern *pattern, uint64_t states, struct cof_slice name)
{
    uint64_t next = 0;
    for (size_t i = 0; i < pattern->count; i++) {
        const struct step *step = &pattern->steps[i];
        if ((states >> i & 1U) == 0) {
            continue;
        }
        if (step->kind == STEP_ANY) {
            next |= (uint64_t) 1 << i;
        } else if (step->kind == STEP_ONE || cof_slice_equal(step->name, name)) {
            next |= (uint64_t) 1 << (i + 1);
        }
    }
    return skip_any(pattern, next);
}

/* What is below a value that a pattern matches is matched with it. */
static void judge(const struct cof_path *path, struct place *place)
{
    for (size_t i = 0; i < path->count; i++) {
        const struct pattern *pattern = &path->rules->items[i];
        if ((place->states[i] >> pattern->count & 1U) != 0 && pattern->rule > place->rule) {
            place->rule = pattern->rule;
        }
    }
}

cof_code cof_path_new(struct cof_arena *arena, const struct cof_path_rules *rules, size_t text_max,
                      struct cof_path **ret_path, struct cof_error *err)
{
    struct cof_path *path = cof_arena_alloc(arena, sizeof *path);
    const size_t count = rules == NULL ? 0 : rules->count;
    uint64_t *states = cof_arena_array(arena, (COF_PATH_DEPTH + 1) * count, sizeof *states);
    char *texts = cof_arena_alloc(arena, text_max);
    if (path == NULL || states == NULL || texts == NULL) {
        return cof_arena_exhausted(err);
    }
    path->rules = rules;
    path->count = count;
    path->texts = texts;
    path->room = text_max;
    for (size_t i = 0; i <= COF_PATH_DEPTH; i++) {
        path->places[i].states = states + i * count;
    }
    for (size_t i = 0; i < count; i++) {
        path->places[0].states[i] = skip_any(&rules->items[i], 1);
    }
    judge(path, &path->places[0]);
    *ret_path = path;
    return COF_OK;
}

static void push(struct cof_path *path, struct cof_slice name, bool is_index, size_t index)
{
    assert(path->depth < COF_PATH_DEPTH);
    const struct place *above = &path->places[path->depth];
    struct place *place = &path->places[++path->depth];
    place->is_index = is_index;
    place->index = index;
    place->text = path->used;
    place->rule = above->rule;
    for (size_t i = 0; i < path->count; i++) {
        place->states[i] = after_step(&path->rules->items[i], above->states[i], name);
    }
    judge(path, place);
}

void cof_path_push_key(struct cof_path *path, struct cof_slice key)
{
    push(path, key, false, 0);
    assert(key.len <= path->room - path->used);
    if (key.len > 0) {
        memcpy(path->texts + path->used, key.data, key.len);
        path->used += key.len;
    }
}

void cof_path_push_index(struct cof_path *path, size_t index)
{
    char name[INDEX_SIZE];
    (void) snprintf(name, sizeof name, "%zu", index);
    push(path, cof_slice_text(name), true, index);
}

void cof_path_pop(struct cof_path *path)
{
    assert(path->depth > 0);
    path->used = path->places[path->depth].text;
    path->depth--;
}

cof_path_rule cof_path_rule_here(const struct cof_path *path)
{
    return path->places[path->depth].rule;
}

static struct cof_slice key_at(const struct cof_path *path, size_t depth)
{
    const size_t begin = path->places[depth].text;
    const size_t end = depth == path->depth ? path->used : path->places[depth + 1].text;
    return cof_slice_of(path->texts + begin, end - begin);
}

/* Whether a key can stand in a path as it is. */
static bool is_simple(struct cof_slice key)
{
    bool simple = key.len > 0;
    for (size_t i = 0; i < key.len; i++) {
        simple = simple && key.data[i] > ' ' && key.data[i] != 0x7F && !is_sign(key.data[i]);
    }
    return simple;
}

void cof_path_show_key(struct cof_slice key, char shown[COF_PATH_SHOWN])
{
    size_t length = key.len < SHOWN_KEY ? key.len : SHOWN_KEY;
    while (length < key.len && length > 0 && (key.data[length] & 0xC0U) == 0x80U) {
        length--;
    }
    const bool simple = is_simple(key);
    const char quote = length > 0 && memchr(key.data, '\'', length) != NULL ? '"' : '\'';
    size_t used = 0;
    if (!simple) {
        shown[used++] = '[';
        shown[used++] = quote;
    }
    for (size_t i = 0; i < length; i++) {
        shown[used++] = key.data[i] < ' ' || key.data[i] == 0x7F ? '?' : (char) key.data[i];
    }
    if (!simple) {
        shown[used++] = quote;
        shown[used++] = ']';
    }
    shown[used] = '\0';
}

void cof_path_write(const struct cof_path *path, char *to, size_t size)
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 1; i <= path->depth; i++) {
        char shown[COF_PATH_SHOWN];
        if (path->places[i].is_index) {
            (void) snprintf(shown, sizeof shown, "%zu", path->places[i].index);
        } else {
            cof_path_show_key(key_at(path, i), shown);
        }
        const char *joint = i == 1 || shown[0] == '[' ? "" : ".";
        if (used + strlen(joint) + strlen(shown) >= size) {
            return;
        }
        used += (size_t) snprintf(to + used, size - used, "%s%s", joint, shown);
    }
}
