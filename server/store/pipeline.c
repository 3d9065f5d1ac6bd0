#include "server/store/pipeline.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 64 };

static const struct pipeline_entry *entry_at(const struct pipeline *pipeline, size_t index)
{
    assert(pipeline->capacity > 0);
    return &pipeline->entries[(pipeline->head + index) % pipeline->capacity];
}

void pipeline_init(struct pipeline *pipeline)
{
    *pipeline = (struct pipeline){.group = 1};
}

void pipeline_done(struct pipeline *pipeline)
{
    free(pipeline->entries);
    pipeline_init(pipeline);
}

void pipeline_clear(struct pipeline *pipeline)
{
    pipeline->head = 0;
    pipeline->count = 0;
    pipeline->group++;
    pipeline->unsynced = false;
    pipeline->unflushed = false;
}

bool pipeline_reserve(struct pipeline *pipeline, size_t more, size_t limit)
{
    const size_t needed = pipeline->count + more;
    if (needed > limit) {
        return false;
    }
    if (needed <= pipeline->capacity) {
        return true;
    }
    size_t capacity = pipeline->capacity == 0 ? FIRST_CAPACITY : pipeline->capacity;
    while (capacity < needed) {
        capacity *= 2;
    }
    struct pipeline_entry *entries = calloc(capacity, sizeof *entries);
    if (entries == NULL) {
        return false;
    }
    for (size_t i = 0; i < pipeline->count; i++) {
        entries[i] = *entry_at(pipeline, i);
    }
    free(pipeline->entries);
    pipeline->entries = entries;
    pipeline->capacity = capacity;
    pipeline->head = 0;
    return true;
}

void pipeline_push(struct pipeline *pipeline, pipeline_kind kind, unsigned id)
{
    assert(pipeline->count < pipeline->capacity);
    const size_t place = (pipeline->head + pipeline->count) % pipeline->capacity;
    pipeline->entries[place] = (struct pipeline_entry){kind, id, pipeline->group};
    pipeline->count++;
    pipeline->unsynced = kind != PIPELINE_SYNC;
    pipeline->unflushed = kind != PIPELINE_SYNC;
    if (kind == PIPELINE_SYNC) {
        pipeline->group++;
    }
}

const struct pipeline_entry *pipeline_front(const struct pipeline *pipeline)
{
    return pipeline->count == 0 ? NULL : entry_at(pipeline, 0);
}

void pipeline_pop(struct pipeline *pipeline)
{
    assert(pipeline->count > 0);
    pipeline->head = (pipeline->head + 1) % pipeline->capacity;
    pipeline->count--;
}

bool pipeline_waits_for(const struct pipeline *pipeline, unsigned id, uint64_t except)
{
    for (size_t i = 0; i < pipeline->count; i++) {
        const struct pipeline_entry *entry = entry_at(pipeline, i);
        if (entry->kind == PIPELINE_STATEMENT && entry->id == id && entry->group != except) {
            return true;
        }
    }
    return false;
}

bool pipeline_revocable(const struct pipeline *pipeline, uint64_t failed)
{
    for (size_t i = 0; i < pipeline->count; i++) {
        const struct pipeline_entry *entry = entry_at(pipeline, i);
        if (entry->kind == PIPELINE_STATEMENT && entry->group != failed && entry->group != pipeline->group) {
            return false;
        }
    }
    return true;
}
