#include "server/cache/entries.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "common/arena.h"
#include "common/encode.h"

enum {
    SHARDS_MAX = 64,
    SHARD_BYTES = 1 << 20, /* at least, so that the largest secret finds room */
    ENTRY_USUAL = 512,
    KEY_PARTS_MAX = 256, /* longer ones are no names */
    KEY_MAX = 1 + 16 + 1 + KEY_PARTS_MAX,
};

struct cache_entry {
    struct cache_entry *next;           /* in its bucket */
    TAILQ_ENTRY(cache_entry) neighbour; /* on the clock */
    uint64_t hash;
    struct cache_state state;
    uint32_t bytes; /* of all that it takes */
    uint16_t key_length;
    bool used; /* since the hand passed */
    atomic_uint owners;
    atomic_bool settled; /* it may be carried over */
    const uint8_t *key;  /* behind the content */
    max_align_t content[];
};

TAILQ_HEAD(entry_list, cache_entry);

struct shard {
    pthread_mutex_t lock;
    struct cache_entry **buckets;
    struct entry_list clock; /* the hand is at its head */
    uint64_t bytes;
    struct cache_use use; /* `bytes` are those above */
} __attribute__((aligned(64)));

struct entries {
    uint8_t key[HASH_KEY];
    uint32_t shard_count; /* a power of two, as the next one */
    uint32_t bucket_count;
    uint64_t shard_bytes;
    struct shard shards[SHARDS_MAX];
};

/* --- Keys ----------------------------------------------------------------------------------------------------- */

struct packed_key {
    uint8_t bytes[KEY_MAX];
    uint16_t length;
    uint64_t hash;
};

static uint8_t *put(uint8_t *to, struct cof_slice bytes)
{
    if (bytes.len > 0) {
        memcpy(to, bytes.data, bytes.len);
    }
    return to + bytes.len;
}

/* Kind, workspace, length of the first part, both parts. False: nothing has such a key. */
static bool pack(const struct entries *entries, const struct cache_key *key, struct packed_key *packed)
{
    if (key->parts[0].len > UINT8_MAX || key->parts[1].len > KEY_PARTS_MAX - key->parts[0].len) {
        return false;
    }
    uint8_t *at = packed->bytes;
    *at++ = (uint8_t) key->kind;
    at = put(at, cof_slice_of(key->workspace.bytes, sizeof key->workspace.bytes));
    *at++ = (uint8_t) key->parts[0].len;
    at = put(put(at, key->parts[0]), key->parts[1]);
    packed->length = (uint16_t) (at - packed->bytes);
    packed->hash = hash_bytes(entries->key, cof_slice_of(packed->bytes, packed->length));
    return true;
}

static struct shard *shard_of(struct entries *entries, uint64_t hash)
{
    return &entries->shards[hash & (entries->shard_count - 1)];
}

static struct cache_entry **bucket_of(const struct entries *entries, const struct shard *shard, uint64_t hash)
{
    return &shard->buckets[hash >> 32 & (entries->bucket_count - 1)];
}

/* The link that points at the entry, or at NULL at the end of its chain. */
static struct cache_entry **find(const struct entries *entries, const struct shard *shard, struct cof_slice key,
                                 uint64_t hash)
{
    struct cache_entry **link = bucket_of(entries, shard, hash);
    while (*link != NULL &&
           ((*link)->hash != hash || !cof_slice_equal(cof_slice_of((*link)->key, (*link)->key_length), key))) {
        link = &(*link)->next;
    }
    return link;
}

/* --- The clock ------------------------------------------------------------------------------------------------ */

/* Entries that were taken out; they are released when no lock is held any more. */
struct leaving {
    struct cache_entry *first;
};

static void take_out(struct shard *shard, struct cache_entry **link, struct leaving *leaving)
{
    struct cache_entry *entry = *link;
    *link = entry->next;
    TAILQ_REMOVE(&shard->clock, entry, neighbour);
    shard->bytes -= entry->bytes;
    shard->use.entries--;
    entry->next = leaving->first;
    leaving->first = entry;
}

static void release_all(struct leaving *leaving)
{
    while (leaving->first != NULL) {
        struct cache_entry *entry = leaving->first;
        leaving->first = entry->next;
        cache_release(entry);
    }
}

static void take_out_entry(const struct entries *entries, struct shard *shard, struct cache_entry *entry,
                           struct leaving *leaving)
{
    struct cache_entry **link = bucket_of(entries, shard, entry->hash);
    while (*link != entry) {
        link = &(*link)->next;
    }
    take_out(shard, link, leaving);
}

