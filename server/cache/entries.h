#pragma once

#include "server/cache/cache.h"
#include "server/cache/hash.h"

/* The entries: hash tables with a clock each, over which they are spread by their keys. */

struct entries;

COF_CODE entries_new(uint64_t bytes, const uint8_t key[HASH_KEY], struct entries **ret_entries,
                     struct cof_error *err);
void entries_free(struct entries *entries);

struct cache_entry *entries_get(struct entries *entries, const struct cache_key *key,
                                const struct cache_state *state);
struct cache_entry *entries_get_any(struct entries *entries, const struct cache_key *key);
struct cache_entry *entries_make(struct entries *entries, const struct cache_key *key,
                                 const struct cache_state *state, size_t size);
void entries_put(struct entries *entries, struct cache_entry *entry);
/* Takes out what was kept of the key at an earlier revision. */
void entries_drop(struct entries *entries, const struct cache_key *key, uint64_t revision);

/* For carrying over (cache_carry): whose an entry is, and that no write was told between its read and its being there. */
struct cof_uuid entry_workspace(const struct cache_entry *entry);
const struct cache_state *entry_state(const struct cache_entry *entry);
void entry_settle(struct cache_entry *entry);
void entry_hold(struct cache_entry *entry);
void entries_clear(struct entries *entries);
uint64_t entries_bytes(struct entries *entries);
struct cache_use entries_use(struct entries *entries);
