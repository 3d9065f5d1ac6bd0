#include <pthread.h>
#include <stdatomic.h>

#include "common/attr.h"
#include "server/dispatch/parking.h"
#include "tests/support/test.h"

enum { CAPACITY = 64, PER_WORKSPACE = 8, BYTES = 4096, WATCHES = 10, WATCHES_PER_WORKSPACE = 4 };

static const struct parking_options small = {
    .capacity = CAPACITY,
    .per_workspace = PER_WORKSPACE,
    .watches = WATCHES,
    .watches_per_workspace = WATCHES_PER_WORKSPACE,
    .bytes = BYTES,
};

static void parking_cleanup(struct parking **parking)
{
    parking_free(*parking);
}

static struct cof_uuid workspace_of(uint8_t number)
{
    return (struct cof_uuid){.bytes = {1, [15] = number}};
}

static struct parked call_of(struct exchange *exchange, uint8_t workspace, uint64_t revision, int64_t until_us)
{
    return (struct parked){
        .exchange = exchange,
        .wait = {.cause = CALL_WAIT_REVISION,
                 .workspace = workspace_of(workspace),
                 .revision = revision,
                 .until_us = until_us},
    };
}

static parking_outcome add(struct parking *parking, struct exchange *exchange, uint8_t workspace, uint64_t revision)
{
    const struct parked call = call_of(exchange, workspace, revision, 1000);
    return parking_add(parking, &call).outcome;
}

/* Takes the calls back; returns how many there were. */
static unsigned release(struct parking *parking, struct parked *calls)
{
    unsigned count = 0;
    while (calls != NULL) {
        struct parked *next = calls->next;
        parking_release(parking, calls);
        calls = next;
        count++;
    }
    return count;
}

static void calls_go_on_when_their_revision_is_reached_in_the_order_in_which_they_came(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange exchanges[4] = {{0}};
    const uint64_t revisions[] = {5, 7, 4, 5};
    for (unsigned i = 0; i < 4; i++) {
        CHECK_INT(add(parking, &exchanges[i], 1, revisions[i]), PARKING_DONE);
    }
    const struct cof_uuid workspace = workspace_of(1);
    struct parked *calls = parking_reached(parking, &workspace, 5);
    CHECK(calls->exchange == &exchanges[0]);
    CHECK(calls->next->exchange == &exchanges[2]);
    CHECK(calls->next->next->exchange == &exchanges[3]);
    CHECK_INT(release(parking, calls), 3);
    CHECK_INT(parking_count(parking, CALL_WAIT_REVISION), 1);
    CHECK_INT(release(parking, parking_reached(parking, &workspace, 6)), 0);
    CHECK_INT(release(parking, parking_reached(parking, &workspace, 8)), 1);
    CHECK_INT(parking_count(parking, CALL_WAIT_REVISION), 0);
}

static void revision_of_one_workspace_wakes_nobody_of_another(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange exchanges[2] = {{0}};
    const struct cof_uuid first = workspace_of(1);
    const struct cof_uuid third = workspace_of(3);
    CHECK_INT(add(parking, &exchanges[0], 1, 5), PARKING_DONE);
    CHECK_INT(add(parking, &exchanges[1], 2, 5), PARKING_DONE);
    CHECK(parking_reached(parking, &third, 9) == NULL);
    struct parked *calls = parking_reached(parking, &first, 9);
    CHECK(calls->exchange == &exchanges[0]);
    CHECK_INT(release(parking, calls), 1);
    CHECK_INT(release(parking, parking_all(parking)), 1);
}

