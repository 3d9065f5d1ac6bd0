#include "server/cache/hash.h"
#include "tests/unit/cache/world.h"

enum { SMALL = 256 * 1024 };

static void hash_is_the_published_one(void)
{
    static const struct {
        size_t length;
        uint64_t hash;
    } published[] = {{0, 0x726fdb47dd0e0e31U}, {8, 0x93f5f5799a932462U}, {15, 0xa129ca6149be45e5U}};
    uint8_t key[HASH_KEY];
    uint8_t bytes[16];
    for (uint8_t i = 0; i < 16; i++) {
        key[i] = i;
        bytes[i] = i;
    }
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        CHECK(hash_bytes(key, cof_slice_of(bytes, published[i].length)) == published[i].hash);
    }
}

static void nothing_is_fresh_before_it_was_read(void)
{
    struct world world;
    world_open(&world, SMALL);
    CHECK_INT(fresh(&world, 1), 0);
    const struct cache_read read = begin(&world, 1);
    reached(&world, 1, 5);
    cache_confirmed(world.cache, world.now_us);
    CHECK_INT(fresh(&world, 1), 0);
    struct cache_state state;
    CHECK(end(&world, 1, &read, 5, &state));
    CHECK_INT(fresh(&world, 1), 5);
    CHECK_INT(fresh(&world, 2), 0);
    world_close(&world);
}

static void read_is_fresh_for_the_limit_counted_from_before_it_was_sent(void)
{
    struct world world;
    world_open(&world, SMALL);
    struct cache_state state;
    const struct cache_read read = begin(&world, 1);
    world.now_us += LIMIT_US - 1;
    CHECK(end(&world, 1, &read, 5, &state));
    CHECK_INT(fresh(&world, 1), 5);
    world.now_us += 1;
    CHECK_INT(fresh(&world, 1), 0);
    world_close(&world);
}

static void looks_of_the_job_keep_it_fresh_until_there_is_doubt(void)
{
    struct world world;
    world_open(&world, SMALL);
    struct cache_state state;
    const struct cache_read read = begin(&world, 1);
    CHECK(end(&world, 1, &read, 5, &state));
    for (unsigned i = 0; i < 10; i++) {
        world.now_us += LIMIT_US / 2;
        cache_confirmed(world.cache, world.now_us);
        CHECK_INT(fresh(&world, 1), 5);
    }
    cache_doubt(world.cache);
    CHECK_INT(fresh(&world, 1), 0);
    cache_confirmed(world.cache, world.now_us);
    CHECK_INT(fresh(&world, 1), 0);
    const struct cache_read again = begin(&world, 1);
    CHECK(end(&world, 1, &again, 5, &state));
    world.now_us += LIMIT_US - 1;
    cache_confirmed(world.cache, world.now_us);
    world.now_us += LIMIT_US - 1;
    CHECK_INT(fresh(&world, 1), 5);
    world_close(&world);
}

static void write_ends_the_use_of_what_was_kept_of_its_workspace_and_of_no_other(void)
{
    struct world world;
    world_open(&world, SMALL);
    struct cache_state states[3];
    for (uint32_t i = 1; i <= 2; i++) {
        const struct cache_read read = begin(&world, i);
        CHECK(end(&world, i, &read, 5, &states[i]));
        CHECK(put(&world, i, "name", &states[i], i * UINT64_C(100)));
        CHECK_INT(get(&world, i, "name", &states[i]), i * 100);
    }
    reached(&world, 1, 6);
    CHECK_INT(fresh(&world, 1), 6);
    CHECK_INT(fresh(&world, 2), 5);
    const struct cache_state after = {.epoch = states[1].epoch, .revision = 6};
    CHECK_INT(get(&world, 1, "name", &after), 0);
    CHECK(get_any(&world, 1, "name"));
    CHECK(!get_any(&world, 1, "other"));
    CHECK_INT(get(&world, 2, "name", &states[2]), 200);
    CHECK(put(&world, 1, "name", &after, 101));
    CHECK_INT(get(&world, 1, "name", &after), 101);
    CHECK_INT(get(&world, 1, "name", &states[1]), 0);
    reached(&world, 1, 4);
    CHECK_INT(fresh(&world, 1), 6);
    world_close(&world);
}

