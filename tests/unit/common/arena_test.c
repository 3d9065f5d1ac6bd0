#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/arena.h"
#include "tests/support/test.h"

enum { POOL_CHUNKS = 16, POOL = POOL_CHUNKS * COF_ARENA_CHUNK, THREADS = 4 };

static struct cof_pool *new_pool(size_t bytes)
{
    struct cof_error err;
    struct cof_pool *pool = NULL;
    if (cof_pool_new(bytes, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        fprintf(stderr, "no pool: %s\n", err.message);
        abort();
    }
    return pool;
}

static void free_pool(struct cof_pool **pool)
{
    cof_pool_free(*pool);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

static void memory_is_aligned_and_zero_also_when_used_again(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, POOL);
    for (int round = 0; round < 3; round++) {
        for (size_t size = 1; size < 700; size++) {
            uint8_t *memory = cof_arena_alloc(&arena, size);
            CHECK(memory != NULL);
            CHECK_INT((uintptr_t) memory % 16, 0);
            CHECK(is_zero(memory, size));
            memset(memory, 0xA5, size);
        }
        cof_arena_reset(&arena);
    }
}

static void reset_wipes_what_was_used_and_gives_it_back(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, POOL);
    uint8_t *small = cof_arena_alloc(&arena, 100);
    uint8_t *large = cof_arena_alloc(&arena, (size_t) 3 * COF_ARENA_CHUNK);
    CHECK(small != NULL && large != NULL);
    memset(small, 0xA5, 100);
    memset(large, 0xA5, (size_t) 3 * COF_ARENA_CHUNK);
    CHECK_INT(cof_pool_used(pool), 5);
    cof_arena_reset(&arena);
    CHECK_INT(cof_pool_used(pool), 0);
    /* The pool is still mapped, so what lies there now can be looked at. */
    CHECK(is_zero(small, 100));
    CHECK(is_zero(large, (size_t) 3 * COF_ARENA_CHUNK));
    cof_arena_reset(&arena);
    CHECK_INT(cof_pool_used(pool), 0);
}

static void alloc_past_the_arenas_limit_returns_null(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, (size_t) 2 * COF_ARENA_CHUNK);
    CHECK(cof_arena_alloc(&arena, (size_t) 2 * COF_ARENA_CHUNK) == NULL);
    CHECK_INT(cof_pool_used(pool), 0);
    CHECK(cof_arena_alloc(&arena, COF_ARENA_CHUNK) != NULL);
    CHECK_INT(cof_pool_used(pool), 2);
    CHECK(cof_arena_alloc(&arena, COF_ARENA_CHUNK) == NULL);
    CHECK_INT(cof_pool_used(pool), 2);
    cof_arena_reset(&arena);
    CHECK(cof_arena_alloc(&arena, 100) != NULL);
    cof_arena_reset(&arena);
}

static void exhausted_pool_returns_null_until_somebody_gives_back(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena first;
    struct cof_arena second;
    cof_arena_init(&first, pool, POOL);
    cof_arena_init(&second, pool, POOL);
    for (int i = 0; i < POOL_CHUNKS; i++) {
        CHECK(cof_arena_alloc(&first, COF_ARENA_CHUNK / 2 + 1) != NULL);
    }
    CHECK_INT(cof_pool_used(pool), POOL_CHUNKS);
    CHECK(cof_arena_alloc(&second, 1) == NULL);
    CHECK(cof_arena_alloc(&second, COF_ARENA_CHUNK) == NULL);
    cof_arena_reset(&first);
    CHECK(cof_arena_alloc(&second, 1) != NULL);
    cof_arena_reset(&second);
    CHECK_INT(cof_pool_used(pool), 0);
}

