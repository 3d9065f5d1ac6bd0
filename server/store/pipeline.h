#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

/*
 * What a session has sent or will send and whose results it has not read yet, oldest first. Entries between two
 * syncs are a group: after a failure the server skips the rest of the group.
 */

typedef enum pipeline_kind {
    PIPELINE_STATEMENT,
    PIPELINE_PREPARE,
    PIPELINE_SYNC,
} pipeline_kind;

struct pipeline_entry {
    pipeline_kind kind;
    unsigned id; /* of the statement */
    uint64_t group;
};

struct pipeline {
    struct pipeline_entry *entries; /* a ring of `capacity` */
    size_t capacity;
    size_t head;
    size_t count;
    uint64_t group; /* that is being queued; never 0 */
    bool unsynced;  /* something was queued since the last sync */
    bool unflushed; /* something was queued that the server may keep to itself until it is told to answer */
};

void pipeline_init(struct pipeline *pipeline);
void pipeline_done(struct pipeline *pipeline);

/* Drops all entries and begins a new group. */
void pipeline_clear(struct pipeline *pipeline);

/* Makes room for `more` entries; false if memory is short or there would be more than `limit`. */
bool pipeline_reserve(struct pipeline *pipeline, size_t more, size_t limit) COF_MUST_USE;

/* Adds an entry, for which there is room. A sync ends the group. */
void pipeline_push(struct pipeline *pipeline, pipeline_kind kind, unsigned id);

/* The oldest entry; NULL if there is none. It is valid until the next push. */
const struct pipeline_entry *pipeline_front(const struct pipeline *pipeline);
void pipeline_pop(struct pipeline *pipeline);

/* Whether statement `id` is waiting in another group than `except`. */
bool pipeline_waits_for(const struct pipeline *pipeline, unsigned id, uint64_t except);

/* Whether a rollback now would undo every waiting statement: they are in the group that is being queued, or in
 * `failed`, which the server skips. */
bool pipeline_revocable(const struct pipeline *pipeline, uint64_t failed);
