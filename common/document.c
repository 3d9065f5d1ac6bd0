#include "common/document.h"

#include <assert.h>

#include "common/document_walk.h"

/* Decoded keys of YAML can be half as long again as they stand in the document. */
enum { KEYS_PER_TEXT = 2, KEYS_MORE = 128 };

static cof_code check_size(const struct cof_document *document, struct cof_error *err)
{
    return document->text.len <= COF_TEXT_MAX
               ? COF_OK
               : cof_fail(err, COF_REASON_TEXT_TOO_LARGE, "the document has %zu bytes, at most %d are allowed; %s",
                          document->text.len, COF_TEXT_MAX, cof_reason_next_step(COF_REASON_TEXT_TOO_LARGE));
}

/* What all walks through a document have; the path begins at its root. */
static cof_code walk_new(const struct cof_document *document, struct cof_fault_list *faults,
                         struct cof_arena *arena, struct cof_walk **ret_walk, struct cof_error *err)
{
    struct cof_walk *walk = cof_arena_alloc(arena, sizeof *walk);
    if (walk == NULL) {
        return cof_arena_exhausted(err);
    }
    *walk = (struct cof_walk){
        .document = document,
        .encoding = document->kind == COF_DOCUMENT_JSON ? COF_ENCODING_JSON : COF_ENCODING_YAML,
        .faults = faults,
        .arena = arena,
        .err = err,
    };
    TRY(cof_path_new(arena, document->rules, document->text.len * KEYS_PER_TEXT + KEYS_MORE, &walk->path, err));
    *ret_walk = walk;
    return COF_OK;
}

static cof_code go(struct cof_walk *walk)
{
    return walk->document->kind == COF_DOCUMENT_JSON ? cof_walk_json(walk) : cof_walk_yaml(walk);
}

cof_code cof_document_references(const struct cof_document *document, struct cof_references *references,
                                 struct cof_fault_list *faults, struct cof_arena *arena, struct cof_error *err)
{
    struct cof_walk *walk = NULL;
    TRY(check_size(document, err));
    if (document->kind == COF_DOCUMENT_TEXT) {
        const struct cof_expansion expansion = {.faults = faults};
        TRY(cof_text_references(&expansion, document->text, references, err));
        return cof_fault_list_check(faults, err);
    }
    TRY(walk_new(document, faults, arena, &walk, err));
    assert(walk != NULL);
    walk->mode = COF_WALK_COLLECT;
    walk->references = references;
    TRY(go(walk));
    return cof_fault_list_check(faults, err);
}

static void finish(struct cof_walk *walk)
{
    cof_sink_put_raw(&walk->sink, cof_slice_of(walk->document->text.data + walk->copied,
                                               walk->document->text.len - walk->copied));
}

/* The second walk, which finds nothing wrong any more. */
static cof_code write(struct cof_walk *walk, struct cof_value *ret_value)
{
    const size_t room = walk->sink.used;
    walk->mode = COF_WALK_WRITE;
    walk->copied = 0;
    walk->sink = (struct cof_sink){.to = cof_arena_alloc(walk->arena, room), .room = room};
    if (walk->sink.to == NULL) {
        return cof_arena_exhausted(walk->err);
    }
    TRY(go(walk));
    finish(walk);
    assert(walk->sink.used == room);
    *ret_value = (struct cof_value){.bytes = cof_slice_of(walk->sink.to, walk->sink.used)};
    return COF_OK;
}

cof_code cof_document_expand(const struct cof_document *document, const struct cof_lookup *lookup,
                             struct cof_fault_list *faults, struct cof_arena *arena, struct cof_value *ret_value,
                             struct cof_error *err)
{
    struct cof_walk *walk = NULL;
    TRY(check_size(document, err));
    if (document->kind == COF_DOCUMENT_TEXT) {
        return cof_text_expand(document->text, lookup, faults, arena, ret_value, err);
    }
    TRY(walk_new(document, faults, arena, &walk, err));
    assert(walk != NULL);
    walk->mode = COF_WALK_MEASURE;
    walk->lookup = lookup;
    TRY(go(walk));
    finish(walk);
    TRY(cof_fault_list_check(faults, err));
    return write(walk, ret_value);
}
