/* Do values, groups and transactions arrive at PostgreSQL, and come back, as they were meant? */
#include <stdlib.h>

#include "common/error.h"
#include "server/store/session.h"
#include "tests/integration/store/fixture.h"
#include "tests/support/test.h"

enum { ECHO_PARAMS = 8 };

static const struct cof_uuid some_uuid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255}};

static cof_code echo(struct session *session, const struct param *params, struct rows **ret_rows,
                     struct cof_error *err)
{
    return run(session, STATEMENT_TEST_ECHO, params, ECHO_PARAMS, ret_rows, err);
}

static void every_type_comes_back_as_it_was_sent(void)
{
    struct cof_error err;
    uint8_t array[256];
    AUTO(session_cleanup) struct session *session = fixture_session();
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct cof_slice items[] = {cof_slice_text("one"), cof_slice_of(NULL, 0), cof_slice_text("{,\"\\}")};
    CHECK(array_text_size(items, 3) <= sizeof array);
    const struct param params[ECHO_PARAMS] = {
        param_i64(-7),
        param_i32(-8),
        param_bool(true),
        param_time(INT64_C(1700000000123456)),
        param_uuid(&some_uuid),
        param_text(cof_slice_text("größe 10 €")),
        param_text(cof_slice_of("a\0b\xff", 4)),
        param_text_array(items, 3, array),
    };
    CHECK_OK(echo(session, params, &rows, &err), &err);
    CHECK_INT(rows_count(rows), 1);
    CHECK_INT(rows_i64(rows, 0, 0), -7);
    CHECK_INT(rows_i32(rows, 0, 1), -8);
    CHECK(rows_bool(rows, 0, 2));
    CHECK_INT(rows_time(rows, 0, 3), INT64_C(1700000000123456));
    const struct cof_uuid uuid = rows_uuid(rows, 0, 4);
    CHECK_BYTES(uuid.bytes, some_uuid.bytes, sizeof uuid.bytes);
    CHECK(cof_slice_equal(rows_bytes(rows, 0, 5), cof_slice_text("größe 10 €")));
    CHECK(cof_slice_equal(rows_bytes(rows, 0, 6), cof_slice_of("a\0b\xff", 4)));
    struct cof_slice got[3];
    CHECK_INT(rows_text_array(rows, 0, 7, got, 3), 3);
    for (size_t i = 0; i < 3; i++) {
        CHECK(cof_slice_equal(got[i], items[i]));
    }
}

static void limits_of_numbers_and_empty_values_come_back(void)
{
    struct cof_error err;
    uint8_t array[16];
    AUTO(session_cleanup) struct session *session = fixture_session();
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct cof_slice nothing = {NULL, 0};
    const struct param params[ECHO_PARAMS] = {
        param_i64(INT64_MIN),   param_i32(INT32_MAX), param_bool(false),   param_time(-1),
        param_uuid(&some_uuid), param_text(nothing),  param_text(nothing), param_text_array(NULL, 0, array),
    };
    CHECK_OK(echo(session, params, &rows, &err), &err);
    CHECK_INT(rows_i64(rows, 0, 0), INT64_MIN);
    CHECK_INT(rows_i32(rows, 0, 1), INT32_MAX);
    CHECK(!rows_bool(rows, 0, 2));
    CHECK_INT(rows_time(rows, 0, 3), -1);
    CHECK(!rows_null(rows, 0, 5));
    CHECK_INT(rows_bytes(rows, 0, 5).len, 0);
    CHECK(!rows_null(rows, 0, 6));
    CHECK_INT(rows_bytes(rows, 0, 6).len, 0);
    CHECK(!rows_null(rows, 0, 7));
    struct cof_slice got[1];
    CHECK_INT(rows_text_array(rows, 0, 7, got, 1), 0);
}