static void call_whose_revision_was_told_while_others_waited_goes_on_at_once(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange exchanges[2] = {{0}};
    const struct cof_uuid workspace = workspace_of(1);
    CHECK_INT(add(parking, &exchanges[0], 1, 10), PARKING_DONE);
    CHECK(parking_reached(parking, &workspace, 9) == NULL);
    const struct parked late = call_of(&exchanges[1], 1, 9, 1000);
    const struct parking_result result = parking_add(parking, &late);
    CHECK_INT(result.outcome, PARKING_DONE);
    CHECK(result.ready != NULL && result.ready->exchange == &exchanges[1]);
    CHECK_INT(release(parking, result.ready), 1);
    CHECK_INT(release(parking, parking_all(parking)), 1);
}

static void workspace_is_asked_for_once_and_again_after_doubt(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange exchanges[3] = {{0}};
    struct cof_uuid workspaces[CAPACITY];
    const struct parked first = call_of(&exchanges[0], 1, 5, 1000);
    CHECK(parking_add(parking, &first).unconfirmed);
    CHECK_INT(add(parking, &exchanges[1], 2, 5), PARKING_DONE);
    CHECK_INT(parking_unconfirmed(parking, workspaces, 1), 1);
    CHECK_INT(parking_unconfirmed(parking, workspaces + 1, CAPACITY), 1);
    CHECK(!cof_uuid_equal(&workspaces[0], &workspaces[1]));
    CHECK_INT(parking_unconfirmed(parking, workspaces, CAPACITY), 0);
    const struct parked second = call_of(&exchanges[2], 1, 6, 1000);
    CHECK(!parking_add(parking, &second).unconfirmed);
    parking_doubt(parking);
    CHECK_INT(parking_unconfirmed(parking, workspaces, CAPACITY), 2);
    CHECK_INT(release(parking, parking_all(parking)), 3);
    CHECK_INT(add(parking, &exchanges[0], 1, 5), PARKING_DONE);
    CHECK_INT(parking_unconfirmed(parking, workspaces, CAPACITY), 1);
    CHECK_INT(release(parking, parking_all(parking)), 1);
}

static void calls_are_due_by_their_own_time_whatever_their_order(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    static struct exchange exchanges[CAPACITY];
    uint64_t state = test_seed();
    int64_t last = 0;
    CHECK_INT(parking_next_due(parking), INT64_MAX);
    for (unsigned i = 0; i < CAPACITY; i++) {
        const int64_t until = (int64_t) (test_random(&state) % 1000);
        const struct parked call = call_of(&exchanges[i], (uint8_t) (i / PER_WORKSPACE), 5, until);
        const bool earliest = until < parking_next_due(parking);
        CHECK_INT(parking_add(parking, &call).earliest, earliest);
    }
    for (unsigned given = 0; given < CAPACITY;) {
        const int64_t due = parking_next_due(parking);
        CHECK(due >= last);
        CHECK(parking_due(parking, due - 1) == NULL);
        struct parked *calls = parking_due(parking, due);
        CHECK(calls != NULL && calls->wait.until_us == due);
        given += release(parking, calls);
        last = due;
    }
    CHECK_INT(parking_next_due(parking), INT64_MAX);
}

static void more_than_a_workspace_may_have_are_refused_and_others_are_not(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange exchanges[PER_WORKSPACE + 2] = {{0}};
    const struct cof_uuid workspace = workspace_of(1);
    for (unsigned i = 0; i < PER_WORKSPACE; i++) {
        CHECK_INT(add(parking, &exchanges[i], 1, 5), PARKING_DONE);
    }
    CHECK_INT(parking_count_workspace(parking, &workspace), PER_WORKSPACE);
    CHECK_INT(add(parking, &exchanges[PER_WORKSPACE], 1, 5), PARKING_WORKSPACE_FULL);
    CHECK_INT(add(parking, &exchanges[PER_WORKSPACE], 2, 5), PARKING_DONE);
    CHECK_INT(release(parking, parking_reached(parking, &workspace, 5)), PER_WORKSPACE);
    CHECK_INT(add(parking, &exchanges[PER_WORKSPACE + 1], 1, 6), PARKING_DONE);
    CHECK_INT(release(parking, parking_all(parking)), 2);
}

