#include "common/attr.h"
#include "server/store/pipeline.h"
#include "tests/support/test.h"

enum { LIMIT = 1000, COMMIT = 7 };

static void pipeline_cleanup(struct pipeline *pipeline)
{
    pipeline_done(pipeline);
}

static void push(struct pipeline *pipeline, pipeline_kind kind, unsigned id)
{
    if (pipeline_reserve(pipeline, 1, LIMIT)) {
        pipeline_push(pipeline, kind, id);
    }
}

static void entries_come_out_in_order_while_the_ring_grows(void)
{
    AUTO(pipeline_cleanup) struct pipeline pipeline;
    pipeline_init(&pipeline);
    uint64_t state = test_seed();
    unsigned in = 0;
    unsigned out = 0;
    for (int round = 0; round < 200; round++) {
        const uint64_t pushes = test_random(&state) % 10;
        const uint64_t pops = test_random(&state) % 8;
        for (uint64_t i = 0; i < pushes; i++) {
            push(&pipeline, PIPELINE_STATEMENT, in++);
        }
        for (uint64_t i = 0; i < pops && pipeline_front(&pipeline) != NULL; i++) {
            CHECK_INT(pipeline_front(&pipeline)->id, out++);
            pipeline_pop(&pipeline);
        }
        CHECK_INT(pipeline.count, in - out);
    }
}

static void room_ends_at_the_limit(void)
{
    AUTO(pipeline_cleanup) struct pipeline pipeline;
    pipeline_init(&pipeline);
    CHECK(pipeline_reserve(&pipeline, LIMIT, LIMIT));
    CHECK(!pipeline_reserve(&pipeline, LIMIT + 1, LIMIT));
    push(&pipeline, PIPELINE_STATEMENT, 1);
    CHECK(!pipeline_reserve(&pipeline, LIMIT, LIMIT));
}

static void sync_ends_the_group(void)
{
    AUTO(pipeline_cleanup) struct pipeline pipeline;
    pipeline_init(&pipeline);
    CHECK(pipeline.group != 0);
    CHECK(!pipeline.unsynced);
    push(&pipeline, PIPELINE_STATEMENT, 1);
    CHECK(pipeline.unsynced && pipeline.unflushed);
    const uint64_t group = pipeline_front(&pipeline)->group;
    push(&pipeline, PIPELINE_SYNC, 0);
    CHECK(!pipeline.unsynced && !pipeline.unflushed);
    CHECK(pipeline.group != group);
}

static void clear_drops_everything_and_leaves_the_group(void)
{
    AUTO(pipeline_cleanup) struct pipeline pipeline;
    pipeline_init(&pipeline);
    const uint64_t group = pipeline.group;
    push(&pipeline, PIPELINE_STATEMENT, 1);
    pipeline_clear(&pipeline);
    CHECK(pipeline_front(&pipeline) == NULL);
    CHECK(!pipeline.unsynced);
    CHECK(pipeline.group != group);
}

static void statement_waits_outside_of_the_excepted_group_only(void)
{
    AUTO(pipeline_cleanup) struct pipeline pipeline;
    pipeline_init(&pipeline);
    const uint64_t group = pipeline.group;
    push(&pipeline, PIPELINE_PREPARE, COMMIT);
    CHECK(!pipeline_waits_for(&pipeline, COMMIT, 0));
    push(&pipeline, PIPELINE_STATEMENT, COMMIT);
    CHECK(pipeline_waits_for(&pipeline, COMMIT, 0));
    CHECK(!pipeline_waits_for(&pipeline, COMMIT, group));
}

static void only_the_open_and_the_failed_group_can_be_revoked(void)
{
    AUTO(pipeline_cleanup) struct pipeline pipeline;
    pipeline_init(&pipeline);
    const uint64_t first = pipeline.group;
    push(&pipeline, PIPELINE_STATEMENT, 1);
    CHECK(pipeline_revocable(&pipeline, 0));
    push(&pipeline, PIPELINE_SYNC, 0);
    CHECK(!pipeline_revocable(&pipeline, 0));
    CHECK(pipeline_revocable(&pipeline, first));
    push(&pipeline, PIPELINE_STATEMENT, 2);
    CHECK(pipeline_revocable(&pipeline, first));
    pipeline_pop(&pipeline);
    CHECK(pipeline_revocable(&pipeline, 0));
}

TEST_MAIN(TEST(entries_come_out_in_order_while_the_ring_grows), TEST(room_ends_at_the_limit),
          TEST(sync_ends_the_group), TEST(clear_drops_everything_and_leaves_the_group),
          TEST(statement_waits_outside_of_the_excepted_group_only),
          TEST(only_the_open_and_the_failed_group_can_be_revoked))
