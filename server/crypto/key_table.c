#include "server/crypto/key_table.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/encode.h"
#include "server/crypto/keyring.h"

enum { SHARD_BITS = 4, SHARDS = 1 << SHARD_BITS };

/* A workspace with at least one key. */
struct key_home {
    struct cof_uuid workspace;
    struct key_home *next_in_bucket;
    struct opened_key *keys;
    struct opened_key *highest;
    _Atomic uint64_t used; /* the table's clock when a key was last taken */
    uint64_t known;        /* what `used` was when the place in the queue was last corrected */
    size_t place;          /* in the queue */
};

struct shard {
    pthread_rwlock_t lock;
    struct key_home **homes;
    struct opened_key **keys;
};

/*
 * Readers only note the time of use. The queue of workspaces is a heap by the time that was last known, so its
 * first one may have been used since; evicting corrects the first one until it is right. That is the exact order of
 * use without a lock that readers would share.
 */
struct key_table {
    struct shard shards[SHARDS];
    size_t bucket_mask;
    size_t capacity;
    _Atomic uint64_t clock; /* starts at 1: a home that was never used has 0 */
    pthread_mutex_t change; /* held by whoever adds or removes, before the shard's lock; guards what follows */
    size_t key_count;
    size_t home_count;
    struct key_home **queue;
};

static void check(int failed)
{
    assert(failed == 0);
}

/* Workspaces are random UUIDs made by the server, so that mixing their halves is enough. */
static uint64_t hash_of(const struct cof_uuid *workspace)
{
    return (cof_get_u64(workspace->bytes) ^ cof_get_u64(workspace->bytes + 8)) * 0x9E3779B97F4A7C15U;
}

static struct shard *shard_of(struct key_table *table, const struct cof_uuid *workspace)
{
    return &table->shards[hash_of(workspace) >> (64 - SHARD_BITS)];
}

static size_t home_bucket(const struct key_table *table, const struct cof_uuid *workspace)
{
    return (size_t) (hash_of(workspace) >> 24) & table->bucket_mask;
}

static size_t key_bucket(const struct key_table *table, const struct cof_uuid *workspace, uint32_t generation)
{
    return (size_t) ((hash_of(workspace) + generation * 0xD6E8FEB86659FD93U) >> 24) & table->bucket_mask;
}

static struct key_home *find_home(struct key_table *table, const struct cof_uuid *workspace)
{
    struct key_home *home = shard_of(table, workspace)->homes[home_bucket(table, workspace)];
    while (home != NULL && !cof_uuid_equal(&home->workspace, workspace)) {
        home = home->next_in_bucket;
    }
    return home;
}

static struct opened_key *find_key(struct key_table *table, const struct cof_uuid *workspace, uint32_t generation)
{
    struct opened_key *key = shard_of(table, workspace)->keys[key_bucket(table, workspace, generation)];
    while (key != NULL && (key->generation != generation || !cof_uuid_equal(&key->workspace, workspace))) {
        key = key->next_in_bucket;
    }
    return key;
}

static struct opened_key *find_highest(struct key_table *table, const struct cof_uuid *workspace)
{
    const struct key_home *home = find_home(table, workspace);
    return home == NULL ? NULL : home->highest;
}

/* A workspace that was also the last one used needs no new time, so that a single busy one writes nothing. */
static void touch(struct key_table *table, struct key_home *home)
{
    const uint64_t now = atomic_load_explicit(&table->clock, memory_order_relaxed);
    if (atomic_load_explicit(&home->used, memory_order_relaxed) != now) {
        const uint64_t next = atomic_fetch_add_explicit(&table->clock, 1, memory_order_relaxed) + 1;
        atomic_store_explicit(&home->used, next, memory_order_relaxed);
    }
}

static void queue_put(struct key_table *table, size_t place, struct key_home *home)
{
    table->queue[place] = home;
    home->place = place;
}