static void long_run_needs_free_neighbours(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arenas[POOL_CHUNKS];
    struct cof_arena wide;
    cof_arena_init(&wide, pool, POOL);
    for (int i = 0; i < POOL_CHUNKS; i++) {
        cof_arena_init(&arenas[i], pool, COF_ARENA_CHUNK);
        CHECK(cof_arena_alloc(&arenas[i], 1) != NULL);
    }
    for (int i = 0; i < POOL_CHUNKS; i += 2) {
        cof_arena_reset(&arenas[i]);
    }
    CHECK_INT(cof_pool_used(pool), POOL_CHUNKS / 2);
    CHECK(cof_arena_alloc(&wide, COF_ARENA_CHUNK + 1) == NULL);
    cof_arena_reset(&arenas[7]);
    CHECK(cof_arena_alloc(&wide, (size_t) 2 * COF_ARENA_CHUNK) != NULL);
    CHECK(cof_arena_alloc(&wide, (size_t) 2 * COF_ARENA_CHUNK) == NULL);
    cof_arena_reset(&wide);
    for (int i = 1; i < POOL_CHUNKS; i += 2) {
        cof_arena_reset(&arenas[i]);
    }
    CHECK(cof_arena_alloc(&wide, POOL - 64) != NULL);
    CHECK_INT(cof_pool_used(pool), POOL_CHUNKS);
    cof_arena_reset(&wide);
}

static void chunk_goes_on_being_filled_behind_a_large_allocation(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, POOL);
    CHECK(cof_arena_alloc(&arena, 100) != NULL);
    CHECK(cof_arena_alloc(&arena, COF_ARENA_CHUNK) != NULL);
    CHECK(cof_arena_alloc(&arena, 100) != NULL);
    CHECK_INT(cof_pool_used(pool), 3);
    cof_arena_reset(&arena);
}

static void size_zero_gives_a_pointer(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, POOL);
    const void *first = cof_arena_alloc(&arena, 0);
    const void *second = cof_arena_alloc(&arena, 0);
    CHECK(first != NULL && second != NULL && first != second);
    cof_arena_reset(&arena);
}

static void sizes_that_overflow_return_null(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, SIZE_MAX);
    for (size_t less = 0; less < 64; less++) {
        CHECK(cof_arena_alloc(&arena, SIZE_MAX - less) == NULL);
        CHECK(cof_arena_alloc(&arena, PTRDIFF_MAX - less) == NULL);
    }
    CHECK(cof_arena_array(&arena, SIZE_MAX / 2, 3) == NULL);
    CHECK(cof_arena_array(&arena, SIZE_MAX / 8, 8) == NULL);
    CHECK(cof_arena_array(&arena, 10, 8) != NULL);
    CHECK_INT(cof_pool_used(pool), 1);
    cof_arena_reset(&arena);
}

static void texts_are_copied_with_a_nul_behind_them(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, COF_ARENA_CHUNK);
    CHECK_TEXT(cof_arena_text(&arena, cof_slice_of("abcdef", 3)), "abc");
    CHECK_TEXT(cof_arena_text(&arena, cof_slice_of(NULL, 0)), "");
    CHECK_TEXT(cof_arena_format(&arena, "%s-%d", "x", 7), "x-7");
    CHECK(cof_arena_format(&arena, "%20000d", 1) == NULL);
    cof_arena_reset(&arena);
}

static void failure_of_an_arena_is_out_of_memory(void)
{
    struct cof_error err;
    CHECK_FAILS(cof_arena_exhausted(&err), &err, OUT_OF_MEMORY);
    CHECK_INT(err.code, COF_RESOURCE_EXHAUSTED);
    CHECK_CONTAINS(err.message, "ask for less");
}

static void pool_of_no_or_of_impossible_size_is_refused(void)
{
    static const size_t sizes[] = {0, SIZE_MAX, SIZE_MAX - COF_ARENA_CHUNK, (size_t) 1 << 62, (size_t) 1 << 50};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct cof_error err;
        struct cof_pool *pool = NULL;
        CHECK_FAILS(cof_pool_new(sizes[i], COF_LOCK_BEST_EFFORT, &pool, &err), &err, OUT_OF_MEMORY);
        CHECK(pool == NULL);
    }
    cof_pool_free(NULL);
}

