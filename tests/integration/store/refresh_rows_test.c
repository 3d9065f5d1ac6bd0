/* What a refresh writes (server/service/refresh_rows.h), in a real database, with real keys. */
#include "server/service/refresh_rows.h"
#include "server/service/token_clock.h"
#include "tests/integration/store/connections.h"
#include "tests/support/test.h"

#define SECOND INT64_C(1000000)
#define DAY (86400 * SECOND)

static const struct cof_uuid server_id = {.bytes = {[15] = 3}};
static const struct cof_uuid other_server_id = {.bytes = {[15] = 4}};
static const struct provider provider = {.id = "p0", .refresh_rotates = true};

static struct connections fixture;
static struct refresh_rows rows_read;

static cof_code claim_as(const struct cof_uuid *server, struct refresh_lease *ret_lease)
{
    const struct cof_uuid connection = connections_uuid(0);
    return refresh_rows_claim(connections_call(&fixture), &connections_workspace, &connection, server, 60 * SECOND,
                              ret_lease, &rows_read);
}

static cof_code claim(struct refresh_lease *ret_lease)
{
    return claim_as(&server_id, ret_lease);
}

static cof_code read_rows(void)
{
    const struct cof_uuid connection = connections_uuid(0);
    return refresh_rows_read(connections_call(&fixture), &connections_workspace, &connection, &rows_read);
}

static struct refresh_action action(int64_t fence, refresh_status status)
{
    return (struct refresh_action){.fence = fence,
                                   .generation = 1,
                                   .tries = 0,
                                   .failures = 1,
                                   .next = REFRESH_NEVER,
                                   .status = status,
                                   .obtained = 100 * SECOND,
                                   .expires = 3700 * SECOND};
}

static int64_t revision(void)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(&connections_workspace), param_i64(0), param_i64(100)};
    if (session_queue(fixture.session, STATEMENT_CHANGE_LIST, params, 3, &fixture.err) != COF_OK ||
        session_sync(fixture.session, &fixture.err) != COF_OK ||
        session_next(fixture.session, &rows, &fixture.err) != COF_OK) {
        return -1;
    }
    return rows_i64(rows, 0, 0);
}

static void what_came_takes_the_place_of_what_was_there_and_raises_the_revision(void)
{
    struct refresh_lease lease;
    struct refresh_facts facts;
    struct cof_slice token;
    bool stored = false;
    CHECK_OK(connections_start(&fixture, 1), &fixture.err);
    CHECK_OK(claim(&lease), &fixture.err);
    CHECK(lease.taken && !lease.lapsed && lease.fence == 1);
    refresh_rows_facts(&rows_read, &provider, &facts);
    CHECK(facts.exists && facts.obtainable && facts.expires == 0 && facts.rotation == REFRESH_ROTATES_PERHAPS);
    const struct refresh_action store = action(1, REFRESH_CONNECTED);
    const struct refresh_tokens tokens = {.access_token = cof_slice_text("new-access")};
    CHECK_OK(refresh_rows_store(&fixture.call, &rows_read, &store, &tokens, &stored), &fixture.err);
    CHECK(stored);
    CHECK_INT(revision(), 8);
    CHECK_OK(claim(&lease), &fixture.err); /* it was given back */
    CHECK(lease.taken && lease.fence == 2);
    CHECK_INT(rows_read.token.generation, 2);
    CHECK_INT(rows_read.lease.generation, 2);
    CHECK_OK(refresh_rows_access_token(&fixture.call, &rows_read, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("new-access")));
    CHECK_OK(refresh_rows_refresh_token(&fixture.call, &rows_read, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("0-0"))); /* none came, so the old one stays */
    connections_stop(&fixture);
}

static void what_comes_too_late_changes_nothing(void)
{
    struct refresh_lease lease;
    struct cof_slice token;
    bool stored = true;
    CHECK_OK(connections_start(&fixture, 1), &fixture.err);
    CHECK_OK(claim(&lease), &fixture.err);
    const struct refresh_action store = action(1, REFRESH_CONNECTED);
    const struct refresh_tokens first = {.access_token = cof_slice_text("a"), .refresh_token = cof_slice_text("b")};
    const struct refresh_tokens late = {.access_token = cof_slice_text("c"), .refresh_token = cof_slice_text("d")};
    CHECK_OK(refresh_rows_store(&fixture.call, &rows_read, &store, &first, &stored), &fixture.err);
    CHECK_OK(refresh_rows_store(&fixture.call, &rows_read, &store, &late, &stored), &fixture.err);
    CHECK(!stored);
    CHECK_INT(revision(), 8);
    CHECK_OK(read_rows(), &fixture.err);
    CHECK_OK(refresh_rows_refresh_token(&fixture.call, &rows_read, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("b")));
    connections_stop(&fixture);
}

