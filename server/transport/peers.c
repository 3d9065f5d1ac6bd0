#include "server/transport/peers.h"

#include <pthread.h>
#include <stdlib.h>

enum { BUCKETS = 1024 };

struct peer {
    struct peer *next;
    nng_pipe pipe;
    uint32_t in_flight;
    uint32_t malformed;
    bool connected;
    struct exchange_peer description;
};

struct peers {
    pthread_mutex_t lock;
    uint32_t max_peers;
    uint32_t max_in_flight;
    uint32_t max_malformed;
    uint32_t count;
    uint32_t last_connection;
    struct peer *buckets[BUCKETS];
};

static struct peer **place_of(struct peers *peers, nng_pipe pipe)
{
    struct peer **place = &peers->buckets[(uint32_t) nng_pipe_id(pipe) % BUCKETS];
    while (*place != NULL && (!(*place)->connected || nng_pipe_id((*place)->pipe) != nng_pipe_id(pipe))) {
        place = &(*place)->next;
    }
    return place;
}

/* Takes the entry out of its chain; the caller frees it. */
static void unlink_peer(struct peers *peers, struct peer *peer)
{
    struct peer **place = &peers->buckets[(uint32_t) nng_pipe_id(peer->pipe) % BUCKETS];
    while (*place != peer) {
        place = &(*place)->next;
    }
    *place = peer->next;
}

struct peers *peers_new(uint32_t max_peers, uint32_t max_in_flight, uint32_t max_malformed)
{
    struct peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL) {
        return NULL;
    }
    (void) pthread_mutex_init(&peers->lock, NULL);
    peers->max_peers = max_peers;
    peers->max_in_flight = max_in_flight;
    peers->max_malformed = max_malformed;
    return peers;
}

void peers_free(struct peers *peers)
{
    if (peers == NULL) {
        return;
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        while (peers->buckets[i] != NULL) {
            struct peer *peer = peers->buckets[i];
            peers->buckets[i] = peer->next;
            free(peer);
        }
    }
    (void) pthread_mutex_destroy(&peers->lock);
    free(peers);
}

bool peers_add(struct peers *peers, nng_pipe pipe, const struct exchange_peer *description)
{
    struct peer *peer = calloc(1, sizeof *peer);
    bool added = false;
    if (peer == NULL) {
        return false;
    }
    peer->pipe = pipe;
    peer->connected = true;
    peer->description = *description;
    (void) pthread_mutex_lock(&peers->lock);
    if (peers->count < peers->max_peers) {
        struct peer **bucket = &peers->buckets[(uint32_t) nng_pipe_id(pipe) % BUCKETS];
        peer->description.connection = ++peers->last_connection;
        peer->next = *bucket;
        *bucket = peer;
        peers->count++;
        added = true;
    }
    (void) pthread_mutex_unlock(&peers->lock);
    if (!added) {
        free(peer);
    }
    return added;
}

void peers_remove(struct peers *peers, nng_pipe pipe)
{
    struct peer *gone = NULL;
    (void) pthread_mutex_lock(&peers->lock);
    struct peer *peer = *place_of(peers, pipe);
    if (peer != NULL) {
        peer->connected = false;
        peers->count--;
        if (peer->in_flight == 0) {
            unlink_peer(peers, peer);
            gone = peer;
        }
    }
    (void) pthread_mutex_unlock(&peers->lock);
    free(gone);
}

struct peer *peers_enter(struct peers *peers, nng_pipe pipe, struct exchange_peer *ret_description,
                         bool *ret_allowed)
{
    (void) pthread_mutex_lock(&peers->lock);
    struct peer *peer = *place_of(peers, pipe);
    if (peer != NULL) {
        *ret_description = peer->description;
        *ret_allowed = peer->in_flight < peers->max_in_flight;
        peer->in_flight++;
    }
    (void) pthread_mutex_unlock(&peers->lock);
    return peer;
}

bool peers_leave(struct peers *peers, struct peer *peer, bool malformed)
{
    struct peer *gone = NULL;
    (void) pthread_mutex_lock(&peers->lock);
    peer->in_flight--;
    peer->malformed += malformed;
    const bool close = malformed && peer->connected && peer->malformed >= peers->max_malformed;
    if (!peer->connected && peer->in_flight == 0) {
        unlink_peer(peers, peer);
        gone = peer;
    }
    (void) pthread_mutex_unlock(&peers->lock);
    free(gone);
    return close;
}

nng_pipe peer_pipe(const struct peer *peer)
{
    return peer->pipe;
}
