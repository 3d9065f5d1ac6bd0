#include <yaml.h>

#include "common/document.h"
#include "common/json.h"
#include "tests/fuzz/fuzz.h"

/*
 * Any bytes as a document, JSON if they begin with `j`, else YAML: it is refused, or the new document has the same
 * nodes, where each string is what its text became, read back by a parser that knows nothing of templates.
 */

enum { POOL = 64 << 20 };

/* Everything that a writer could forget to escape. */
static const char nasty[] =
    "\" \\ ' # : - {[ ]} \n\r\t\f\x01\x7F \xC2\x85\xC2\xA0\xE2\x80\xA8\xEF\xBB\xBF\xEF\xBF\xBF \xF0\x9F\x94\x91 "
    "${{ SECRETS.a.K }} ";

static void find(void *context, struct cof_slice name, struct cof_slice key, struct cof_found *ret_found)
{
    (void) context;
    (void) key;
    *ret_found = (struct cof_found){.kind = COF_FOUND_VALUE, .value = cof_slice_text(nasty)};
    if (cof_slice_equal(name, cof_slice_text("n"))) {
        *ret_found = (struct cof_found){.kind = COF_FOUND_ABSENT};
    } else if (cof_slice_equal(name, cof_slice_text("e"))) {
        ret_found->value = cof_slice_text("");
    }
}

static const struct cof_lookup lookup = {find, NULL};
static struct cof_pool *pool;

/* What a decoded text becomes; SAME leaves it. */
static cof_expanded become(struct cof_slice text, struct cof_arena *arena, struct cof_slice *ret_text)
{
    struct cof_fault_list faults;
    cof_fault_list_init(&faults, arena);
    const struct cof_expansion expansion = {.lookup = &lookup, .faults = &faults};
    struct cof_sink sink = {0};
    const cof_expanded expanded = cof_text_write(&expansion, text, &sink);
    *ret_text = text;
    if (expanded == COF_EXPANDED_TEXT) {
        sink = (struct cof_sink){.to = cof_arena_alloc(arena, sink.used), .room = sink.used};
        MUST(sink.to != NULL && cof_text_write(&expansion, text, &sink) == expanded);
        *ret_text = cof_slice_of(sink.to, sink.used);
    }
    return expanded;
}

/* --- JSON ----------------------------------------------------------------------------------------------------- */

static struct cof_slice decoded(struct cof_slice raw, struct cof_arena *arena, bool *ret_whole)
{
    uint8_t *text = cof_arena_alloc(arena, raw.len);
    size_t length = 0;
    MUST(text != NULL);
    *ret_whole = cof_json_decode(raw, text, &length);
    return cof_slice_of(text, length);
}

static void compare_json_string(const struct cof_json_event *old, const struct cof_json_event *new,
                                struct cof_arena *arena)
{
    bool whole;
    struct cof_slice expected;
    const struct cof_slice text = decoded(old->raw, arena, &whole);
    const cof_expanded expanded = whole ? become(text, arena, &expected) : COF_EXPANDED_SAME;
    if (expanded == COF_EXPANDED_SAME) {
        MUST(new->kind == old->kind &&cof_slice_equal(old->raw, new->raw));
    } else if (expanded == COF_EXPANDED_NULL) {
        MUST(new->kind == COF_JSON_WORD &&cof_slice_equal(new->raw, cof_slice_text("null")));
    } else {
        MUST(new->kind == old->kind &&cof_slice_equal(decoded(new->raw, arena, &whole), expected) && whole);
    }
}

static void compare_json(struct cof_slice before, struct cof_slice after, struct cof_arena *arena)
{
    struct cof_json_scan scans[2];
    struct cof_json_event old = {.kind = COF_JSON_WORD};
    struct cof_json_event new;
    struct cof_error err;
    cof_json_scan_init(&scans[0], before);
    cof_json_scan_init(&scans[1], after);
    while (old.kind != COF_JSON_END) {
        MUST(cof_json_next(&scans[0], &old, &err) == COF_OK && cof_json_next(&scans[1], &new, &err) == COF_OK);
        if (old.kind == COF_JSON_STRING || old.kind == COF_JSON_KEY) {
            compare_json_string(&old, &new, arena);
        } else {
            MUST(old.kind == new.kind &&cof_slice_equal(old.raw, new.raw));
        }
    }
}

/* --- YAML ----------------------------------------------------------------------------------------------------- */

static void begin(yaml_parser_t *parser, struct cof_slice text)
{
    MUST(yaml_parser_initialize(parser) == 1);
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, text.data, text.len);
}

static bool same_name(const yaml_char_t *a, const yaml_char_t *b)
{
    return (a == NULL) == (b == NULL) && (a == NULL || strcmp((const char *) a, (const char *) b) == 0);
}

