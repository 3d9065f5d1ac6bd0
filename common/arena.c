#include "common/arena.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/secret.h"

enum { ALIGNMENT = 16 };

/* Stands at the beginning of a run of neighbouring chunks that belong to one arena. */
struct cof_chunk {
    struct cof_chunk *next;
    size_t count; /* chunks of the run */
    size_t used;  /* bytes, with this header */
    size_t unused_padding;
};

_Static_assert(sizeof(struct cof_chunk) % ALIGNMENT == 0, "what follows the header must be aligned");

/* What the pool knows of one chunk; free ones are a ring, so that taking and giving one needs no search. */
struct slot {
    uint32_t next;
    uint32_t previous;
    bool taken;
};

struct cof_pool {
    pthread_mutex_t lock;
    uint8_t *region; /* with its guard pages */
    size_t region_size;
    uint8_t *memory;
    uint32_t count; /* chunks */
    uint32_t used;
    int locked;
    struct slot *slots; /* one for each chunk, and the ring's head behind them */
};

/* --- Pool ----------------------------------------------------------------------------------------------------- */

static size_t page_size(void)
{
    return (size_t) sysconf(_SC_PAGESIZE);
}

/* Pages are locked as they are touched, so that an idle server stays small. */
static int lock_memory(const struct cof_pool *pool)
{
    const size_t size = (size_t) pool->count * COF_ARENA_CHUNK;
    if (mlock2(pool->memory, size, MLOCK_ONFAULT) == 0) {
        return 1;
    }
    return errno == ENOSYS && mlock(pool->memory, size) == 0;
}

static cof_code map_memory(struct cof_pool *pool, cof_lock_mode mode, struct cof_error *err)
{
    const size_t page = page_size();
    const size_t size = (size_t) pool->count * COF_ARENA_CHUNK;
    pool->region_size = size + 2 * page;
    pool->region = mmap(NULL, pool->region_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool->region == MAP_FAILED) {
        pool->region = NULL;
        return cof_arena_exhausted(err);
    }
    pool->memory = pool->region + page;
    if (mprotect(pool->memory, size, PROT_READ | PROT_WRITE) != 0) {
        return cof_arena_exhausted(err);
    }
    (void) madvise(pool->memory, size, MADV_DONTDUMP);
    (void) madvise(pool->memory, size, MADV_WIPEONFORK);
    pool->locked = mode != COF_LOCK_NONE && lock_memory(pool);
    return COF_OK;
}

static void detach(struct cof_pool *pool, uint32_t at)
{
    struct slot *slot = &pool->slots[at];
    pool->slots[slot->previous].next = slot->next;
    pool->slots[slot->next].previous = slot->previous;
    slot->taken = true;
}

static void attach(struct cof_pool *pool, uint32_t at, uint32_t before)
{
    struct slot *slot = &pool->slots[at];
    *slot = (struct slot){.next = before, .previous = pool->slots[before].previous};
    pool->slots[slot->previous].next = at;
    pool->slots[before].previous = at;
}

static cof_code build_slots(struct cof_pool *pool, size_t chunks, struct cof_error *err)
{
    if (chunks == 0 || chunks >= UINT32_MAX) {
        return cof_arena_exhausted(err);
    }
    pool->slots = calloc(chunks + 1, sizeof *pool->slots);
    if (pool->slots == NULL) {
        return cof_arena_exhausted(err);
    }
    pool->count = (uint32_t) chunks;
    pool->slots[chunks] = (struct slot){.next = pool->count, .previous = pool->count, .taken = true};
    for (uint32_t i = 0; i < pool->count; i++) {
        attach(pool, i, pool->count);
    }
    return COF_OK;
}

static cof_code build_pool(struct cof_pool *pool, size_t bytes, cof_lock_mode mode, struct cof_error *err)
{
    TRY(build_slots(pool, bytes / COF_ARENA_CHUNK + (bytes % COF_ARENA_CHUNK != 0), err));
    TRY(map_memory(pool, mode, err));
    if (mode == COF_LOCK_REQUIRED && !pool->locked) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "%zu bytes of memory cannot be locked; raise the limit (LimitMEMLOCK, ulimit -l), make the "
                        "pool smaller, or set memory.lock to best_effort",
                        (size_t) pool->count * COF_ARENA_CHUNK);
    }
    return COF_OK;
}

cof_code cof_pool_new(size_t bytes, cof_lock_mode mode, struct cof_pool **ret_pool, struct cof_error *err)
{
    struct cof_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return cof_arena_exhausted(err);
    }
    (void) pthread_mutex_init(&pool->lock, NULL);
    const cof_code code = build_pool(pool, bytes, mode, err);
    if (code != COF_OK) {
        cof_pool_free(pool);
        return code;
    }
    *ret_pool = pool;
    return COF_OK;
}

void cof_pool_free(struct cof_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    if (pool->region != NULL) {
        (void) munmap(pool->region, pool->region_size);
    }
    (void) pthread_mutex_destroy(&pool->lock);
    free(pool->slots);
    free(pool);
}

int cof_pool_locked(const struct cof_pool *pool)
{
    return pool->locked;
}

size_t cof_pool_used(struct cof_pool *pool)
{
    (void) pthread_mutex_lock(&pool->lock);
    const size_t used = pool->used;
    (void) pthread_mutex_unlock(&pool->lock);
    return used;
}

/*
 * The beginning of `count` free neighbours, searched from the end of the pool: single chunks are taken from its
 * front, so that neither scatters the other. The pool's count if there are none.
 */