static parking_outcome watch(struct parking *parking, struct exchange *exchange, uint8_t workspace)
{
    struct parked call = call_of(exchange, workspace, 5, 1000);
    call.wait.cause = CALL_WAIT_CHANGE;
    return parking_add(parking, &call).outcome;
}

static void watches_leave_room_for_others_in_their_workspace_and_on_the_server(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange exchange = {0};
    const struct cof_uuid workspace = workspace_of(1);
    for (unsigned i = 0; i < WATCHES; i++) {
        CHECK_INT(watch(parking, &exchange, (uint8_t) (1 + i / WATCHES_PER_WORKSPACE)), PARKING_DONE);
    }
    CHECK_INT(watch(parking, &exchange, 1), PARKING_WORKSPACE_FULL);
    CHECK_INT(watch(parking, &exchange, 9), PARKING_FULL);
    CHECK_INT(add(parking, &exchange, 1, 6), PARKING_DONE);
    CHECK_INT(add(parking, &exchange, 9, 6), PARKING_DONE);
    CHECK_INT(parking_count(parking, CALL_WAIT_CHANGE), WATCHES);
    CHECK_INT(parking_count(parking, CALL_WAIT_REVISION), 2);
    CHECK_INT(release(parking, parking_reached(parking, &workspace, 5)), WATCHES_PER_WORKSPACE);
    CHECK_INT(watch(parking, &exchange, 9), PARKING_DONE);
    CHECK_INT(release(parking, parking_all(parking)), WATCHES - WATCHES_PER_WORKSPACE + 3);
}

static void more_than_the_capacity_are_refused_until_records_are_released(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange exchange = {0};
    for (unsigned i = 0; i < CAPACITY; i++) {
        CHECK_INT(add(parking, &exchange, (uint8_t) (i / PER_WORKSPACE), 5), PARKING_DONE);
    }
    CHECK_INT(add(parking, &exchange, 200, 5), PARKING_FULL);
    struct parked *calls = parking_all(parking);
    CHECK_INT(add(parking, &exchange, 200, 5), PARKING_FULL);
    CHECK_INT(release(parking, calls), CAPACITY);
    CHECK_INT(add(parking, &exchange, 200, 5), PARKING_DONE);
    CHECK_INT(release(parking, parking_all(parking)), 1);
}

static void requests_of_parked_calls_take_no_more_memory_than_they_may(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange half = {.frame = {NULL, BYTES / 2}};
    struct exchange byte = {.frame = {NULL, 1}};
    CHECK_INT(add(parking, &half, 1, 5), PARKING_DONE);
    CHECK_INT(add(parking, &half, 2, 5), PARKING_DONE);
    CHECK_INT(add(parking, &byte, 3, 5), PARKING_FULL);
    const struct cof_uuid workspace = workspace_of(2);
    CHECK_INT(release(parking, parking_reached(parking, &workspace, 5)), 1);
    CHECK_INT(add(parking, &byte, 3, 5), PARKING_DONE);
    CHECK_INT(release(parking, parking_all(parking)), 2);
}

static void closed_parking_gives_out_all_and_takes_none(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    struct exchange exchanges[3] = {{0}};
    CHECK_INT(add(parking, &exchanges[0], 1, 5), PARKING_DONE);
    CHECK_INT(add(parking, &exchanges[1], 2, 5), PARKING_DONE);
    CHECK_INT(release(parking, parking_close(parking)), 2);
    CHECK_INT(add(parking, &exchanges[2], 1, 5), PARKING_CLOSED);
    CHECK(parking_close(parking) == NULL);
}

/* --- Flights -------------------------------------------------------------------------------------------------- */

enum { PER_PROVIDER = 6, PER_ROLE = 3, FLIGHTS = 32 };

static void flights_cleanup(struct flights **flights)
{
    flights_free(*flights);
}