static void compare_scalar(const yaml_event_t *old, const yaml_event_t *new, struct cof_arena *arena)
{
    const struct cof_slice before = cof_slice_of(old->data.scalar.value, old->data.scalar.length);
    const struct cof_slice after = cof_slice_of(new->data.scalar.value, new->data.scalar.length);
    struct cof_slice expected;
    const cof_expanded expanded = become(before, arena, &expected);
    MUST(same_name(old->data.scalar.anchor, new->data.scalar.anchor));
    MUST(same_name(old->data.scalar.tag, new->data.scalar.tag));
    if (expanded == COF_EXPANDED_SAME) {
        MUST(cof_slice_equal(before, after) && old->data.scalar.style == new->data.scalar.style);
    } else if (expanded == COF_EXPANDED_NULL) {
        MUST(cof_slice_equal(after, cof_slice_text("null")) && new->data.scalar.style == YAML_PLAIN_SCALAR_STYLE);
    } else {
        MUST(cof_slice_equal(after, expected) && new->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE);
    }
}

static void compare_yaml(struct cof_slice before, struct cof_slice after, struct cof_arena *arena)
{
    yaml_parser_t parsers[2];
    bool last = false;
    begin(&parsers[0], before);
    begin(&parsers[1], after);
    while (!last) {
        yaml_event_t old;
        yaml_event_t new;
        MUST(yaml_parser_parse(&parsers[0], &old) == 1);
        MUST(yaml_parser_parse(&parsers[1], &new) == 1);
        MUST(old.type == new.type);
        if (old.type == YAML_SCALAR_EVENT) {
            compare_scalar(&old, &new, arena);
        }
        last = old.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&old);
        yaml_event_delete(&new);
    }
    yaml_parser_delete(&parsers[0]);
    yaml_parser_delete(&parsers[1]);
}

/* --- Rules ---------------------------------------------------------------------------------------------------- */

static struct cof_value expand_under(struct cof_document document, cof_path_rule rule, struct cof_arena *arena)
{
    struct cof_path_rules *rules = NULL;
    struct cof_fault_list faults;
    struct cof_value value;
    struct cof_error err;
    cof_fault_list_init(&faults, arena);
    MUST(cof_path_rules_new(arena, &rules, &err) == COF_OK);
    MUST(cof_path_rules_add(rules, rule, cof_slice_text("**"), &err) == COF_OK);
    document.rules = rules;
    /* Keys that are all redacted can become equal, or change beside an alias; nothing else can go wrong with a document
     * that was expanded. */
    if (cof_document_expand(&document, &lookup, &faults, arena, &value, &err) != COF_OK) {
        MUST(rule == COF_PATH_REDACTED &&
             (err.reason == COF_REASON_DOCUMENT_KEY_CONFLICT || strstr(err.message, "an alias is a key") != NULL));
        value.bytes = cof_slice_of(NULL, 0);
    }
    return value;
}

/* What is excluded stays to the byte; where all is redacted no reference is left. */
static void check_rules(const struct cof_document *document, struct cof_arena *arena)
{
    struct cof_references *references = NULL;
    struct cof_fault_list faults;
    struct cof_error err;
    const struct cof_value same = expand_under(*document, COF_PATH_EXCLUDED, arena);
    const struct cof_value redacted = expand_under(*document, COF_PATH_REDACTED, arena);
    const struct cof_document again = {.kind = document->kind, .text = redacted.bytes};
    MUST(cof_slice_equal(same.bytes, document->text));
    if (redacted.bytes.data != NULL && redacted.bytes.len <= COF_TEXT_MAX) {
        cof_fault_list_init(&faults, arena);
        MUST(cof_references_new(arena, &references, &err) == COF_OK);
        MUST(cof_document_references(&again, references, &faults, arena, &err) == COF_OK);
        MUST(cof_references_count(references) == 0);
    }
}

/* --- Both ----------------------------------------------------------------------------------------------------- */

static void check(const struct cof_document *document, struct cof_arena *arena)
{
    struct cof_references *references = NULL;
    struct cof_fault_list faults;
    struct cof_value value;
    struct cof_error err;
    cof_fault_list_init(&faults, arena);
    const cof_code code = cof_document_expand(document, &lookup, &faults, arena, &value, &err);
    MUST(code == COF_OK || strlen(err.message) > 10);
    if (code != COF_OK) {
        return;
    }
    MUST(cof_references_new(arena, &references, &err) == COF_OK);
    MUST(cof_document_references(document, references, &faults, arena, &err) == COF_OK);
    MUST(cof_references_count(references) > 0 || cof_slice_equal(document->text, value.bytes));
    if (document->kind == COF_DOCUMENT_JSON) {
        compare_json(document->text, value.bytes, arena);
    } else {
        compare_yaml(document->text, value.bytes, arena);
    }
    check_rules(document, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cof_arena arena;
    struct cof_error err;
    if (size < 2) {
        return 0;
    }
    MUST(pool != NULL || cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err) == COF_OK);
    cof_arena_init(&arena, pool, SIZE_MAX);
    const struct cof_document document = {
        .kind = data[0] == 'j' ? COF_DOCUMENT_JSON : COF_DOCUMENT_YAML,
        .text = cof_slice_of(data + 1, size - 1),
    };
    check(&document, &arena);
    cof_arena_reset(&arena);
    return 0;
}
