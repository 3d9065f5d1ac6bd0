/* What a refresh writes (server/service/refresh_rows.h), in a real database, with real keys. */
#include "server/service/guard.h"
#include "server/service/refresh_rows.h"
#include "tests/support/pg.h"
#include "tests/support/test.h"

#define SECOND INT64_C(1000000)
#define WORKSPACE "'00000000-0000-0000-0000-000000000001'"
#define CONNECTION "'00000000-0000-0000-0000-000000000002'"
#define NOBODY "'00000000-0000-0000-0000-000000000000'"

static const struct cof_uuid workspace = {.bytes = {[15] = 1}};
static const struct cof_uuid connection = {.bytes = {[15] = 2}};
static const struct cof_uuid server_id = {.bytes = {[15] = 3}};
static const struct provider provider = {.id = "github", .refresh_rotates = true};

/* A server without a network: keys, a session, and calls of its own. */
static struct fixture {
    struct test_database database;
    struct cof_error err;
    struct cof_pool *pool;
    struct service service;
    struct session *session;
    struct cof_arena arena;
    struct call call;
    struct refresh_rows rows;
} fixture;

static struct call *next_call(void)
{
    cof_arena_reset(&fixture.arena);
    fixture.call = (struct call){
        .service = &fixture.service,
        .session = fixture.session,
        .arena = &fixture.arena,
        .err = &fixture.err,
        .method = "cofferd/RefreshConnection",
        .peer = "cofferd",
        .request_id = cof_uuid_time(&cof_system_clock),
        .received_us = cof_clock_monotonic(&cof_system_clock),
        .deadline_us = cof_clock_monotonic(&cof_system_clock) + 60 * SECOND,
    };
    return &fixture.call;
}

static void insert_rows(const char *conninfo)
{
    test_database_run(conninfo,
                      "insert into workspace_revision values (" WORKSPACE ", 7, 1, 1);"
                      "insert into connection values (" WORKSPACE "," CONNECTION
                      ", 'prod', 'github', 0, 1, 1, 1, 'client', '{}', '', '', 1, 1, 1, 'epoch', 'epoch', 1, '');"
                      "insert into connection_token values (" WORKSPACE "," CONNECTION
                      ", 1, 1, 2, '', '', 'bearer', '{}', 'epoch', 'epoch', null, " NOBODY ", null, 1, '');"
                      "insert into connection_lease values (" WORKSPACE "," CONNECTION ", 0, " NOBODY
                      ", null, 1, 0, 0, null, null, null, null, 0, '')");
}

static cof_code run(statement id, const struct param *params, size_t count)
{
    TRY(session_queue(fixture.session, id, params, count, &fixture.err));
    TRY(session_sync(fixture.session, &fixture.err));
    return session_next(fixture.session, NULL, &fixture.err);
}

static cof_code insert_key(void)
{
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    TRY(keyring_generate(fixture.service.keyring, &workspace, 1, wrapped, &fixture.err));
    const struct param params[] = {param_uuid(&workspace), param_i32(1),
                                   param_text(cof_slice_of(wrapped, sizeof wrapped)), param_time(0)};
    return run(STATEMENT_KEY_INSERT, params, COF_COUNT(params));
}

