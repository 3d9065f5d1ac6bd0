#include <pthread.h>
#include <stdlib.h>

#include "server/dispatch/ticket.h"

/*
 * A hash table of the tokens that have calls in flight: chains in an array of entries, one for each call that can
 * be in flight, so it is never full. Token IDs are random, but a caller can invent any; the ID's bytes are mixed
 * with a key.
 */

struct entry {
    struct cof_uuid token;
    uint32_t count;
    uint32_t next; /* index + 1; 0: none */
};

struct token_limit {
    pthread_mutex_t lock;
    uint32_t per_token;
    uint32_t bucket_mask;
    uint64_t key;
    uint32_t free; /* index + 1 */
    uint32_t *buckets;
    struct entry *entries;
};

static uint32_t bucket_of(const struct token_limit *limit, const struct cof_uuid *token)
{
    return cof_uuid_hash(token, limit->key) & limit->bucket_mask;
}

static void link_free(struct token_limit *limit, uint32_t capacity)
{
    for (uint32_t i = 0; i < capacity; i++) {
        limit->entries[i].next = i + 1 < capacity ? i + 2 : 0;
    }
    limit->free = capacity > 0 ? 1 : 0;
}

struct token_limit *token_limit_new(uint32_t per_token, uint32_t capacity)
{
    uint32_t buckets = 64;
    struct token_limit *limit = calloc(1, sizeof *limit);
    const struct cof_uuid random = cof_uuid_random();
    while (buckets < capacity) {
        buckets *= 2;
    }
    if (limit == NULL) {
        return NULL;
    }
    limit->buckets = calloc(buckets, sizeof *limit->buckets);
    limit->entries = calloc(capacity, sizeof *limit->entries);
    limit->per_token = per_token;
    limit->bucket_mask = buckets - 1;
    memcpy(&limit->key, random.bytes, sizeof limit->key);
    (void) pthread_mutex_init(&limit->lock, NULL);
    if (limit->buckets == NULL || limit->entries == NULL) {
        token_limit_free(limit);
        return NULL;
    }
    link_free(limit, capacity);
    return limit;
}

void token_limit_free(struct token_limit *limit)
{
    if (limit == NULL) {
        return;
    }
    (void) pthread_mutex_destroy(&limit->lock);
    free(limit->buckets);
    free(limit->entries);
    free(limit);
}

/* The place that points at the token's entry, or at 0 at the end of its chain. */
static uint32_t *place_of(struct token_limit *limit, const struct cof_uuid *token)
{
    uint32_t *place = &limit->buckets[bucket_of(limit, token)];
    while (*place != 0 && !cof_uuid_equal(&limit->entries[*place - 1].token, token)) {
        place = &limit->entries[*place - 1].next;
    }
    return place;
}

static bool enter(struct token_limit *limit, const struct cof_uuid *token)
{
    uint32_t *place = place_of(limit, token);
    if (*place == 0) {
        const uint32_t taken = limit->free;
        if (taken == 0) {
            return false;
        }
        limit->free = limit->entries[taken - 1].next;
        limit->entries[taken - 1] = (struct entry){.token = *token};
        *place = taken;
    }
    struct entry *entry = &limit->entries[*place - 1];
    if (entry->count >= limit->per_token) {
        return false;
    }
    entry->count++;
    return true;
}

bool token_limit_enter(struct token_limit *limit, const struct cof_uuid *token)
{
    (void) pthread_mutex_lock(&limit->lock);
    const bool entered = enter(limit, token);
    (void) pthread_mutex_unlock(&limit->lock);
    return entered;
}

void token_limit_leave(struct token_limit *limit, const struct cof_uuid *token)
{
    (void) pthread_mutex_lock(&limit->lock);
    uint32_t *place = place_of(limit, token);
    const uint32_t index = *place;
    struct entry *entry = &limit->entries[index - 1];
    if (--entry->count == 0) {
        *place = entry->next;
        entry->next = limit->free;
        limit->free = index;
    }
    (void) pthread_mutex_unlock(&limit->lock);
}
