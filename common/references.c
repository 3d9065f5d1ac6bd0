#include "common/references.h"

#include <assert.h>

#include "common/sink.h"

/* Open addressing: a power of two, so much larger than the list that probing stays short. */
enum { SLOTS = 4096 };

struct cof_references {
    struct cof_arena *arena;
    size_t count;
    struct cof_reference items[COF_REFERENCES_MAX];
    uint16_t slots[SLOTS]; /* index + 1; 0: free */
    size_t choice_count;
    struct cof_slice choices[COF_REFERENCES_MAX];
    uint16_t choice_slots[SLOTS];
    uint8_t draft[COF_EXPRESSION_MAX]; /* of the choice that is being written */
};

/* FNV-1a. A list is so short that names which were made to collide cost little. */
static uint32_t hash(uint32_t seed, struct cof_slice text)
{
    uint32_t value = seed;
    for (size_t i = 0; i < text.len; i++) {
        value = (value ^ text.data[i]) * 16777619U;
    }
    return value;
}

static bool same(const struct cof_reference *reference, const struct cof_operand *operand)
{
    return cof_slice_equal(reference->name, operand->name) && cof_slice_equal(reference->key, operand->key);
}

/* The slot that has the reference, or the free one that it belongs into. */
static uint16_t *find_slot(struct cof_references *references, const struct cof_operand *operand)
{
    /* A name cannot hold NUL, so it parts name and key. */
    const uint32_t named = hash(2166136261U, operand->name) * 16777619U;
    uint32_t at = hash(named, operand->key) % SLOTS;
    while (references->slots[at] != 0 && !same(&references->items[references->slots[at] - 1], operand)) {
        at = (at + 1) % SLOTS;
    }
    return &references->slots[at];
}

cof_code cof_references_new(struct cof_arena *arena, struct cof_references **ret_references, struct cof_error *err)
{
    struct cof_references *references = cof_arena_alloc(arena, sizeof *references);
    if (references == NULL) {
        return cof_arena_exhausted(err);
    }
    references->arena = arena;
    *ret_references = references;
    return COF_OK;
}

static cof_code too_many(const char *what, struct cof_error *err)
{
    return cof_fail(err, COF_REASON_TOO_MANY_REFERENCES, "there are more than %d different %s; %s",
                    COF_REFERENCES_MAX, what, cof_reason_next_step(COF_REASON_TOO_MANY_REFERENCES));
}

static cof_code append(struct cof_references *references, const struct cof_operand *operand, struct cof_error *err)
{
    if (references->count == COF_REFERENCES_MAX) {
        return too_many("references", err);
    }
    const char *name = cof_arena_text(references->arena, operand->name);
    const char *key = cof_arena_text(references->arena, operand->key);
    if (name == NULL || key == NULL) {
        return cof_arena_exhausted(err);
    }
    references->items[references->count++] = (struct cof_reference){
        .name = cof_slice_of(name, operand->name.len),
        .key = cof_slice_of(key, operand->key.len),
        .required = operand->last,
        .unconditional = operand->alone,
    };
    return COF_OK;
}

cof_code cof_references_add(struct cof_references *references, const struct cof_operand *reference,
                            struct cof_error *err)
{
    assert(reference->kind == COF_OPERAND_REFERENCE);
    uint16_t *slot = find_slot(references, reference);
    if (*slot != 0) {
        references->items[*slot - 1].required |= reference->last;
        references->items[*slot - 1].unconditional |= reference->alone;
        return COF_OK;
    }
    TRY(append(references, reference, err));
    *slot = (uint16_t) references->count;
    return COF_OK;
}

static bool is_identifier(struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.data[i];
        if (c == '.' || c == '-') {
            return false;
        }
    }
    return text.len > 0 && (text.data[0] < '0' || text.data[0] > '9');
}

static void write_part(struct cof_sink *sink, struct cof_slice part)
{
    const bool identifier = is_identifier(part);
    cof_sink_put_raw(sink, cof_slice_text(identifier ? "." : "['"));
    cof_sink_put_raw(sink, part);
    cof_sink_put_raw(sink, cof_slice_text(identifier ? "" : "']"));
}