static uint32_t find_run(const struct cof_pool *pool, size_t count)
{
    size_t length = 0;
    for (uint32_t i = pool->count; i-- > 0;) {
        length = pool->slots[i].taken ? 0 : length + 1;
        if (length == count) {
            return i;
        }
    }
    return pool->count;
}

static struct cof_chunk *take_run(struct cof_pool *pool, size_t count)
{
    struct cof_chunk *chunk = NULL;
    (void) pthread_mutex_lock(&pool->lock);
    const uint32_t at = count == 1 ? pool->slots[pool->count].next : find_run(pool, count);
    if (at < pool->count) {
        for (size_t i = 0; i < count; i++) {
            detach(pool, at + (uint32_t) i);
        }
        pool->used += (uint32_t) count;
        chunk = (struct cof_chunk *) (void *) (pool->memory + (size_t) at * COF_ARENA_CHUNK);
    }
    (void) pthread_mutex_unlock(&pool->lock);
    return chunk;
}

/* Wipes outside of the lock; free memory of the pool is always zero. */
static void give_run(struct cof_pool *pool, struct cof_chunk *chunk)
{
    const uint32_t at = (uint32_t) ((size_t) ((uint8_t *) chunk - pool->memory) / COF_ARENA_CHUNK);
    const uint32_t count = (uint32_t) chunk->count;
    cof_wipe(chunk, chunk->used);
    (void) pthread_mutex_lock(&pool->lock);
    /* What was used last is the warmest in the processor's cache; long runs go to the end of the ring. */
    const uint32_t before = count == 1 ? pool->slots[pool->count].next : pool->count;
    for (uint32_t i = 0; i < count; i++) {
        attach(pool, at + i, before);
    }
    pool->used -= count;
    (void) pthread_mutex_unlock(&pool->lock);
}

/* --- Arena ---------------------------------------------------------------------------------------------------- */

static void *allocate(void *arena, size_t size)
{
    return cof_arena_alloc(arena, size);
}

static void keep(void *arena, void *pointer)
{
    (void) arena;
    (void) pointer;
}

void cof_arena_init(struct cof_arena *arena, struct cof_pool *pool, size_t limit_bytes)
{
    *arena = (struct cof_arena){
        .pool = pool,
        .limit = limit_bytes / COF_ARENA_CHUNK + (limit_bytes % COF_ARENA_CHUNK != 0),
        .allocator = {allocate, keep, arena},
    };
}

void cof_arena_reset(struct cof_arena *arena)
{
    while (arena->chunks != NULL) {
        struct cof_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        give_run(arena->pool, chunk);
    }
    arena->chunk_count = 0;
}

/* A large allocation gets a run of its own behind the newest chunk, which goes on being filled. */
static void link_run(struct cof_arena *arena, struct cof_chunk *chunk)
{
    if (chunk->count > 1 && arena->chunks != NULL) {
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
    } else {
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
}

static struct cof_chunk *new_run(struct cof_arena *arena, size_t size)
{
    const size_t count = (sizeof(struct cof_chunk) + size + COF_ARENA_CHUNK - 1) / COF_ARENA_CHUNK;
    if (count > arena->limit - arena->chunk_count) {
        return NULL;
    }
    struct cof_chunk *chunk = take_run(arena->pool, count);
    if (chunk == NULL) {
        return NULL;
    }
    chunk->count = count;
    chunk->used = sizeof *chunk;
    arena->chunk_count += count;
    link_run(arena, chunk);
    return chunk;
}

static bool has_room(const struct cof_chunk *chunk, size_t size)
{
    return chunk != NULL && chunk->count * COF_ARENA_CHUNK - chunk->used >= size;
}

void *cof_arena_alloc(struct cof_arena *arena, size_t size)
{
    if (size > PTRDIFF_MAX || size / COF_ARENA_CHUNK > arena->limit) {
        return NULL;
    }
    const size_t rounded = size == 0 ? ALIGNMENT : (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct cof_chunk *chunk = has_room(arena->chunks, rounded) ? arena->chunks : new_run(arena, rounded);
    if (chunk == NULL) {
        return NULL;
    }
    void *memory = (uint8_t *) chunk + chunk->used;
    chunk->used += rounded;
    return memory;
}

uint8_t *cof_arena_spare(struct cof_arena *arena, size_t *ret_size)
{
    struct cof_chunk *chunk = arena->chunks;
    *ret_size = chunk == NULL ? 0 : chunk->count * COF_ARENA_CHUNK - chunk->used;
    return chunk == NULL ? NULL : (uint8_t *) chunk + chunk->used;
}

void *cof_arena_array(struct cof_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : cof_arena_alloc(arena, bytes);
}

char *cof_arena_text(struct cof_arena *arena, struct cof_slice text)
{
    char *copy = cof_arena_alloc(arena, text.len + 1);
    if (copy != NULL && text.len > 0) {
        memcpy(copy, text.data, text.len);
    }
    return copy;
}

char *cof_arena_format(struct cof_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : cof_arena_alloc(arena, (size_t) length + 1);
    if (text != NULL) {
        va_start(args, format);
        (void) vsnprintf(text, (size_t) length + 1, format, args);
        va_end(args);
    }
    return text;
}

cof_code cof_arena_exhausted(struct cof_error *err)
{
    return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "%s; %s", cof_reason_meaning(COF_REASON_OUT_OF_MEMORY),
                    cof_reason_next_step(COF_REASON_OUT_OF_MEMORY));
}