/* The exit status of a child that writes there; a fault gives another one. */
static int status_of_writing(volatile uint8_t *at)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        (void) freopen("/dev/null", "w", stderr);
        *at = 1;
        _exit(0);
    }
    return waitpid(child, &status, 0) == child ? status : -1;
}

static void write_beyond_either_end_of_the_pool_faults(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, POOL);
    uint8_t *all = cof_arena_alloc(&arena, POOL - 64);
    CHECK(all != NULL);
    uint8_t *begin = (uint8_t *) ((uintptr_t) all / 4096 * 4096);
    CHECK(status_of_writing(begin + POOL) != 0);
    CHECK(status_of_writing(begin - 1) != 0);
    CHECK_INT(status_of_writing(begin + POOL - 1), 0);
    cof_arena_reset(&arena);
}

static void child_of_a_fork_finds_nothing(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    int status = -1;
    cof_arena_init(&arena, pool, POOL);
    uint8_t *memory = cof_arena_alloc(&arena, 1000);
    CHECK(memory != NULL);
    memset(memory, 0xA5, 1000);
    const pid_t child = fork();
    if (child == 0) {
        _exit(is_zero(memory, 1000) ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    cof_arena_reset(&arena);
}

/* Whether the mapping that holds the address has a flag in its VmFlags line. */
static bool has_flag(const void *address, const char *flag)
{
    char line[512];
    bool inside = false;
    bool found = false;
    FILE *file = fopen("/proc/self/smaps", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *dash = NULL;
        const uintptr_t from = strtoull(line, &dash, 16);
        if (*dash == '-') {
            inside = (uintptr_t) address >= from && (uintptr_t) address < strtoull(dash + 1, NULL, 16);
        }
        found = found || (inside && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, flag) != NULL);
    }
    if (file != NULL) {
        (void) fclose(file);
    }
    return found;
}

static void pool_for_what_is_no_secret_is_not_locked(void)
{
    AUTO(free_pool) struct cof_pool *pool = NULL;
    struct cof_arena arena;
    struct cof_error err;
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_NONE, &pool, &err), &err);
    CHECK(!cof_pool_locked(pool));
    cof_arena_init(&arena, pool, POOL);
    const uint8_t *memory = cof_arena_alloc(&arena, 1);
    CHECK(memory != NULL);
    CHECK(!has_flag(memory, " lo "));
    cof_arena_reset(&arena);
}

static void pool_is_kept_out_of_core_files_and_locked(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arena;
    cof_arena_init(&arena, pool, POOL);
    const uint8_t *memory = cof_arena_alloc(&arena, 1);
    CHECK(memory != NULL);
    CHECK(has_flag(memory, " dd "));
    CHECK_INT(has_flag(memory, " lo "), cof_pool_locked(pool));
    cof_arena_reset(&arena);
}

/* Runs in a child that may lock nothing: bits say which of the two modes behaved. */
static int try_without_the_right_to_lock(void)
{
    const struct rlimit nothing = {0, 0};
    struct cof_error err;
    struct cof_pool *pool = NULL;
    const uid_t nobody = 65534;
    if (setrlimit(RLIMIT_MEMLOCK, &nothing) != 0 || (geteuid() == 0 && setresuid(nobody, nobody, nobody) != 0)) {
        return 4;
    }
    const cof_code required = cof_pool_new(POOL, COF_LOCK_REQUIRED, &pool, &err);
    const bool refused = required != COF_OK && err.reason == COF_REASON_CONFIG_INVALID && pool == NULL &&
                         strstr(err.message, "LimitMEMLOCK") != NULL;
    const cof_code effort = cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &pool, &err);
    const bool works = effort == COF_OK && cof_pool_locked(pool) == 0;
    return (refused ? 0 : 1) | (works ? 0 : 2);
}

static void memory_that_cannot_be_locked_is_refused_only_where_it_must_be(void)
{
    int status = -1;
    const pid_t child = fork();
    if (child == 0) {
        _exit(try_without_the_right_to_lock());
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 0);
}