static struct parking *parking_with(struct flights *flights)
{
    struct parking_options options = small;
    options.per_provider = PER_PROVIDER;
    options.per_role = PER_ROLE;
    options.flights = flights;
    return parking_new(&options);
}

static struct flight_key key_of(uint8_t number)
{
    return (struct flight_key){.bytes = {2, [31] = number}};
}

static struct parked passenger(struct exchange *exchange, call_wait_cause cause, uint8_t workspace, uint8_t key,
                               uint8_t group)
{
    return (struct parked){
        .exchange = exchange,
        .wait = {.cause = cause,
                 .workspace = workspace_of(workspace),
                 .until_us = 1000,
                 .flight = {key_of(key), {.bytes = {group}}}},
    };
}

static parking_outcome board(struct parking *parking, struct exchange *exchange, call_wait_cause cause,
                             uint8_t workspace, uint8_t key, uint8_t group)
{
    const struct parked call = passenger(exchange, cause, workspace, key, group);
    return parking_add(parking, &call).outcome;
}

static void calls_that_wait_for_a_flight_go_on_together_when_it_lands_and_no_others(void)
{
    AUTO(flights_cleanup) struct flights *flights = flights_new(FLIGHTS);
    AUTO(parking_cleanup) struct parking *parking = parking_with(flights);
    struct exchange exchanges[4] = {{0}};
    const struct flight_key first = key_of(1);
    const struct flight_key second = key_of(2);
    CHECK_INT(flights_begin(flights, &first), FLIGHT_BEGUN);
    CHECK_INT(flights_begin(flights, &first), FLIGHT_JOINED);
    CHECK_INT(flights_begin(flights, &second), FLIGHT_BEGUN);
    CHECK_INT(board(parking, &exchanges[0], CALL_WAIT_PROVIDER, 1, 1, 1), PARKING_DONE);
    CHECK_INT(board(parking, &exchanges[1], CALL_WAIT_PROVIDER, 1, 2, 1), PARKING_DONE);
    CHECK_INT(board(parking, &exchanges[2], CALL_WAIT_PROVIDER, 2, 1, 1), PARKING_DONE);
    CHECK_INT(add(parking, &exchanges[3], 1, 5), PARKING_DONE);
    flights_land(flights, &first);
    struct parked *calls = parking_landed(parking, &first);
    CHECK(calls->exchange == &exchanges[0] && calls->next->exchange == &exchanges[2]);
    CHECK_INT(release(parking, calls), 2);
    CHECK_INT(parking_count(parking, CALL_WAIT_PROVIDER), 1);
    const struct cof_uuid workspace = workspace_of(1);
    CHECK_INT(release(parking, parking_reached(parking, &workspace, 5)), 1);
    CHECK_INT(release(parking, parking_all(parking)), 1);
    CHECK(parking_landed(parking, &second) == NULL);
}

static void call_whose_flight_has_landed_before_it_was_parked_goes_on_at_once(void)
{
    AUTO(flights_cleanup) struct flights *flights = flights_new(FLIGHTS);
    AUTO(parking_cleanup) struct parking *parking = parking_with(flights);
    struct exchange exchange = {0};
    const struct flight_key key = key_of(1);
    CHECK_INT(flights_begin(flights, &key), FLIGHT_BEGUN);
    flights_land(flights, &key);
    CHECK(parking_landed(parking, &key) == NULL);
    const struct parked late = passenger(&exchange, CALL_WAIT_ROLE, 1, 1, 1);
    const struct parking_result result = parking_add(parking, &late);
    CHECK_INT(result.outcome, PARKING_DONE);
    CHECK(result.ready != NULL && result.ready->exchange == &exchange);
    CHECK_INT(release(parking, result.ready), 1);
}

