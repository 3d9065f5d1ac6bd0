#include <pthread.h>
#include <time.h>

#include "client/bench/load.h"
#include "common/attr.h"
#include "tests/support/test.h"

enum { IN_FLIGHT = 8, MANY = 1000000 };

static struct load_result result;

/* --- Calls that end before the function that begins them returns ------------------------------------------------ */

static uint64_t begun;

static void end_at_once(struct load_slot *slot, void *context)
{
    (void) context;
    begun++;
    load_done(slot, NULL);
}

static void million_calls_that_end_at_once_take_no_stack(void)
{
    const struct load_options options = {.in_flight = 1, .calls = MANY, .begin = end_at_once};
    begun = 0;
    CHECK(load_run(&options, &result));
    CHECK_INT(begun, MANY);
    CHECK_INT(result.latency.count, MANY);
    CHECK_INT(result.failed, 0);
    CHECK(result.seconds > 0);
}

static void fail_in_turn(struct load_slot *slot, void *context)
{
    static const char *const reasons[] = {NULL, "SERVER_BUSY", "DEADLINE_EXCEEDED", "SERVER_BUSY"};
    unsigned *number = context;
    load_done(slot, reasons[(*number)++ % 4]);
}

static void failures_are_counted_by_reason_and_not_as_calls(void)
{
    unsigned number = 0;
    const struct load_options options = {.in_flight = 1, .calls = 400, .begin = fail_in_turn, .context = &number};
    CHECK(load_run(&options, &result));
    CHECK_INT(result.latency.count, 100);
    CHECK_INT(result.failed, 300);
    CHECK_TEXT(result.reasons[0].name, "SERVER_BUSY");
    CHECK_INT(result.reasons[0].count, 200);
    CHECK_TEXT(result.reasons[1].name, "DEADLINE_EXCEEDED");
    CHECK_INT(result.reasons[1].count, 100);
    CHECK(result.reasons[2].name == NULL);
}

static void reasons_without_a_place_share_the_last_one(void)
{
    static const char *const names[] = {"A", "B", "C", "D", "E", "F", "G", "H", "I",
                                        "J", "K", "L", "M", "N", "O", "P", "Q", "R"};
    memset(&result, 0, sizeof result);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        load_add_reason(&result, names[i], 1);
    }
    CHECK_TEXT(result.reasons[LOAD_REASONS - 1].name, "P");
    CHECK_INT(result.reasons[LOAD_REASONS - 1].count, 3);
    CHECK_INT(result.failed, 18);
}

static void duration_without_a_warm_up_ends(void)
{
    const struct load_options options = {.in_flight = 2, .duration_us = 20000, .begin = end_at_once};
    CHECK(load_run(&options, &result));
    CHECK(result.latency.count > 0);
    CHECK(result.seconds > 0.0199 && result.seconds < 0.0201);
}

/* --- An open loop ----------------------------------------------------------------------------------------------- */

static void open_loop_begins_every_call_that_is_due(void)
{
    const struct load_options options = {.in_flight = 4, .rate = 10000, .calls = 500, .begin = end_at_once};
    begun = 0;
    CHECK(load_run(&options, &result));
    CHECK_INT(begun, 500);
    CHECK_INT(result.latency.count, 500);
    CHECK(result.seconds >= 0.0499); /* the last one is due after 499 of 10,000ths */
}

/* Stands still for a while in the first call, as a server may. */
static void stand_still_once(struct load_slot *slot, void *context)
{
    bool *stood = context;
    if (!*stood) {
        const struct timespec while_ = {0, 100000000};
        (void) nanosleep(&while_, NULL);
        *stood = true;
    }
    load_done(slot, NULL);
}

static void open_loop_counts_from_when_a_call_was_due(void)
{
    bool stood = false;
    const struct load_options options = {
        .in_flight = 1, .rate = 1000, .calls = 100, .begin = stand_still_once, .context = &stood};
    CHECK(load_run(&options, &result));
    CHECK_INT(result.latency.count, 100);
    /* The call in the middle was due 50 ms after the first one began, which took 100: it was 50 late at least. */
    CHECK(histogram_quantile(&result.latency, 0.5) >= 45e6);
}

