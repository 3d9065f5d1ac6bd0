#pragma once

#include "common/attr.h"
#include "server/cache/cache.h"
#include "tests/unit/crypto/started.h"

/* A cache with a clock and an epoch that the test sets. */

enum { LIMIT_US = 1000 };

struct world {
    int64_t now_us;
    _Atomic uint64_t epoch;
    unsigned used; /* how often the cache said that it is used again */
    struct cof_clock clock;
    struct cache *cache;
};

static inline int64_t world_now(void *context)
{
    return ((const struct world *) context)->now_us;
}

static inline void world_used(void *context)
{
    ((struct world *) context)->used++;
}

static inline void world_open(struct world *world, uint64_t bytes)
{
    struct cof_error err;
    started();
    world->now_us = 1000000;
    atomic_store(&world->epoch, 7);
    world->used = 0;
    world->clock = (struct cof_clock){world_now, world_now, world};
    const struct cache_options options = {bytes, LIMIT_US, &world->clock, &world->epoch, world_used, world};
    if (cache_new(&options, &world->cache, &err) != COF_OK) {
        fprintf(stderr, "cache_new failed: %s\n", err.message);
        abort();
    }
}

static inline void world_close(struct world *world)
{
    cache_free(world->cache);
}

static inline struct cof_uuid workspace_of(uint32_t number)
{
    struct cof_uuid uuid = {.bytes = {1}};
    memcpy(uuid.bytes + 12, &number, sizeof number);
    return uuid;
}

static inline struct cache_key key_of(uint32_t workspace, const char *name)
{
    return (struct cache_key){CACHE_SECRET, workspace_of(workspace), {cof_slice_text("e"), cof_slice_text(name)}};
}

/* The revision that is fresh; 0: none is. */
static inline uint64_t fresh(struct world *world, uint32_t workspace)
{
    const struct cof_uuid uuid = workspace_of(workspace);
    struct cache_state state;
    return cache_fresh(world->cache, &uuid, &state) ? state.revision : 0;
}

static inline struct cache_read begin(struct world *world, uint32_t workspace)
{
    const struct cof_uuid uuid = workspace_of(workspace);
    return cache_read_begin(world->cache, &uuid);
}

static inline bool end(struct world *world, uint32_t workspace, const struct cache_read *read, uint64_t revision,
                       struct cache_state *ret_state)
{
    const struct cof_uuid uuid = workspace_of(workspace);
    return cache_read_end(world->cache, &uuid, read, revision, ret_state);
}

static inline void reached(struct world *world, uint32_t workspace, uint64_t revision)
{
    const struct cof_uuid uuid = workspace_of(workspace);
    cache_reached(world->cache, &uuid, revision);
}

/* Puts a number under a name. */
static inline bool put(struct world *world, uint32_t workspace, const char *name, const struct cache_state *state,
                       uint64_t content)
{
    const struct cache_key key = key_of(workspace, name);
    struct cache_entry *entry = cache_entry_new(world->cache, &key, state, sizeof content);
    if (entry == NULL) {
        return false;
    }
    memcpy(cache_content(entry), &content, sizeof content);
    cache_put(world->cache, entry);
    return true;
}

/* The number that is found in this state; 0: none. */
static inline uint64_t get(struct world *world, uint32_t workspace, const char *name,
                           const struct cache_state *state)
{
    const struct cache_key key = key_of(workspace, name);
    uint64_t content = 0;
    struct cache_entry *entry = cache_get(world->cache, &key, state);
    if (entry != NULL) {
        memcpy(&content, cache_content(entry), sizeof content);
    }
    cache_release(entry);
    return content;
}

/* Whether anything is kept of it, of whatever state. */
static inline bool get_any(struct world *world, uint32_t workspace, const char *name)
{
    const struct cache_key key = key_of(workspace, name);
    struct cache_entry *entry = cache_get_any(world->cache, &key);
    cache_release(entry);
    return entry != NULL;
}