static void nulls_come_back_as_nulls(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    AUTO(rows_cleanup) struct rows *rows = NULL;
    struct param params[ECHO_PARAMS];
    for (size_t i = 0; i < ECHO_PARAMS; i++) {
        params[i] = param_null();
    }
    params[0] = param_i64(INT64_MAX);
    params[5] = param_text_or_null(cof_slice_text(""));
    CHECK_OK(echo(session, params, &rows, &err), &err);
    CHECK_INT(rows_i64(rows, 0, 0), INT64_MAX);
    for (size_t i = 1; i < ECHO_PARAMS; i++) {
        CHECK(rows_null(rows, 0, i));
    }
    struct cof_slice got[1];
    CHECK_INT(rows_bytes(rows, 0, 5).len, 0);
    CHECK_INT(rows_text_array(rows, 0, 7, got, 1), 0);
}

static void random_texts_in_arrays_come_back(void)
{
    struct cof_error err;
    uint64_t state = test_seed();
    AUTO(session_cleanup) struct session *session = fixture_session();
    for (int round = 0; round < 50; round++) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        char texts[10][20];
        struct cof_slice items[10];
        struct cof_slice got[10];
        uint8_t array[512];
        const size_t count = test_random(&state) % 11;
        for (size_t i = 0; i < count; i++) {
            const size_t len = test_random(&state) % sizeof texts[i];
            for (size_t k = 0; k < len; k++) {
                texts[i][k] = (char) (1 + test_random(&state) % 127);
            }
            items[i] = cof_slice_of(texts[i], len);
        }
        struct param params[ECHO_PARAMS];
        for (size_t i = 0; i < ECHO_PARAMS; i++) {
            params[i] = param_null();
        }
        params[7] = param_text_array(items, count, array);
        CHECK_OK(echo(session, params, &rows, &err), &err);
        CHECK_INT(rows_text_array(rows, 0, 7, got, 10), count);
        for (size_t i = 0; i < count; i++) {
            CHECK(cof_slice_equal(got[i], items[i]));
        }
    }
}

static void array_longer_than_the_callers_buffer_is_counted(void)
{
    struct cof_error err;
    uint8_t array[64];
    AUTO(session_cleanup) struct session *session = fixture_session();
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct cof_slice items[] = {cof_slice_text("a"), cof_slice_text("b"), cof_slice_text("c")};
    struct param params[ECHO_PARAMS];
    for (size_t i = 0; i < ECHO_PARAMS; i++) {
        params[i] = param_null();
    }
    params[7] = param_text_array(items, 3, array);
    CHECK_OK(echo(session, params, &rows, &err), &err);
    struct cof_slice got[2] = {{NULL, 0}};
    CHECK_INT(rows_text_array(rows, 0, 7, got, 1), 3);
    CHECK_INT(got[0].len, 1);
    CHECK_INT(got[1].len, 0);
}

static void arrays_that_are_not_lists_of_texts_are_told_apart(void)
{
    struct cof_error err;
    struct cof_slice got[4];
    AUTO(session_cleanup) struct session *session = fixture_session();
    AUTO(rows_cleanup) struct rows *rows = NULL;
    CHECK_OK(run(session, STATEMENT_TEST_SQUARE, NULL, 0, &rows, &err), &err);
    CHECK(rows_text_array(rows, 0, 0, got, 4) == SIZE_MAX);
    CHECK(rows_text_array(rows, 0, 1, got, 4) == SIZE_MAX);
}

static void results_come_in_the_order_of_the_statements(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    for (int32_t i = 0; i < 100; i++) {
        CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, i, &err), &err);
        if (i % 7 == 0) {
            CHECK_OK(session_sync(session, &err), &err);
        }
    }
    for (int32_t i = 0; i < 100; i++) {
        CHECK_INT(next_i32(session, &err), i);
    }
}

