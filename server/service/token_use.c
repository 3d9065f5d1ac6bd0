#include "server/service/token_use.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { PROBES = 16 };

/* Open addressing without chains: an entry lies at one of PROBES places, and is free if it has no time. */
struct token_use {
    pthread_mutex_t lock;
    uint64_t key; /* callers cannot choose where their tokens lie */
    struct token_use_entry entries[TOKEN_USE_CAPACITY];
};

_Static_assert((TOKEN_USE_CAPACITY & (TOKEN_USE_CAPACITY - 1)) == 0, "the capacity is no power of two");

struct token_use *token_use_new(void)
{
    const struct cof_uuid random = cof_uuid_random();
    struct token_use *use = calloc(1, sizeof *use);
    if (use != NULL) {
        memcpy(&use->key, random.bytes, sizeof use->key);
        (void) pthread_mutex_init(&use->lock, NULL);
    }
    return use;
}

void token_use_free(struct token_use *use)
{
    if (use != NULL) {
        (void) pthread_mutex_destroy(&use->lock);
        free(use);
    }
}

/* The token's entry, else a free one; NULL if there is neither. */
static struct token_use_entry *place_of(struct token_use *use, const struct cof_uuid *token)
{
    const uint32_t start = cof_uuid_hash(token, use->key);
    struct token_use_entry *free_one = NULL;
    for (uint32_t i = 0; i < PROBES; i++) {
        struct token_use_entry *entry = &use->entries[(start + i) & (TOKEN_USE_CAPACITY - 1)];
        if (entry->time != 0 && cof_uuid_equal(&entry->token, token)) {
            return entry;
        }
        free_one = free_one == NULL && entry->time == 0 ? entry : free_one;
    }
    return free_one;
}

void token_use_note(struct token_use *use, const struct cof_uuid *workspace, const struct cof_uuid *token,
                    int64_t time)
{
    if (use == NULL) {
        return;
    }
    (void) pthread_mutex_lock(&use->lock);
    struct token_use_entry *entry = place_of(use, token);
    if (entry != NULL && time > entry->time) {
        *entry = (struct token_use_entry){*workspace, *token, time};
    }
    (void) pthread_mutex_unlock(&use->lock);
}

size_t token_use_take(struct token_use *use, size_t *place, struct token_use_entry *ret_entries, size_t max)
{
    size_t count = 0;
    (void) pthread_mutex_lock(&use->lock);
    for (; *place < TOKEN_USE_CAPACITY && count < max; (*place)++) {
        struct token_use_entry *entry = &use->entries[*place];
        if (entry->time != 0) {
            ret_entries[count++] = *entry;
            entry->time = 0;
        }
    }
    (void) pthread_mutex_unlock(&use->lock);
    return count;
}