static void read_that_is_older_than_what_is_known_is_not_kept(void)
{
    struct world world;
    world_open(&world, SMALL);
    struct cache_state state;
    const struct cache_read first = begin(&world, 1);
    const struct cache_read second = begin(&world, 1);
    reached(&world, 1, 6);
    CHECK(!end(&world, 1, &first, 5, &state));
    CHECK(end(&world, 1, &second, 6, &state));
    const struct cache_read none = {0};
    CHECK(!end(&world, 1, &none, 7, &state));
    CHECK_INT(fresh(&world, 1), 6);
    world_close(&world);
}

static void another_epoch_ends_everything(void)
{
    struct world world;
    world_open(&world, SMALL);
    struct cache_state state;
    struct cache_state other;
    const struct cache_read read = begin(&world, 1);
    CHECK(end(&world, 1, &read, 5, &state));
    CHECK(put(&world, 1, "name", &state, 100));
    const struct cache_read under_way = begin(&world, 1);
    atomic_store(&world.epoch, 8);
    CHECK_INT(fresh(&world, 1), 0);
    const struct cache_read anew = begin(&world, 1);
    CHECK(!end(&world, 1, &under_way, 6, &other));
    CHECK(end(&world, 1, &anew, 5, &other));
    CHECK_INT(fresh(&world, 1), 5);
    CHECK_INT(get(&world, 1, "name", &other), 0);
    cache_clear(world.cache);
    CHECK_INT(fresh(&world, 1), 0);
    CHECK_INT((int64_t) cache_bytes(world.cache), 0);
    world_close(&world);
}

static void memory_is_bounded_and_what_is_used_stays(void)
{
    struct world world;
    world_open(&world, SMALL);
    const struct cache_state state = {.epoch = 7, .revision = 5};
    char name[16];
    CHECK(put(&world, 1, "wanted", &state, 1));
    for (unsigned i = 0; i < 10000; i++) {
        (void) snprintf(name, sizeof name, "other%u", i);
        CHECK(put(&world, 1, name, &state, i + 2));
        CHECK_INT(get(&world, 1, "wanted", &state), 1);
        CHECK(cache_bytes(world.cache) <= SMALL);
    }
    CHECK_INT(get(&world, 1, "other0", &state), 0);
    CHECK_INT(get(&world, 1, "other9999", &state), 10001);
    CHECK(cache_bytes(world.cache) > SMALL / 2);
    world_close(&world);
}

static void entry_that_is_held_outlives_its_place_in_the_cache(void)
{
    struct world world;
    world_open(&world, SMALL);
    const struct cache_state state = {.epoch = 7, .revision = 5};
    const struct cache_key key = key_of(1, "name");
    uint64_t content = 0;
    CHECK(put(&world, 1, "name", &state, 100));
    struct cache_entry *held = cache_get(world.cache, &key, &state);
    CHECK(held != NULL);
    CHECK(put(&world, 1, "name", &state, 101));
    cache_clear(world.cache);
    memcpy(&content, cache_content(held), sizeof content);
    cache_release(held);
    CHECK_INT((int64_t) content, 100);
    world_close(&world);
}

static void what_is_too_large_or_has_no_possible_name_is_not_kept(void)
{
    struct world world;
    world_open(&world, SMALL);
    const struct cache_state state = {.epoch = 7, .revision = 5};
    char name[400];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK(!put(&world, 1, name, &state, 1));
    CHECK_INT(get(&world, 1, name, &state), 0);
    const struct cache_key key = key_of(1, "large");
    CHECK(cache_entry_new(world.cache, &key, &state, SMALL) == NULL);
    CHECK(cache_entry_new(world.cache, &key, &state, SIZE_MAX) == NULL);
    world_close(&world);
}