static void provider_that_hangs_takes_no_more_calls_than_it_may_and_others_have_their_room(void)
{
    AUTO(flights_cleanup) struct flights *flights = flights_new(FLIGHTS);
    AUTO(parking_cleanup) struct parking *parking = parking_with(flights);
    struct exchange exchange = {0};
    for (uint8_t i = 0; i < (uint8_t) PER_PROVIDER; i++) {
        const struct flight_key key = key_of(i);
        CHECK_INT(flights_begin(flights, &key), FLIGHT_BEGUN);
        CHECK_INT(board(parking, &exchange, CALL_WAIT_PROVIDER, i, i, 1), PARKING_DONE);
    }
    const struct flight_key first = key_of(0);
    CHECK_INT(board(parking, &exchange, CALL_WAIT_PROVIDER, 20, 0, 1), PARKING_GROUP_FULL);
    CHECK_INT(board(parking, &exchange, CALL_WAIT_PROVIDER, 20, 0, 2), PARKING_DONE);
    for (unsigned i = 0; i < PER_ROLE; i++) {
        CHECK_INT(board(parking, &exchange, CALL_WAIT_ROLE, 21, 0, 1), PARKING_DONE);
    }
    CHECK_INT(board(parking, &exchange, CALL_WAIT_ROLE, 21, 0, 1), PARKING_GROUP_FULL);
    CHECK_INT(add(parking, &exchange, 21, 5), PARKING_DONE);
    flights_land(flights, &first);
    CHECK_INT(release(parking, parking_landed(parking, &first)), 1 + 1 + PER_ROLE);
    CHECK_INT(board(parking, &exchange, CALL_WAIT_PROVIDER, 20, 1, 1), PARKING_DONE);
    CHECK_INT(release(parking, parking_close(parking)), PER_PROVIDER + 1);
}

static void workspace_where_calls_wait_for_flights_is_asked_for_once_somebody_follows_its_revision(void)
{
    AUTO(flights_cleanup) struct flights *flights = flights_new(FLIGHTS);
    AUTO(parking_cleanup) struct parking *parking = parking_with(flights);
    struct exchange exchange = {0};
    struct cof_uuid workspaces[CAPACITY];
    const struct flight_key key = key_of(1);
    CHECK_INT(flights_begin(flights, &key), FLIGHT_BEGUN);
    const struct parked call = passenger(&exchange, CALL_WAIT_PROVIDER, 1, 1, 1);
    CHECK(!parking_add(parking, &call).unconfirmed);
    CHECK_INT(parking_unconfirmed(parking, workspaces, CAPACITY), 0);
    for (unsigned i = 0; i < 2; i++) {
        const struct parked follower = call_of(&exchange, 1, 5, i);
        CHECK(parking_add(parking, &follower).unconfirmed);
        CHECK_INT(parking_unconfirmed(parking, workspaces, CAPACITY), 1);
        CHECK_INT(release(parking, parking_due(parking, i)), 1);
    }
    CHECK_INT(release(parking, parking_close(parking)), 1);
}

static void flights_are_as_many_as_they_may_be(void)
{
    AUTO(flights_cleanup) struct flights *flights = flights_new(FLIGHTS);
    for (uint8_t i = 0; i < (uint8_t) FLIGHTS; i++) {
        const struct flight_key key = key_of(i);
        CHECK_INT(flights_begin(flights, &key), FLIGHT_BEGUN);
    }
    const struct flight_key more = key_of(FLIGHTS);
    const struct flight_key less = key_of(0);
    CHECK_INT(flights_begin(flights, &more), FLIGHT_FULL);
    CHECK_INT(flights_begin(flights, &less), FLIGHT_JOINED);
    flights_land(flights, &less);
    CHECK(!flights_under_way(flights, &less));
    CHECK_INT(flights_begin(flights, &more), FLIGHT_BEGUN);
    CHECK_INT(flights_count(flights), FLIGHTS);
}

/* --- Flights that land while calls are being parked ----------------------------------------------------------- */

enum { ROUNDS = 500, RACERS = 3 };

