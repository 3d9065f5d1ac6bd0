#include <stdlib.h>

#include "common/attr.h"
#include "server/dispatch/fair.h"
#include "tests/support/test.h"

enum { ITEMS = 400, WORKERS = 8, CAPACITY = 64 };

static const struct fair_options small = {CAPACITY, WORKERS};

static void fair_cleanup(struct fair **fair)
{
    fair_free(*fair);
}

/* A queue's items, told apart by their place in the array. */
struct world {
    struct fair *fair;
    struct fair_item items[ITEMS];
    unsigned workspaces[ITEMS];
    unsigned count;
};

static void world_cleanup(struct world **world)
{
    fair_free((*world)->fair);
    free(*world);
}

/* Workspaces that do not meet in one flow, so that what a test says of two of them holds for every random key. */
static bool are_apart(const struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (world->items[i].flow == world->items[j].flow) {
                return false;
            }
        }
    }
    return true;
}

static struct fair_key key_of(unsigned workspace, unsigned token)
{
    return (struct fair_key){
        .workspace.bytes = {1, [14] = (uint8_t) (workspace >> 8), [15] = (uint8_t) workspace},
        .token.bytes = {2, [15] = (uint8_t) token},
    };
}

static struct fair_item *new_item(struct world *world, unsigned workspace, uint32_t cost)
{
    struct fair_item *item = &world->items[world->count];
    world->workspaces[world->count++] = workspace;
    *item = (struct fair_item){.cost = cost};
    return item;
}

static unsigned workspace_of(const struct world *world, const struct fair_item *item)
{
    return world->workspaces[item - world->items];
}

static fair_outcome add(struct world *world, unsigned workspace, uint32_t cost)
{
    const struct fair_key key = key_of(workspace, 0);
    struct fair_item *evicted = NULL;
    return fair_add(world->fair, new_item(world, workspace, cost), &key, &evicted);
}

/* A queue in which the first workspaces, from 0 on, have flows of their own. */
static struct world *make(const struct fair_options *options, unsigned workspaces)
{
    struct world *world = calloc(1, sizeof *world);
    do {
        fair_free(world->fair);
        memset(world, 0, sizeof *world);
        world->fair = fair_new(options);
        for (unsigned i = 0; i < workspaces; i++) {
            (void) add(world, i, 1);
        }
    } while (!are_apart(world, workspaces));
    struct fair_batch batch = {.flow_count = 0};
    while (fair_next(world->fair) != NULL) {
        (void) fair_take(world->fair, &batch);
    }
    fair_done(world->fair, &batch);
    world->count = 0;
    return world;
}

/* Takes one item as a batch of its own that is done at once. */
static struct fair_item *take(struct world *world)
{
    struct fair_batch batch = {.flow_count = 0};
    struct fair_item *item = fair_take(world->fair, &batch);
    fair_close(world->fair, &batch);
    fair_done(world->fair, &batch);
    return item;
}

static void calls_of_one_workspace_and_token_come_in_the_order_in_which_they_were_added(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 1);
    for (unsigned i = 0; i < 20; i++) {
        CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    }
    CHECK_INT(fair_queued(world->fair), 20);
    for (unsigned i = 0; i < 20; i++) {
        CHECK(take(world) == &world->items[i]);
    }
    CHECK(fair_next(world->fair) == NULL);
    CHECK_INT(fair_queued(world->fair), 0);
}

static void quiet_workspace_waits_for_one_turn_of_the_flood_at_most(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 2);
    for (unsigned i = 0; i < 60; i++) {
        CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    }
    for (unsigned round = 0; round < 3; round++) {
        CHECK_INT(add(world, 1, 1), FAIR_TAKEN);
        unsigned before = 0;
        while (workspace_of(world, take(world)) == 0) {
            before++;
        }
        CHECK(before <= FAIR_QUANTUM);
    }
}

static void workspace_that_begins_to_wait_comes_first(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 2);
    for (unsigned i = 0; i < 40; i++) {
        CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    }
    for (unsigned i = 0; i < FAIR_QUANTUM + 1; i++) {
        CHECK_INT(workspace_of(world, take(world)), 0);
    }
    CHECK_INT(add(world, 1, 1), FAIR_TAKEN);
    CHECK_INT(workspace_of(world, take(world)), 1);
}

static void workspaces_share_by_what_their_calls_cost(void)
{
    AUTO(world_cleanup) struct world *world = make(&(struct fair_options){200, WORKERS}, 2);
    unsigned cost[2] = {0, 0};
    for (unsigned i = 0; i < 100; i++) {
        CHECK_INT(add(world, 0, 8), FAIR_TAKEN);
        CHECK_INT(add(world, 1, 1), FAIR_TAKEN);
    }
    for (unsigned i = 0; i < 90; i++) {
        const struct fair_item *item = take(world);
        cost[workspace_of(world, item)] += item->cost;
    }
    CHECK(cost[0] >= cost[1] && cost[0] <= cost[1] + 2 * FAIR_QUANTUM);
}