static void names_and_environments_that_read_alike_together_are_different(void)
{
    struct world world;
    world_open(&world, SMALL);
    const struct cache_state state = {.epoch = 7, .revision = 5};
    const struct cache_key one = {CACHE_SECRET, workspace_of(1), {cof_slice_text("ab"), cof_slice_text("c")}};
    const struct cache_key two = {CACHE_SECRET, workspace_of(1), {cof_slice_text("a"), cof_slice_text("bc")}};
    const struct cache_key kind = {CACHE_CALLER, workspace_of(1), {cof_slice_text("ab"), cof_slice_text("c")}};
    cache_put(world.cache, cache_entry_new(world.cache, &one, &state, 8));
    CHECK(cache_get(world.cache, &two, &state) == NULL);
    CHECK(cache_get(world.cache, &kind, &state) == NULL);
    world_close(&world);
}

/* A place that is given to another workspace was not told meanwhile what its first one reached. */
static void read_whose_place_was_given_away_is_not_kept(void)
{
    struct world world;
    world_open(&world, SMALL);
    struct cache_state state;
    const struct cache_read read = begin(&world, 1);
    for (uint32_t i = 2; i < 20000; i++) {
        (void) begin(&world, i);
    }
    reached(&world, 1, 6);
    const struct cache_read again = begin(&world, 1);
    CHECK(!end(&world, 1, &read, 5, &state));
    CHECK(end(&world, 1, &again, 6, &state));
    world_close(&world);
}

static void use_after_a_pause_is_told(void)
{
    struct world world;
    world_open(&world, SMALL);
    CHECK(!cache_in_use(world.cache));
    (void) fresh(&world, 1);
    CHECK_INT(world.used, 1);
    CHECK(cache_in_use(world.cache));
    (void) fresh(&world, 1);
    CHECK_INT(world.used, 1);
    world.now_us += 60000000;
    CHECK(!cache_in_use(world.cache));
    (void) begin(&world, 1);
    CHECK_INT(world.used, 2);
    world_close(&world);
}

/* What is known of workspace 1 while the database is lost. */
static bool older(struct world *world, struct cache_older *ret_older)
{
    const struct cof_uuid uuid = workspace_of(1);
    return cache_older(world->cache, &uuid, ret_older);
}

static void permit(struct world *world, const struct cache_state *state, uint32_t age_ms)
{
    const struct cof_uuid uuid = workspace_of(1);
    cache_permit_older(world->cache, &uuid, state, age_ms);
}

static void older_state_is_there_only_while_the_database_is_lost(void)
{
    struct world world;
    struct cache_state state;
    struct cache_older found;
    world_open(&world, SMALL);
    const struct cache_read read = begin(&world, 1);
    CHECK(end(&world, 1, &read, 5, &state));
    CHECK(!older(&world, &found));
    cache_asks(world.cache);
    world.now_us += CACHE_UNANSWERED_US;
    CHECK(!older(&world, &found)); /* it is slow */
    world.now_us += 1;
    CHECK(older(&world, &found));
    CHECK_INT(found.state.revision, 5);
    CHECK_INT(found.permitted_us, 0);
    cache_answered(world.cache);
    CHECK(!older(&world, &found));
    cache_unanswered(world.cache);
    CHECK(older(&world, &found));
    cache_asks(world.cache); /* once more; what is known stays so until there is an answer */
    CHECK(older(&world, &found));
    CHECK(cache_database_lost(world.cache));
    cache_answered(world.cache);
    CHECK(!cache_database_lost(world.cache));
    world_close(&world);
}

static void older_state_was_right_at_the_last_look_of_its_chain(void)
{
    struct world world;
    struct cache_state state;
    struct cache_older found;
    world_open(&world, SMALL);
    const struct cache_read read = begin(&world, 1);
    CHECK(end(&world, 1, &read, 5, &state));
    world.now_us += 5000;
    const int64_t look_us = world.now_us;
    cache_confirmed(world.cache, look_us);
    cache_unanswered(world.cache);
    for (unsigned chain = 1; chain < 64; chain++) {
        world.now_us += 100;
        cache_doubt(world.cache);
        cache_confirmed(world.cache, world.now_us);
        CHECK(older(&world, &found));
        CHECK_INT(found.confirmed_us, look_us);
    }
    cache_doubt(world.cache); /* so many are remembered; then its own read is what is known */
    cache_confirmed(world.cache, world.now_us);
    CHECK(older(&world, &found));
    CHECK_INT(found.confirmed_us, read.begin_us);
    world.now_us = read.begin_us + CACHE_OLDEST_US;
    CHECK(older(&world, &found));
    world.now_us += 1;
    CHECK(!older(&world, &found));
    world_close(&world);
}

