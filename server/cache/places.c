#include "server/cache/places.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/arena.h"

enum {
    SHARDS = 64,
    PLACES_MIN = 4, /* of a shard */
    CHAINS = 64,    /* whose last looks are known */
    UNASKED_MOST = 25,
};

struct place {
    struct cof_uuid workspace;
    uint64_t id; /* another one each time that it is given to a workspace; 0: it is free */
    uint64_t epoch;
    uint64_t revision; /* the highest that was read or told; 0: none */
    uint64_t chain;    /* in which it was read */
    int64_t read_us;   /* when the last read of that revision, or of one before it, began */
    struct place *next;
    uint64_t carried_to;   /* the last write of which is known what it touched, as of all from `carried_from` on */
    uint64_t carried_from; /* what is kept of this revision, and of later ones, may be carried over */
    uint64_t older_from;   /* the revision at which `older_ms` was read */
    uint32_t older_ms;     /* how old the state may be where it need not be fresh */
    uint8_t unasked;       /* times that those in use were gone through since somebody asked for it */
    bool used;             /* since the hand passed */
};

struct shard {
    pthread_mutex_t lock;
    struct place **buckets;
    struct place *places;
    uint32_t hand;
    uint64_t next_id;
} __attribute__((aligned(64)));

struct places {
    struct cache_options options;
    uint8_t key[HASH_KEY];
    uint32_t count; /* of a shard: places, and buckets */
    _Atomic uint64_t chain;
    _Atomic int64_t looks_us[CHAINS]; /* the last look of each chain, by its number */
    struct shard shards[SHARDS];
};

/* --- The table ------------------------------------------------------------------------------------------------ */

struct spot {
    struct shard *shard;
    struct place **bucket;
};

static struct spot spot_of(struct places *places, const struct cof_uuid *workspace)
{
    const uint64_t hash = hash_bytes(places->key, cof_slice_of(workspace->bytes, sizeof workspace->bytes));
    struct shard *shard = &places->shards[hash % SHARDS];
    return (struct spot){shard, &shard->buckets[hash / SHARDS % places->count]};
}

static struct spot lock_spot(struct places *places, const struct cof_uuid *workspace)
{
    const struct spot spot = spot_of(places, workspace);
    (void) pthread_mutex_lock(&spot.shard->lock);
    return spot;
}

static void unlock(struct shard *shard)
{
    (void) pthread_mutex_unlock(&shard->lock);
}

static struct place *find(const struct spot *spot, const struct cof_uuid *workspace)
{
    struct place *place = *spot->bucket;
    while (place != NULL && !cof_uuid_equal(&place->workspace, workspace)) {
        place = place->next;
    }
    return place;
}

static void take_out(struct places *places, struct place *place)
{
    struct place **link = spot_of(places, &place->workspace).bucket;
    while (*link != place) {
        link = &(*link)->next;
    }
    *link = place->next;
    place->id = 0;
}

/* The next one that is free, or that nobody used since the hand passed it. */
static struct place *next_victim(struct places *places, struct shard *shard)
{
    for (;;) {
        struct place *place = &shard->places[shard->hand];
        shard->hand = (shard->hand + 1) % places->count;
        if (place->id == 0) {
            return place;
        }
        if (!place->used) {
            take_out(places, place);
            return place;
        }
        place->used = false;
    }
}

static struct place *enter(struct places *places, const struct spot *spot, const struct cof_uuid *workspace)
{
    struct place *place = find(spot, workspace);
    if (place != NULL) {
        return place;
    }
    place = next_victim(places, spot->shard);
    *place = (struct place){
        .workspace = *workspace,
        .id = ++spot->shard->next_id,
        .epoch = atomic_load(places->options.epoch),
        .next = *spot->bucket,
    };
    *spot->bucket = place;
    return place;
}

/* --- Freshness ------------------------------------------------------------------------------------------------ */

/*
 * When the place was known to be right: by its own read, or by a look of its chain, if that is one of the last so many.
 * The look is read before the chain: one of a later chain, in whose place it stands, is never taken for this one's.
 */
static int64_t confirmed_of(const struct places *places, const struct place *place, uint64_t chains)
{
    const int64_t look_us = atomic_load(&places->looks_us[place->chain % CHAINS]);
    const bool told = atomic_load(&places->chain) - place->chain < chains;
    return told && look_us > place->read_us ? look_us : place->read_us;
}

static bool is_known(const struct places *places, const struct place *place)
{
    return place != NULL && place->revision != 0 && place->chain != 0 &&
           place->epoch == atomic_load(places->options.epoch);
}

