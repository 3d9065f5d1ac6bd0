#include "server/service/flights.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/uuid.h"

enum { BUCKETS_MIN = 16 };

struct node {
    struct flight_key key;
    struct node *chain; /* in its bucket, or among the free ones */
};

struct flights {
    pthread_mutex_t lock;
    void (*landed)(void *context, const struct flight_key *key);
    void *context;
    uint32_t capacity;
    uint32_t count;
    uint32_t touched; /* nodes beyond are as calloc made them */
    struct node *nodes;
    struct node *free;
    struct node **buckets;
    uint32_t bucket_mask;
    uint64_t seed;
};

/* The link that points at the key's node, or at NULL at the end of its chain. The lock is held. */
static struct node **node_of(struct flights *flights, const struct flight_key *key)
{
    struct cof_uuid part;
    memcpy(part.bytes, key->bytes, sizeof part.bytes);
    struct node **link = &flights->buckets[cof_uuid_hash(&part, flights->seed) & flights->bucket_mask];
    while (*link != NULL && memcmp((*link)->key.bytes, key->bytes, sizeof key->bytes) != 0) {
        link = &(*link)->chain;
    }
    return link;
}

static flight_start begin(struct flights *flights, const struct flight_key *key)
{
    struct node **link = node_of(flights, key);
    if (*link != NULL) {
        return FLIGHT_JOINED;
    }
    if (flights->count == flights->capacity) {
        return FLIGHT_FULL;
    }
    struct node *node = flights->free;
    if (node != NULL) {
        flights->free = node->chain;
    } else {
        node = &flights->nodes[flights->touched++];
    }
    *node = (struct node){.key = *key};
    *link = node;
    flights->count++;
    return FLIGHT_BEGUN;
}

flight_start flights_begin(struct flights *flights, const struct flight_key *key)
{
    (void) pthread_mutex_lock(&flights->lock);
    const flight_start start = begin(flights, key);
    (void) pthread_mutex_unlock(&flights->lock);
    return start;
}

static bool end(struct flights *flights, const struct flight_key *key)
{
    struct node **link = node_of(flights, key);
    struct node *node = *link;
    if (node == NULL) {
        return false;
    }
    *link = node->chain;
    node->chain = flights->free;
    flights->free = node;
    flights->count--;
    return true;
}

/* First it is over, then it is told: parking, which asks under its own lock, finds the one or hears the other. */
static bool land(struct flights *flights, const struct flight_key *key)
{
    (void) pthread_mutex_lock(&flights->lock);
    const bool ended = end(flights, key);
    (void) pthread_mutex_unlock(&flights->lock);
    if (ended && flights->landed != NULL) {
        flights->landed(flights->context, key);
    }
    return ended;
}

void flights_land(struct flights *flights, const struct flight_key *key)
{
    const bool ended = land(flights, key);
    assert(ended);
    (void) ended;
}

void flights_land_if_any(struct flights *flights, const struct flight_key *key)
{
    (void) land(flights, key);
}

bool flights_under_way(struct flights *flights, const struct flight_key *key)
{
    (void) pthread_mutex_lock(&flights->lock);
    const bool under_way = *node_of(flights, key) != NULL;
    (void) pthread_mutex_unlock(&flights->lock);
    return under_way;
}

uint32_t flights_count(struct flights *flights)
{
    (void) pthread_mutex_lock(&flights->lock);
    const uint32_t count = flights->count;
    (void) pthread_mutex_unlock(&flights->lock);
    return count;
}

void flights_on_landing(struct flights *flights, void (*landed)(void *context, const struct flight_key *key),
                        void *context)
{
    assert(flights->count == 0);
    flights->landed = landed;
    flights->context = context;
}

struct flights *flights_new(uint32_t capacity)
{
    struct flights *flights = calloc(1, sizeof *flights);
    if (flights == NULL) {
        return NULL;
    }
    const struct cof_uuid random = cof_uuid_random();
    uint32_t buckets = BUCKETS_MIN;
    while (buckets < capacity) {
        buckets *= 2;
    }
    memcpy(&flights->seed, random.bytes, sizeof flights->seed);
    (void) pthread_mutex_init(&flights->lock, NULL);
    flights->capacity = capacity;
    flights->bucket_mask = buckets - 1;
    flights->nodes = calloc(capacity, sizeof *flights->nodes);
    flights->buckets = calloc(buckets, sizeof(struct node *));
    if (flights->nodes == NULL || flights->buckets == NULL) {
        flights_free(flights);
        return NULL;
    }
    return flights;
}

void flights_free(struct flights *flights)
{
    if (flights == NULL) {
        return;
    }
    (void) pthread_mutex_destroy(&flights->lock);
    free(flights->nodes);
    free(flights->buckets);
    free(flights);
}
