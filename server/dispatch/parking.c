#include "server/dispatch/parking.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "server/dispatch/wait_table.h"

enum { BUCKETS_MIN = 64 };

struct place;

struct entry {
    struct parked call; /* first: what is given out is its entry */
    TAILQ_ENTRY(entry) siblings;
    struct place *place; /* NULL: given out, or free */
    struct wait_link flight;
    struct wait_link group;
    uint32_t heap_at;
};

_Static_assert(sizeof(struct entry) <= 4096, "a parked call holds at most 4 KiB");

TAILQ_HEAD(entry_list, entry);

/* A workspace in which somebody waits. */
struct place {
    struct cof_uuid workspace;
    uint32_t count;
    uint32_t watches;        /* of them */
    uint32_t followers;      /* of them, those that wait for a revision, watches among them */
    uint64_t known;          /* the highest revision that was told while somebody waited */
    bool unconfirmed;        /* nobody has asked for its revision since the first follower was parked */
    struct entry_list calls; /* the oldest first */
    struct place *chain;     /* in its bucket, or among the free ones */
    TAILQ_ENTRY(place) siblings;
};

TAILQ_HEAD(place_list, place);

struct parking {
    pthread_mutex_t lock;
    struct parking_options options;
    bool closed;
    uint32_t count;
    uint32_t counts[CALL_WAIT_CAUSES];
    uint64_t bytes;
    /* Arrays of `capacity`, whose pages are touched as they are needed; the free ones are chained. */
    struct entry *entries;
    struct parked *free_entry;
    uint32_t entries_touched;
    struct place *places;
    struct place *free_place;
    uint32_t places_touched;
    struct place_list places_in_use; /* unconfirmed ones first */
    struct place **buckets;
    uint32_t bucket_mask;
    uint64_t key;
    struct wait_table by_flight;
    struct wait_table by_group;
    struct entry **heap; /* by the end of the wait, the earliest first */
};

/* --- The heap ------------------------------------------------------------------------------------------------- */

static int64_t due_at(const struct parking *parking, uint32_t at)
{
    return parking->heap[at]->call.wait.until_us;
}

static void heap_put(struct parking *parking, uint32_t at, struct entry *entry)
{
    parking->heap[at] = entry;
    entry->heap_at = at;
}

static void heap_swap(struct parking *parking, uint32_t a, uint32_t b)
{
    struct entry *entry = parking->heap[a];
    heap_put(parking, a, parking->heap[b]);
    heap_put(parking, b, entry);
}