/* Whoever was used since the hand passed is passed once more. */
static void make_room(const struct entries *entries, struct shard *shard, uint64_t bytes, struct leaving *leaving)
{
    while (shard->bytes + bytes > entries->shard_bytes && !TAILQ_EMPTY(&shard->clock)) {
        struct cache_entry *entry = TAILQ_FIRST(&shard->clock);
        if (!entry->used) {
            shard->use.evictions++;
            take_out_entry(entries, shard, entry, leaving);
            continue;
        }
        entry->used = false;
        TAILQ_REMOVE(&shard->clock, entry, neighbour);
        TAILQ_INSERT_TAIL(&shard->clock, entry, neighbour);
    }
}

/* --- Entries -------------------------------------------------------------------------------------------------- */

static bool is_of(const struct cache_entry *entry, const struct cache_state *state)
{
    const struct cache_state *own = &entry->state;
    if (own->epoch != state->epoch || own->revision > state->revision) {
        return false;
    }
    const uint64_t before = state->revision - own->revision;
    return before == 0 || (before <= state->carried && atomic_load(&entry->settled));
}

struct cache_entry *entries_get(struct entries *entries, const struct cache_key *key,
                                const struct cache_state *state)
{
    struct packed_key packed;
    if (!pack(entries, key, &packed)) {
        return NULL;
    }
    struct shard *shard = shard_of(entries, packed.hash);
    (void) pthread_mutex_lock(&shard->lock);
    struct cache_entry *entry = *find(entries, shard, cof_slice_of(packed.bytes, packed.length), packed.hash);
    if (entry != NULL && !is_of(entry, state)) {
        entry = NULL;
    }
    if (entry != NULL) {
        entry->used = true;
        entry_hold(entry);
    }
    shard->use.hits += entry != NULL;
    shard->use.misses += entry == NULL;
    (void) pthread_mutex_unlock(&shard->lock);
    return entry;
}

struct cache_entry *entries_get_any(struct entries *entries, const struct cache_key *key)
{
    struct packed_key packed;
    if (!pack(entries, key, &packed)) {
        return NULL;
    }
    struct shard *shard = shard_of(entries, packed.hash);
    (void) pthread_mutex_lock(&shard->lock);
    struct cache_entry *entry = *find(entries, shard, cof_slice_of(packed.bytes, packed.length), packed.hash);
    if (entry != NULL) {
        entry_hold(entry);
    }
    (void) pthread_mutex_unlock(&shard->lock);
    return entry;
}

struct cache_entry *entries_make(struct entries *entries, const struct cache_key *key,
                                 const struct cache_state *state, size_t size)
{
    struct packed_key packed;
    if (size > entries->shard_bytes || !pack(entries, key, &packed)) {
        return NULL;
    }
    const size_t bytes = sizeof(struct cache_entry) + size + packed.length;
    struct cache_entry *entry = bytes > entries->shard_bytes ? NULL : malloc(bytes);
    if (entry == NULL) {
        return NULL;
    }
    uint8_t *own_key = (uint8_t *) entry->content + size;
    memcpy(own_key, packed.bytes, packed.length);
    *entry = (struct cache_entry){
        .hash = packed.hash,
        .state = *state,
        .bytes = (uint32_t) bytes,
        .key_length = packed.length,
        .owners = 1,
        .key = own_key,
    };
    return entry;
}

void entries_put(struct entries *entries, struct cache_entry *entry)
{
    struct leaving leaving = {NULL};
    struct shard *shard = shard_of(entries, entry->hash);
    (void) pthread_mutex_lock(&shard->lock);
    struct cache_entry **link = find(entries, shard, cof_slice_of(entry->key, entry->key_length), entry->hash);
    if (*link != NULL) {
        take_out(shard, link, &leaving);
    }
    make_room(entries, shard, entry->bytes, &leaving);
    link = bucket_of(entries, shard, entry->hash);
    entry->next = *link;
    *link = entry;
    TAILQ_INSERT_TAIL(&shard->clock, entry, neighbour);
    shard->bytes += entry->bytes;
    shard->use.entries++;
    (void) pthread_mutex_unlock(&shard->lock);
    release_all(&leaving);
}

