#include "server/dispatch/wait_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/uuid.h"

enum { BUCKETS_MIN = 16 };

TAILQ_HEAD(wait_list, wait_link);

struct wait_node {
    struct wait_key key;
    uint32_t count;
    struct wait_list links;  /* who has waited longest first */
    struct wait_node *chain; /* in its bucket, or among the free ones */
};

/* The link that points at the key's node, or at NULL at the end of its chain. */
static struct wait_node **node_of(struct wait_table *table, const struct wait_key *key)
{
    struct cof_uuid part;
    memcpy(part.bytes, key->bytes, sizeof part.bytes);
    struct wait_node **link = &table->buckets[cof_uuid_hash(&part, table->seed) & table->bucket_mask];
    while (*link != NULL &&
           ((*link)->key.cause != key->cause || memcmp((*link)->key.bytes, key->bytes, sizeof key->bytes) != 0)) {
        link = &(*link)->chain;
    }
    return link;
}

static struct wait_node *new_node(struct wait_table *table)
{
    struct wait_node *node = table->free;
    if (node != NULL) {
        table->free = node->chain;
        return node;
    }
    assert(table->touched < table->capacity);
    return &table->nodes[table->touched++];
}

uint32_t wait_table_count(struct wait_table *table, const struct wait_key *key)
{
    const struct wait_node *node = *node_of(table, key);
    return node == NULL ? 0 : node->count;
}

struct wait_link *wait_table_first(struct wait_table *table, const struct wait_key *key)
{
    const struct wait_node *node = *node_of(table, key);
    return node == NULL ? NULL : TAILQ_FIRST(&node->links);
}

void wait_table_enter(struct wait_table *table, const struct wait_key *key, struct wait_link *link)
{
    struct wait_node **at = node_of(table, key);
    if (*at == NULL) {
        struct wait_node *node = new_node(table);
        *node = (struct wait_node){.key = *key};
        TAILQ_INIT(&node->links);
        *at = node;
    }
    link->node = *at;
    link->node->count++;
    TAILQ_INSERT_TAIL(&link->node->links, link, siblings);
}

void wait_table_leave(struct wait_table *table, struct wait_link *link)
{
    struct wait_node *node = link->node;
    assert(node != NULL);
    link->node = NULL;
    TAILQ_REMOVE(&node->links, link, siblings);
    if (--node->count > 0) {
        return;
    }
    *node_of(table, &node->key) = node->chain;
    node->chain = table->free;
    table->free = node;
}

bool wait_table_init(struct wait_table *table, uint32_t capacity, uint64_t seed)
{
    uint32_t buckets = BUCKETS_MIN;
    while (buckets < capacity) {
        buckets *= 2;
    }
    *table = (struct wait_table){
        .nodes = calloc(capacity, sizeof *table->nodes),
        .capacity = capacity,
        .buckets = calloc(buckets, sizeof(struct wait_node *)),
        .bucket_mask = buckets - 1,
        .seed = seed,
    };
    return table->nodes != NULL && table->buckets != NULL;
}

void wait_table_done(struct wait_table *table)
{
    free(table->nodes);
    free(table->buckets);
}
