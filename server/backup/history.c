#include "server/backup/history.h"

#include <stdlib.h>

#include <coffer/audit/v1/record.pb-c.h>

#include "common/arena.h"

#define EFFECT(name) COFFER__AUDIT__V1__EFFECT__EFFECT_##name

enum { FIRST_CAPACITY = 1024 }; /* a power of two */

/* Open addressing. A free place has revision 0, which no write has. */
struct history {
    struct history_entry *entries;
    size_t capacity;
    size_t count;
};

cof_code history_new(struct history **ret_history, struct cof_error *err)
{
    struct history *history = calloc(1, sizeof *history);
    if (history == NULL) {
        return cof_arena_exhausted(err);
    }
    *ret_history = history;
    return COF_OK;
}

void history_free(struct history *history)
{
    if (history != NULL) {
        free(history->entries);
        free(history);
    }
}

void history_clear(struct history *history)
{
    /* A large workspace's memory is not kept for the small ones behind it. */
    free(history->entries);
    *history = (struct history){.entries = NULL};
}

/* --- The table ------------------------------------------------------------------------------------------------ */

/* The place of the entry, or the free one where it belongs. */
static struct history_entry *place_of(const struct history *history, const struct cof_uuid *id, uint64_t destroyed)
{
    size_t at = cof_uuid_hash(id, destroyed);
    for (;; at++) {
        struct history_entry *entry = &history->entries[at & (history->capacity - 1)];
        if (entry->revision == 0 || (entry->destroyed == destroyed && cof_uuid_equal(&entry->id, id))) {
            return entry;
        }
    }
}

static cof_code make_room(struct history *history, struct cof_error *err)
{
    struct history larger = {.capacity = history->capacity == 0 ? FIRST_CAPACITY : 2 * history->capacity};
    if (2 * (history->count + 1) <= history->capacity) {
        return COF_OK;
    }
    larger.entries = calloc(larger.capacity, sizeof *larger.entries);
    if (larger.entries == NULL) {
        return cof_arena_exhausted(err);
    }
    for (size_t i = 0; i < history->capacity; i++) {
        const struct history_entry *entry = &history->entries[i];
        if (entry->revision != 0) {
            *place_of(&larger, &entry->id, entry->destroyed) = *entry;
        }
    }
    larger.count = history->count;
    free(history->entries);
    *history = larger;
    return COF_OK;
}

static cof_code put(struct history *history, const struct history_entry *entry, struct cof_error *err)
{
    TRY(make_room(history, err));
    struct history_entry *place = place_of(history, &entry->id, entry->destroyed);
    history->count += place->revision == 0;
    *place = *entry;
    return COF_OK;
}

struct history_entry *history_find(struct history *history, const struct cof_uuid *id, uint64_t destroyed)
{
    if (history->capacity == 0) {
        return NULL;
    }
    struct history_entry *entry = place_of(history, id, destroyed);
    return entry->revision == 0 ? NULL : entry;
}

const struct history_entry *history_next(const struct history *history, size_t *place)
{
    while (*place < history->capacity) {
        const struct history_entry *entry = &history->entries[(*place)++];
        if (entry->revision != 0) {
            return entry;
        }
    }
    return NULL;
}

/* --- Records -------------------------------------------------------------------------------------------------- */

static history_kind kind_of(const char *name)
{
    static const struct {
        const char *name;
        history_kind kind;
    } kinds[] = {
        {"secret", HISTORY_SECRET},       {"service_account", HISTORY_ACCOUNT}, {"token", HISTORY_TOKEN},
        {"workspace", HISTORY_WORKSPACE}, {"action", HISTORY_ACTION},
    };
    for (size_t i = 0; i < COF_COUNT(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return kinds[i].kind;
        }
    }
    return HISTORY_OTHER;
}

/* What was only read in a write, as the source of a copy, stayed as it was. */
static bool changed(const Coffer__Audit__V1__Object *object, history_kind kind)
{
    return kind == HISTORY_WORKSPACE || object->effect != EFFECT(UNSPECIFIED) || object->metadata_version != 0;
}

static cof_code take_object(struct history *history, uint64_t revision, const Coffer__Audit__V1__Object *object,
                            struct cof_error *err)
{
    struct history_entry entry = {
        .revision = revision,
        .version = object->version,
        .metadata_version = object->metadata_version,
        .effect = (int32_t) object->effect,
        .kind = kind_of(object->kind),
    };
    if (entry.kind == HISTORY_OTHER || !changed(object, entry.kind)) {
        return COF_OK;
    }
    if (!cof_uuid_parse(cof_slice_text(object->uid), &entry.id)) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a record of a write names a thing without a UUID");
    }
    TRY(put(history, &entry, err));
    entry.destroyed = object->destroyed_version;
    return entry.destroyed == 0 ? COF_OK : put(history, &entry, err);
}

cof_code history_take(struct history *history, uint64_t revision, struct cof_slice bytes, struct cof_error *err)
{
    Coffer__Audit__V1__Record *record = coffer__audit__v1__record__unpack(NULL, bytes.len, bytes.data);
    cof_code code = COF_OK;
    if (record == NULL) {
        return cof_fail(err, COF_REASON_CORRUPTED, "a record of a write is no message of coffer.audit.v1");
    }
    for (size_t i = 0; code == COF_OK && i < record->n_objects; i++) {
        code = take_object(history, revision, record->objects[i], err);
    }
    coffer__audit__v1__record__free_unpacked(record, NULL);
    return code;
}
