#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/slice.h"
#include "common/uuid.h"

/*
 * What the records of a workspace's writes say about its things: the last state of each. Rows are compared with it, for a
 * row that was put back fits its own MAC, but not the record of the write that came after it. Takes 64 bytes for each
 * thing that was ever written, of one workspace at a time.
 */

struct history;

typedef enum history_kind {
    HISTORY_OTHER,
    HISTORY_SECRET,
    HISTORY_ACCOUNT,
    HISTORY_TOKEN,
    HISTORY_WORKSPACE,
    HISTORY_ACTION,
} history_kind;

/* What the last write that changed a thing left. */
struct history_entry {
    struct cof_uuid id;
    uint64_t destroyed; /* 0: the entry is about the thing; else about this version of it, which was destroyed */
    uint64_t revision;
    uint64_t version;          /* 0: the record does not say */
    uint64_t metadata_version; /* 0: the record does not say */
    int32_t effect;            /* of coffer.audit.v1.Effect */
    history_kind kind;
    bool seen; /* for who walks the rows */
};

COF_CODE history_new(struct history **ret_history, struct cof_error *err);
void history_free(struct history *history);
static inline void history_cleanup(struct history **history)
{
    history_free(*history);
}

/* Forgets everything: another workspace begins. */
void history_clear(struct history *history);

/* Takes the packed record of the write that made this revision; they come in their order. CORRUPTED if it is none. */
COF_CODE history_take(struct history *history, uint64_t revision, struct cof_slice record, struct cof_error *err);

/* The entry of a thing (version 0), or of one of its versions if that was destroyed; NULL if there is none. */
struct history_entry *history_find(struct history *history, const struct cof_uuid *id, uint64_t destroyed);

/* The entries, in no order: the next one from place `*place` on, which moves on; NULL at the end. */
const struct history_entry *history_next(const struct history *history, size_t *place);