static void heap_up(struct parking *parking, uint32_t at)
{
    while (at > 0 && due_at(parking, at) < due_at(parking, (at - 1) / 2)) {
        heap_swap(parking, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static void heap_down(struct parking *parking, uint32_t at)
{
    for (;;) {
        uint32_t least = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2; child++) {
            if (child < parking->count && due_at(parking, child) < due_at(parking, least)) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        heap_swap(parking, at, least);
        at = least;
    }
}

/* `count` still counts the entry, and is lowered here. */
static void heap_remove(struct parking *parking, struct entry *entry)
{
    const uint32_t at = entry->heap_at;
    const uint32_t last = --parking->count;
    if (at == last) {
        return;
    }
    heap_put(parking, at, parking->heap[last]);
    heap_up(parking, at);
    heap_down(parking, at);
}

/* --- Workspaces ----------------------------------------------------------------------------------------------- */

static bool is_watch(const struct parked *call)
{
    return call->wait.cause == CALL_WAIT_CHANGE;
}

static bool waits_for_flight(const struct parked *call)
{
    return call->wait.cause == CALL_WAIT_PROVIDER || call->wait.cause == CALL_WAIT_ROLE;
}

/* The link that points at the workspace's place, or at NULL at the end of its chain. */
static struct place **place_of(struct parking *parking, const struct cof_uuid *workspace)
{
    struct place **link = &parking->buckets[cof_uuid_hash(workspace, parking->key) & parking->bucket_mask];
    while (*link != NULL && !cof_uuid_equal(&(*link)->workspace, workspace)) {
        link = &(*link)->chain;
    }
    return link;
}

/* There are as many places as calls may be parked, so there is always one. */
static struct place *new_place(struct parking *parking)
{
    struct place *place = parking->free_place;
    if (place != NULL) {
        parking->free_place = place->chain;
        return place;
    }
    assert(parking->places_touched < parking->options.capacity);
    return &parking->places[parking->places_touched++];
}

static struct place *enter_place(struct parking *parking, const struct cof_uuid *workspace)
{
    struct place **link = place_of(parking, workspace);
    if (*link != NULL) {
        return *link;
    }
    struct place *place = new_place(parking);
    *place = (struct place){.workspace = *workspace};
    TAILQ_INIT(&place->calls);
    TAILQ_INSERT_TAIL(&parking->places_in_use, place, siblings);
    *link = place;
    return place;
}

/* While nobody followed the workspace's revision it was perhaps told to nobody. */
static void follow(struct parking *parking, struct place *place)
{
    if (place->followers++ > 0 || place->unconfirmed) {
        return;
    }
    place->unconfirmed = true;
    TAILQ_REMOVE(&parking->places_in_use, place, siblings);
    TAILQ_INSERT_HEAD(&parking->places_in_use, place, siblings);
}

static void leave_place(struct parking *parking, struct entry *entry)
{
    struct place *place = entry->place;
    assert(place != NULL);
    entry->place = NULL;
    TAILQ_REMOVE(&place->calls, entry, siblings);
    place->watches -= is_watch(&entry->call) ? 1 : 0;
    place->followers -= waits_for_flight(&entry->call) ? 0 : 1;
    if (--place->count > 0) {
        return;
    }
    *place_of(parking, &place->workspace) = place->chain;
    TAILQ_REMOVE(&parking->places_in_use, place, siblings);
    place->chain = parking->free_place;
    parking->free_place = place;
}

/* --- Flights -------------------------------------------------------------------------------------------------- */

/* A key names one flight, whoever waits for it and why. */
static struct wait_key key_of_flight(const struct flight_key *key)
{
    struct wait_key flight = {.cause = CALL_WAIT_NONE};
    memcpy(flight.bytes, key->bytes, sizeof key->bytes);
    return flight;
}

static struct wait_key key_of_group(const struct call_wait *wait)
{
    struct wait_key group = {.cause = wait->cause};
    memcpy(group.bytes, wait->flight.group.bytes, sizeof wait->flight.group.bytes);
    return group;
}

static void enter_flight(struct parking *parking, struct entry *entry)
{
    const struct wait_key flight = key_of_flight(&entry->call.wait.flight.key);
    const struct wait_key group = key_of_group(&entry->call.wait);
    wait_table_enter(&parking->by_flight, &flight, &entry->flight);
    wait_table_enter(&parking->by_group, &group, &entry->group);
}

static void leave_flight(struct parking *parking, struct entry *entry)
{
    wait_table_leave(&parking->by_flight, &entry->flight);
    wait_table_leave(&parking->by_group, &entry->group);
}

static struct entry *entry_of_flight(struct wait_link *link)
{
    return (struct entry *) (void *) ((uint8_t *) link - offsetof(struct entry, flight));
}

/* --- Giving out ----------------------------------------------------------------------------------------------- */

/* Calls that are given out, in order. */
struct given {
    struct parked *first;
    struct parked **last;
};

static void give_out(struct parking *parking, struct entry *entry, struct given *given)
{
    heap_remove(parking, entry);
    leave_place(parking, entry);
    if (waits_for_flight(&entry->call)) {
        leave_flight(parking, entry);
    }
    parking->counts[entry->call.wait.cause]--;
    parking->bytes -= entry->call.exchange->frame.len;
    entry->call.next = NULL;
    *given->last = &entry->call;
    given->last = &entry->call.next;
}

static bool has_happened(const struct parking *parking, const struct entry *entry)
{
    const struct call_wait *wait = &entry->call.wait;
    switch (wait->cause) {
    case CALL_WAIT_REVISION:
    case CALL_WAIT_CHANGE:
        return entry->place->known >= wait->revision;
    case CALL_WAIT_PROVIDER:
    case CALL_WAIT_ROLE:
        return parking->options.flights == NULL || !flights_under_way(parking->options.flights, &wait->flight.key);
    case CALL_WAIT_NONE:
    case CALL_WAIT_CAUSES:
        break;
    }
    return false;
}

static void give_out_reached(struct parking *parking, struct place *place, struct given *given)
{
    struct entry *entry = TAILQ_FIRST(&place->calls);
    while (entry != NULL) {
        struct entry *after = TAILQ_NEXT(entry, siblings);
        if (!waits_for_flight(&entry->call) && has_happened(parking, entry)) {
            give_out(parking, entry, given);
        }
        entry = after;
    }
}

/* The lock is held. */
static struct parked *give_out_all(struct parking *parking)
{
    struct given given = {.last = &given.first};
    while (parking->count > 0) {
        give_out(parking, parking->heap[0], &given);
    }
    return given.first;
}

/* --- Parking -------------------------------------------------------------------------------------------------- */

static struct entry *new_entry(struct parking *parking)
{
    struct parked *call = parking->free_entry;
    if (call != NULL) {
        parking->free_entry = call->next;
        return (struct entry *) (void *) call;
    }
    /* Records that were given out and are not released yet count, too. */
    return parking->entries_touched < parking->options.capacity ? &parking->entries[parking->entries_touched++]
                                                                : NULL;
}

/* Watches wait for most of their time. So that the others find room, they have limits of their own. */
static parking_outcome check_watches(const struct parking *parking, const struct place *place)
{
    if (place != NULL && place->watches >= parking->options.watches_per_workspace) {
        return PARKING_WORKSPACE_FULL;
    }
    return parking->counts[CALL_WAIT_CHANGE] >= parking->options.watches ? PARKING_FULL : PARKING_DONE;
}

/* A provider that does not answer must not fill the server with calls that wait for it. */
static parking_outcome check_group(struct parking *parking, const struct parked *call)
{
    const struct wait_key group = key_of_group(&call->wait);
    const struct parking_options *options = &parking->options;
    const uint32_t most = call->wait.cause == CALL_WAIT_ROLE ? options->per_role : options->per_provider;
    return wait_table_count(&parking->by_group, &group) >= most ? PARKING_GROUP_FULL : PARKING_DONE;
}

static parking_outcome check_limits(struct parking *parking, const struct parked *call)
{
    const struct place *place = *place_of(parking, &call->wait.workspace);
    if (parking->closed) {
        return PARKING_CLOSED;
    }
    if (place != NULL && place->count >= parking->options.per_workspace) {
        return PARKING_WORKSPACE_FULL;
    }
    if (call->exchange->frame.len > parking->options.bytes - parking->bytes) {
        return PARKING_FULL;
    }
    if (waits_for_flight(call)) {
        return check_group(parking, call);
    }
    return is_watch(call) ? check_watches(parking, place) : PARKING_DONE;
}

static void enter(struct parking *parking, struct entry *entry)
{
    struct place *place = enter_place(parking, &entry->call.wait.workspace);
    entry->place = place;
    place->count++;
    place->watches += is_watch(&entry->call) ? 1 : 0;
    TAILQ_INSERT_TAIL(&place->calls, entry, siblings);
    if (waits_for_flight(&entry->call)) {
        enter_flight(parking, entry);
    } else {
        follow(parking, place);
    }
    parking->counts[entry->call.wait.cause]++;
    parking->bytes += entry->call.exchange->frame.len;
    heap_put(parking, parking->count++, entry);
    heap_up(parking, entry->heap_at);
}

static struct parking_result add(struct parking *parking, const struct parked *call)
{
    const parking_outcome outcome = check_limits(parking, call);
    struct entry *entry = outcome == PARKING_DONE ? new_entry(parking) : NULL;
    if (entry == NULL) {
        return (struct parking_result){.outcome = outcome == PARKING_DONE ? PARKING_FULL : outcome};
    }
    struct given given = {.last = &given.first};
    *entry = (struct entry){.call = *call};
    enter(parking, entry);
    struct parking_result result = {
        .outcome = PARKING_DONE,
        .unconfirmed = !waits_for_flight(call) && entry->place->unconfirmed,
        .first = !waits_for_flight(call) && parking->counts[call->wait.cause] == 1,
        .earliest = entry->heap_at == 0,
    };
    if (has_happened(parking, entry)) {
        give_out(parking, entry, &given);
        result.ready = given.first;
    }
    return result;
}

struct parking_result parking_add(struct parking *parking, const struct parked *call)
{
    (void) pthread_mutex_lock(&parking->lock);
    const struct parking_result result = add(parking, call);
    (void) pthread_mutex_unlock(&parking->lock);
    return result;
}

struct parked *parking_reached(struct parking *parking, const struct cof_uuid *workspace, uint64_t revision)
{
    struct given given = {.last = &given.first};
    (void) pthread_mutex_lock(&parking->lock);
    struct place *place = *place_of(parking, workspace);
    if (place != NULL && revision > place->known) {
        place->known = revision;
        give_out_reached(parking, place, &given);
    }
    (void) pthread_mutex_unlock(&parking->lock);
    return given.first;
}

struct parked *parking_landed(struct parking *parking, const struct flight_key *key)
{
    const struct wait_key flight = key_of_flight(key);
    struct given given = {.last = &given.first};
    (void) pthread_mutex_lock(&parking->lock);
    struct wait_link *link;
    while ((link = wait_table_first(&parking->by_flight, &flight)) != NULL) {
        give_out(parking, entry_of_flight(link), &given);
    }
    (void) pthread_mutex_unlock(&parking->lock);
    return given.first;
}

struct parked *parking_due(struct parking *parking, int64_t now_us)
{
    struct given given = {.last = &given.first};
    (void) pthread_mutex_lock(&parking->lock);
    while (parking->count > 0 && due_at(parking, 0) <= now_us) {
        give_out(parking, parking->heap[0], &given);
    }
    (void) pthread_mutex_unlock(&parking->lock);
    return given.first;
}

int64_t parking_next_due(struct parking *parking)
{
    (void) pthread_mutex_lock(&parking->lock);
    const int64_t due = parking->count > 0 ? due_at(parking, 0) : INT64_MAX;
    (void) pthread_mutex_unlock(&parking->lock);
    return due;
}

struct parked *parking_all(struct parking *parking)
{
    (void) pthread_mutex_lock(&parking->lock);
    struct parked *first = give_out_all(parking);
    (void) pthread_mutex_unlock(&parking->lock);
    return first;
}

struct parked *parking_close(struct parking *parking)
{
    (void) pthread_mutex_lock(&parking->lock);
    parking->closed = true;
    struct parked *first = give_out_all(parking);
    (void) pthread_mutex_unlock(&parking->lock);
    return first;
}

void parking_release(struct parking *parking, struct parked *call)
{
    (void) pthread_mutex_lock(&parking->lock);
    call->exchange = NULL;
    call->next = parking->free_entry;
    parking->free_entry = call;
    (void) pthread_mutex_unlock(&parking->lock);
}

/* --- Counting and confirming ---------------------------------------------------------------------------------- */

uint32_t parking_count(struct parking *parking, call_wait_cause cause)
{
    (void) pthread_mutex_lock(&parking->lock);
    const uint32_t count = parking->counts[cause];
    (void) pthread_mutex_unlock(&parking->lock);
    return count;
}

uint32_t parking_count_workspace(struct parking *parking, const struct cof_uuid *workspace)
{
    (void) pthread_mutex_lock(&parking->lock);
    const struct place *place = *place_of(parking, workspace);
    const uint32_t count = place == NULL ? 0 : place->count;
    (void) pthread_mutex_unlock(&parking->lock);
    return count;
}

size_t parking_unconfirmed(struct parking *parking, struct cof_uuid *ret_workspaces, size_t max)
{
    size_t count = 0;
    (void) pthread_mutex_lock(&parking->lock);
    for (;;) {
        struct place *place = TAILQ_FIRST(&parking->places_in_use);
        if (place == NULL || !place->unconfirmed || count == max) {
            break;
        }
        place->unconfirmed = false;
        TAILQ_REMOVE(&parking->places_in_use, place, siblings);
        TAILQ_INSERT_TAIL(&parking->places_in_use, place, siblings);
        ret_workspaces[count++] = place->workspace;
    }
    (void) pthread_mutex_unlock(&parking->lock);
    return count;
}

void parking_doubt(struct parking *parking)
{
    struct place *place;
    (void) pthread_mutex_lock(&parking->lock);
    TAILQ_FOREACH(place, &parking->places_in_use, siblings)
    {
        place->unconfirmed = true;
    }
    (void) pthread_mutex_unlock(&parking->lock);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static bool build(struct parking *parking)
{
    const uint32_t capacity = parking->options.capacity;
    const struct cof_uuid random = cof_uuid_random();
    uint32_t buckets = BUCKETS_MIN;
    while (buckets < capacity) {
        buckets *= 2;
    }
    memcpy(&parking->key, random.bytes, sizeof parking->key);
    parking->bucket_mask = buckets - 1;
    parking->buckets = calloc(buckets, sizeof(struct place *));
    parking->entries = calloc(capacity, sizeof *parking->entries);
    parking->places = calloc(capacity, sizeof *parking->places);
    parking->heap = calloc(capacity, sizeof(struct entry *));
    TAILQ_INIT(&parking->places_in_use);
    const bool has_flights = wait_table_init(&parking->by_flight, capacity, parking->key);
    const bool has_groups = wait_table_init(&parking->by_group, capacity, parking->key);
    return has_flights && has_groups && parking->buckets != NULL && parking->entries != NULL &&
           parking->places != NULL && parking->heap != NULL;
}

struct parking *parking_new(const struct parking_options *options)
{
    struct parking *parking = calloc(1, sizeof *parking);
    if (parking == NULL) {
        return NULL;
    }
    parking->options = *options;
    (void) pthread_mutex_init(&parking->lock, NULL);
    if (!build(parking)) {
        parking_free(parking);
        return NULL;
    }
    return parking;
}

void parking_free(struct parking *parking)
{
    if (parking == NULL) {
        return;
    }
    assert(parking->count == 0);
    (void) pthread_mutex_destroy(&parking->lock);
    wait_table_done(&parking->by_flight);
    wait_table_done(&parking->by_group);
    free(parking->buckets);
    free(parking->entries);
    free(parking->places);
    free(parking->heap);
    free(parking);
}