/* The MACs of rows that were inserted by hand, and a refresh token to begin with. */
static cof_code guard_rows(struct call *call)
{
    struct connection_row row = {.workspace_id = workspace,
                                 .connection_id = connection,
                                 .environment = cof_slice_text("prod"),
                                 .provider = cof_slice_text("github"),
                                 .class = CONNECTION_USER,
                                 .grant_kind = 1,
                                 .client_authentication = 1,
                                 .client_id = cof_slice_text("client"),
                                 .settings = cof_slice_text(""),
                                 .credentials = cof_slice_text(""),
                                 .credential_generation = 1,
                                 .config_generation = 1,
                                 .version = 1};
    struct connection_token_row token = {.workspace_id = workspace,
                                         .connection_id = connection,
                                         .generation = 1,
                                         .config_generation = 1,
                                         .state = CONNECTION_CONNECTED,
                                         .access_token = cof_slice_text(""),
                                         .token_type = cof_slice_text("bearer"),
                                         .refresh_expire_time = ROW_NO_TIME,
                                         .connect_time = ROW_NO_TIME};
    const struct cof_slice none = cof_slice_text("");
    const struct cof_slice refresh = cof_slice_text("first-refresh");
    static uint8_t sealed[64 + BLOB_OVERHEAD];
    const struct blob_address address = {BLOB_REFRESH_TOKEN, workspace, connection, 1};
    TRY(guard_load_keys(call, &workspace));
    TRY(guard_seal(call, &address, refresh, sealed));
    token.refresh_token = cof_slice_of(sealed, refresh.len + BLOB_OVERHEAD);
    TRY(guard_seal_row(call, &connection_row_type, &workspace, &row));
    TRY(guard_seal_row(call, &connection_token_row_type, &workspace, &token));
    const struct param first[] = {param_uuid(&workspace),        param_uuid(&connection), param_text(none),
                                  param_i32(row.mac_generation), param_text(row.mac),     param_text(none)};
    TRY(run(STATEMENT_RESEAL_CONNECTION, first, COF_COUNT(first)));
    const struct param second[] = {
        param_uuid(&workspace),          param_uuid(&connection), param_text(none), param_text(token.refresh_token),
        param_i32(token.mac_generation), param_text(token.mac),   param_text(none)};
    return run(STATEMENT_RESEAL_CONNECTION_TOKEN, second, COF_COUNT(second));
}

static cof_code start(void)
{
    static const uint8_t root[CRYPTO_KEY] = {7};
    struct root_key *key = NULL;
    struct cof_error *err = &fixture.err;
    fixture.service = (struct service){.clock = &cof_system_clock, .limits = service_default_limits};
    TRY(root_key_new(root, &key, err));
    TRY(keyring_new(&key, 1, 4, &fixture.service.keyring, err));
    TRY(cof_pool_new(1 << 22, COF_LOCK_BEST_EFFORT, &fixture.pool, err));
    cof_arena_init(&fixture.arena, fixture.pool, 1 << 20);
    test_database_init(&fixture.database);
    insert_rows(fixture.database.conninfo);
    const struct session_options options = {
        .conninfo = fixture.database.conninfo, .clock = &cof_system_clock, .connect_timeout_ms = 60000};
    TRY(session_new(&options, &fixture.session, err));
    TRY(insert_key());
    return guard_rows(next_call());
}

static void stop(void)
{
    session_free(fixture.session);
    cof_arena_reset(&fixture.arena);
    cof_pool_free(fixture.pool);
    keyring_free(fixture.service.keyring);
    test_database_done(&fixture.database);
    fixture = (struct fixture){0};
}

static cof_code claim(struct refresh_lease *ret_lease)
{
    return refresh_rows_claim(next_call(), &workspace, &connection, &server_id, 60 * SECOND, ret_lease,
                              &fixture.rows);
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
    const struct param params[] = {param_uuid(&workspace), param_i64(0), param_i64(100)};
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
    CHECK_OK(start(), &fixture.err);
    CHECK_OK(claim(&lease), &fixture.err);
    CHECK(lease.taken && !lease.lapsed && lease.fence == 1);
    refresh_rows_facts(&fixture.rows, &provider, &facts);
    CHECK(facts.exists && facts.obtainable && facts.expires == 0 && facts.rotation == REFRESH_ROTATES_PERHAPS);
    const struct refresh_action store = action(1, REFRESH_CONNECTED);
    const struct refresh_tokens tokens = {.access_token = cof_slice_text("new-access")};
    CHECK_OK(refresh_rows_store(&fixture.call, &fixture.rows, &store, &tokens, &stored), &fixture.err);
    CHECK(stored);
    CHECK_INT(revision(), 8);
    CHECK_OK(claim(&lease), &fixture.err); /* it was given back */
    CHECK(lease.taken && lease.fence == 2);
    CHECK_INT(fixture.rows.token.generation, 2);
    CHECK_INT(fixture.rows.lease.generation, 2);
    CHECK_OK(refresh_rows_access_token(&fixture.call, &fixture.rows, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("new-access")));
    CHECK_OK(refresh_rows_refresh_token(&fixture.call, &fixture.rows, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("first-refresh"))); /* none came, so the old one stays */
    stop();
}

