#include "common/expand.h"

#include <assert.h>
#include <stdio.h>

#include "common/name.h"

enum { PATH_SIZE = 256, MESSAGE_SIZE = 1200 };

/* --- Faults --------------------------------------------------------------------------------------------------- */

/* What is to be told of a text. */
struct telling {
    struct cof_place place; /* in the text itself */
    cof_reason reason;
    const char *about; /* what is meant, such as a reference; empty: the place says it */
    const char *problem;
    bool withheld;
};

static void add_fault(const struct cof_expansion *expansion, const struct telling *telling)
{
    const struct cof_where *where = expansion->where;
    const struct cof_place place = where == NULL ? telling->place : where->place;
    char path[PATH_SIZE] = "";
    char message[MESSAGE_SIZE];
    if (where != NULL) {
        where->write_path(where->context, path, sizeof path);
    }
    (void) snprintf(message, sizeof message, "line %u, column %u: %s%s%s%s%s", place.line, place.column, path,
                    path[0] == '\0' ? "" : ": ", telling->about, telling->about[0] == '\0' ? "" : ": ",
                    telling->problem);
    const struct cof_fault fault = {telling->reason, place, path, message};
    if (telling->withheld) {
        cof_fault_list_withhold(expansion->faults, &fault);
    } else {
        cof_fault_list_add(expansion->faults, &fault);
    }
}

/* The scanner has checked its length. */
static void copy_name(struct cof_slice name, char *to, size_t size)
{
    assert(name.len > 0 && name.len < size);
    memcpy(to, name.data, name.len);
    to[name.len] = '\0';
}

static void add_reference_fault(const struct cof_expansion *expansion, const struct cof_template *template,
                                const struct cof_operand *operand, const struct telling *telling)
{
    struct telling told = *telling;
    told.place = cof_place_behind(
        cof_slice_of(template->text.data - template->place.offset, template->place.offset + template->text.len),
        template->place, template->place.offset + operand->offset);
    char about[sizeof "SECRETS.." + COF_SECRET_NAME_MAX + COF_KEY_NAME_MAX];
    char name[COF_SECRET_NAME_MAX + 1];
    char key[COF_KEY_NAME_MAX + 1];
    copy_name(operand->name, name, sizeof name);
    copy_name(operand->key, key, sizeof key);
    (void) snprintf(about, sizeof about, "SECRETS.%s.%s", name, key);
    told.about = about;
    add_fault(expansion, &told);
}

void cof_text_fault(const struct cof_expansion *expansion, struct cof_place place, cof_reason reason,
                    const char *problem)
{
    add_fault(expansion, &(struct telling){.place = place, .reason = reason, .about = "", .problem = problem});
}

/* What became of a reference is an error. */
static void add_found_fault(const struct cof_expansion *expansion, const struct cof_template *template,
                            const struct cof_operand *operand, const struct cof_found *found)
{
    if (expansion->faults == NULL) {
        return;
    }
    const struct telling telling = {
        .reason = found->reason, .problem = found->message, .withheld = found->kind == COF_FOUND_WITHHELD};
    add_reference_fault(expansion, template, operand, &telling);
}

/* What the scanner refuses. Within a document its place is one in the string, and told as such. */
static void add_scan_fault(const struct cof_expansion *expansion, const struct cof_template_scan *scan,
                           const struct cof_error *err)
{
    char path[PATH_SIZE] = "";
    char message[MESSAGE_SIZE];
    const struct cof_where *where = expansion->where;
    if (where == NULL) {
        cof_fault_list_add(expansion->faults, &(struct cof_fault){err->reason, scan->fault, NULL, err->message});
        return;
    }
    where->write_path(where->context, path, sizeof path);
    (void) snprintf(message, sizeof message, "line %u, column %u: %s: in this text, %s", where->place.line,
                    where->place.column, path, err->message);
    cof_fault_list_add(expansion->faults, &(struct cof_fault){err->reason, where->place, path, message});
}

/* --- Values --------------------------------------------------------------------------------------------------- */

/* What one operand gives. */
typedef enum step {
    STEP_TAKEN,
    STEP_NEXT, /* nothing, and another operand may */
    STEP_FAILED,
} step;