static void begin_carrying(struct place *place, uint64_t revision)
{
    place->carried_from = place->carried_to = revision;
}

static void set_revision(struct place *place, uint64_t revision)
{
    if (place->revision == 0) {
        begin_carrying(place, revision);
    }
    place->revision = revision;
}

/* How many revisions before the last one are as good as that one. */
static uint64_t carried(const struct place *place)
{
    return place->carried_to == place->revision ? place->revision - place->carried_from : 0;
}

/* What was decided in a state holds in that one, and as long as nothing else has changed. */
static uint32_t older_ms(const struct place *place)
{
    return place->older_from + carried(place) >= place->revision ? place->older_ms : 0;
}

bool places_fresh(struct places *places, const struct cof_uuid *workspace, int64_t now_us,
                  struct cache_state *ret_state)
{
    const struct spot spot = lock_spot(places, workspace);
    struct place *place = find(&spot, workspace);
    const bool fresh =
        is_known(places, place) && now_us - confirmed_of(places, place, 1) < places->options.staleness_us;
    if (place != NULL) {
        place->unasked = 0;
    }
    if (fresh) {
        place->used = true;
        *ret_state = (struct cache_state){.epoch = place->epoch, .revision = place->revision};
    }
    unlock(spot.shard);
    return fresh;
}

struct cache_read places_read_begin(struct places *places, const struct cof_uuid *workspace, int64_t now_us)
{
    const struct spot spot = lock_spot(places, workspace);
    struct place *place = enter(places, &spot, workspace);
    if (place->epoch != atomic_load(places->options.epoch)) {
        take_out(places, place);
        place = enter(places, &spot, workspace);
    }
    const struct cache_read read = {.place = place->id,
                                    .chain = atomic_load(&places->chain),
                                    .epoch = place->epoch,
                                    .known = place->revision,
                                    .begin_us = now_us};
    unlock(spot.shard);
    return read;
}

static bool take_revision(struct place *place, const struct cache_read *read, uint64_t revision)
{
    if (place == NULL || place->id != read->place || place->epoch != read->epoch || revision < place->revision) {
        return false;
    }
    /* Not before: whoever names workspaces that do not exist pushes out nobody who does. */
    place->used = true;
    set_revision(place, revision);
    place->chain = read->chain > place->chain ? read->chain : place->chain;
    place->read_us = read->begin_us > place->read_us ? read->begin_us : place->read_us;
    return true;
}

bool places_read_end(struct places *places, const struct cof_uuid *workspace, const struct cache_read *read,
                     uint64_t revision, struct cache_state *ret_state)
{
    if (read->place == 0 || revision == 0) {
        return false;
    }
    const struct spot spot = lock_spot(places, workspace);
    const bool taken = take_revision(find(&spot, workspace), read, revision);
    unlock(spot.shard);
    *ret_state = (struct cache_state){.epoch = read->epoch, .revision = revision};
    return taken;
}

void places_permit_older(struct places *places, const struct cof_uuid *workspace, const struct cache_state *state,
                         uint32_t age_ms)
{
    const struct spot spot = lock_spot(places, workspace);
    struct place *place = find(&spot, workspace);
    if (place != NULL && place->epoch == state->epoch && place->revision == state->revision) {
        place->older_ms = age_ms;
        place->older_from = state->revision;
    }
    unlock(spot.shard);
}

bool places_older(struct places *places, const struct cof_uuid *workspace, struct cache_older *ret_older)
{
    const struct spot spot = lock_spot(places, workspace);
    struct place *place = find(&spot, workspace);
    const bool known = is_known(places, place);
    if (known) {
        place->used = true;
        *ret_older = (struct cache_older){
            .state = {place->epoch, place->revision, carried(place)},
            .confirmed_us = confirmed_of(places, place, CHAINS),
            .permitted_us = (int64_t) older_ms(place) * 1000,
        };
    }
    unlock(spot.shard);
    return known;
}

/* --- Carrying over -------------------------------------------------------------------------------------------- */

bool places_at(struct places *places, const struct cof_uuid *workspace, const struct cache_state *state)
{
    const struct spot spot = lock_spot(places, workspace);
    const struct place *place = find(&spot, workspace);
    const bool at = place != NULL && place->epoch == state->epoch && place->revision == state->revision;
    unlock(spot.shard);
    return at;
}

struct cache_untold places_untold(struct places *places, const struct cof_uuid *workspace)
{
    struct cache_untold untold = {.place = 0};
    const struct spot spot = lock_spot(places, workspace);
    const struct place *place = find(&spot, workspace);
    /* Whoever permitted nothing before the first of them permits nothing after it that would be carried over. */
    if (place != NULL && place->older_ms > 0 && place->older_from >= place->carried_from &&
        place->carried_to < place->revision) {
        untold = (struct cache_untold){place->id, place->carried_to, place->revision};
    }
    unlock(spot.shard);
    return untold;
}