static void call_dearer_than_a_turn_comes_all_the_same_and_is_paid_for(void)
{
    AUTO(world_cleanup) struct world *world = make(&(struct fair_options){200, WORKERS}, 2);
    CHECK_INT(add(world, 0, 10 * FAIR_QUANTUM), FAIR_TAKEN);
    CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    for (unsigned i = 0; i < 200; i++) {
        if (add(world, 1, 1) != FAIR_TAKEN) {
            break;
        }
    }
    unsigned before = 0;
    while (workspace_of(world, take(world)) == 1) {
        before++;
    }
    CHECK(before <= FAIR_QUANTUM);
    for (unsigned i = 0; i < 8 * FAIR_QUANTUM; i++) {
        CHECK_INT(workspace_of(world, take(world)), 1);
    }
}

static void tokens_of_one_workspace_take_turns(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 1);
    struct fair_item *evicted = NULL;
    for (unsigned i = 0; i < 30; i++) {
        CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    }
    /* Of eight tokens one at least lies in another lane. */
    struct fair_item *other = NULL;
    for (unsigned token = 1; token < 200 && other == NULL; token++) {
        const struct fair_key key = key_of(0, token);
        struct fair_item *item = new_item(world, 0, 1);
        CHECK_INT(fair_add(world->fair, item, &key, &evicted), FAIR_TAKEN);
        other = item->lane != world->items[0].lane ? item : NULL;
    }
    CHECK(other != NULL);
    CHECK(take(world) == other || take(world) == other);
}

static void full_queue_refuses_the_flood_and_takes_the_quiet(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 2);
    struct fair_item *evicted = NULL;
    for (unsigned i = 0; i < CAPACITY; i++) {
        CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    }
    CHECK_INT(add(world, 0, 1), FAIR_FULL);
    const struct fair_key quiet = key_of(1, 0);
    for (unsigned i = 0; i < CAPACITY / 2 - 1; i++) {
        CHECK_INT(fair_add(world->fair, new_item(world, 1, 1), &quiet, &evicted), FAIR_TAKEN);
        CHECK(evicted == &world->items[CAPACITY - 1 - i]);
        CHECK_INT(fair_queued(world->fair), CAPACITY);
    }
    CHECK_INT(add(world, 0, 1), FAIR_SHARE_USED);
    for (unsigned i = 0; i < 2; i++) {
        (void) fair_add(world->fair, new_item(world, 1, 1), &quiet, &evicted);
    }
    CHECK_INT(add(world, 1, 1), FAIR_SHARE_USED);
    CHECK_INT(fair_queued(world->fair), CAPACITY);
}

static void full_queue_takes_from_the_token_that_has_most_of_its_workspace(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 1);
    struct fair_item *evicted = NULL;
    for (unsigned i = 0; i < CAPACITY; i++) {
        CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    }
    bool taken = false;
    for (unsigned token = 1; token < 200 && !taken; token++) {
        const struct fair_key key = key_of(0, token);
        struct fair_item *item = new_item(world, 0, 1);
        taken = fair_add(world->fair, item, &key, &evicted) == FAIR_TAKEN;
        CHECK_INT(taken, item->lane != world->items[0].lane);
    }
    CHECK(taken && evicted == &world->items[CAPACITY - 1]);
}

static void strangers_of_a_hundred_invented_workspaces_push_no_known_caller_out(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 1);
    struct fair_item *evicted = NULL;
    for (unsigned i = 0; i < CAPACITY + 100; i++) {
        struct fair_key key = key_of(1000 + i, i);
        key.stranger = true;
        (void) fair_add(world->fair, new_item(world, 1, 1), &key, &evicted);
        CHECK_INT(fair_queued(world->fair), i < CAPACITY ? i + 1 : CAPACITY);
    }
    const struct fair_key known = key_of(0, 0);
    for (unsigned i = 0; i < CAPACITY * 3 / 4; i++) {
        CHECK_INT(fair_add(world->fair, new_item(world, 0, 1), &known, &evicted), FAIR_TAKEN);
        CHECK(evicted != NULL && workspace_of(world, evicted) == 1);
    }
    unsigned strangers = 0;
    for (unsigned i = 0; i < 20; i++) {
        strangers += workspace_of(world, take(world));
    }
    CHECK(strangers <= 4); /* a fifth of what is done */
}

static void strangers_are_served_when_nobody_else_waits(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 1);
    struct fair_item *evicted = NULL;
    struct fair_key key = key_of(5, 0);
    key.stranger = true;
    struct fair_item *item = new_item(world, 5, 1);
    CHECK_INT(fair_add(world->fair, item, &key, &evicted), FAIR_TAKEN);
    CHECK(take(world) == item);
}

