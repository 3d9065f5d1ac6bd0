#include "tests/integration/store/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/support/pg.h"

static struct test_database database;

const char *fixture_conninfo(void)
{
    if (database.name[0] == '\0') {
        test_database_init_empty(&database);
        test_database_run(database.conninfo,
                          "create table test_item (id int primary key, value text);"
                          "create table test_deferred (id int, constraint test_deferred_id unique"
                          " (id) deferrable initially deferred)");
    }
    return database.conninfo;
}

void fixture_end(void)
{
    test_database_done(&database);
}

struct session_options fixture_options(void)
{
    return (struct session_options){
        .conninfo = fixture_conninfo(),
        .clock = &cof_system_clock,
        .connect_timeout_ms = 10000,
        .backoff_max_ms = 200,
        .statement_timeout_ms = 60000,
    };
}

struct session *fixture_session_with(const struct session_options *options)
{
    struct cof_error err;
    struct session *session = NULL;
    if (session_new(options, &session, &err) != COF_OK) {
        fprintf(stderr, "session_new: %s\n", err.message);
        exit(1);
    }
    return session;
}

struct session *fixture_session(void)
{
    const struct session_options options = fixture_options();
    return fixture_session_with(&options);
}

cof_code run(struct session *session, statement id, const struct param *params, size_t count,
             struct rows **ret_rows, struct cof_error *err)
{
    TRY(session_queue(session, id, params, count, err));
    TRY(session_sync(session, err));
    return session_next(session, ret_rows, err);
}

cof_code run_i32(struct session *session, statement id, int32_t number, struct cof_error *err)
{
    const struct param param = param_i32(number);
    return run(session, id, &param, 1, NULL, err);
}

cof_code queue_i32(struct session *session, statement id, int32_t number, struct cof_error *err)
{
    const struct param param = param_i32(number);
    return session_queue(session, id, &param, 1, err);
}

int32_t next_i32(struct session *session, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    return session_next(session, &rows, err) == COF_OK ? rows_i32(rows, 0, 0) : INT32_MIN;
}

int32_t backend_of(struct session *session)
{
    struct cof_error err;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    return run(session, STATEMENT_TEST_PID, NULL, 0, &rows, &err) == COF_OK ? rows_i32(rows, 0, 0) : 0;
}

void terminate_backend(int32_t pid)
{
    char sql[256];
    (void) snprintf(sql, sizeof sql, "select pg_terminate_backend(%d, 10000)", pid);
    test_database_run(fixture_conninfo(), sql);
}

void sleep_ms(unsigned milliseconds)
{
    const struct timespec pause = {milliseconds / 1000, (long) (milliseconds % 1000) * 1000000L};
    (void) nanosleep(&pause, NULL);
}