/* --- Ramps and thoughts ----------------------------------------------------------------------------------------- */

enum { RAMP_MS = 100, MS = 1000000 };

/* When calls began, from the first one on. */
struct beginnings {
    uint64_t first_ns;
    uint64_t at_ns[400];
    size_t count;
};

static uint64_t clock_ns(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

static void note_beginning(struct load_slot *slot, void *context)
{
    struct beginnings *beginnings = context;
    beginnings->first_ns = beginnings->count == 0 ? slot->begun_ns : beginnings->first_ns;
    if (beginnings->count < COF_COUNT(beginnings->at_ns)) {
        beginnings->at_ns[beginnings->count++] = slot->begun_ns - beginnings->first_ns;
    }
    load_done(slot, NULL);
}

static size_t begun_before(const struct beginnings *beginnings, uint64_t ns)
{
    size_t count = 0;
    while (count < beginnings->count && beginnings->at_ns[count] < ns) {
        count++;
    }
    return count;
}

/* 2,000 calls a second: 100 in a ramp of 100 ms, a quarter of them in its first half. */
static void rate_of_an_open_loop_rises_during_the_ramp(void)
{
    struct beginnings beginnings = {.count = 0};
    const struct load_options options = {.in_flight = 1,
                                         .rate = 2000,
                                         .ramp_us = (uint64_t) RAMP_MS * 1000,
                                         .calls = 300,
                                         .begin = note_beginning,
                                         .context = &beginnings};
    CHECK(load_run(&options, &result));
    CHECK_INT(beginnings.count, 300);
    CHECK_INT(result.latency.count, 200); /* those of the ramp do not count */
    const size_t half = begun_before(&beginnings, (uint64_t) RAMP_MS / 2 * MS);
    CHECK(half == 25 || half == 26); /* one is due just then */
    CHECK_INT(begun_before(&beginnings, (uint64_t) RAMP_MS * MS), 100);
    CHECK_INT(begun_before(&beginnings, (uint64_t) RAMP_MS * 2 * MS), 300);
}

/* Four slots, 10 ms of thought each: none begins two calls within 10 ms. */
static void slot_thinks_between_its_calls(void)
{
    struct beginnings beginnings = {.count = 0};
    const uint64_t before = clock_ns();
    const struct load_options options = {
        .in_flight = 4, .think_us = 10000, .calls = 40, .begin = note_beginning, .context = &beginnings};
    CHECK(load_run(&options, &result));
    CHECK_INT(result.latency.count, 40);
    CHECK(clock_ns() - before >= 90 * (uint64_t) MS); /* ten calls of a slot have nine thoughts between them */
    for (size_t i = 4; i < beginnings.count; i++) {
        CHECK(beginnings.at_ns[i] - beginnings.at_ns[i - 4] >= 10 * (uint64_t) MS);
    }
}

/* Spread over the first thought. */
static void slots_that_think_do_not_walk_in_step(void)
{
    struct beginnings beginnings = {.count = 0};
    const struct load_options options = {
        .in_flight = 4, .think_us = 200000, .calls = 4, .begin = note_beginning, .context = &beginnings};
    const uint64_t before = clock_ns();
    CHECK(load_run(&options, &result));
    CHECK_INT(beginnings.count, 4);
    for (size_t i = 0; i < beginnings.count; i++) {
        CHECK(beginnings.first_ns + beginnings.at_ns[i] - before >= i * 50 * (uint64_t) MS);
    }
}

static void duration_ends_thoughts(void)
{
    const uint64_t before = clock_ns();
    const struct load_options options = {
        .in_flight = 2, .think_us = 3600000000, .duration_us = 20000, .begin = end_at_once};
    CHECK(load_run(&options, &result));
    CHECK_INT(result.latency.count, 1); /* the other slot's first call is due in half an hour */
    CHECK(clock_ns() - before < 1800 * UINT64_C(1000000000));
}

/* --- Calls that end on another thread --------------------------------------------------------------------------- */

/* Takes slots from those who begin and ends their calls, in an order of its own. */
struct server {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct load_slot *waiting[IN_FLIGHT];
    size_t count;
    size_t most;
    bool stopping;
    bool seen[IN_FLIGHT];
};

static struct server server = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *serve(void *context)
{
    uint64_t *random = context;
    (void) pthread_mutex_lock(&server.lock);
    while (!server.stopping) {
        if (server.count == 0) {
            (void) pthread_cond_wait(&server.changed, &server.lock);
            continue;
        }
        const size_t at = test_random(random) % server.count;
        struct load_slot *slot = server.waiting[at];
        server.waiting[at] = server.waiting[--server.count];
        (void) pthread_mutex_unlock(&server.lock);
        load_done(slot, NULL);
        (void) pthread_mutex_lock(&server.lock);
    }
    (void) pthread_mutex_unlock(&server.lock);
    return NULL;
}

static void hand_over(struct load_slot *slot, void *context)
{
    (void) context;
    (void) pthread_mutex_lock(&server.lock);
    server.seen[slot->index] = true;
    server.waiting[server.count++] = slot;
    server.most = server.count > server.most ? server.count : server.most;
    (void) pthread_cond_signal(&server.changed);
    (void) pthread_mutex_unlock(&server.lock);
}

static void run_served(const struct load_options *options)
{
    pthread_t threads[3];
    uint64_t states[3];
    uint64_t seed = test_seed();
    server.stopping = false;
    server.most = 0;
    memset(server.seen, 0, sizeof server.seen);
    for (size_t i = 0; i < 3; i++) {
        states[i] = test_random(&seed);
        CHECK_INT(pthread_create(&threads[i], NULL, serve, &states[i]), 0);
    }
    const bool ran = load_run(options, &result);
    (void) pthread_mutex_lock(&server.lock);
    server.stopping = true;
    (void) pthread_cond_broadcast(&server.changed);
    (void) pthread_mutex_unlock(&server.lock);
    for (size_t i = 0; i < 3; i++) {
        (void) pthread_join(threads[i], NULL);
    }
    CHECK(ran);
    CHECK_INT(result.latency.count, options->calls);
    CHECK(server.most <= IN_FLIGHT);
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        CHECK(server.seen[i]);
    }
}

