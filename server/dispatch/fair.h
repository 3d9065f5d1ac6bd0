#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/uuid.h"

/*
 * The queue to the workers, shared fairly (docs/decisions/0019-fair-sharing.md). What waits lies in flows, one for each
 * workspace (workspaces share one where their hashes meet), and in each flow in lanes, one for each token. Flows take
 * turns by what their calls cost; one that has just begun to wait comes first.
 *
 * Not thread-safe: its owner has a lock.
 */

struct fair;
struct fair_flow;

enum {
    FAIR_LANES = 8,    /* of tokens in one flow */
    FAIR_QUANTUM = 16, /* cost that a flow may take in its turn */
    FAIR_BATCH = 16,   /* calls in a batch */
};

/* Something that waits; part of what it stands for. */
struct fair_item {
    TAILQ_ENTRY(fair_item) siblings;
    struct fair_flow *flow;
    uint32_t lane;
    uint32_t cost; /* at least 1 */
    bool resumed;  /* it was admitted before: it takes no place in the queue and is never refused */
};

/* Whose an item is. */
struct fair_key {
    struct cof_uuid workspace;
    struct cof_uuid token;
    bool stranger; /* nothing is known of the caller: workspace and token may be invented */
};

struct fair_options {
    uint32_t capacity; /* items that are not resumed */
    uint32_t workers;
};

/* NULL if there is no memory. */
struct fair *fair_new(const struct fair_options *options);
void fair_free(struct fair *fair); /* NULL is allowed */

typedef enum fair_outcome {
    FAIR_TAKEN,
    FAIR_FULL,       /* the queue is full of the workspace's own calls */
    FAIR_SHARE_USED, /* the queue is full, and the workspace has its share of it */
} fair_outcome;

/*
 * Adds an item whose cost and `resumed` are set. If the queue is full, and others have more of it than whose item this
 * is, one of theirs that came last gives way: it is `ret_evicted`, else NULL.
 */
fair_outcome fair_add(struct fair *fair, struct fair_item *item, const struct fair_key *key,
                      struct fair_item **ret_evicted);

/* The item that comes next; NULL if none may be taken now. */
struct fair_item *fair_next(struct fair *fair);

/* What one worker takes at once, so that a workspace's share of the workers can be counted. */
struct fair_batch {
    struct fair_flow *flows[FAIR_BATCH];
    uint32_t flow_count;
    uint32_t cost;
};

/* Takes the item that comes next into a batch of less than FAIR_BATCH items. */
struct fair_item *fair_take(struct fair *fair, struct fair_batch *batch);

/* No more is taken into the batch. A flow that keeps as many workers busy as it may waits from now on. */
void fair_close(struct fair *fair, struct fair_batch *batch);

/* The worker has done all of it; the batch is empty again. */
void fair_done(struct fair *fair, struct fair_batch *batch);

uint32_t fair_queued(const struct fair *fair);  /* items that are not resumed */
uint32_t fair_resumed(const struct fair *fair); /* those that are */