static void what_comes_too_late_changes_nothing(void)
{
    struct refresh_lease lease;
    struct cof_slice token;
    bool stored = true;
    CHECK_OK(start(), &fixture.err);
    CHECK_OK(claim(&lease), &fixture.err);
    const struct refresh_action store = action(1, REFRESH_CONNECTED);
    const struct refresh_tokens first = {.access_token = cof_slice_text("a"), .refresh_token = cof_slice_text("b")};
    const struct refresh_tokens late = {.access_token = cof_slice_text("c"), .refresh_token = cof_slice_text("d")};
    CHECK_OK(refresh_rows_store(&fixture.call, &fixture.rows, &store, &first, &stored), &fixture.err);
    CHECK_OK(refresh_rows_store(&fixture.call, &fixture.rows, &store, &late, &stored), &fixture.err);
    CHECK(!stored);
    CHECK_INT(revision(), 8);
    CHECK_OK(refresh_rows_read(next_call(), &workspace, &connection, &fixture.rows), &fixture.err);
    CHECK_OK(refresh_rows_refresh_token(&fixture.call, &fixture.rows, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("b")));
    stop();
}

static void a_dead_grant_keeps_its_tokens_and_its_state_is_a_write(void)
{
    struct refresh_lease lease;
    struct cof_slice token;
    CHECK_OK(start(), &fixture.err);
    CHECK_OK(claim(&lease), &fixture.err);
    const struct refresh_action release = action(1, REFRESH_REAUTHORIZE);
    const struct refresh_failure failure = {COF_REASON_REAUTH_REQUIRED, cof_slice_text("invalid_grant")};
    CHECK_OK(refresh_rows_release(&fixture.call, &fixture.rows, &release, &failure), &fixture.err);
    CHECK_INT(revision(), 8);
    CHECK_OK(refresh_rows_read(next_call(), &workspace, &connection, &fixture.rows), &fixture.err);
    CHECK_INT(fixture.rows.token.state, CONNECTION_REAUTH_REQUIRED);
    CHECK_INT(fixture.rows.token.generation, 1);
    CHECK_INT(fixture.rows.lease.error_reason, COF_REASON_REAUTH_REQUIRED);
    CHECK(fixture.rows.lease.lease_until == ROW_NO_TIME);
    CHECK_OK(refresh_rows_refresh_token(&fixture.call, &fixture.rows, &token), &fixture.err);
    CHECK(cof_slice_equal(token, cof_slice_text("first-refresh")));
    stop();
}

static void a_failure_that_changes_no_state_raises_no_revision(void)
{
    struct refresh_lease lease;
    struct refresh_facts facts;
    CHECK_OK(start(), &fixture.err);
    CHECK_OK(claim(&lease), &fixture.err);
    const struct refresh_action release = action(1, REFRESH_CONNECTED);
    const struct refresh_failure failure = {COF_REASON_PROVIDER_UNAVAILABLE, cof_slice_text("503")};
    CHECK_OK(refresh_rows_release(&fixture.call, &fixture.rows, &release, &failure), &fixture.err);
    CHECK_INT(revision(), 7);
    CHECK_OK(refresh_rows_read(next_call(), &workspace, &connection, &fixture.rows), &fixture.err);
    refresh_rows_facts(&fixture.rows, &provider, &facts);
    CHECK_INT(facts.failures, 1);
    CHECK(facts.next == REFRESH_NEVER);
    stop();
}

static void rows_that_were_edited_are_refreshed_by_nobody(void)
{
    struct refresh_lease lease;
    CHECK_OK(start(), &fixture.err);
    test_database_run(fixture.database.conninfo, "update connection set provider = 'gitlab'");
    CHECK_FAILS(claim(&lease), &fixture.err, CORRUPTED);
    test_database_run(fixture.database.conninfo, "update connection set provider = 'github'");
    CHECK_OK(claim(&lease), &fixture.err);
    test_database_run(fixture.database.conninfo, "update connection_token set expire_time = 'infinity'");
    CHECK_FAILS(claim(&lease), &fixture.err, CORRUPTED);
    stop();
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(what_came_takes_the_place_of_what_was_there_and_raises_the_revision),
        TEST(what_comes_too_late_changes_nothing),
        TEST(a_dead_grant_keeps_its_tokens_and_its_state_is_a_write),
        TEST(a_failure_that_changes_no_state_raises_no_revision),
        TEST(rows_that_were_edited_are_refreshed_by_nobody),
    };
    struct cof_error err;
    if (crypto_start(1 << 19, 0, &err) != COF_OK) {
        return 1;
    }
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