static step take_found(const struct cof_expansion *expansion, const struct cof_template *template,
                       const struct cof_operand *operand, struct cof_value *value)
{
    struct cof_found found = {.kind = COF_FOUND_ABSENT};
    expansion->lookup->find(expansion->lookup->context, operand->name, operand->key, &found);
    switch (found.kind) {
    case COF_FOUND_VALUE:
        if (expansion->where != NULL && !cof_sink_accepts(found.value)) {
            found.reason = COF_REASON_VALUE_NOT_TEXT;
            found.message =
                "the value is not UTF-8 and cannot stand in a document; store it as text, in base64 for "
                "example";
            add_found_fault(expansion, template, operand, &found);
            return STEP_FAILED;
        }
        *value = (struct cof_value){.bytes = found.value};
        return found.value.len > 0 || operand->last ? STEP_TAKEN : STEP_NEXT;
    case COF_FOUND_ABSENT:
        *value = (struct cof_value){.null = true};
        return operand->last ? STEP_TAKEN : STEP_NEXT;
    case COF_FOUND_MISSING:
        if (!operand->last) {
            return STEP_NEXT;
        }
        break;
    case COF_FOUND_FAILED:
    case COF_FOUND_WITHHELD:
        break;
    }
    add_found_fault(expansion, template, operand, &found);
    return STEP_FAILED;
}

static step take_operand(const struct cof_expansion *expansion, const struct cof_template *template,
                         const struct cof_operand *operand, struct cof_value *value)
{
    switch (operand->kind) {
    case COF_OPERAND_REFERENCE:
        return take_found(expansion, template, operand, value);
    case COF_OPERAND_LITERAL:
        *value = (struct cof_value){.bytes = operand->literal};
        break;
    case COF_OPERAND_NONE:
        *value = (struct cof_value){.null = true};
        break;
    }
    return value->bytes.len > 0 || operand->last ? STEP_TAKEN : STEP_NEXT;
}

bool cof_template_value(const struct cof_expansion *expansion, const struct cof_template *template,
                        struct cof_value *ret_value)
{
    struct cof_operand_scan scan;
    struct cof_operand operand;
    struct cof_value value = {.null = true};
    step taken = STEP_NEXT;
    assert(template->evaluated);
    cof_operand_scan_init(&scan, template);
    while (taken == STEP_NEXT && cof_operand_next(&scan, &operand)) {
        taken = take_operand(expansion, template, &operand, &value);
    }
    if (taken == STEP_TAKEN) {
        *ret_value = value;
    }
    return taken == STEP_TAKEN;
}

bool cof_operands_value(const struct cof_expansion *expansion, const struct cof_template *template,
                        const struct cof_operand *operands, size_t count, struct cof_value *ret_value)
{
    struct cof_value value = {.null = true};
    step taken = STEP_NEXT;
    assert(template->evaluated);
    for (size_t i = 0; i < count && taken == STEP_NEXT; i++) {
        taken = take_operand(expansion, template, &operands[i], &value);
    }
    if (taken == STEP_TAKEN) {
        *ret_value = value;
    }
    return taken == STEP_TAKEN;
}

/* The workflow engine will ask for these references: what is wrong with one is a fault here already. */
static void check_references(const struct cof_expansion *expansion, const struct cof_template *template)
{
    struct cof_operand_scan scan;
    struct cof_operand operand;
    cof_operand_scan_init(&scan, template);
    while (cof_operand_next(&scan, &operand)) {
        struct cof_found found = {.kind = COF_FOUND_ABSENT};
        expansion->lookup->find(expansion->lookup->context, operand.name, operand.key, &found);
        if (found.kind != COF_FOUND_VALUE && found.kind != COF_FOUND_ABSENT) {
            add_found_fault(expansion, template, &operand, &found);
        }
    }
}

/* --- Texts ---------------------------------------------------------------------------------------------------- */

/* A text on its way into the sink. */
struct writing {
    const struct cof_expansion *expansion;
    struct cof_slice text;
    struct cof_sink *sink;
    size_t copied; /* bytes of the text that are in the sink, or were replaced */
};

static void copy_until(struct writing *writing, size_t end)
{
    cof_sink_put(writing->sink, writing->expansion->encoding,
                 cof_slice_of(writing->text.data + writing->copied, end - writing->copied));
    writing->copied = end;
}

