/* Leases of connections (docs/decisions/0022-refresh.md): what the statements do in a real database, together. */
#include <pthread.h>

#include "common/error.h"
#include "server/store/session.h"
#include "tests/support/pg.h"
#include "tests/support/test.h"

enum { SERVERS = 8, ROUNDS = 25, HOUR_US = INT32_MAX };

static struct test_database database;

static struct cof_uuid uuid(uint8_t number)
{
    return (struct cof_uuid){.bytes = {[15] = number}};
}

static struct session *connect_session(void)
{
    struct cof_error err;
    struct session *session = NULL;
    const struct session_options options = {
        .conninfo = database.conninfo, .clock = &cof_system_clock, .connect_timeout_ms = 60000};
    return session_new(&options, &session, &err) == COF_OK ? session : NULL;
}

/* One connection of workspace 1, whose tokens and lease are at generation 1. */
static void begin(void)
{
    test_database_init(&database);
    test_database_run(
        database.conninfo,
        "insert into connection_lease values ('00000000-0000-0000-0000-000000000001',"
        " '00000000-0000-0000-0000-000000000002', 0, '00000000-0000-0000-0000-000000000000', null, 1, 0,"
        " 0, now(), null, null, null, 0, '')");
}

/* The fence, or 0: somebody has it. */
static int64_t claim(struct session *session, uint8_t holder, int64_t lease_us, bool *ret_lapsed,
                     struct cof_error *err)
{
    const struct cof_uuid workspace = uuid(1);
    const struct cof_uuid connection = uuid(2);
    const struct cof_uuid server = uuid(holder);
    AUTO(rows_cleanup) struct rows *look = NULL;
    AUTO(rows_cleanup) struct rows *taken = NULL;
    const struct param params[] = {param_uuid(&workspace), param_uuid(&connection), param_uuid(&server),
                                   param_i64(0),           param_i64(lease_us),     param_null()};
    if (session_queue(session, STATEMENT_LEASE_LOOK, params, 4, err) != COF_OK ||
        session_queue(session, STATEMENT_LEASE_TAKE, params, 6, err) != COF_OK ||
        session_sync(session, err) != COF_OK || session_next(session, &look, err) != COF_OK ||
        session_next(session, &taken, err) != COF_OK) {
        return -1;
    }
    if (ret_lapsed != NULL) {
        *ret_lapsed = rows_count(look) == 1 && rows_bool(look, 0, 0);
    }
    return rows_count(taken) == 1 ? rows_i64(taken, 0, 0) : 0;
}

/* Rows that a statement changes; -1: it failed. */
static int changes(struct session *session, statement id, const struct param *more, size_t count,
                   struct cof_error *err)
{
    const struct cof_uuid workspace = uuid(1);
    const struct cof_uuid connection = uuid(2);
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct param params[SESSION_PARAMS_MAX] = {param_uuid(&workspace), param_uuid(&connection)};
    memcpy(params + 2, more, count * sizeof *more);
    if (session_queue(session, id, params, count + 2, err) != COF_OK || session_sync(session, err) != COF_OK ||
        session_next(session, &rows, err) != COF_OK) {
        return -1;
    }
    return (int) rows_affected(rows);
}

static int record(struct session *session, int64_t fence, int64_t generation, struct cof_error *err)
{
    const struct param params[] = {param_i64(fence),  param_i64(generation), param_i32(1), param_i64(HOUR_US),
                                   param_bool(false), param_i64(0),          param_null()};
    return changes(session, STATEMENT_LEASE_RECORD, params, 7, err);
}

static int stored(struct session *session, int64_t fence, int64_t generation, struct cof_error *err)
{
    const struct param params[] = {param_i64(fence), param_i64(generation), param_i32(0), param_null()};
    return changes(session, STATEMENT_LEASE_STORED, params, 4, err);
}

static int release(struct session *session, int64_t fence, struct cof_error *err)
{
    const struct param params[] = {param_i64(fence),
                                   param_i64(1),
                                   param_i32(0),
                                   param_i32(1),
                                   param_null(),
                                   param_i32(0),
                                   param_text(cof_slice_text(""))};
    return changes(session, STATEMENT_LEASE_RELEASE, params, 7, err);
}

struct server {
    uint8_t number;
    pthread_barrier_t *barrier;
    int64_t fences[ROUNDS];
};

/* Everybody asks at once; who gets it gives it back when all have asked. */
static void *ask(void *context)
{
    struct server *server = context;
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = connect_session();
    for (int i = 0; i < ROUNDS; i++) {
        (void) pthread_barrier_wait(server->barrier);
        server->fences[i] = session == NULL ? -1 : claim(session, server->number, HOUR_US, NULL, &err);
        (void) pthread_barrier_wait(server->barrier);
        if (server->fences[i] > 0 && release(session, server->fences[i], &err) != 1) {
            server->fences[i] = -1;
        }
    }
    return NULL;
}

