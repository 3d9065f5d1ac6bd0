#pragma once

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "common/error.h"
#include "common/slice.h"

/*
 * Memory of one call: a chain of 16 KiB chunks from one pool that is locked into memory, kept out of core files
 * and wiped in forked children. Everything taken is given back, wiped, by cof_arena_reset.
 *
 * The pool is thread-safe; an arena belongs to one thread at a time.
 */

enum { COF_ARENA_CHUNK = 16384 };

struct cof_pool;

/* How the pool treats memory that the system refuses to lock. */
typedef enum cof_lock_mode {
    COF_LOCK_REQUIRED,    /* cof_pool_new fails */
    COF_LOCK_BEST_EFFORT, /* the pool works, and cof_pool_locked says false */
    COF_LOCK_NONE,        /* for what is no secret: not tried */
} cof_lock_mode;

/*
 * Makes a pool of `bytes`, rounded up to whole chunks, between two guard pages. Fails with OUT_OF_MEMORY, or with
 * CONFIG_INVALID if the memory cannot be locked and the mode requires it.
 */
COF_CODE cof_pool_new(size_t bytes, cof_lock_mode mode, struct cof_pool **ret_pool, struct cof_error *err);
void cof_pool_free(struct cof_pool *pool);
int cof_pool_locked(const struct cof_pool *pool);
/* Chunks that are in use now. */
size_t cof_pool_used(struct cof_pool *pool);

struct cof_chunk;

struct cof_arena {
    struct cof_pool *pool;
    struct cof_chunk *chunks; /* the newest first */
    size_t chunk_count;
    size_t limit; /* most chunks; fewer bytes than that fit, for a large allocation takes neighbouring chunks */
    ProtobufCAllocator allocator; /* for protobuf_c_message_unpack; its free does nothing */
};

/* `limit_bytes` bounds what this arena takes from the pool. */
void cof_arena_init(struct cof_arena *arena, struct cof_pool *pool, size_t limit_bytes);

/* Wipes and gives back everything. The arena can be used again. */
void cof_arena_reset(struct cof_arena *arena);

/* Memory aligned for any type, zeroed; NULL if the arena's limit or the pool is exhausted. `size` 0 gives a
 * pointer that must not be read. */
void *cof_arena_alloc(struct cof_arena *arena, size_t size) COF_MUST_USE;

/*
 * What is left of the newest chunk, for something that is copied from there at once: it is not allocated, and whoever
 * writes there wipes it before the arena is used again.
 */
uint8_t *cof_arena_spare(struct cof_arena *arena, size_t *ret_size);

/* cof_arena_alloc for `count` objects of `size`; NULL also on overflow. */
void *cof_arena_array(struct cof_arena *arena, size_t count, size_t size) COF_MUST_USE;

/* A copy with a NUL behind it; NULL if the memory is exhausted. */
char *cof_arena_text(struct cof_arena *arena, struct cof_slice text) COF_MUST_USE;

/* Printf into the arena; NULL if the memory is exhausted. */
char *cof_arena_format(struct cof_arena *arena, const char *format, ...) COF_PRINTF(2, 3) COF_MUST_USE;

/* The failure that belongs to a NULL of the functions above. */
COF_CODE cof_arena_exhausted(struct cof_error *err);