struct race {
    struct parking *parking;
    struct flights *flights;
    struct exchange exchanges[RACERS];
    atomic_uint given; /* calls that went on */
};

static void race_landed(void *context, const struct flight_key *key)
{
    struct race *race = context;
    atomic_fetch_add(&race->given, release(race->parking, parking_landed(race->parking, key)));
}

struct racer {
    struct race *race;
    struct exchange *exchange;
};

/* Begins a flight or joins it, and parks, as handlers do; whoever begins it is the one who lands it. */
static void *race_run(void *context)
{
    const struct racer *racer = context;
    struct race *race = racer->race;
    const struct flight_key key = key_of(1);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const flight_start start = flights_begin(race->flights, &key);
        const struct parked call = passenger(racer->exchange, CALL_WAIT_PROVIDER, 1, 1, 1);
        if (start == FLIGHT_BEGUN && i % 2 == 0) {
            flights_land(race->flights, &key);
        }
        const struct parking_result result = parking_add(race->parking, &call);
        atomic_fetch_add(&race->given, release(race->parking, result.ready));
        if (start == FLIGHT_BEGUN && i % 2 != 0) {
            flights_land(race->flights, &key);
        }
    }
    return NULL;
}

static void no_call_is_left_behind_by_a_flight_that_lands_while_it_is_being_parked(void)
{
    AUTO(flights_cleanup) struct flights *flights = flights_new(FLIGHTS);
    struct parking_options options = small;
    options.capacity = options.per_workspace = options.per_provider = RACERS * ROUNDS;
    options.flights = flights;
    AUTO(parking_cleanup) struct parking *parking = parking_new(&options);
    struct race race = {.parking = parking, .flights = flights};
    flights_on_landing(flights, race_landed, &race);
    pthread_t threads[RACERS];
    struct racer racers[RACERS];
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){&race, &race.exchanges[i]};
        CHECK_INT(pthread_create(&threads[i], NULL, race_run, &racers[i]), 0);
    }
    for (unsigned i = 0; i < RACERS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    CHECK_INT(flights_count(flights), 0);
    CHECK_INT(parking_count(parking, CALL_WAIT_PROVIDER), 0);
    CHECK_INT(atomic_load(&race.given), RACERS * ROUNDS);
}

/* --- At random, against a simple model ------------------------------------------------------------------------ */

enum { STEPS = 20000, WORKSPACES = 12, REVISIONS = 50 };

/* A call of the model is the place of its exchange; a revision of 0 means that it is not parked. */
struct model {
    struct exchange exchanges[CAPACITY];
    uint8_t workspace[CAPACITY];
    uint64_t revision[CAPACITY];
    int64_t until[CAPACITY];
};

/* Every call that was given out must be one that waits, and that `expected` says is to go on; returns how many, or
 * CAPACITY + 1 if one must not. */
static unsigned check_given(struct parking *parking, struct model *model, struct parked *calls,
                            const bool *expected)
{
    unsigned count = 0;
    while (calls != NULL) {
        struct parked *next = calls->next;
        const size_t at = (size_t) (calls->exchange - model->exchanges);
        if (model->revision[at] == 0 || !expected[at]) {
            return CAPACITY + 1;
        }
        model->revision[at] = 0;
        parking_release(parking, calls);
        calls = next;
        count++;
    }
    return count;
}

static unsigned mark(const struct model *model, bool *expected, int workspace, uint64_t revision, int64_t now)
{
    unsigned count = 0;
    for (size_t i = 0; i < CAPACITY; i++) {
        const bool reached = model->workspace[i] == workspace && model->revision[i] <= revision;
        expected[i] = model->revision[i] != 0 && (workspace < 0 ? model->until[i] <= now : reached);
        count += expected[i] ? 1 : 0;
    }
    return count;
}

static unsigned parked_in(const struct model *model, uint8_t workspace)
{
    unsigned count = 0;
    for (size_t i = 0; i < CAPACITY; i++) {
        count += model->revision[i] != 0 && model->workspace[i] == workspace ? 1 : 0;
    }
    return count;
}

