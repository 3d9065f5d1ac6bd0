#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/*
 * Lists under keys: who waits for the same flight, and how many wait for the same provider. Of parking, under whose lock
 * it is used; it allocates when it is made and never again.
 */

struct wait_key {
    uint32_t cause;
    uint8_t bytes[32];
};

struct wait_node;

/* One who waits; in the record of a parked call. */
struct wait_link {
    TAILQ_ENTRY(wait_link) siblings;
    struct wait_node *node; /* NULL: in no list */
};

struct wait_table {
    struct wait_node *nodes; /* as many as may wait */
    struct wait_node *free;
    uint32_t capacity;
    uint32_t touched;
    struct wait_node **buckets;
    uint32_t bucket_mask;
    uint64_t seed;
};

/* False if there is no memory; wait_table_done is due in any case. */
bool wait_table_init(struct wait_table *table, uint32_t capacity, uint64_t seed);
void wait_table_done(struct wait_table *table);

/* How many wait under the key. */
uint32_t wait_table_count(struct wait_table *table, const struct wait_key *key);
/* The one who has waited longest; NULL: nobody. */
struct wait_link *wait_table_first(struct wait_table *table, const struct wait_key *key);

/* The last of the key's list from now on. No more than `capacity` may be in the table. */
void wait_table_enter(struct wait_table *table, const struct wait_key *key, struct wait_link *link);
/* The link must be in a list. */
void wait_table_leave(struct wait_table *table, struct wait_link *link);
