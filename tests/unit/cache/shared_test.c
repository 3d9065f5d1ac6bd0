#include <pthread.h>
#include <time.h>

#include "tests/unit/cache/world.h"

/* Readers, writers and the job on threads of their own, over a cache that is too small for all of it. */

enum { WORKSPACES = 8, NAMES = 64, READERS = 4, WRITERS = 2, ROUNDS = 20000 };

struct shared {
    struct world world;
    _Atomic uint64_t revisions[WORKSPACES]; /* of the database */
    _Atomic uint64_t answered[WORKSPACES];
    atomic_uint wrong;
    atomic_uint hits;
    atomic_bool stop;
};

struct reader {
    struct shared *shared;
    uint64_t seed;
};

static void name_of(uint64_t random, char name[16])
{
    (void) snprintf(name, 16, "name%u", (unsigned) (random % NAMES));
}

/* What a reader would find in the database: the revision, in every name. */
static void read_anew(struct shared *shared, uint32_t workspace, const char *name)
{
    struct cache_state state;
    const struct cache_read read = begin(&shared->world, workspace);
    const uint64_t revision = atomic_load(&shared->revisions[workspace]);
    if (end(&shared->world, workspace, &read, revision, &state)) {
        (void) put(&shared->world, workspace, name, &state, revision << 8 | workspace);
    }
}

static void *run_reader(void *context)
{
    const struct reader *reader = context;
    struct shared *shared = reader->shared;
    uint64_t state = reader->seed;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint64_t random = test_random(&state);
        const uint32_t workspace = (uint32_t) (random >> 32) % WORKSPACES;
        const struct cof_uuid uuid = workspace_of(workspace);
        struct cache_state found;
        char name[16];
        name_of(random, name);
        const uint64_t answered = atomic_load(&shared->answered[workspace]);
        if (!cache_fresh(shared->world.cache, &uuid, &found)) {
            read_anew(shared, workspace, name);
            continue;
        }
        const uint64_t content = get(&shared->world, workspace, name, &found);
        const bool right = content == 0 || content == (found.revision << 8 | workspace);
        atomic_fetch_add(&shared->wrong, found.revision < answered || !right);
        atomic_fetch_add(&shared->hits, content != 0);
        if (content == 0) {
            read_anew(shared, workspace, name);
        }
    }
    return NULL;
}

static void *run_writer(void *context)
{
    struct reader *writer = context;
    struct shared *shared = writer->shared;
    uint64_t state = writer->seed;
    while (!atomic_load(&shared->stop)) {
        const uint32_t workspace = (uint32_t) (test_random(&state) % WORKSPACES);
        const uint64_t revision = atomic_fetch_add(&shared->revisions[workspace], 1) + 1;
        reached(&shared->world, workspace, revision);
        uint64_t before = atomic_load(&shared->answered[workspace]);
        while (before < revision &&
               !atomic_compare_exchange_weak(&shared->answered[workspace], &before, revision)) {
        }
        const struct timespec pause = {.tv_nsec = 20000};
        (void) nanosleep(&pause, NULL);
    }
    return NULL;
}

static void *run_job(void *context)
{
    struct shared *shared = context;
    for (unsigned i = 0; !atomic_load(&shared->stop); i++) {
        const struct timespec pause = {.tv_nsec = 50000};
        cache_confirmed(shared->world.cache, shared->world.now_us);
        if (i % 64 == 0) {
            cache_doubt(shared->world.cache);
        }
        if (i % 1000 == 999) {
            cache_clear(shared->world.cache);
        }
        (void) nanosleep(&pause, NULL);
    }
    return NULL;
}

static void many_threads_find_only_what_is_right(void)
{
    static struct shared shared;
    struct reader readers[READERS + WRITERS];
    pthread_t threads[READERS + WRITERS + 1];
    const uint64_t seed = test_seed();
    world_open(&shared.world, UINT64_C(64) * 1024);
    for (uint32_t i = 0; i < WORKSPACES; i++) {
        atomic_store(&shared.revisions[i], 1);
    }
    for (unsigned i = 0; i < READERS + WRITERS; i++) {
        readers[i] = (struct reader){&shared, seed + i};
        CHECK(pthread_create(&threads[i], NULL, i < READERS ? run_reader : run_writer, &readers[i]) == 0);
    }
    CHECK(pthread_create(&threads[READERS + WRITERS], NULL, run_job, &shared) == 0);
    for (unsigned i = 0; i < READERS; i++) {
        (void) pthread_join(threads[i], NULL);
    }
    atomic_store(&shared.stop, true);
    for (unsigned i = READERS; i < READERS + WRITERS + 1; i++) {
        (void) pthread_join(threads[i], NULL);
    }
    CHECK_INT(atomic_load(&shared.wrong), 0);
    CHECK(atomic_load(&shared.hits) > 0);
    world_close(&shared.world);
}

TEST_MAIN(TEST(many_threads_find_only_what_is_right))
