#include "tests/unit/cache/world.h"

/*
 * A database that is lost for the whole time as far as answers go, and is written all the same: writes that touch one
 * secret, or nobody knows what; readers that read, and put later what they have read; own writes that tell what they
 * touched, in whatever order their threads get to it; the job, which reads and tells in steps that lie apart. Whatever is
 * found of the last known state must be what was there at that revision.
 */

enum { STEPS = 60000, WORKSPACES = 4, NAMES = 3, READS = 6, TELLS = 4, REVISIONS_MAX = 65536, EVERYTHING = 255 };

static const char *const names[NAMES] = {"a", "b", "c"};

struct reading {
    bool begun;
    bool executed;
    bool ended;
    uint32_t workspace;
    unsigned name;
    struct cache_read read;
    uint64_t revision;
    struct cache_state state;
};

/* What somebody is about to tell: a thread that has written, or the job. */
struct telling {
    bool begun;
    bool by_job;
    uint32_t workspace;
    uint64_t revision;
    struct cache_untold untold;
};

struct simulation {
    struct world world;
    uint64_t revisions[WORKSPACES];
    uint8_t touched[WORKSPACES][REVISIONS_MAX];
    struct reading reads[READS];
    struct telling tells[TELLS];
    unsigned carried;
};

static struct simulation simulation;

static void tell(struct simulation *s, const struct telling *telling, uint64_t revision)
{
    const struct cof_uuid uuid = workspace_of(telling->workspace);
    const uint8_t touched = s->touched[telling->workspace][revision];
    if (touched == EVERYTHING) {
        cache_carry_nothing(s->world.cache, &uuid, &telling->untold, revision);
        return;
    }
    const struct cache_key key = key_of(telling->workspace, names[touched]);
    cache_carry(s->world.cache, &uuid, &telling->untold, revision, &key, 1);
}

static void commit(struct simulation *s, uint64_t random)
{
    const uint32_t workspace = (uint32_t) (random % WORKSPACES);
    if (s->revisions[workspace] + 1 == REVISIONS_MAX) {
        return;
    }
    const uint64_t revision = ++s->revisions[workspace];
    s->touched[workspace][revision] = (random >> 8 & 15) == 0 ? EVERYTHING : (uint8_t) ((random >> 12) % NAMES);
    struct telling *telling = &s->tells[(random >> 20) % (TELLS - 1)];
    if (random >> 24 & 1 && !telling->begun) {
        const struct cof_uuid uuid = workspace_of(workspace);
        reached(&s->world, workspace, revision);
        *telling = (struct telling){.begun = true,
                                    .workspace = workspace,
                                    .revision = revision,
                                    .untold = cache_changes_untold(s->world.cache, &uuid)};
    }
}

static void step_tell(struct simulation *s, uint64_t random)
{
    struct telling *telling = &s->tells[random % (TELLS - 1)];
    if (telling->begun && telling->untold.place != 0 && telling->untold.from + 1 == telling->revision) {
        tell(s, telling, telling->revision);
    }
    telling->begun = false;
}

static void step_job(struct simulation *s, uint64_t random)
{
    struct telling *telling = &s->tells[TELLS - 1];
    const uint32_t workspace = (uint32_t) (random % WORKSPACES);
    if (!telling->begun) {
        const struct cof_uuid uuid = workspace_of(workspace);
        reached(&s->world, workspace, s->revisions[workspace]);
        *telling = (struct telling){
            .begun = true, .workspace = workspace, .untold = cache_changes_untold(s->world.cache, &uuid)};
        return;
    }
    for (uint64_t i = telling->untold.from + 1; telling->untold.place != 0 && i <= telling->untold.to; i++) {
        tell(s, telling, i);
    }
    telling->begun = false;
}

static void step_read(struct simulation *s, uint64_t random)
{
    struct reading *reading = &s->reads[random % READS];
    const struct cof_uuid uuid = workspace_of(reading->workspace);
    if (!reading->begun) {
        const uint32_t workspace = (uint32_t) (random >> 8) % WORKSPACES;
        *reading = (struct reading){.begun = true,
                                    .workspace = workspace,
                                    .name = (unsigned) (random >> 16) % NAMES,
                                    .read = begin(&s->world, workspace)};
    } else if (!reading->executed) {
        reading->executed = true;
        reading->revision = s->revisions[reading->workspace];
    } else if (!reading->ended) {
        reading->ended = true;
        reading->begun = end(&s->world, reading->workspace, &reading->read, reading->revision, &reading->state);
    } else {
        (void) put(&s->world, reading->workspace, names[reading->name], &reading->state, reading->revision);
        cache_permit_older(s->world.cache, &uuid, &reading->state, 1000);
        reading->begun = false;
    }
}

/* Workspaces that nobody asks for push the others out of their places. */
static void crowd(struct simulation *s, uint64_t random)
{
    for (uint32_t i = 0; i < 200; i++) {
        (void) begin(&s->world, 1000 + (uint32_t) (random >> 20) + i);
    }
}

static bool is_right(struct simulation *s, uint32_t workspace)
{
    const struct cof_uuid uuid = workspace_of(workspace);
    struct cache_older found;
    if (!cache_older(s->world.cache, &uuid, &found)) {
        return true;
    }
    bool right = found.state.revision <= s->revisions[workspace];
    for (unsigned name = 0; name < NAMES; name++) {
        const uint64_t content = get(&s->world, workspace, names[name], &found.state);
        for (uint64_t i = content + 1; content != 0 && i <= found.state.revision; i++) {
            right = right && s->touched[workspace][i] != EVERYTHING && s->touched[workspace][i] != name;
        }
        s->carried += content != 0 && content < found.state.revision;
    }
    return right;
}

static void what_is_carried_over_was_touched_by_no_write_since_it_was_read(void)
{
    struct simulation *s = &simulation;
    uint64_t state = test_seed();
    world_open(&s->world, UINT64_C(64) * 1024);
    cache_unanswered(s->world.cache);
    for (uint32_t i = 0; i < WORKSPACES; i++) {
        s->revisions[i] = 1;
    }
    for (unsigned step = 0; step < STEPS; step++) {
        const uint64_t random = test_random(&state);
        const uint64_t kind = random >> 58;
        if (kind < 6) {
            commit(s, random);
        } else if (kind < 40) {
            step_read(s, random);
        } else if (kind < 48) {
            step_tell(s, random);
        } else if (kind < 63) {
            step_job(s, random);
        } else if ((random >> 50 & 63) == 0) {
            crowd(s, random);
        }
        for (uint32_t i = 0; i < WORKSPACES; i++) {
            CHECK(is_right(s, i));
        }
    }
    printf("%u times something was carried over\n", s->carried);
    CHECK(s->carried > STEPS / 20); /* it was worth it */
    world_close(&s->world);
}

TEST_MAIN(TEST(what_is_carried_over_was_touched_by_no_write_since_it_was_read))