static void what_was_permitted_holds_in_that_state_only(void)
{
    struct world world;
    struct cache_state state;
    struct cache_older found;
    world_open(&world, SMALL);
    const struct cache_read read = begin(&world, 1);
    CHECK(end(&world, 1, &read, 5, &state));
    permit(&world, &state, 60000);
    cache_unanswered(world.cache);
    CHECK(older(&world, &found));
    CHECK_INT(found.permitted_us, 60000000);
    reached(&world, 1, 6);
    permit(&world, &state, 60000);
    CHECK(older(&world, &found));
    CHECK_INT(found.state.revision, 6);
    CHECK_INT(found.permitted_us, 0);
    atomic_store(&world.epoch, 8);
    CHECK(!older(&world, &found));
    world_close(&world);
}

static void carry(struct world *world, uint64_t revision, const char *name)
{
    const struct cof_uuid uuid = workspace_of(1);
    const struct cache_key key = key_of(1, name);
    const struct cache_untold untold = cache_changes_untold(world->cache, &uuid);
    if (untold.place != 0) {
        cache_carry(world->cache, &uuid, &untold, revision, &key, 1);
    }
}

static uint64_t found_older(struct world *world, const char *name)
{
    struct cache_older found;
    return older(world, &found) ? get(world, 1, name, &found.state) : 0;
}

static void what_a_write_did_not_touch_is_of_the_next_state_while_the_database_is_lost(void)
{
    struct world world;
    struct cache_state state;
    struct cache_older found;
    world_open(&world, SMALL);
    const struct cache_read read = begin(&world, 1);
    CHECK(end(&world, 1, &read, 5, &state));
    CHECK(put(&world, 1, "one", &state, 1));
    CHECK(put(&world, 1, "other", &state, 2));
    permit(&world, &state, 60000);
    reached(&world, 1, 6);
    cache_unanswered(world.cache);
    CHECK_INT(found_older(&world, "one"), 0);
    carry(&world, 6, "one");
    CHECK_INT(found_older(&world, "one"), 0);
    CHECK_INT(found_older(&world, "other"), 2);
    CHECK(older(&world, &found));
    CHECK_INT(found.permitted_us, 60000000);
    /* Not where it has to be fresh. */
    const struct cache_state last = {.epoch = state.epoch, .revision = 6};
    CHECK_INT(get(&world, 1, "other", &last), 0);
    /* One write of which nobody knows what it touched ends all that. */
    reached(&world, 1, 8);
    carry(&world, 8, "one");
    CHECK_INT(found_older(&world, "other"), 0);
    CHECK(older(&world, &found));
    CHECK_INT(found.permitted_us, 0);
    world_close(&world);
}

TEST_MAIN(TEST(what_a_write_did_not_touch_is_of_the_next_state_while_the_database_is_lost),
          TEST(hash_is_the_published_one), TEST(nothing_is_fresh_before_it_was_read),
          TEST(read_is_fresh_for_the_limit_counted_from_before_it_was_sent),
          TEST(looks_of_the_job_keep_it_fresh_until_there_is_doubt),
          TEST(write_ends_the_use_of_what_was_kept_of_its_workspace_and_of_no_other),
          TEST(read_that_is_older_than_what_is_known_is_not_kept), TEST(another_epoch_ends_everything),
          TEST(memory_is_bounded_and_what_is_used_stays), TEST(entry_that_is_held_outlives_its_place_in_the_cache),
          TEST(what_is_too_large_or_has_no_possible_name_is_not_kept),
          TEST(names_and_environments_that_read_alike_together_are_different),
          TEST(read_whose_place_was_given_away_is_not_kept), TEST(use_after_a_pause_is_told),
          TEST(older_state_is_there_only_while_the_database_is_lost),
          TEST(older_state_was_right_at_the_last_look_of_its_chain),
          TEST(what_was_permitted_holds_in_that_state_only))