bool places_carry_begin(struct places *places, const struct cof_uuid *workspace, uint64_t id, uint64_t revision)
{
    const struct spot spot = lock_spot(places, workspace);
    struct place *place = find(&spot, workspace);
    const bool next = place != NULL && place->id == id && place->carried_to + 1 == revision;
    if (next && revision > place->revision) {
        set_revision(place, revision);
    }
    unlock(spot.shard);
    return next;
}

void places_carry_end(struct places *places, const struct cof_uuid *workspace, uint64_t id, uint64_t revision)
{
    const struct spot spot = lock_spot(places, workspace);
    struct place *place = find(&spot, workspace);
    if (place != NULL && place->id == id && place->carried_to + 1 == revision) {
        place->carried_to = revision;
    }
    unlock(spot.shard);
}

void places_carry_nothing(struct places *places, const struct cof_uuid *workspace, uint64_t id, uint64_t revision)
{
    const struct spot spot = lock_spot(places, workspace);
    struct place *place = find(&spot, workspace);
    if (place != NULL && place->id == id && place->carried_to < revision) {
        begin_carrying(place, revision);
    }
    unlock(spot.shard);
}

void places_reached(struct places *places, const struct cof_uuid *workspace, uint64_t revision)
{
    const struct spot spot = lock_spot(places, workspace);
    struct place *place = find(&spot, workspace);
    if (place != NULL && revision > place->revision) {
        set_revision(place, revision);
    }
    unlock(spot.shard);
}

/* One in a shard at a time: who goes through all of them keeps nobody waiting. */
size_t places_in_use(struct places *places, size_t *place, struct cof_uuid *ret_workspaces, size_t max)
{
    const size_t all = (size_t) SHARDS * places->count;
    size_t count = 0;
    for (; *place < all && count < max; (*place)++) {
        struct shard *shard = &places->shards[*place / places->count];
        (void) pthread_mutex_lock(&shard->lock);
        struct place *found = &shard->places[*place % places->count];
        if (found->id != 0 && found->revision != 0 && found->unasked < UNASKED_MOST) {
            found->unasked++;
            ret_workspaces[count++] = found->workspace;
        }
        (void) pthread_mutex_unlock(&shard->lock);
    }
    return count;
}

void places_confirmed(struct places *places, int64_t time_us)
{
    atomic_store(&places->looks_us[atomic_load(&places->chain) % CHAINS], time_us);
}

void places_doubt(struct places *places)
{
    atomic_fetch_add(&places->chain, 1);
}

static void clear_shard(struct places *places, struct shard *shard)
{
    (void) pthread_mutex_lock(&shard->lock);
    for (uint32_t i = 0; i < places->count; i++) {
        shard->places[i].id = 0;
        shard->buckets[i] = NULL;
    }
    (void) pthread_mutex_unlock(&shard->lock);
}

void places_clear(struct places *places)
{
    for (size_t i = 0; i < SHARDS; i++) {
        clear_shard(places, &places->shards[i]);
    }
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

cof_code places_new(const struct cache_options *options, uint64_t bytes, const uint8_t key[HASH_KEY],
                    struct places **ret_places, struct cof_error *err)
{
    struct places *places = aligned_alloc(_Alignof(struct places), sizeof *places);
    if (places == NULL) {
        return cof_arena_exhausted(err);
    }
    memset(places, 0, sizeof *places);
    const uint64_t count = bytes / SHARDS / (sizeof(struct place) + sizeof(struct place *));
    places->options = *options;
    memcpy(places->key, key, HASH_KEY);
    places->count = count < PLACES_MIN ? PLACES_MIN : (uint32_t) count;
    atomic_store(&places->chain, 1);
    bool complete = true;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &places->shards[i];
        (void) pthread_mutex_init(&shard->lock, NULL);
        shard->places = calloc(places->count, sizeof *shard->places);
        shard->buckets = calloc(places->count, sizeof *shard->buckets);
        complete = complete && shard->places != NULL && shard->buckets != NULL;
    }
    if (!complete) {
        places_free(places);
        return cof_arena_exhausted(err);
    }
    *ret_places = places;
    return COF_OK;
}

void places_free(struct places *places)
{
    if (places == NULL) {
        return;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        (void) pthread_mutex_destroy(&places->shards[i].lock);
        free(places->shards[i].places);
        free(places->shards[i].buckets);
    }
    free(places);
}
