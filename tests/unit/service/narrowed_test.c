#include "common/secret.h"
#include "server/service/narrowed.h"
#include "tests/support/test.h"
#include "tests/unit/crypto/started.h"

/* What the clock and the run decide; the rest is asked for by unit/service/rights and integration/server/narrowed. */

enum { POOL = 1 << 20, SECOND_MS = 1000 };

/* A service with a clock that stands, and one call in it. */
struct fixture {
    int64_t now_us;
    struct cof_clock clock;
    struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_error err;
    struct service service;
    struct call call;
};

static int64_t standing_clock(void *context)
{
    return ((const struct fixture *) context)->now_us;
}

static void fixture_init(struct fixture *fixture)
{
    started();
    *fixture = (struct fixture){.clock = {standing_clock, standing_clock, fixture}};
    fixture->service.clock = &fixture->clock;
    fixture->call = (struct call){.service = &fixture->service, .arena = &fixture->arena, .err = &fixture->err};
    CHECK_OK(cof_pool_new(POOL, COF_LOCK_BEST_EFFORT, &fixture->pool, &fixture->err), &fixture->err);
    cof_arena_init(&fixture->arena, fixture->pool, POOL);
}

static void fixture_done(struct fixture *fixture)
{
    cof_arena_reset(&fixture->arena);
    cof_pool_free(fixture->pool);
}

/* A token that is narrowed in these two steps. */
static cof_code narrow_twice(const struct cof_narrowing *first, const struct cof_narrowing *second,
                             struct cof_narrowed *ret_narrowed, struct cof_error *err)
{
    const struct cof_token token = {.kind = COF_TOKEN_FLEET, .id = cof_uuid_random()};
    char text[COF_NARROWED_TEXT];
    cof_token_format(&token, text);
    TRY(cof_narrow(cof_slice_text(text), first, crypto_hmac, text, err));
    TRY(cof_narrow(cof_slice_text(text), second, crypto_hmac, text, err));
    return cof_narrowed_parse(cof_slice_text(text), ret_narrowed, err);
}

static void expiry_ends_at_its_millisecond_and_the_earliest_one_counts(void)
{
    static const struct {
        uint64_t first_ms;
        uint64_t second_ms;
        int64_t now_us;
        bool expired;
    } cases[] = {
        {5000, 9000, 4999999, false},
        {5000, 9000, 5000000, true},
        {9000, 5000, 4999999, false},
        {9000, 5000, 5000000, true},
        {5000, 9000, 5000001, true},
        {0, UINT64_MAX, 0, true},
        {1, UINT64_MAX, 999, false},
        {UINT64_MAX, UINT64_MAX, INT64_MAX, false},
        {INT64_MAX, (uint64_t) INT64_MAX + 1, INT64_MAX, false},
        {INT64_MAX / 1000, UINT64_MAX, INT64_MAX, true},
        {INT64_MAX / 1000 + 1, UINT64_MAX, INT64_MAX, false},
    };
    AUTO(fixture_done) struct fixture fixture;
    fixture_init(&fixture);
    for (size_t i = 0; i < COF_COUNT(cases); i++) {
        const struct cof_narrowing first = {.expires = true, .expire_ms = cases[i].first_ms};
        const struct cof_narrowing second = {.expires = true, .expire_ms = cases[i].second_ms};
        static struct cof_narrowed narrowed; /* too large for a frame beside a fixture */
        CHECK_OK(narrow_twice(&first, &second, &narrowed, &fixture.err), &fixture.err);
        fixture.now_us = cases[i].now_us;
        const cof_code code = narrowed_check_expiry(&fixture.call, &narrowed);
        CHECK_INT(code, cases[i].expired ? COF_UNAUTHENTICATED : COF_OK);
        CHECK(code == COF_OK || fixture.err.reason == COF_REASON_TOKEN_EXPIRED);
    }
}