struct piece {
    uint8_t *memory;
    size_t size;
    uint8_t mark;
};

static bool is_intact(const struct piece *piece)
{
    for (size_t i = 0; i < piece->size; i++) {
        if (piece->memory[i] != piece->mark) {
            return false;
        }
    }
    return true;
}

/* One life of an arena: random pieces, each of which must still be whole at the end. */
static bool live(struct cof_arena *arena, uint64_t *state)
{
    struct piece pieces[40];
    size_t count = 0;
    bool intact = true;
    for (size_t i = 0; i < COF_COUNT(pieces); i++) {
        const size_t range = test_random(state) % 8 == 0 ? 3 * COF_ARENA_CHUNK : 2000;
        const size_t size = 1 + test_random(state) % range;
        struct piece piece = {cof_arena_alloc(arena, size), size, (uint8_t) (i + 1)};
        if (piece.memory != NULL) {
            intact = intact && is_zero(piece.memory, size);
            memset(piece.memory, piece.mark, size);
            pieces[count++] = piece;
        }
    }
    for (size_t i = 0; i < count; i++) {
        intact = intact && is_intact(&pieces[i]);
    }
    return intact;
}

static void random_arenas_never_share_memory(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct cof_arena arenas[6];
    uint64_t state = test_seed();
    for (size_t i = 0; i < COF_COUNT(arenas); i++) {
        cof_arena_init(&arenas[i], pool, POOL / 2);
    }
    for (int i = 0; i < 500; i++) {
        struct cof_arena *arena = &arenas[test_random(&state) % COF_COUNT(arenas)];
        CHECK(live(arena, &state));
        CHECK(cof_pool_used(pool) <= POOL_CHUNKS);
        if (test_random(&state) % 3 != 0) {
            cof_arena_reset(arena);
        }
    }
    for (size_t i = 0; i < COF_COUNT(arenas); i++) {
        cof_arena_reset(&arenas[i]);
    }
    CHECK_INT(cof_pool_used(pool), 0);
}

struct worker {
    pthread_t thread;
    struct cof_pool *pool;
    uint64_t state;
    bool intact;
};

static void *work(void *context)
{
    struct worker *worker = context;
    struct cof_arena arena;
    cof_arena_init(&arena, worker->pool, POOL / 4);
    for (int i = 0; i < 300; i++) {
        worker->intact = live(&arena, &worker->state) && worker->intact;
        cof_arena_reset(&arena);
    }
    return NULL;
}

static void threads_share_a_pool(void)
{
    AUTO(free_pool) struct cof_pool *pool = new_pool(POOL);
    struct worker workers[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.pool = pool, .state = test_seed() + i, .intact = true};
        CHECK_INT(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(workers[i].thread, NULL), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(workers[i].intact);
    }
    CHECK_INT(cof_pool_used(pool), 0);
}

TEST_MAIN(TEST(memory_is_aligned_and_zero_also_when_used_again), TEST(reset_wipes_what_was_used_and_gives_it_back),
          TEST(alloc_past_the_arenas_limit_returns_null),
          TEST(exhausted_pool_returns_null_until_somebody_gives_back), TEST(long_run_needs_free_neighbours),
          TEST(chunk_goes_on_being_filled_behind_a_large_allocation), TEST(size_zero_gives_a_pointer),
          TEST(sizes_that_overflow_return_null), TEST(texts_are_copied_with_a_nul_behind_them),
          TEST(failure_of_an_arena_is_out_of_memory), TEST(pool_of_no_or_of_impossible_size_is_refused),
          TEST(write_beyond_either_end_of_the_pool_faults), TEST(child_of_a_fork_finds_nothing),
          TEST(pool_is_kept_out_of_core_files_and_locked), TEST(pool_for_what_is_no_secret_is_not_locked),
          TEST(memory_that_cannot_be_locked_is_refused_only_where_it_must_be),
          TEST(random_arenas_never_share_memory), TEST(threads_share_a_pool))