static void failing_group_spares_the_groups_around_it(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    for (int32_t i = 0; i < 5; i++) {
        CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, i, &err), &err);
        CHECK_OK(queue_i32(session, STATEMENT_TEST_DIVIDE, i == 2 ? 0 : 1, &err), &err);
        CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, i + 10, &err), &err);
        CHECK_OK(session_sync(session, &err), &err);
    }
    for (int32_t i = 0; i < 5; i++) {
        CHECK_INT(next_i32(session, &err), i);
        if (i != 2) {
            CHECK_INT(next_i32(session, &err), 1);
            CHECK_INT(next_i32(session, &err), i + 10);
            continue;
        }
        CHECK_FAILS(session_next(session, NULL, &err), &err, INTERNAL);
        CHECK_TEXT(err.native, "22012");
        CHECK_FAILS(session_next(session, NULL, &err), &err, INTERNAL);
        CHECK_TEXT(err.native, "22012");
        CHECK_CONTAINS(err.trail, "TEST_DIVIDE");
    }
}

static void statement_first_used_in_a_failing_group_works_in_the_next(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(session_queue(session, STATEMENT_TEST_BROKEN, NULL, 0, &err), &err);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    for (int32_t i = 2; i < 5; i++) {
        CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, i, &err), &err);
        CHECK_OK(session_sync(session, &err), &err);
    }
    CHECK_FAILS(session_next(session, NULL, &err), &err, INTERNAL);
    CHECK_FAILS(session_next(session, NULL, &err), &err, INTERNAL);
    for (int32_t i = 2; i < 5; i++) {
        CHECK_INT(next_i32(session, &err), i);
    }
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 5, &err), &err);
}

static void statement_is_prepared_once(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    AUTO(rows_cleanup) struct rows *rows = NULL;
    for (int32_t i = 0; i < 3; i++) {
        CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, i, &err), &err);
    }
    const struct param name = param_text(cof_slice_text(statement_name(STATEMENT_TEST_NUMBER)));
    CHECK_OK(run(session, STATEMENT_TEST_PREPARED, &name, 1, &rows, &err), &err);
    CHECK_INT(rows_i64(rows, 0, 0), 1);
}

static void result_is_read_without_a_sync(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
    CHECK_INT(next_i32(session, &err), 1);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, 2, &err), &err);
    CHECK_INT(next_i32(session, &err), 2);
    session_reset(session);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 3, &err), &err);
}

static void broken_sql_is_named_without_values(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_FAILS(run(session, STATEMENT_TEST_BROKEN, NULL, 0, NULL, &err), &err, INTERNAL);
    CHECK_TEXT(err.native, "42703");
    CHECK_INT(err.origin, COF_ORIGIN_POSTGRESQL);
    CHECK_CONTAINS(err.trail, "statement TEST_BROKEN: 42703");
    CHECK_CONTAINS(err.trail, "no_such_column");
    CHECK_TEXT(err.message, "an internal error; give the request ID to the operator; the log has the cause");
}

static cof_code insert(struct session *session, int32_t id, const char *value, struct cof_error *err)
{
    const struct param params[] = {param_i32(id), param_text(cof_slice_text(value))};
    return run(session, STATEMENT_TEST_INSERT, params, 2, NULL, err);
}

static int64_t count_items(struct session *session)
{
    struct cof_error err;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    return run(session, STATEMENT_TEST_COUNT, NULL, 0, &rows, &err) == COF_OK ? rows_i64(rows, 0, 0) : -1;
}

static void unique_violation_is_seen_by_its_constraint_and_hides_the_value(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(insert(session, 77123, "first", &err), &err);
    CHECK_FAILS(insert(session, 77123, "second", &err), &err, CONFLICT);
    CHECK_TEXT(err.native, "23505");
    CHECK(session_unique_violation(session, "test_item_pkey"));
    CHECK(!session_unique_violation(session, "test_item"));
    CHECK_CONTAINS(err.trail, "test_item_pkey");
    CHECK(strstr(err.trail, "77123") == NULL && strstr(err.message, "77123") == NULL);
    CHECK_FAILS(run_i32(session, STATEMENT_TEST_DIVIDE, 0, &err), &err, INTERNAL);
    CHECK(!session_unique_violation(session, "test_item_pkey"));
}