static void put_value(struct writing *writing, const struct cof_template *template)
{
    struct cof_value value;
    if (!cof_template_value(writing->expansion, template, &value)) {
        return;
    }
    if (value.null) {
        cof_text_fault(writing->expansion, template->place, COF_REASON_VALUE_ABSENT,
                       "this expression is null and stands within other text; write || '' behind its last "
                       "reference, or another default");
        return;
    }
    copy_until(writing, template->place.offset);
    cof_sink_put(writing->sink, writing->expansion->encoding, value.bytes);
    writing->copied = template->place.offset + template->text.len;
}

/* A text that is one template: its value takes the place of all of it. */
static cof_expanded write_whole(const struct writing *writing, const struct cof_template *template)
{
    struct cof_value value;
    if (!cof_template_value(writing->expansion, template, &value)) {
        return COF_EXPANDED_TEXT;
    }
    if (value.null) {
        return COF_EXPANDED_NULL;
    }
    cof_sink_put(writing->sink, writing->expansion->encoding, value.bytes);
    return COF_EXPANDED_TEXT;
}

/* The next template; what is wrong with others is added. False at the end. */
static bool next_template(const struct cof_expansion *expansion, struct cof_template_scan *scan,
                          struct cof_template *ret_template)
{
    struct cof_error err;
    bool found;
    cof_error_clear(&err);
    while (cof_template_next(scan, ret_template, &found, &err) != COF_OK) {
        add_scan_fault(expansion, scan, &err);
        cof_error_clear(&err);
    }
    return found;
}

cof_expanded cof_text_write(const struct cof_expansion *expansion, struct cof_slice text, struct cof_sink *sink)
{
    struct writing writing = {.expansion = expansion, .text = text, .sink = sink};
    const size_t before = sink->used;
    struct cof_template_scan scan;
    struct cof_template template;
    bool changed = false;
    cof_template_scan_init(&scan, text);
    for (bool first = true; next_template(expansion, &scan, &template); first = false) {
        if (!template.evaluated) {
            check_references(expansion, &template);
            continue;
        }
        if (first && cof_template_is_whole(text, &template)) {
            return write_whole(&writing, &template);
        }
        put_value(&writing, &template);
        changed = true;
    }
    if (!changed) {
        sink->used = before;
        return COF_EXPANDED_SAME;
    }
    copy_until(&writing, text.len);
    return COF_EXPANDED_TEXT;
}

cof_code cof_text_references(const struct cof_expansion *expansion, struct cof_slice text,
                             struct cof_references *references, struct cof_error *err)
{
    struct cof_template_scan scan;
    struct cof_template template;
    cof_template_scan_init(&scan, text);
    while (next_template(expansion, &scan, &template)) {
        TRY(cof_references_add_template(references, &template, err));
    }
    return COF_OK;
}

bool cof_text_refers(struct cof_slice text)
{
    struct cof_template_scan scan;
    struct cof_template template;
    struct cof_error err;
    bool found;
    cof_template_scan_init(&scan, text);
    return cof_template_next(&scan, &template, &found, &err) != COF_OK || found;
}

static cof_code write_text(const struct cof_expansion *expansion, struct cof_slice text, struct cof_sink *sink,
                           struct cof_value *value, struct cof_error *err)
{
    const cof_expanded expanded = cof_text_write(expansion, text, sink);
    TRY(cof_fault_list_check(expansion->faults, err));
    if (expanded == COF_EXPANDED_SAME) {
        cof_sink_put_raw(sink, text);
    }
    *value = (struct cof_value){expanded == COF_EXPANDED_NULL, cof_slice_of(sink->to, sink->used)};
    return COF_OK;
}

cof_code cof_text_expand(struct cof_slice text, const struct cof_lookup *lookup, struct cof_fault_list *faults,
                         struct cof_arena *arena, struct cof_value *ret_value, struct cof_error *err)
{
    const struct cof_expansion expansion = {.lookup = lookup, .faults = faults};
    struct cof_sink sink = {0};
    struct cof_value value;
    TRY(write_text(&expansion, text, &sink, &value, err));
    const size_t room = sink.used;
    sink = (struct cof_sink){.to = cof_arena_alloc(arena, room), .room = room};
    if (sink.to == NULL) {
        return cof_arena_exhausted(err);
    }
    TRY(write_text(&expansion, text, &sink, &value, err));
    assert(sink.used == room);
    *ret_value = value;
    return COF_OK;
}