static void one_workspace_leaves_workers_to_the_others(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 2);
    struct fair_batch batches[WORKERS] = {{.flow_count = 0}};
    unsigned busy = 0;
    for (unsigned i = 0; i < 20; i++) {
        CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    }
    while (busy < WORKERS && fair_take(world->fair, &batches[busy]) != NULL) {
        fair_close(world->fair, &batches[busy++]);
    }
    CHECK_INT(busy, WORKERS - WORKERS / 4);
    CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    CHECK(fair_next(world->fair) == NULL);
    CHECK_INT(add(world, 1, 1), FAIR_TAKEN);
    CHECK_INT(workspace_of(world, take(world)), 1);
    fair_done(world->fair, &batches[0]);
    CHECK(fair_take(world->fair, &batches[0]) == &world->items[busy]);
    fair_close(world->fair, &batches[0]);
    for (unsigned i = 0; i < busy; i++) {
        fair_done(world->fair, &batches[i]);
    }
    unsigned left = 0;
    for (; fair_next(world->fair) != NULL; left++) {
        (void) take(world);
    }
    CHECK_INT(left, 21 - busy - 1);
}

static void single_worker_is_everybodys(void)
{
    AUTO(world_cleanup) struct world *world = make(&(struct fair_options){4, 1}, 1);
    CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    struct fair_batch batch = {.flow_count = 0};
    CHECK(fair_take(world->fair, &batch) == &world->items[0]);
    fair_close(world->fair, &batch);
    CHECK(fair_next(world->fair) == &world->items[1]);
    fair_done(world->fair, &batch);
}

static void calls_that_go_on_are_never_refused_and_take_turns_with_new_ones(void)
{
    AUTO(world_cleanup) struct world *world = make(&small, 1);
    struct fair_item *evicted = NULL;
    unsigned resumed = 0;
    const struct fair_key key = key_of(0, 0);
    for (unsigned i = 0; i < CAPACITY; i++) {
        CHECK_INT(add(world, 0, 1), FAIR_TAKEN);
    }
    for (unsigned i = 0; i < 100; i++) {
        struct fair_item *item = new_item(world, 0, 1);
        item->resumed = true;
        CHECK_INT(fair_add(world->fair, item, &key, &evicted), FAIR_TAKEN);
        CHECK(evicted == NULL);
    }
    CHECK_INT(fair_resumed(world->fair), 100);
    for (unsigned i = 0; i < 40; i++) {
        resumed += take(world)->resumed;
    }
    CHECK_INT(resumed, 20);
}

/* Whatever comes and goes, everything is taken once, and nothing is left. */
static void nothing_is_lost_in_whatever_order_calls_come_and_go(void)
{
    static struct fair_item items[100000];
    uint64_t random = test_seed();
    AUTO(fair_cleanup) struct fair *fair = fair_new(&small);
    struct fair_batch batches[WORKERS] = {{.flow_count = 0}};
    unsigned added = 0;
    unsigned gone = 0;
    while (added < COF_COUNT(items) || gone < added) {
        const uint64_t number = test_random(&random);
        struct fair_batch *batch = &batches[number % WORKERS];
        struct fair_item *evicted = NULL;
        if (number >> 8 & 1 && added < COF_COUNT(items)) {
            struct fair_key key = key_of((unsigned) (number >> 16 & 31), (unsigned) (number >> 24 & 15));
            struct fair_item *item = &items[added];
            key.stranger = (number >> 32 & 7) == 0;
            *item =
                (struct fair_item){.cost = 1 + (uint32_t) (number >> 40 & 63), .resumed = (number >> 48 & 15) == 0};
            added++;
            gone += fair_add(fair, item, &key, &evicted) != FAIR_TAKEN;
            gone += evicted != NULL;
            continue;
        }
        fair_done(fair, batch);
        for (unsigned i = 0; i < (number >> 9 & 15) && fair_take(fair, batch) != NULL; i++) {
            gone++;
        }
        fair_close(fair, batch);
        CHECK(fair_queued(fair) <= CAPACITY);
        CHECK_INT(fair_queued(fair) + fair_resumed(fair), added - gone);
    }
}

TEST_MAIN(TEST(calls_of_one_workspace_and_token_come_in_the_order_in_which_they_were_added),
          TEST(quiet_workspace_waits_for_one_turn_of_the_flood_at_most),
          TEST(workspace_that_begins_to_wait_comes_first), TEST(workspaces_share_by_what_their_calls_cost),
          TEST(call_dearer_than_a_turn_comes_all_the_same_and_is_paid_for),
          TEST(tokens_of_one_workspace_take_turns), TEST(full_queue_refuses_the_flood_and_takes_the_quiet),
          TEST(full_queue_takes_from_the_token_that_has_most_of_its_workspace),
          TEST(strangers_of_a_hundred_invented_workspaces_push_no_known_caller_out),
          TEST(strangers_are_served_when_nobody_else_waits), TEST(one_workspace_leaves_workers_to_the_others),
          TEST(single_worker_is_everybodys), TEST(calls_that_go_on_are_never_refused_and_take_turns_with_new_ones),
          TEST(nothing_is_lost_in_whatever_order_calls_come_and_go))