/* Parks one more, if there is a place left, and says whether parking decided as the model does. */
static bool step_add(struct parking *parking, struct model *model, uint64_t random, uint64_t known)
{
    size_t at = 0;
    while (at < CAPACITY && model->revision[at] != 0) {
        at++;
    }
    if (at == CAPACITY) {
        return true;
    }
    model->workspace[at] = (uint8_t) (random % WORKSPACES);
    model->until[at] = (int64_t) (random >> 8 & 1023);
    const bool full = parked_in(model, model->workspace[at]) >= PER_WORKSPACE;
    const struct parked call =
        call_of(&model->exchanges[at], model->workspace[at], known + 1 + (random >> 20 & 7), model->until[at]);
    const struct parking_result result = parking_add(parking, &call);
    if (result.outcome == PARKING_DONE) {
        model->revision[at] = call.wait.revision;
    }
    return result.ready == NULL && (result.outcome == PARKING_WORKSPACE_FULL) == full;
}

static void random_calls_go_on_exactly_when_a_simple_model_says_so(void)
{
    AUTO(parking_cleanup) struct parking *parking = parking_new(&small);
    static struct model places;
    struct model *model = &places;
    uint64_t known[WORKSPACES] = {0};
    uint64_t state = test_seed();
    bool expected[CAPACITY];
    for (unsigned step = 0; step < STEPS; step++) {
        const uint64_t random = test_random(&state);
        const uint8_t workspace = (uint8_t) (random % WORKSPACES);
        const struct cof_uuid uuid = workspace_of(workspace);
        if (random >> 60 < 12) {
            CHECK(step_add(parking, model, random, known[workspace]));
        } else if (random >> 60 < 15) {
            known[workspace] += random >> 32 & 3;
            const unsigned count = mark(model, expected, workspace, known[workspace], 0);
            struct parked *calls = parking_reached(parking, &uuid, known[workspace]);
            CHECK_INT(check_given(parking, model, calls, expected), count);
        } else {
            const int64_t now = (int64_t) (random >> 8 & 255);
            const unsigned count = mark(model, expected, -1, 0, now);
            CHECK_INT(check_given(parking, model, parking_due(parking, now), expected), count);
        }
        CHECK_INT(parking_count_workspace(parking, &uuid), parked_in(model, workspace));
    }
    release(parking, parking_close(parking));
}

TEST_MAIN(TEST(calls_go_on_when_their_revision_is_reached_in_the_order_in_which_they_came),
          TEST(revision_of_one_workspace_wakes_nobody_of_another),
          TEST(call_whose_revision_was_told_while_others_waited_goes_on_at_once),
          TEST(workspace_is_asked_for_once_and_again_after_doubt),
          TEST(calls_are_due_by_their_own_time_whatever_their_order),
          TEST(more_than_a_workspace_may_have_are_refused_and_others_are_not),
          TEST(watches_leave_room_for_others_in_their_workspace_and_on_the_server),
          TEST(more_than_the_capacity_are_refused_until_records_are_released),
          TEST(requests_of_parked_calls_take_no_more_memory_than_they_may),
          TEST(closed_parking_gives_out_all_and_takes_none),
          TEST(calls_that_wait_for_a_flight_go_on_together_when_it_lands_and_no_others),
          TEST(call_whose_flight_has_landed_before_it_was_parked_goes_on_at_once),
          TEST(provider_that_hangs_takes_no_more_calls_than_it_may_and_others_have_their_room),
          TEST(workspace_where_calls_wait_for_flights_is_asked_for_once_somebody_follows_its_revision),
          TEST(flights_are_as_many_as_they_may_be),
          TEST(no_call_is_left_behind_by_a_flight_that_lands_while_it_is_being_parked),
          TEST(random_calls_go_on_exactly_when_a_simple_model_says_so))