static void a_dead_grant_keeps_its_tokens_and_its_state_is_a_write(void)
{
    struct refresh_lease lease;
    struct cof_slice token;
    CHECK_OK(connections_start(&fixture, 1), &fixture.err);
    CHECK_OK(claim(&lease), &fixture.err);
    const struct refresh_action release = action(1, REFRESH_REAUTHORIZE);
    const struct refresh_failure failure = {COF_REASON_REAUTH_REQUIRED, cof_slice_text("invalid_grant")};
    CHECK_OK(refresh_rows_release(&fixture.call, &rows_read, &release, &failure), &fixture.err);
    CHECK_INT(revision(), 8);
    CHECK_OK(read_rows(), &fixture.err);
    CHECK_INT(rows_read.token.state, CONNECTION_REAUTH_REQUIRED);
    CHECK_INT(rows_read.token.generation, 1);
    CHECK_INT(rows_read.lease.error_reason, COF_REASON_REAUTH_REQUIRED);
    CHECK(rows_read.lease.lease_until == ROW_NO_TIME);
    CHECK_OK(refresh_rows_refresh_token(&fixture.call, &rows_read, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("0-0")));
    connections_stop(&fixture);
}

static void a_failure_that_changes_no_state_raises_no_revision(void)
{
    struct refresh_lease lease;
    struct refresh_facts facts;
    CHECK_OK(connections_start(&fixture, 1), &fixture.err);
    CHECK_OK(claim(&lease), &fixture.err);
    const struct refresh_action release = action(1, REFRESH_CONNECTED);
    const struct refresh_failure failure = {COF_REASON_PROVIDER_UNAVAILABLE, cof_slice_text("503")};
    CHECK_OK(refresh_rows_release(&fixture.call, &rows_read, &release, &failure), &fixture.err);
    CHECK_INT(revision(), 7);
    CHECK_OK(read_rows(), &fixture.err);
    refresh_rows_facts(&rows_read, &provider, &facts);
    CHECK_INT(facts.failures, 1);
    CHECK(facts.next == REFRESH_NEVER);
    connections_stop(&fixture);
}

static void rows_that_were_edited_are_refreshed_by_nobody(void)
{
    struct refresh_lease lease;
    CHECK_OK(connections_start(&fixture, 1), &fixture.err);
    test_database_run(fixture.database.conninfo, "update connection set provider = 'gitlab'");
    CHECK_FAILS(claim(&lease), &fixture.err, CORRUPTED);
    test_database_run(fixture.database.conninfo, "update connection set provider = 'p0'");
    CHECK_OK(claim(&lease), &fixture.err);
    test_database_run(fixture.database.conninfo, "update connection_token set expire_time = 'infinity'");
    CHECK_FAILS(claim(&lease), &fixture.err, CORRUPTED);
    connections_stop(&fixture);
}

/* A server looks every second; what it does meanwhile goes by what the others have seen. */
static void time_that_another_server_noticed_counts_before_this_one_has_looked(void)
{
    struct refresh_lease lease;
    bool recorded = false;
    CHECK_OK(connections_start(&fixture, 1), &fixture.err);
    CHECK_OK(token_clock_new(&fixture.service.token_clock, &fixture.err), &fixture.err);
    CHECK_OK(read_rows(), &fixture.err);
    const int64_t mono = cof_clock_monotonic(&cof_system_clock);
    CHECK_INT(token_clock_look(fixture.service.token_clock, mono, mono, rows_read.database_time, 0), 0);
    test_database_run(fixture.database.conninfo, "insert into instance values (1, 1, 1, 1, '12345678',"
                                                 " '12345678901234567890123456789012', '', 86400000000)");
    CHECK_OK(claim(&lease), &fixture.err);
    CHECK(lease.taken);
    CHECK(rows_read.time >= rows_read.database_time + DAY);
    CHECK(rows_read.lease.lease_until >= rows_read.database_time + DAY + 59 * SECOND);
    CHECK_OK(claim_as(&other_server_id, &lease), &fixture.err);
    CHECK(!lease.taken);
    const struct refresh_action record = action(1, REFRESH_CONNECTED);
    CHECK_OK(refresh_rows_record(&fixture.call, &rows_read, &record, 90 * SECOND, &recorded), &fixture.err);
    CHECK(recorded);
    CHECK_OK(read_rows(), &fixture.err);
    CHECK(rows_read.lease.lease_until >= rows_read.database_time + DAY + 60 * SECOND);
    token_clock_free(fixture.service.token_clock);
    connections_stop(&fixture);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(what_came_takes_the_place_of_what_was_there_and_raises_the_revision),
        TEST(what_comes_too_late_changes_nothing),
        TEST(a_dead_grant_keeps_its_tokens_and_its_state_is_a_write),
        TEST(a_failure_that_changes_no_state_raises_no_revision),
        TEST(rows_that_were_edited_are_refreshed_by_nobody),
        TEST(time_that_another_server_noticed_counts_before_this_one_has_looked),
    };
    struct cof_error err;
    if (crypto_start(1 << 19, 0, &err) != COF_OK) {
        return 1;
    }
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
