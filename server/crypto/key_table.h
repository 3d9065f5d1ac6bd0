#pragma once

#include <stdatomic.h>

#include "common/uuid.h"
#include "server/crypto/xaes.h"

/*
 * The opened workspace keys by workspace and generation. Internal to server/crypto.
 *
 * Finding a key costs the same however many there are. Readers lock one of 16 shards for the time of the look-up;
 * a key that somebody took stays alive until it is released, wherever the table has gone meanwhile. Thread-safe.
 */

struct key_home;

struct opened_key {
    struct cof_uuid workspace;
    uint32_t generation;
    atomic_uint references;
    struct xaes_key *seal; /* NULL: the key is retired, and only its row subkey is left */
    uint8_t *row;          /* CRYPTO_KEY bytes in the secure heap */
    /* The table's own: */
    struct key_home *home;
    struct opened_key *next_in_bucket;
    struct opened_key *next_in_home;
};

/* Derives the subkeys; the caller holds the only reference. */
COF_CODE opened_key_new(const struct cof_uuid *workspace, uint32_t generation, const uint8_t key[CRYPTO_KEY],
                        struct opened_key **ret_key, struct cof_error *err);
/* The row subkey of a workspace key; and a retired key of which nothing else is left. */
COF_CODE opened_key_row_subkey(const uint8_t key[CRYPTO_KEY], uint8_t subkey[CRYPTO_KEY], struct cof_error *err);
COF_CODE opened_key_new_row(const struct cof_uuid *workspace, uint32_t generation, const uint8_t subkey[CRYPTO_KEY],
                            struct opened_key **ret_key, struct cof_error *err);
void opened_key_release(struct opened_key *key);

struct key_table;

/* Fails with CONFIG_INVALID if the capacity is 0 or beyond KEYRING_CAPACITY_MAX. */
COF_CODE key_table_new(size_t capacity, struct key_table **ret_table, struct cof_error *err);
/* No other thread may use the table any more. */
void key_table_free(struct key_table *table);

/* A reference to the key, or NULL; generation 0 means the highest one. Counts as use of the workspace. */
struct opened_key *key_table_take(struct key_table *table, const struct cof_uuid *workspace, uint32_t generation);

/* The highest generation, or 0; whether a generation is there. Do not count as use. */
uint32_t key_table_highest(struct key_table *table, const struct cof_uuid *workspace);
int key_table_has(struct key_table *table, const struct cof_uuid *workspace, uint32_t generation);

/*
 * Takes over the reference. Makes room by forgetting the workspaces that were used least recently, the key's own
 * one last. A key that is there already stays, and the other one is released.
 */
COF_CODE key_table_install(struct key_table *table, struct opened_key *key, struct cof_error *err);

void key_table_evict(struct key_table *table, const struct cof_uuid *workspace);

/* Takes out one generation. */
void key_table_forget(struct key_table *table, const struct cof_uuid *workspace, uint32_t generation);