static void one_of_many_servers_gets_a_lease_and_each_fence_is_new(void)
{
    static struct server servers[SERVERS];
    pthread_barrier_t barrier;
    pthread_t threads[SERVERS];
    begin();
    CHECK(pthread_barrier_init(&barrier, NULL, SERVERS) == 0);
    for (int i = 0; i < SERVERS; i++) {
        servers[i] = (struct server){.number = (uint8_t) (i + 10), .barrier = &barrier};
        CHECK(pthread_create(&threads[i], NULL, ask, &servers[i]) == 0);
    }
    for (int i = 0; i < SERVERS; i++) {
        (void) pthread_join(threads[i], NULL);
    }
    (void) pthread_barrier_destroy(&barrier);
    for (int round = 0; round < ROUNDS; round++) {
        int64_t sum = 0;
        for (int i = 0; i < SERVERS; i++) {
            CHECK(servers[i].fences[round] >= 0);
            sum += servers[i].fences[round];
        }
        CHECK_INT(sum, round + 1); /* one has the next fence, the others none */
    }
    test_database_done(&database);
}

static void a_lease_that_ran_out_is_taken_and_its_holder_can_do_nothing_under_it(void)
{
    struct cof_error err;
    bool lapsed = false;
    begin();
    AUTO(session_cleanup) struct session *session = connect_session();
    CHECK(session != NULL);
    CHECK_INT(claim(session, 10, 0, &lapsed, &err), 1);
    CHECK(!lapsed);
    CHECK_INT(claim(session, 11, HOUR_US, &lapsed, &err), 2);
    CHECK(lapsed);
    CHECK_INT(record(session, 1, 1, &err), 0);
    CHECK_INT(release(session, 1, &err), 0);
    CHECK_INT(claim(session, 10, HOUR_US, NULL, &err), 0);
    CHECK_INT(record(session, 2, 1, &err), 1);
    test_database_done(&database);
}

static void a_server_that_was_started_again_has_its_own_lease(void)
{
    struct cof_error err;
    bool lapsed = false;
    begin();
    AUTO(session_cleanup) struct session *session = connect_session();
    CHECK(session != NULL);
    CHECK_INT(claim(session, 10, HOUR_US, NULL, &err), 1);
    CHECK_INT(claim(session, 10, HOUR_US, &lapsed, &err), 2);
    CHECK(lapsed);
    CHECK_INT(record(session, 1, 1, &err), 0);
    test_database_done(&database);
}

static void no_grant_is_recorded_after_its_tokens_were_stored(void)
{
    struct cof_error err;
    begin();
    AUTO(session_cleanup) struct session *session = connect_session();
    CHECK(session != NULL);
    CHECK_INT(claim(session, 10, 0, NULL, &err), 1);
    CHECK_INT(claim(session, 11, HOUR_US, NULL, &err), 2);
    /* The holder of before has the answer, and stores it under the fence that is not the lease's any more. */
    CHECK_INT(stored(session, 1, 2, &err), 1);
    CHECK_INT(record(session, 2, 1, &err), 0);
    CHECK_INT(claim(session, 12, HOUR_US, NULL, &err), 0); /* the lease is still the other's */
    CHECK_INT(release(session, 2, &err), 1);
    CHECK_INT(claim(session, 12, HOUR_US, NULL, &err), 3);
    test_database_done(&database);
}

static void what_is_due_is_found_unless_somebody_is_at_it(void)
{
    struct cof_error err;
    const struct param limit = param_i64(10);
    begin();
    AUTO(session_cleanup) struct session *session = connect_session();
    CHECK(session != NULL);
    for (int held = 0; held < 2; held++) {
        AUTO(rows_cleanup) struct rows *due = NULL;
        CHECK_OK(session_queue(session, STATEMENT_REFRESH_DUE, &limit, 1, &err), &err);
        CHECK_OK(session_sync(session, &err), &err);
        CHECK_OK(session_next(session, &due, &err), &err);
        CHECK_INT(rows_count(due), 1);
        CHECK_INT(rows_null(due, 0, 2), held);
        CHECK(rows_time(due, 0, 0) > 0);
        CHECK(held == 1 || claim(session, 10, HOUR_US, NULL, &err) == 1);
    }
    test_database_done(&database);
}

TEST_MAIN(TEST(one_of_many_servers_gets_a_lease_and_each_fence_is_new),
          TEST(a_lease_that_ran_out_is_taken_and_its_holder_can_do_nothing_under_it),
          TEST(a_server_that_was_started_again_has_its_own_lease),
          TEST(no_grant_is_recorded_after_its_tokens_were_stored),
          TEST(what_is_due_is_found_unless_somebody_is_at_it))