static void queue_rise(struct key_table *table, struct key_home *home)
{
    size_t place = home->place;
    while (place > 0 && table->queue[(place - 1) / 2]->known > home->known) {
        queue_put(table, place, table->queue[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    queue_put(table, place, home);
}

static void queue_sink(struct key_table *table, struct key_home *home)
{
    size_t place = home->place;
    size_t child = 2 * place + 1;
    while (child < table->home_count) {
        if (child + 1 < table->home_count && table->queue[child + 1]->known < table->queue[child]->known) {
            child++;
        }
        if (table->queue[child]->known >= home->known) {
            break;
        }
        queue_put(table, place, table->queue[child]);
        place = child;
        child = 2 * place + 1;
    }
    queue_put(table, place, home);
}

static void queue_add(struct key_table *table, struct key_home *home)
{
    home->known = atomic_load_explicit(&home->used, memory_order_relaxed);
    home->place = table->home_count++;
    queue_rise(table, home);
}

static void queue_remove(struct key_table *table, struct key_home *home)
{
    struct key_home *last = table->queue[--table->home_count];
    if (last == home) {
        return;
    }
    queue_put(table, home->place, last);
    queue_rise(table, last);
    queue_sink(table, last);
}

/* Bounded, because readers go on using workspaces meanwhile. */
static struct key_home *least_recently_used(struct key_table *table)
{
    for (size_t i = 0; i < table->home_count; i++) {
        struct key_home *home = table->queue[0];
        const uint64_t used = atomic_load_explicit(&home->used, memory_order_relaxed);
        if (used == home->known) {
            break;
        }
        home->known = used;
        queue_sink(table, home);
    }
    return table->queue[0];
}

static void unlink_home(struct key_table *table, struct shard *shard, const struct key_home *home)
{
    struct key_home **link = &shard->homes[home_bucket(table, &home->workspace)];
    while (*link != home) {
        link = &(*link)->next_in_bucket;
    }
    *link = home->next_in_bucket;
}

static void unlink_key(struct key_table *table, struct shard *shard, const struct opened_key *key)
{
    struct opened_key **link = &shard->keys[key_bucket(table, &key->workspace, key->generation)];
    while (*link != key) {
        link = &(*link)->next_in_bucket;
    }
    *link = key->next_in_bucket;
}

static void release_keys(struct key_table *table, struct opened_key *key)
{
    while (key != NULL) {
        struct opened_key *next = key->next_in_home;
        opened_key_release(key);
        table->key_count--;
        key = next;
    }
}

static void remove_home(struct key_table *table, struct key_home *home)
{
    struct shard *shard = shard_of(table, &home->workspace);
    check(pthread_rwlock_wrlock(&shard->lock));
    unlink_home(table, shard, home);
    for (const struct opened_key *key = home->keys; key != NULL; key = key->next_in_home) {
        unlink_key(table, shard, key);
    }
    check(pthread_rwlock_unlock(&shard->lock));
    queue_remove(table, home);
    release_keys(table, home->keys);
    free(home);
}

/* The home exists before its first key is in it, but only for whoever holds `change`. */
static struct key_home *add_home(struct key_table *table, const struct cof_uuid *workspace)
{
    struct key_home *home = calloc(1, sizeof *home);
    if (home == NULL) {
        return NULL;
    }
    home->workspace = *workspace;
    touch(table, home);
    queue_add(table, home);
    return home;
}

static void link_key(struct key_table *table, struct key_home *home, struct opened_key *key)
{
    struct shard *shard = shard_of(table, &key->workspace);
    struct opened_key **bucket = &shard->keys[key_bucket(table, &key->workspace, key->generation)];
    check(pthread_rwlock_wrlock(&shard->lock));
    if (home->keys == NULL) {
        struct key_home **home_link = &shard->homes[home_bucket(table, &key->workspace)];
        home->next_in_bucket = *home_link;
        *home_link = home;
    }
    key->home = home;
    key->next_in_home = home->keys;
    home->keys = key;
    if (home->highest == NULL || home->highest->generation < key->generation) {
        home->highest = key;
    }
    key->next_in_bucket = *bucket;
    *bucket = key;
    check(pthread_rwlock_unlock(&shard->lock));
}

static struct opened_key *highest_of(const struct key_home *home)
{
    struct opened_key *highest = home->keys;
    for (struct opened_key *key = home->keys; key != NULL; key = key->next_in_home) {
        highest = key->generation > highest->generation ? key : highest;
    }
    return highest;
}

/* Takes one key out of a home that has others. The table's lock is held. */
static void remove_key(struct key_table *table, struct opened_key *key)
{
    struct key_home *home = key->home;
    struct opened_key **link = &home->keys;
    struct shard *shard = shard_of(table, &key->workspace);
    check(pthread_rwlock_wrlock(&shard->lock));
    while (*link != key) {
        link = &(*link)->next_in_home;
    }
    *link = key->next_in_home;
    unlink_key(table, shard, key);
    home->highest = highest_of(home);
    check(pthread_rwlock_unlock(&shard->lock));
    opened_key_release(key);
    table->key_count--;
}

static void make_room(struct key_table *table, const struct cof_uuid *workspace)
{
    struct key_home *own = find_home(table, workspace);
    if (own != NULL) {
        touch(table, own);
    }
    while (table->key_count >= table->capacity) {
        remove_home(table, least_recently_used(table));
    }
}

static COF_CODE install_new(struct key_table *table, struct opened_key *key, struct cof_error *err)
{
    make_room(table, &key->workspace);
    struct key_home *home = find_home(table, &key->workspace);
    if (home == NULL) {
        home = add_home(table, &key->workspace);
    }
    if (home == NULL) {
        opened_key_release(key);
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no memory left for installing a workspace key; repeat it later");
    }
    link_key(table, home, key);
    table->key_count++;
    return COF_OK;
}

static COF_CODE shard_init(struct shard *shard, size_t buckets, struct cof_error *err)
{
    pthread_rwlockattr_t attributes;
    check(pthread_rwlockattr_init(&attributes));
    check(pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
    check(pthread_rwlock_init(&shard->lock, &attributes));
    check(pthread_rwlockattr_destroy(&attributes));
    shard->homes = calloc(buckets, sizeof *shard->homes);
    shard->keys = calloc(buckets, sizeof *shard->keys);
    if (shard->homes == NULL || shard->keys == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no memory left for making the keyring's table; repeat it later");
    }
    return COF_OK;
}

static void shard_done(struct shard *shard)
{
    free(shard->homes);
    free(shard->keys);
    check(pthread_rwlock_destroy(&shard->lock));
}

static size_t buckets_for(size_t capacity)
{
    size_t buckets = 1;
    while (buckets * SHARDS < capacity) {
        buckets *= 2;
    }
    return buckets;
}

static COF_CODE table_fill(struct key_table *table, struct cof_error *err)
{
    cof_code code = COF_OK;
    for (size_t i = 0; i < SHARDS; i++) {
        const cof_code shard_code = shard_init(&table->shards[i], table->bucket_mask + 1, err);
        code = shard_code == COF_OK ? code : shard_code;
    }
    table->queue = calloc(table->capacity, sizeof *table->queue);
    if (code == COF_OK && table->queue == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no memory left for making the keyring's queue; repeat it later");
    }
    return code;
}

static void key_table_free_auto(struct key_table **table)
{
    key_table_free(*table);
}

COF_CODE key_table_new(size_t capacity, struct key_table **ret_table, struct cof_error *err)
{
    if (capacity == 0 || capacity > KEYRING_CAPACITY_MAX) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the keyring's capacity is %zu keys, but must be between 1 and %d", capacity,
                        KEYRING_CAPACITY_MAX);
    }
    struct key_table *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY,
                        "there is no memory left for making the keyring's table; repeat it later");
    }
    check(pthread_mutex_init(&made->change, NULL));
    atomic_init(&made->clock, 1);
    made->capacity = capacity;
    made->bucket_mask = buckets_for(capacity) - 1;
    AUTO(key_table_free_auto) struct key_table *table = made;
    TRY(table_fill(table, err));
    *ret_table = TAKE(table);
    return COF_OK;
}

