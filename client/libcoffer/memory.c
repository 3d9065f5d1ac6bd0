#include "client/libcoffer/memory.h"

#include <stdatomic.h>
#include <stdlib.h>

struct memory {
    struct cof_pool *pool;
    atomic_uint holders;
};

/* Without a size that somebody asked for, what can be locked is worth more than its size. */
static cof_code pool_new(size_t bytes, struct cof_pool **ret_pool, struct cof_error *err)
{
    if (bytes != 0) {
        return cof_pool_new(bytes, COF_LOCK_BEST_EFFORT, ret_pool, err);
    }
    if (cof_pool_new(MEMORY_DEFAULT, COF_LOCK_REQUIRED, ret_pool, err) == COF_OK) {
        return COF_OK;
    }
    cof_error_clear(err);
    return cof_pool_new(MEMORY_UNLOCKABLE, COF_LOCK_BEST_EFFORT, ret_pool, err);
}

cof_code memory_new(size_t bytes, struct memory **ret_memory, struct cof_error *err)
{
    AUTO(memory_drop_cleanup) struct memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL) {
        return memory_exhausted(err);
    }
    atomic_init(&memory->holders, 1);
    TRY(pool_new(bytes, &memory->pool, err));
    *ret_memory = TAKE(memory);
    return COF_OK;
}

struct memory *memory_hold(struct memory *memory)
{
    atomic_fetch_add(&memory->holders, 1);
    return memory;
}

void memory_drop(struct memory *memory)
{
    if (memory == NULL || atomic_fetch_sub(&memory->holders, 1) != 1) {
        return;
    }
    cof_pool_free(memory->pool);
    free(memory);
}

void memory_drop_cleanup(struct memory **memory)
{
    memory_drop(*memory);
}

struct cof_pool *memory_pool(struct memory *memory)
{
    return memory->pool;
}

bool memory_locked(const struct memory *memory)
{
    return cof_pool_locked(memory->pool) != 0;
}

cof_code memory_exhausted(struct cof_error *err)
{
    return cof_fail(
        err, COF_REASON_OUT_OF_MEMORY,
        "the client's memory for values is used up; free results sooner, ask for less at once, or raise "
        "the setting memory");
}
