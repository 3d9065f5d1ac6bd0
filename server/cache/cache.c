#include "server/cache/cache.h"

#include <stdlib.h>

#include "common/arena.h"
#include "server/cache/entries.h"
#include "server/cache/places.h"
#include "server/crypto/crypto.h"

enum {
    PLACES_PART = 16,      /* of the memory: what is known of workspaces */
    IN_USE_US = 5000000,   /* after which nobody uses the cache any more */
    NOTE_USE_US = 1000000, /* a use that soon after another is not noted: it would only be contended */
};

struct cache {
    struct cache_options options;
    struct places *places;
    struct entries *entries;
    _Atomic int64_t used_us;
    _Atomic int64_t asked_us; /* the look that is under way was sent then; 0: none is */
    atomic_bool refused;      /* the last one that ended has failed */
};

static int64_t now_of(const struct cache *cache)
{
    return cof_clock_monotonic(cache->options.clock);
}

static void note_use(struct cache *cache, int64_t now_us)
{
    const int64_t before_us = atomic_load_explicit(&cache->used_us, memory_order_relaxed);
    if (now_us - before_us < NOTE_USE_US) {
        return;
    }
    atomic_store(&cache->used_us, now_us);
    /* The job may be about to see that nobody uses the cache: then it is told in time. */
    if (now_us - before_us > IN_USE_US / 2 && cache->options.used != NULL) {
        cache->options.used(cache->options.context);
    }
}

bool cache_fresh(struct cache *cache, const struct cof_uuid *workspace, struct cache_state *ret_state)
{
    const int64_t now_us = now_of(cache);
    note_use(cache, now_us);
    return places_fresh(cache->places, workspace, now_us, ret_state);
}

struct cache_read cache_read_begin(struct cache *cache, const struct cof_uuid *workspace)
{
    const int64_t now_us = now_of(cache);
    note_use(cache, now_us);
    return places_read_begin(cache->places, workspace, now_us);
}

bool cache_read_end(struct cache *cache, const struct cof_uuid *workspace, const struct cache_read *read,
                    uint64_t revision, struct cache_state *ret_state)
{
    return places_read_end(cache->places, workspace, read, revision, ret_state);
}

/* After a promotion or a restore, which a session notices before it sends anything, revisions begin anew. */
bool cache_read_reverted(const struct cache *cache, const struct cache_read *read, uint64_t revision)
{
    return read->place != 0 && revision < read->known && read->epoch == atomic_load(cache->options.epoch);
}

void cache_reached(struct cache *cache, const struct cof_uuid *workspace, uint64_t revision)
{
    places_reached(cache->places, workspace, revision);
}

void cache_confirmed(struct cache *cache, int64_t time_us)
{
    places_confirmed(cache->places, time_us);
}

void cache_doubt(struct cache *cache)
{
    places_doubt(cache->places);
}

void cache_clear(struct cache *cache)
{
    places_clear(cache->places);
    entries_clear(cache->entries);
}

size_t cache_workspaces_in_use(struct cache *cache, size_t *place, struct cof_uuid *ret_workspaces,
                               struct cache_read *ret_reads, size_t max)
{
    const int64_t now_us = now_of(cache);
    const size_t count = places_in_use(cache->places, place, ret_workspaces, max);
    for (size_t i = 0; i < count; i++) {
        ret_reads[i] = places_read_begin(cache->places, &ret_workspaces[i], now_us);
    }
    return count;
}

bool cache_in_use(struct cache *cache)
{
    return now_of(cache) - atomic_load(&cache->used_us) < IN_USE_US;
}

void cache_asks(struct cache *cache)
{
    atomic_store(&cache->asked_us, now_of(cache));
}

void cache_answered(struct cache *cache)
{
    atomic_store(&cache->refused, false);
    atomic_store(&cache->asked_us, 0);
}

void cache_unanswered(struct cache *cache)
{
    atomic_store(&cache->refused, true);
    atomic_store(&cache->asked_us, 0);
}

bool cache_database_lost(struct cache *cache)
{
    const int64_t asked_us = atomic_load(&cache->asked_us);
    return atomic_load(&cache->refused) || (asked_us != 0 && now_of(cache) - asked_us > CACHE_UNANSWERED_US);
}

void cache_permit_older(struct cache *cache, const struct cof_uuid *workspace, const struct cache_state *state,
                        uint32_t age_ms)
{
    places_permit_older(cache->places, workspace, state, age_ms);
}

bool cache_older(struct cache *cache, const struct cof_uuid *workspace, struct cache_older *ret_older)
{
    return cache_database_lost(cache) && places_older(cache->places, workspace, ret_older) &&
           now_of(cache) - ret_older->confirmed_us <= CACHE_OLDEST_US;
}

struct cache_untold cache_changes_untold(struct cache *cache, const struct cof_uuid *workspace)
{
    return places_untold(cache->places, workspace);
}

/* The revision is raised first: what was read before and is put from now on is not settled any more. */
void cache_carry(struct cache *cache, const struct cof_uuid *workspace, const struct cache_untold *untold,
                 uint64_t revision, const struct cache_key *keys, size_t count)
{
    if (!places_carry_begin(cache->places, workspace, untold->place, revision)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        entries_drop(cache->entries, &keys[i], revision);
    }
    places_carry_end(cache->places, workspace, untold->place, revision);
}

void cache_carry_nothing(struct cache *cache, const struct cof_uuid *workspace, const struct cache_untold *untold,
                         uint64_t revision)
{
    places_carry_nothing(cache->places, workspace, untold->place, revision);
}

struct cache_entry *cache_get(struct cache *cache, const struct cache_key *key, const struct cache_state *state)
{
    return entries_get(cache->entries, key, state);
}

struct cache_entry *cache_get_any(struct cache *cache, const struct cache_key *key)
{
    return entries_get_any(cache->entries, key);
}

struct cache_entry *cache_entry_new(struct cache *cache, const struct cache_key *key,
                                    const struct cache_state *state, size_t size)
{
    return entries_make(cache->entries, key, state, size);
}

void cache_put(struct cache *cache, struct cache_entry *entry)
{
    const struct cof_uuid workspace = entry_workspace(entry);
    entry_hold(entry);
    entries_put(cache->entries, entry);
    /* Now that it is there: a write that is told later takes it out if it touched it. */
    if (places_at(cache->places, &workspace, entry_state(entry))) {
        entry_settle(entry);
    }
    cache_release(entry);
}

uint64_t cache_bytes(struct cache *cache)
{
    return entries_bytes(cache->entries);
}

struct cache_use cache_use_now(struct cache *cache)
{
    return entries_use(cache->entries);
}

static cof_code build(struct cache *cache, struct cof_error *err)
{
    uint8_t key[HASH_KEY];
    const uint64_t for_places = cache->options.bytes / PLACES_PART;
    TRY(crypto_random(key, sizeof key, err));
    TRY(places_new(&cache->options, for_places, key, &cache->places, err));
    return entries_new(cache->options.bytes - for_places, key, &cache->entries, err);
}

cof_code cache_new(const struct cache_options *options, struct cache **ret_cache, struct cof_error *err)
{
    struct cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL) {
        return cof_arena_exhausted(err);
    }
    cache->options = *options;
    atomic_store(&cache->used_us, now_of(cache) - IN_USE_US);
    const cof_code code = build(cache, err);
    if (code != COF_OK) {
        cache_free(cache);
        return code;
    }
    *ret_cache = cache;
    return COF_OK;
}

void cache_free(struct cache *cache)
{
    if (cache == NULL) {
        return;
    }
    places_free(cache->places);
    entries_free(cache->entries);
    free(cache);
}