static void run_and_workflow_must_both_be_those_that_are_named(void)
{
    const struct cof_narrowing run = {.run_id = cof_slice_text("r")};
    const struct cof_narrowing workflow = {.workflow_id = cof_slice_text("w")};
    const struct cof_narrowing other = {.run_id = cof_slice_text("other")};
    static struct cof_narrowed narrowed; /* too large for a frame beside a fixture */
    struct cof_error err;
    started();
    CHECK_OK(narrow_twice(&run, &workflow, &narrowed, &err), &err);
    CHECK(narrowed_permits_run(&narrowed, cof_slice_text("w"), cof_slice_text("r")));
    CHECK(!narrowed_permits_run(&narrowed, cof_slice_text(""), cof_slice_text("r")));
    CHECK(!narrowed_permits_run(&narrowed, cof_slice_text("w"), cof_slice_text("")));
    CHECK(!narrowed_permits_run(&narrowed, cof_slice_text("w"), cof_slice_text("rr")));
    CHECK(!narrowed_permits_run(&narrowed, cof_slice_text("r"), cof_slice_text("w")));
    CHECK_OK(narrow_twice(&run, &other, &narrowed, &err), &err);
    CHECK(!narrowed_permits_run(&narrowed, cof_slice_text(""), cof_slice_text("r")));
    CHECK(!narrowed_permits_run(&narrowed, cof_slice_text(""), cof_slice_text("other")));
}

static void rules_permit_resolving_and_nothing_else(void)
{
    const struct cof_narrowing run = {.run_id = cof_slice_text("r")};
    const struct cof_narrowing expiry = {.expires = true, .expire_ms = SECOND_MS};
    static struct cof_narrowed narrowed; /* too large for a frame beside a fixture */
    struct rule_set rules;
    AUTO(fixture_done) struct fixture fixture;
    fixture_init(&fixture);
    CHECK_OK(narrow_twice(&run, &expiry, &narrowed, &fixture.err), &fixture.err);
    CHECK_OK(narrowed_rules(&fixture.call, &narrowed, &rules), &fixture.err);
    for (int permission = 0; permission < COF_PERMISSION_COUNT; permission++) {
        const struct right right = {.permission = (cof_permission) permission,
                                    .workspace = cof_uuid_random(),
                                    .environment = cof_slice_text("e"),
                                    .name = cof_slice_text("n")};
        CHECK_INT(rights_all_permit(&rules, &right), permission == COF_PERMISSION_RESOLVE);
        CHECK_INT(rights_all_permit_somewhere(&rules, right.permission, NULL),
                  permission == COF_PERMISSION_RESOLVE);
    }
}

static void unknown_token_costs_the_same_hmacs_and_never_fits(void)
{
    const struct cof_narrowing run = {.run_id = cof_slice_text("r")};
    static struct cof_narrowed narrowed; /* too large for a frame beside a fixture */
    AUTO(fixture_done) struct fixture fixture;
    fixture_init(&fixture);
    CHECK_OK(narrow_twice(&run, &run, &narrowed, &fixture.err), &fixture.err);
    bool fits = true;
    CHECK_OK(narrowed_check(&fixture.call, &narrowed, NULL, &fits), &fixture.err);
    CHECK(!fits);
    /* Not even with the tag that the key of nothing gives. */
    uint8_t tag[COF_NARROWED_TAG];
    CHECK_OK(cof_narrowed_compute(&narrowed, (uint8_t[COF_NARROWED_KEY]){0}, crypto_hmac, tag, &fixture.err),
             &fixture.err);
    memcpy(narrowed.bytes + narrowed.len - sizeof tag, tag, sizeof tag);
    fits = true;
    CHECK_OK(narrowed_check(&fixture.call, &narrowed, NULL, &fits), &fixture.err);
    CHECK(!fits);
}

TEST_MAIN(TEST(expiry_ends_at_its_millisecond_and_the_earliest_one_counts),
          TEST(run_and_workflow_must_both_be_those_that_are_named), TEST(rules_permit_resolving_and_nothing_else),
          TEST(unknown_token_costs_the_same_hmacs_and_never_fits))
