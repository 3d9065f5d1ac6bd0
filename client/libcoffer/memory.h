#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/error.h"

/* The locked memory of a client. Results hold on to it, so that they outlive the client. */

struct memory;

enum {
    MEMORY_DEFAULT = 16 << 20,
    MEMORY_UNLOCKABLE = 7 << 20, /* the default where RLIMIT_MEMLOCK is the kernel's default of 8 MiB */
    MEMORY_MIN = 64 << 10,
};

/* `bytes` 0 takes the default that can be locked. Fails with OUT_OF_MEMORY. */
COF_CODE memory_new(size_t bytes, struct memory **ret_memory, struct cof_error *err);
struct memory *memory_hold(struct memory *memory);
void memory_drop(struct memory *memory);
void memory_drop_cleanup(struct memory **memory);

struct cof_pool *memory_pool(struct memory *memory);
bool memory_locked(const struct memory *memory);

/* The failure of an arena of this memory that is full. */
COF_CODE memory_exhausted(struct cof_error *err);