static void write_operand(struct cof_sink *sink, const struct cof_operand *operand)
{
    switch (operand->kind) {
    case COF_OPERAND_REFERENCE:
        cof_sink_put_raw(sink, cof_slice_text("SECRETS"));
        write_part(sink, operand->name);
        write_part(sink, operand->key);
        return;
    case COF_OPERAND_LITERAL:
        cof_sink_put_raw(sink, cof_slice_text(operand->literal.len > 0 ? "'-'" : "''"));
        return;
    case COF_OPERAND_NONE:
        cof_sink_put_raw(sink, cof_slice_text("None"));
        return;
    }
}

/* What stands behind a literal that is not empty is never needed; but a choice has a reference. */
static struct cof_slice write_choice(struct cof_references *references, const struct cof_template *template)
{
    struct cof_sink sink = {.to = references->draft, .room = sizeof references->draft};
    struct cof_operand_scan scan;
    struct cof_operand operand;
    bool referred = false;
    bool decided = false;
    cof_operand_scan_init(&scan, template);
    cof_sink_put_raw(&sink, cof_slice_text("${{"));
    const size_t start = sink.used;
    while (!(referred && decided) && cof_operand_next(&scan, &operand)) {
        cof_sink_put_raw(&sink, cof_slice_text(sink.used == start ? "" : "||"));
        write_operand(&sink, &operand);
        referred |= operand.kind == COF_OPERAND_REFERENCE;
        decided |= operand.kind == COF_OPERAND_LITERAL && operand.literal.len > 0;
    }
    cof_sink_put_raw(&sink, cof_slice_text("}}"));
    return cof_slice_of(sink.to, sink.used);
}

static uint16_t *find_choice(struct cof_references *references, struct cof_slice choice)
{
    uint32_t at = hash(2166136261U, choice) % SLOTS;
    while (references->choice_slots[at] != 0 &&
           !cof_slice_equal(references->choices[references->choice_slots[at] - 1], choice)) {
        at = (at + 1) % SLOTS;
    }
    return &references->choice_slots[at];
}

static cof_code add_choice(struct cof_references *references, const struct cof_template *template,
                           struct cof_error *err)
{
    const struct cof_slice choice = write_choice(references, template);
    uint16_t *slot = find_choice(references, choice);
    if (*slot != 0) {
        return COF_OK;
    }
    if (references->choice_count == COF_REFERENCES_MAX) {
        return too_many("templates with ||", err);
    }
    const char *copy = cof_arena_text(references->arena, choice);
    if (copy == NULL) {
        return cof_arena_exhausted(err);
    }
    references->choices[references->choice_count++] = cof_slice_of(copy, choice.len);
    *slot = (uint16_t) references->choice_count;
    return COF_OK;
}

cof_code cof_references_add_template(struct cof_references *references, const struct cof_template *template,
                                     struct cof_error *err)
{
    struct cof_operand_scan scan;
    struct cof_operand operand;
    bool choice = false;
    cof_operand_scan_init(&scan, template);
    while (cof_operand_next(&scan, &operand)) {
        if (operand.kind == COF_OPERAND_REFERENCE) {
            TRY(cof_references_add(references, &operand, err));
            choice |= !operand.alone;
        }
    }
    return choice ? add_choice(references, template, err) : COF_OK;
}

size_t cof_references_choice_count(const struct cof_references *references)
{
    return references->choice_count;
}

struct cof_slice cof_references_choice_at(const struct cof_references *references, size_t index)
{
    assert(index < references->choice_count);
    return references->choices[index];
}

bool cof_references_find(struct cof_references *references, struct cof_slice name, struct cof_slice key,
                         size_t *ret_index)
{
    const struct cof_operand operand = {.kind = COF_OPERAND_REFERENCE, .name = name, .key = key};
    const uint16_t slot = *find_slot(references, &operand);
    *ret_index = slot == 0 ? 0 : (size_t) slot - 1;
    return slot != 0;
}

size_t cof_references_count(const struct cof_references *references)
{
    return references->count;
}

const struct cof_reference *cof_references_at(const struct cof_references *references, size_t index)
{
    assert(index < references->count);
    return &references->items[index];
}