static void affected_rows_are_counted(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    AUTO(rows_cleanup) struct rows *rows = NULL;
    AUTO(rows_cleanup) struct rows *none = NULL;
    CHECK_OK(insert(session, 200, "a", &err), &err);
    const struct param params[] = {param_i32(200), param_text(cof_slice_text("b"))};
    CHECK_OK(run(session, STATEMENT_TEST_UPDATE, params, 2, &rows, &err), &err);
    CHECK_INT(rows_affected(rows), 1);
    CHECK_INT(rows_count(rows), 0);
    const struct param missing[] = {param_i32(-200), param_text(cof_slice_text("b"))};
    CHECK_OK(run(session, STATEMENT_TEST_UPDATE, missing, 2, &none, &err), &err);
    CHECK_INT(rows_affected(none), 0);
}

static cof_code queue_insert(struct session *session, int32_t id, struct cof_error *err)
{
    const struct param params[] = {param_i32(id), param_text(cof_slice_text("x"))};
    return session_queue(session, STATEMENT_TEST_INSERT, params, 2, err);
}

static void transaction_in_one_pipeline_is_kept_or_undone_whole(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const int64_t before = count_items(session);
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(queue_insert(session, 301, &err), &err);
    CHECK_OK(queue_insert(session, 302, &err), &err);
    CHECK_OK(session_commit(session, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    for (int i = 0; i < 4; i++) {
        CHECK_OK(session_next(session, NULL, &err), &err);
    }
    CHECK_INT(count_items(session), before + 2);
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(queue_insert(session, 303, &err), &err);
    CHECK_OK(queue_insert(session, 301, &err), &err);
    CHECK_OK(session_commit(session, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    CHECK_FAILS(session_next(session, NULL, &err), &err, CONFLICT);
    CHECK_FAILS(session_next(session, NULL, &err), &err, CONFLICT);
    CHECK(!session_commit_in_doubt(session));
    session_reset(session);
    CHECK_INT(count_items(session), before + 2);
}

static void commit_of_a_failed_transaction_is_a_failure(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_DIVIDE, 0, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    CHECK_FAILS(session_next(session, NULL, &err), &err, INTERNAL);
    CHECK_OK(session_commit(session, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_FAILS(session_next(session, NULL, &err), &err, INTERNAL);
    CHECK_CONTAINS(err.trail, "rolled back");
    CHECK(!session_commit_in_doubt(session));
}

static void failure_at_the_implicit_commit_reaches_the_last_statement(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(run_i32(session, STATEMENT_TEST_INSERT_DEFERRED, 1, &err), &err);
    CHECK_FAILS(run_i32(session, STATEMENT_TEST_INSERT_DEFERRED, 1, &err), &err, CONFLICT);
    CHECK(session_unique_violation(session, "test_deferred_id"));
    CHECK_OK(run_i32(session, STATEMENT_TEST_INSERT_DEFERRED, 2, &err), &err);
}

static void deferred_failure_at_commit_is_the_failure_of_the_commit(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_INSERT_DEFERRED, 11, &err), &err);
    CHECK_OK(queue_i32(session, STATEMENT_TEST_INSERT_DEFERRED, 11, &err), &err);
    CHECK_OK(session_commit(session, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(session_next(session, NULL, &err), &err);
    }
    CHECK_FAILS(session_next(session, NULL, &err), &err, CONFLICT);
    CHECK(!session_commit_in_doubt(session));
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
}

static void reset_undoes_an_open_transaction_and_keeps_the_connection(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const int32_t backend = backend_of(session);
    const int64_t before = count_items(session);
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(queue_insert(session, 401, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    session_reset(session);
    CHECK_INT(count_items(session), before);
    CHECK_INT(backend_of(session), backend);
}

static void reset_undoes_what_was_queued_but_not_waited_for(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const int64_t before = count_items(session);
    CHECK_OK(queue_insert(session, 411, &err), &err);
    session_reset(session);
    CHECK_INT(count_items(session), before);
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(queue_insert(session, 412, &err), &err);
    CHECK_OK(session_next(session, NULL, &err), &err);
    session_reset(session);
    CHECK_INT(count_items(session), before);
    CHECK(!session_commit_in_doubt(session));
}

static void reset_after_a_failed_group_keeps_the_connection(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    const int32_t backend = backend_of(session);
    for (int with_sync = 0; with_sync < 2; with_sync++) {
        CHECK_OK(session_begin(session, &err), &err);
        CHECK_OK(queue_i32(session, STATEMENT_TEST_DIVIDE, 0, &err), &err);
        CHECK_OK(queue_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
        CHECK_OK(session_commit(session, &err), &err);
        if (with_sync == 1) {
            CHECK_OK(session_sync(session, &err), &err);
        }
        CHECK_OK(session_next(session, NULL, &err), &err);
        CHECK_FAILS(session_next(session, NULL, &err), &err, INTERNAL);
        session_reset(session);
        CHECK(!session_commit_in_doubt(session));
        CHECK_INT(backend_of(session), backend);
    }
}

static void reset_with_an_unanswered_commit_says_so(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(session_begin(session, &err), &err);
    CHECK_OK(queue_insert(session, 421, &err), &err);
    CHECK_OK(session_commit(session, &err), &err);
    CHECK_OK(session_sync(session, &err), &err);
    CHECK(!session_commit_in_doubt(session));
    session_reset(session);
    CHECK(session_commit_in_doubt(session));
    CHECK_OK(session_begin(session, &err), &err);
    CHECK(!session_commit_in_doubt(session));
}

static void serialization_failure_is_a_conflict(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *one = fixture_session();
    AUTO(session_cleanup) struct session *two = fixture_session();
    const struct param params[] = {param_i32(501), param_text(cof_slice_text("y"))};
    CHECK_OK(insert(one, 501, "x", &err), &err);
    CHECK_OK(session_begin(one, &err), &err);
    CHECK_OK(session_queue(one, STATEMENT_TEST_REPEATABLE, NULL, 0, &err), &err);
    CHECK_OK(session_queue(one, STATEMENT_TEST_COUNT, NULL, 0, &err), &err);
    CHECK_OK(session_sync(one, &err), &err);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(session_next(one, NULL, &err), &err);
    }
    CHECK_OK(run(two, STATEMENT_TEST_UPDATE, params, 2, NULL, &err), &err);
    CHECK_FAILS(run(one, STATEMENT_TEST_UPDATE, params, 2, NULL, &err), &err, CONFLICT);
    CHECK_TEXT(err.native, "40001");
    CHECK(!session_unique_violation(one, ""));
    session_reset(one);
    CHECK_OK(run(one, STATEMENT_TEST_UPDATE, params, 2, NULL, &err), &err);
}

static void ten_thousand_statements_with_large_parameters_and_results_do_not_deadlock(void)
{
    enum { STATEMENTS = 10000, SIZE = 8192 };
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    char *text = malloc(SIZE);
    CHECK(text != NULL);
    for (size_t i = 0; i < SIZE; i++) {
        text[i] = 'y';
    }
    const struct param param = param_text(cof_slice_of(text, SIZE));
    for (int i = 0; i < STATEMENTS; i++) {
        CHECK_OK(queue_i32(session, STATEMENT_TEST_LARGE, SIZE, &err), &err);
        CHECK_OK(session_queue(session, STATEMENT_TEST_LONG, &param, 1, &err), &err);
        CHECK_OK(session_sync(session, &err), &err);
    }
    free(text);
    for (int i = 0; i < STATEMENTS; i++) {
        AUTO(rows_cleanup) struct rows *rows = NULL;
        CHECK_OK(session_next(session, &rows, &err), &err);
        CHECK_INT(rows_bytes(rows, 0, 0).len, SIZE);
        CHECK_INT(next_i32(session, &err), SIZE);
    }
}

static void pipeline_longer_than_the_limit_is_refused(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    cof_code code = COF_OK;
    int queued = 0;
    for (; code == COF_OK && queued <= SESSION_QUEUE_MAX; queued++) {
        code = queue_i32(session, STATEMENT_TEST_NUMBER, queued, &err);
    }
    CHECK_INT(code, COF_RESOURCE_EXHAUSTED);
    CHECK_INT(err.reason, COF_REASON_LIMIT_EXCEEDED);
    CHECK(queued > SESSION_QUEUE_MAX / 2);
    CHECK_INT(next_i32(session, &err), 0);
    session_reset(session);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
}

static void script_runs_several_statements_and_its_failure_keeps_the_session(void)
{
    struct cof_error err;
    AUTO(session_cleanup) struct session *session = fixture_session();
    CHECK_OK(session_script(session, "create table script (id int); insert into script values (1);", &err), &err);
    CHECK_FAILS(session_script(session, "insert into script values (2); select 1 / 0", &err), &err, INTERNAL);
    CHECK_TEXT(err.native, "22012");
    CHECK_OK(session_script(session,
                            "do $$ begin if (select count(*) from script) <> 1 then raise 'no'; end if;"
                            " end $$; drop table script",
                            &err),
             &err);
    CHECK_OK(run_i32(session, STATEMENT_TEST_NUMBER, 1, &err), &err);
}

static void check_setting(struct session *session, const char *name, const char *expected)
{
    struct cof_error err;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param param = param_text(cof_slice_text(name));
    CHECK_OK(run(session, STATEMENT_TEST_SETTING, &param, 1, &rows, &err), &err);
    CHECK(cof_slice_equal(rows_bytes(rows, 0, 0), cof_slice_text(expected)));
}

static void new_connection_has_its_limits_and_names_itself(void)
{
    AUTO(session_cleanup) struct session *session = fixture_session();
    check_setting(session, "statement_timeout", "1min");
    check_setting(session, "idle_in_transaction_session_timeout", "1min");
    check_setting(session, "application_name", "coffer");
    check_setting(session, "client_encoding", "UTF8");
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(every_type_comes_back_as_it_was_sent),
        TEST(limits_of_numbers_and_empty_values_come_back),
        TEST(nulls_come_back_as_nulls),
        TEST(random_texts_in_arrays_come_back),
        TEST(array_longer_than_the_callers_buffer_is_counted),
        TEST(arrays_that_are_not_lists_of_texts_are_told_apart),
        TEST(results_come_in_the_order_of_the_statements),
        TEST(failing_group_spares_the_groups_around_it),
        TEST(statement_first_used_in_a_failing_group_works_in_the_next),
        TEST(statement_is_prepared_once),
        TEST(result_is_read_without_a_sync),
        TEST(broken_sql_is_named_without_values),
        TEST(unique_violation_is_seen_by_its_constraint_and_hides_the_value),
        TEST(affected_rows_are_counted),
        TEST(transaction_in_one_pipeline_is_kept_or_undone_whole),
        TEST(commit_of_a_failed_transaction_is_a_failure),
        TEST(failure_at_the_implicit_commit_reaches_the_last_statement),
        TEST(deferred_failure_at_commit_is_the_failure_of_the_commit),
        TEST(reset_undoes_an_open_transaction_and_keeps_the_connection),
        TEST(reset_undoes_what_was_queued_but_not_waited_for),
        TEST(reset_after_a_failed_group_keeps_the_connection),
        TEST(reset_with_an_unanswered_commit_says_so),
        TEST(serialization_failure_is_a_conflict),
        TEST(ten_thousand_statements_with_large_parameters_and_results_do_not_deadlock),
        TEST(pipeline_longer_than_the_limit_is_refused),
        TEST(script_runs_several_statements_and_its_failure_keeps_the_session),
        TEST(new_connection_has_its_limits_and_names_itself),
    };
    const int result = test_main(argc, argv, cases, COF_COUNT(cases));
    fixture_end();
    return result;
}
