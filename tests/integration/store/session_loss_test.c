/* Does a session survive whatever happens to its connection, and say truly what became of the work? */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/error.h"
#include "server/store/dev_cluster.h"
#include "server/store/session.h"
#include "tests/integration/store/fixture.h"
#include "tests/support/pg.h"
#include "tests/support/test.h"

static int64_t after_ms(int64_t milliseconds)
{
    return cof_clock_monotonic(&cof_system_clock) + milliseconds * 1000;
}

static void backend_ended_between_pipelines_goes_unnoticed_by_session_ready(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const int32_t backend = backend_of(session);
    terminate_backend(backend);
    CHECK_OK(session_ready(session, &err), &err);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
    CHECK(backend_of(session) != backend);
}

static void backend_ended_between_pipelines_fails_the_next_statement_once(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    terminate_backend(backend_of(session));
    CHECK_FAILS(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_FAILS(queue_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err, DATABASE_UNAVAILABLE);
    session_reset(session);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
}

static void backend_ended_inside_a_pipeline_fails_everything_behind_it(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const int32_t backend = backend_of(session);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_SLEEP, 30, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, 2, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_INT(next_i32(session, &err), 1);
    terminate_backend(backend);
    CHECK_FAILS(session_next(session, NULL, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_TEXT(err.native, "57P01");
    CHECK_FAILS(session_next(session, NULL, &err), &err, DATABASE_UNAVAILABLE);
    CHECK(!session_commit_in_doubt(session));
    CHECK_OK(session_ready(session, &err), &err);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 3, &err), &err);
}

static void half_a_transaction_never_goes_on_over_a_new_connection(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const struct param params[] = {param_i32(1), param_text(cof_slice_text("half"))};
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    terminate_backend(backend_of(session));
    CHECK_FAILS(run(session, STATEMENT_TEST_INSERT, params, 2, NULL, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_FAILS(run(session, STATEMENT_TEST_INSERT, params, 2, NULL, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_FAILS(session_commit(session, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_FAILS(session_next(session, NULL, &err), &err, DATABASE_UNAVAILABLE);
    session_reset(session);
    AUTO(rows_cleanup) struct rows *rows = NULL;
    CHECK_OK(run(session, STATEMENT_TEST_GET, params, 1, &rows, &err), &err);
    CHECK_INT(rows_count(rows), 0);
}

static void connection_lost_before_the_result_of_a_commit_leaves_it_in_doubt(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const int32_t backend = backend_of(session);
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_SLEEP, 30, &err), &err);
    CHECK_OK(session_commit(session, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    CHECK(!session_commit_in_doubt(session));
    terminate_backend(backend);
    CHECK_FAILS(session_next(session, NULL, &err), &err, DATABASE_UNAVAILABLE);
    CHECK(session_commit_in_doubt(session));
    session_reset(session);
    CHECK(session_commit_in_doubt(session));
    CHECK_OK(session_begin(session, &err), &err);
    CHECK(!session_commit_in_doubt(session));
}

static int64_t sleepers(struct session *session)
{
    struct cof_error err;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    return run(session, STATEMENT_TEST_SLEEPERS, NULL, 0, &rows, &err) == COF_OK ? rows_i64(rows, 0, 0) : -1;
}

static void deadline_ends_a_wait_and_the_server_gives_the_statement_up(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(session_ready(session, &err), &err);
    session_deadline(session, after_ms(200));
    CHECK_OK(queue_i32(session, STATEMENT_TEST_SLEEP, 120, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_FAILS(session_next(session, NULL, &err), &err, DEADLINE_EXCEEDED);
    CHECK_CONTAINS(err.trail, "TEST_SLEEP");
    session_deadline(session, 0);
    session_reset(session);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
    for (int i = 0; i < 200 && sleepers(session) != 0; i++) {
        sleep_ms(50);
    }
    CHECK_INT(sleepers(session), 0);
}

static void deadline_that_has_passed_still_takes_what_has_arrived(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, 2, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_INT(next_i32(session, &err), 1);
    sleep_ms(50);
    session_deadline(session, 1);
    CHECK_INT(next_i32(session, &err), 2);
}

static void statement_timeout_of_the_server_is_a_deadline(void)
{
    struct cof_error err;
    struct session_options options = fixture_options();
    options.statement_timeout_ms = 100;
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    CHECK_FAILS(run_i32(session, STATEMENT_TEST_SLEEP, 30, &err), &err, DEADLINE_EXCEEDED);
    CHECK_TEXT(err.native, "57014");
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
}

static void write_on_a_read_only_server_drops_the_connection(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const int32_t backend = backend_of(session);
    const struct param params[] = {param_i32(2), param_text(cof_slice_text("x"))};
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(session_queue(session, STATEMENT_TEST_READ_ONLY, NULL, 0, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    CHECK_FAILS(run(session, STATEMENT_TEST_INSERT, params, 2, NULL, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_TEXT(err.native, "25006");
    session_reset(session);
    CHECK(backend_of(session) != backend);
}

static void read_only_server_is_not_taken(void)
{
    struct cof_error err;
    struct test_database standby;
    test_database_init_empty(&standby);
    char sql[128];
    (void) snprintf(sql, sizeof sql, "alter database %s set default_transaction_read_only = on", standby.name);
    test_database_run(test_pg_admin(), sql);
    struct session_options options = fixture_options();
    options.conninfo = standby.conninfo;
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    CHECK_FAILS(session_ready(session, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_CONTAINS(err.trail, "read-only");
    test_database_done(&standby);
}

struct hook {
    int calls;
    bool fail;
};

static cof_code on_connect(struct session *session, void *context, struct cof_error *err)
{
    struct hook *hook = context;
    hook->calls++;
    TRY(run_i32(session, STATEMENT_TEST_NUMBER, 1, err));
    return hook->fail ? cof_fail(err, COF_REASON_CONFIG_INVALID, "not this database") : COF_OK;
}

static void hook_runs_once_on_every_new_connection(void)
{
    struct cof_error err;
    struct hook hook = {0};
    struct session_options options = fixture_options();
    options.on_connect = on_connect;
    options.context = &hook;
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
    CHECK_INT(hook.calls, 1);
    terminate_backend(backend_of(session));
    CHECK_OK(session_ready(session, &err), &err);
    CHECK_INT(hook.calls, 2);
}

static void failing_hook_is_the_failure_to_connect(void)
{
    struct cof_error err;
    struct hook hook = {.fail = true};
    struct session_options options = fixture_options();
    options.backoff_max_ms = 60000;
    options.on_connect = on_connect;
    options.context = &hook;
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    CHECK_FAILS(session_ready(session, &err), &err, CONFIG_INVALID);
    CHECK(err.retry_after_ms > 0);
    hook.fail = false;
    for (int i = 0; i < 100 && session_ready(session, &err) != COF_OK; i++) {
        sleep_ms(20);
    }
    CHECK_INT(hook.calls, 2);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
}

static void wrong_password_and_connection_string_are_not_shown(void)
{
    struct cof_error err;
    struct session *session = NULL;
    static const char *const strings[] = {
        "host=/nowhere passwordhunter2",         "host=/nowhere hunter2=1",
        "postgresql://u:hunter2/x@localhost/db", "postgresql://u:p@hunter2@localhost/db",
        "postgresql://u:p@h:hunter2/db",
    };
    for (size_t i = 0; i < COF_COUNT(strings); i++) {
        struct session_options options = fixture_options();
        options.conninfo = strings[i];
        CHECK_FAILS(session_new(&options, &session, &err), &err, CONFIG_INVALID);
        CHECK(strstr(err.message, "hunter2") == NULL && strstr(err.trail, "hunter2") == NULL);
    }
    struct session_options options = fixture_options();
    options.conninfo = "host=/nowhere user=u password=hunter2 dbname=db";
    AUTO(session_cleanup) struct session *nowhere = fixture_session_with(&options);
    CHECK_FAILS(session_ready(nowhere, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_CONTAINS(err.trail, "/nowhere");
    CHECK(strchr(err.trail, '\n') == NULL);
    CHECK(strstr(err.message, "hunter2") == NULL && strstr(err.trail, "hunter2") == NULL);
}

/* Whether the session waits now because it could not connect before. */
static bool waits_to_connect(struct session *session, struct cof_error *err)
{
    return session_ready(session, err) != COF_OK && strstr(err->trail, "waiting before the next connect") != NULL;
}

static void session_that_waits_to_connect_tries_at_once_when_another_one_has_connected(void)
{
    struct cof_error err;
    atomic_uint connects = 0;
    struct session_options options = fixture_options();
    options.connects = &connects;
    AUTO(session_cleanup) struct session *other = fixture_session_with(&options);
    options.conninfo = "host=/nowhere user=u dbname=db";
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    bool waits = false;
    for (int i = 0; i < 100 && !waits; i++) {
        waits = waits_to_connect(session, &err);
    }
    CHECK(waits);
    CHECK_OK(session_ready(other, &err), &err);
    CHECK(!waits_to_connect(session, &err));
}

/* Fails as a server does that is not ready yet, while another session finds it ready. */
static cof_code fail_while_another_connects(struct session *session, void *context, struct cof_error *err)
{
    (void) session;
    TRY(session_ready(context, err));
    return cof_fail(err, COF_REASON_DATABASE_UNAVAILABLE, "not ready yet");
}

static void session_tries_at_once_when_another_one_connected_while_it_failed(void)
{
    struct cof_error err;
    atomic_uint connects = 0;
    struct session_options options = fixture_options();
    options.connects = &connects;
    options.backoff_max_ms = 60000;
    AUTO(session_cleanup) struct session *other = fixture_session_with(&options);
    options.on_connect = fail_while_another_connects;
    options.context = other;
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    CHECK_FAILS(session_ready(session, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_INT(atomic_load(&connects), 1);
    CHECK(!waits_to_connect(session,
                            &err)); /* fails again, and the other one, which has its connection, counts no more */
    bool waits = false;
    for (int i = 0; i < 100 && !waits; i++) {
        waits = waits_to_connect(session, &err);
    }
    CHECK(waits);
}

/* Accepts connections into its queue and never answers. */
static int silent_server(char *port, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *) &address, len) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *) &address, &len) != 0) {
        return -1;
    }
    (void) snprintf(port, size, "%u", ntohs(address.sin_port));
    return fd;
}

static void silent_server_ends_in_the_connect_timeout(void)
{
    struct cof_error err;
    char port[16];
    char conninfo[128];
    const int fd = silent_server(port, sizeof port);
    CHECK(fd >= 0);
    (void) snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%s user=u dbname=d", port);
    struct session_options options = fixture_options();
    options.conninfo = conninfo;
    options.connect_timeout_ms = 200;
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    CHECK_FAILS(session_ready(session, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_CONTAINS(err.trail, "no answer in time");
    sleep_ms(err.retry_after_ms + 1);
    session_deadline(session, after_ms(50));
    CHECK_FAILS(session_ready(session, &err), &err, DEADLINE_EXCEEDED);
    (void) close(fd);
}

static struct dev_cluster *start_cluster(const char *directory)
{
    struct cof_error err;
    struct dev_cluster *cluster = NULL;
    const struct dev_cluster_options options = {
        .directory = directory, .clock = &cof_system_clock, .start_timeout_ms = 60000};
    if (dev_cluster_start(&options, &cluster, &err) != COF_OK) {
        fprintf(stderr, "dev_cluster_start: %s\n", err.message);
    }
    return cluster;
}

static void silent_host_does_not_keep_the_session_from_the_next_host(void)
{
    struct cof_error err;
    char port[16];
    char directory[256];
    char conninfo[1024];
    const int fd = silent_server(port, sizeof port);
    CHECK(fd >= 0);
    test_directory_init(directory);
    AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = start_cluster(directory);
    CHECK(cluster != NULL);
    (void) snprintf(conninfo, sizeof conninfo, "host=127.0.0.1,%s/run port=%s,5432 user=coffer dbname=postgres",
                    directory, port);
    struct session_options options = fixture_options();
    options.conninfo = conninfo;
    options.connect_timeout_ms = 4000;
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    CHECK_OK(session_ready(session, &err), &err);
    const int32_t backend = backend_of(session);
    CHECK(backend != 0);
    (void) close(fd);
    dev_cluster_stop(TAKE(cluster));
    test_directory_done(directory);
}

static void stopped_server_fails_fast_and_is_found_again_after_its_restart(void)
{
    struct cof_error err;
    char directory[256];
    test_directory_init(directory);
    AUTO(dev_cluster_cleanup) struct dev_cluster *cluster = start_cluster(directory);
    CHECK(cluster != NULL);
    struct session_options options = fixture_options();
    options.conninfo = dev_cluster_conninfo(cluster);
    options.backoff_max_ms = 100;
    AUTO(session_cleanup) struct session *session = fixture_session_with(&options);
    CHECK_OK(run(session, STATEMENT_PING, NULL, 0, NULL, &err), &err);
    dev_cluster_stop(TAKE(cluster));
    CHECK_FAILS(session_ready(session, &err), &err, DATABASE_UNAVAILABLE);
    CHECK(err.retry_after_ms > 0);
    for (int i = 0; i < 6; i++) {
        CHECK_FAILS(session_ready(session, &err), &err, DATABASE_UNAVAILABLE);
        CHECK(err.retry_after_ms > 0 && err.retry_after_ms <= 100);
    }
    CHECK_CONTAINS(err.trail, "waiting before the next connect");
    cluster = start_cluster(directory);
    CHECK(cluster != NULL);
    sleep_ms(101);
    CHECK_OK(session_ready(session, &err), &err);
    CHECK_OK(run(session, STATEMENT_PING, NULL, 0, NULL, &err), &err);
    dev_cluster_stop(TAKE(cluster));
    test_directory_done(directory);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(backend_ended_between_pipelines_goes_unnoticed_by_session_ready),
        TEST(backend_ended_between_pipelines_fails_the_next_statement_once),
        TEST(backend_ended_inside_a_pipeline_fails_everything_behind_it),
        TEST(half_a_transaction_never_goes_on_over_a_new_connection),
        TEST(connection_lost_before_the_result_of_a_commit_leaves_it_in_doubt),
        TEST(deadline_ends_a_wait_and_the_server_gives_the_statement_up),
        TEST(deadline_that_has_passed_still_takes_what_has_arrived),
        TEST(statement_timeout_of_the_server_is_a_deadline),
        TEST(write_on_a_read_only_server_drops_the_connection),
        TEST(read_only_server_is_not_taken),
        TEST(hook_runs_once_on_every_new_connection),
        TEST(failing_hook_is_the_failure_to_connect),
        TEST(wrong_password_and_connection_string_are_not_shown),
        TEST(session_that_waits_to_connect_tries_at_once_when_another_one_has_connected),
        TEST(session_tries_at_once_when_another_one_connected_while_it_failed),
        TEST(silent_server_ends_in_the_connect_timeout),
        TEST(silent_host_does_not_keep_the_session_from_the_next_host),
        TEST(stopped_server_fails_fast_and_is_found_again_after_its_restart),
    };
    const int result = test_main(argc, argv, cases, COF_COUNT(cases));
    fixture_end();
    return result;
}
