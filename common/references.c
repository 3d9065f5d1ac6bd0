#include "common/references.h"

#include <assert.h>

/* Open addressing: a power of two, so much larger than the list that probing stays short. */
enum { SLOTS = 4096 };

struct cof_references {
    struct cof_arena *arena;
    size_t count;
    struct cof_reference items[COF_REFERENCES_MAX];
    uint16_t slots[SLOTS]; /* index + 1; 0: free */
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

static cof_code append(struct cof_references *references, const struct cof_operand *operand, struct cof_error *err)
{
    if (references->count == COF_REFERENCES_MAX) {
        return cof_fail(err, COF_REASON_TOO_MANY_REFERENCES, "there are more than %d different references; %s",
                        COF_REFERENCES_MAX, cof_reason_next_step(COF_REASON_TOO_MANY_REFERENCES));
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

cof_code cof_references_add_template(struct cof_references *references, const struct cof_template *template,
                                     struct cof_error *err)
{
    struct cof_operand_scan scan;
    struct cof_operand operand;
    cof_operand_scan_init(&scan, template);
    while (cof_operand_next(&scan, &operand)) {
        if (operand.kind == COF_OPERAND_REFERENCE) {
            TRY(cof_references_add(references, &operand, err));
        }
    }
    return COF_OK;
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