static void every_slot_has_one_call_and_all_calls_are_made(void)
{
    run_served(&(struct load_options){.in_flight = IN_FLIGHT, .calls = 20000, .begin = hand_over});
}

static void calls_of_an_open_loop_wait_for_slots_and_all_are_made(void)
{
    run_served(
        &(struct load_options){.in_flight = IN_FLIGHT, .rate = 10000000, .calls = 20000, .begin = hand_over});
    CHECK(result.late > 0);
}

static void slots_that_think_make_all_calls(void)
{
    run_served(&(struct load_options){.in_flight = IN_FLIGHT, .think_us = 1, .calls = 20000, .begin = hand_over});
}

TEST_MAIN(TEST(open_loop_begins_every_call_that_is_due), TEST(open_loop_counts_from_when_a_call_was_due),
          TEST(million_calls_that_end_at_once_take_no_stack), TEST(failures_are_counted_by_reason_and_not_as_calls),
          TEST(reasons_without_a_place_share_the_last_one), TEST(duration_without_a_warm_up_ends),
          TEST(every_slot_has_one_call_and_all_calls_are_made),
          TEST(calls_of_an_open_loop_wait_for_slots_and_all_are_made), TEST(slots_that_think_make_all_calls),
          TEST(rate_of_an_open_loop_rises_during_the_ramp), TEST(slot_thinks_between_its_calls),
          TEST(slots_that_think_do_not_walk_in_step), TEST(duration_ends_thoughts))