void entries_drop(struct entries *entries, const struct cache_key *key, uint64_t revision)
{
    struct packed_key packed;
    struct leaving leaving = {NULL};
    if (!pack(entries, key, &packed)) {
        return;
    }
    struct shard *shard = shard_of(entries, packed.hash);
    (void) pthread_mutex_lock(&shard->lock);
    struct cache_entry **link = find(entries, shard, cof_slice_of(packed.bytes, packed.length), packed.hash);
    if (*link != NULL && (*link)->state.revision < revision) {
        take_out(shard, link, &leaving);
    }
    (void) pthread_mutex_unlock(&shard->lock);
    release_all(&leaving);
}

struct cof_uuid entry_workspace(const struct cache_entry *entry)
{
    struct cof_uuid workspace;
    memcpy(workspace.bytes, entry->key + 1, sizeof workspace.bytes);
    return workspace;
}

const struct cache_state *entry_state(const struct cache_entry *entry)
{
    return &entry->state;
}

void entry_settle(struct cache_entry *entry)
{
    atomic_store(&entry->settled, true);
}

void entry_hold(struct cache_entry *entry)
{
    atomic_fetch_add_explicit(&entry->owners, 1, memory_order_relaxed);
}

void *cache_content(struct cache_entry *entry)
{
    return entry->content;
}

void cache_release(struct cache_entry *entry)
{
    if (entry != NULL && atomic_fetch_sub_explicit(&entry->owners, 1, memory_order_acq_rel) == 1) {
        free(entry);
    }
}

void entries_clear(struct entries *entries)
{
    for (uint32_t i = 0; i < entries->shard_count; i++) {
        struct leaving leaving = {NULL};
        struct shard *shard = &entries->shards[i];
        (void) pthread_mutex_lock(&shard->lock);
        while (!TAILQ_EMPTY(&shard->clock)) {
            take_out_entry(entries, shard, TAILQ_FIRST(&shard->clock), &leaving);
        }
        (void) pthread_mutex_unlock(&shard->lock);
        release_all(&leaving);
    }
}

struct cache_use entries_use(struct entries *entries)
{
    struct cache_use sum = {.entries = 0};
    for (uint32_t i = 0; i < entries->shard_count; i++) {
        const struct shard *shard = &entries->shards[i];
        (void) pthread_mutex_lock(&entries->shards[i].lock);
        sum.entries += shard->use.entries;
        sum.bytes += shard->bytes;
        sum.hits += shard->use.hits;
        sum.misses += shard->use.misses;
        sum.evictions += shard->use.evictions;
        (void) pthread_mutex_unlock(&entries->shards[i].lock);
    }
    return sum;
}

uint64_t entries_bytes(struct entries *entries)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < entries->shard_count; i++) {
        (void) pthread_mutex_lock(&entries->shards[i].lock);
        bytes += entries->shards[i].bytes;
        (void) pthread_mutex_unlock(&entries->shards[i].lock);
    }
    return bytes;
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static uint32_t power_of_two_within(uint64_t most)
{
    uint32_t power = 1;
    while (power < (1U << 30) && (uint64_t) power * 2 <= most) {
        power *= 2;
    }
    return power;
}

cof_code entries_new(uint64_t bytes, const uint8_t key[HASH_KEY], struct entries **ret_entries,
                     struct cof_error *err)
{
    struct entries *entries = aligned_alloc(_Alignof(struct entries), sizeof *entries);
    if (entries == NULL) {
        return cof_arena_exhausted(err);
    }
    memset(entries, 0, sizeof *entries);
    memcpy(entries->key, key, HASH_KEY);
    const uint64_t shards = bytes / SHARD_BYTES;
    entries->shard_count = power_of_two_within(shards > SHARDS_MAX ? SHARDS_MAX : shards);
    entries->shard_bytes = bytes / entries->shard_count;
    entries->bucket_count = power_of_two_within(entries->shard_bytes / ENTRY_USUAL);
    bool complete = true;
    for (uint32_t i = 0; i < entries->shard_count; i++) {
        struct shard *shard = &entries->shards[i];
        (void) pthread_mutex_init(&shard->lock, NULL);
        TAILQ_INIT(&shard->clock);
        shard->buckets = calloc(entries->bucket_count, sizeof(struct cache_entry *));
        complete = complete && shard->buckets != NULL;
    }
    if (!complete) {
        entries_free(entries);
        return cof_arena_exhausted(err);
    }
    *ret_entries = entries;
    return COF_OK;
}

void entries_free(struct entries *entries)
{
    if (entries == NULL) {
        return;
    }
    entries_clear(entries);
    for (uint32_t i = 0; i < entries->shard_count; i++) {
        (void) pthread_mutex_destroy(&entries->shards[i].lock);
        free(entries->shards[i].buckets);
    }
    free(entries);
}
