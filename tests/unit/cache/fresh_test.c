#include "tests/unit/cache/world.h"

/*
 * A database, its writers, the job that confirms revisions and readers of one server, in random order, with steps of a
 * read or a look that lie apart in time. Whatever the cache calls fresh is compared with what was committed when.
 */

enum { STEPS = 300000, WORKSPACES = 6, READS = 5, REVISIONS_MAX = 65536, STEP_US = 60 };

struct reading {
    bool begun;
    bool executed;
    uint32_t workspace;
    struct cache_read read;
    uint64_t revision;
};

struct looking {
    bool sent;
    bool executed;
    int64_t sent_us;
    uint64_t seen[WORKSPACES];
};

struct simulation {
    struct world world;
    uint64_t revisions[WORKSPACES];
    uint64_t answered[WORKSPACES]; /* of this server's own writes */
    int64_t committed_us[WORKSPACES][REVISIONS_MAX];
    struct reading reads[READS];
    struct looking look;
    bool chain;
    uint64_t told[WORKSPACES]; /* by the looks of the chain */
    unsigned hits;
};

static struct simulation simulation;

static void commit(struct simulation *s, uint32_t workspace, bool here)
{
    if (s->revisions[workspace] + 1 == REVISIONS_MAX) {
        return;
    }
    s->committed_us[workspace][++s->revisions[workspace]] = s->world.now_us;
    if (here) {
        reached(&s->world, workspace, s->revisions[workspace]);
        s->answered[workspace] = s->revisions[workspace];
    }
}

static void step_read(struct simulation *s, uint64_t random)
{
    struct reading *reading = &s->reads[random % READS];
    struct cache_state state;
    if (!reading->begun) {
        const uint32_t workspace = (uint32_t) (random >> 8) % WORKSPACES;
        *reading = (struct reading){.begun = true, .workspace = workspace, .read = begin(&s->world, workspace)};
    } else if (!reading->executed) {
        reading->executed = true;
        reading->revision = s->revisions[reading->workspace];
    } else {
        if (end(&s->world, reading->workspace, &reading->read, reading->revision, &state)) {
            (void) put(&s->world, reading->workspace, "name", &state, reading->revision);
        }
        reading->begun = false;
    }
}

static void apply_look(struct simulation *s)
{
    struct looking *look = &s->look;
    for (uint32_t i = 0; s->chain && i < WORKSPACES; i++) {
        if (look->seen[i] > s->told[i]) {
            reached(&s->world, i, look->seen[i]);
        }
    }
    if (s->chain) {
        cache_confirmed(s->world.cache, look->sent_us);
    } else {
        cache_doubt(s->world.cache);
        s->chain = true;
    }
    memcpy(s->told, look->seen, sizeof s->told);
    look->sent = false;
}

static void step_look(struct simulation *s, uint64_t random)
{
    struct looking *look = &s->look;
    if (!look->sent) {
        *look = (struct looking){.sent = true, .sent_us = s->world.now_us};
    } else if (!look->executed) {
        look->executed = true;
        memcpy(look->seen, s->revisions, sizeof look->seen);
    } else if (random >> 40 & 15) {
        apply_look(s);
    } else {
        s->chain = false;
        look->sent = false;
    }
}

/* The last revision of the workspace that was committed by then. */
static uint64_t revision_at(const struct simulation *s, uint32_t workspace, int64_t time_us)
{
    uint64_t revision = s->revisions[workspace];
    while (revision > 1 && s->committed_us[workspace][revision] > time_us) {
        revision--;
    }
    return revision;
}

static bool is_right(struct simulation *s, uint32_t workspace)
{
    const struct cof_uuid uuid = workspace_of(workspace);
    struct cache_state state;
    if (!cache_fresh(s->world.cache, &uuid, &state)) {
        return true;
    }
    const uint64_t content = get(&s->world, workspace, "name", &state);
    s->hits += content != 0;
    return state.revision >= revision_at(s, workspace, s->world.now_us - LIMIT_US) &&
           state.revision >= s->answered[workspace] && state.revision <= s->revisions[workspace] &&
           (content == 0 || content == state.revision);
}

static void nothing_older_than_the_limit_or_than_an_own_write_is_ever_fresh(void)
{
    struct simulation *s = &simulation;
    uint64_t state = test_seed();
    world_open(&s->world, UINT64_C(64) * 1024);
    for (uint32_t i = 0; i < WORKSPACES; i++) {
        s->revisions[i] = 1;
    }
    for (unsigned step = 0; step < STEPS; step++) {
        const uint64_t random = test_random(&state);
        const uint64_t kind = random >> 58;
        if (kind < 3) {
            commit(s, (uint32_t) (random % WORKSPACES), kind == 0);
        } else if (kind < 30) {
            step_read(s, random);
        } else if (kind < 50) {
            step_look(s, random);
        } else {
            s->world.now_us += (int64_t) (random % STEP_US);
        }
        for (uint32_t i = 0; i < WORKSPACES; i++) {
            CHECK(is_right(s, i));
        }
    }
    CHECK(s->hits > STEPS / 10); /* it was worth it */
    world_close(&s->world);
}

TEST_MAIN(TEST(nothing_older_than_the_limit_or_than_an_own_write_is_ever_fresh))