void key_table_free(struct key_table *table)
{
    if (table == NULL) {
        return;
    }
    while (table->home_count > 0) {
        remove_home(table, table->queue[0]);
    }
    for (size_t i = 0; i < SHARDS; i++) {
        shard_done(&table->shards[i]);
    }
    check(pthread_mutex_destroy(&table->change));
    free(table->queue);
    free(table);
}

struct opened_key *key_table_take(struct key_table *table, const struct cof_uuid *workspace, uint32_t generation)
{
    struct shard *shard = shard_of(table, workspace);
    check(pthread_rwlock_rdlock(&shard->lock));
    struct opened_key *key =
        generation == 0 ? find_highest(table, workspace) : find_key(table, workspace, generation);
    if (key != NULL) {
        (void) atomic_fetch_add_explicit(&key->references, 1, memory_order_relaxed);
        touch(table, key->home);
    }
    check(pthread_rwlock_unlock(&shard->lock));
    return key;
}

uint32_t key_table_highest(struct key_table *table, const struct cof_uuid *workspace)
{
    struct shard *shard = shard_of(table, workspace);
    check(pthread_rwlock_rdlock(&shard->lock));
    const struct opened_key *key = find_highest(table, workspace);
    const uint32_t generation = key == NULL ? 0 : key->generation;
    check(pthread_rwlock_unlock(&shard->lock));
    return generation;
}

int key_table_has(struct key_table *table, const struct cof_uuid *workspace, uint32_t generation)
{
    struct shard *shard = shard_of(table, workspace);
    check(pthread_rwlock_rdlock(&shard->lock));
    const int found = find_key(table, workspace, generation) != NULL;
    check(pthread_rwlock_unlock(&shard->lock));
    return found;
}

COF_CODE key_table_install(struct key_table *table, struct opened_key *key, struct cof_error *err)
{
    cof_code code = COF_OK;
    check(pthread_mutex_lock(&table->change));
    if (find_key(table, &key->workspace, key->generation) != NULL) {
        opened_key_release(key);
    } else {
        code = install_new(table, key, err);
    }
    check(pthread_mutex_unlock(&table->change));
    return code;
}

void key_table_evict(struct key_table *table, const struct cof_uuid *workspace)
{
    check(pthread_mutex_lock(&table->change));
    struct key_home *home = find_home(table, workspace);
    if (home != NULL) {
        remove_home(table, home);
    }
    check(pthread_mutex_unlock(&table->change));
}

void key_table_forget(struct key_table *table, const struct cof_uuid *workspace, uint32_t generation)
{
    check(pthread_mutex_lock(&table->change));
    struct opened_key *key = find_key(table, workspace, generation);
    if (key != NULL && key->home->keys == key && key->next_in_home == NULL) {
        remove_home(table, key->home);
    } else if (key != NULL) {
        remove_key(table, key);
    }
    check(pthread_mutex_unlock(&table->change));
}
