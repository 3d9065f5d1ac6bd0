/* Does a database get to the binary's schema once, whole, and never past what the binary knows? */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "server/store/migrate.h"
#include "server/store/session.h"
#include "tests/support/pg.h"
#include "tests/support/test.h"

static const struct schema_file two_files[] = {
    {1, "0001_one.sql", "create table one (id int); create table uno (id int);", {1}},
    {2, "0002_two.sql", "create table two (id int);", {2}},
};
static const struct schema_file broken_files[] = {
    {1, "0001_one.sql", "create table one (id int); create table uno (id int);", {1}},
    {2, "0002_two.sql", "create table two (id int); select no_such_column from two;", {2}},
    {3, "0003_three.sql", "create table three (id int);", {3}},
};
static const struct schema_set two = {two_files, 2};
static const struct schema_set first_of_two = {two_files, 1};
static const struct schema_set broken = {broken_files, 3};

static struct migrate_options options_for(const struct test_database *database, const struct schema_set *schema)
{
    return (struct migrate_options){
        .conninfo = database->conninfo,
        .schema = schema,
        .clock = &cof_system_clock,
        .connect_timeout_ms = 10000,
        .lock_timeout_ms = 20000,
    };
}

static void database_cleanup(struct test_database *database)
{
    test_database_done(database);
}

static void embedded_files_are_numbered_and_end_with_nul(void)
{
    CHECK(schema_embedded.count > 0);
    for (size_t i = 0; i < schema_embedded.count; i++) {
        CHECK_INT(schema_embedded.files[i].number, i + 1);
        CHECK_CONTAINS(schema_embedded.files[i].name, ".sql");
        CHECK(strlen(schema_embedded.files[i].sql) > 0);
    }
    CHECK_CONTAINS(schema_embedded.files[0].sql, "create table workspace (");
}

static void empty_database_gets_the_whole_schema_and_a_second_run_does_nothing(void)
{
    struct cof_error err;
    size_t applied = 0;
    AUTO(database_cleanup) struct test_database database;
    test_database_init_empty(&database);
    const struct migrate_options options = options_for(&database, &schema_embedded);
    CHECK_FAILS(migrate_check(&options, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "0001_init.sql");
    CHECK_CONTAINS(err.message, "migrate up");
    CHECK_OK(migrate_up(&options, &applied, &err), &err);
    CHECK_INT(applied, schema_embedded.count);
    CHECK_OK(migrate_check(&options, &err), &err);
    CHECK_OK(migrate_up(&options, &applied, &err), &err);
    CHECK_INT(applied, 0);
    CHECK_OK(migrate_check(&options, &err), &err);
}

static void status_and_plan_change_nothing(void)
{
    struct cof_error err;
    AUTO(database_cleanup) struct test_database database;
    test_database_init_empty(&database);
    const struct migrate_options options = options_for(&database, &two);
    for (int i = 0; i < 2; i++) {
        AUTO(migration_report_cleanup) struct migration_report *status = NULL;
        AUTO(migration_report_cleanup) struct migration_report *plan = NULL;
        CHECK_OK(migrate_status(&options, &status, &err), &err);
        CHECK_INT(status->count, 2);
        CHECK_INT(status->items[1].number, 2);
        CHECK_TEXT(status->items[1].name, "0002_two.sql");
        CHECK_TEXT(migration_state_name(status->items[1].state), "pending");
        CHECK_OK(migrate_plan(&options, &plan, &err), &err);
        CHECK_INT(plan->count, 2);
    }
    test_database_run(database.conninfo, "create table schema_history (nothing int)");
}

static void plan_lists_only_what_is_pending(void)
{
    struct cof_error err;
    size_t applied = 0;
    AUTO(database_cleanup) struct test_database database;
    AUTO(migration_report_cleanup) struct migration_report *plan = NULL;
    test_database_init_empty(&database);
    const struct migrate_options before = options_for(&database, &first_of_two);
    const struct migrate_options after = options_for(&database, &two);
    CHECK_OK(migrate_up(&before, &applied, &err), &err);
    CHECK_OK(migrate_plan(&after, &plan, &err), &err);
    CHECK_INT(plan->count, 1);
    CHECK_TEXT(plan->items[0].name, "0002_two.sql");
    CHECK_FAILS(migrate_check(&after, &err), &err, CONFIG_INVALID);
    CHECK_OK(migrate_up(&after, &applied, &err), &err);
    CHECK_INT(applied, 1);
    test_database_run(database.conninfo, "select * from one, uno, two");
}

static void file_that_fails_leaves_no_trace_and_keeps_those_before_it(void)
{
    struct cof_error err;
    size_t applied = 0;
    AUTO(database_cleanup) struct test_database database;
    AUTO(migration_report_cleanup) struct migration_report *status = NULL;
    test_database_init_empty(&database);
    const struct migrate_options options = options_for(&database, &broken);
    CHECK_FAILS(migrate_up(&options, &applied, &err), &err, INTERNAL);
    CHECK_CONTAINS(err.trail, "42703");
    CHECK_CONTAINS(err.trail, "0002_two.sql");
    CHECK_OK(migrate_status(&options, &status, &err), &err);
    CHECK_INT(status->items[0].state, MIGRATION_APPLIED);
    CHECK_INT(status->items[1].state, MIGRATION_PENDING);
    CHECK_INT(status->items[2].state, MIGRATION_PENDING);
    const struct migrate_options repaired = options_for(&database, &two);
    CHECK_OK(migrate_up(&repaired, &applied, &err), &err);
    CHECK_INT(applied, 1);
}

static void changed_file_is_refused_by_name(void)
{
    struct cof_error err;
    size_t applied = 0;
    AUTO(database_cleanup) struct test_database database;
    AUTO(migration_report_cleanup) struct migration_report *report = NULL;
    test_database_init_empty(&database);
    struct schema_file changed_files[] = {two_files[0], two_files[1]};
    changed_files[0].sha256[31] = 1;
    const struct schema_set changed = {changed_files, 2};
    const struct migrate_options before = options_for(&database, &first_of_two);
    const struct migrate_options after = options_for(&database, &changed);
    CHECK_OK(migrate_up(&before, &applied, &err), &err);
    CHECK_FAILS(migrate_up(&after, &applied, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "0001_one.sql");
    CHECK_FAILS(migrate_check(&after, &err), &err, CONFIG_INVALID);
    CHECK_FAILS(migrate_plan(&after, &report, &err), &err, CONFIG_INVALID);
    CHECK_OK(migrate_status(&after, &report, &err), &err);
    CHECK_INT(report->items[0].state, MIGRATION_CHANGED);
    CHECK_INT(report->items[1].state, MIGRATION_PENDING);
}

static void newer_database_is_refused_by_the_files_name(void)
{
    struct cof_error err;
    size_t applied = 0;
    AUTO(database_cleanup) struct test_database database;
    AUTO(migration_report_cleanup) struct migration_report *status = NULL;
    test_database_init_empty(&database);
    const struct migrate_options newer = options_for(&database, &two);
    const struct migrate_options older = options_for(&database, &first_of_two);
    CHECK_OK(migrate_up(&newer, &applied, &err), &err);
    CHECK_FAILS(migrate_check(&older, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "0002_two.sql");
    CHECK_FAILS(migrate_up(&older, &applied, &err), &err, CONFIG_INVALID);
    CHECK_OK(migrate_status(&older, &status, &err), &err);
    CHECK_INT(status->count, 2);
    CHECK_INT(status->items[1].state, MIGRATION_UNKNOWN);
}

/* The number of files that a child process applied, or 100 if it failed. */
static pid_t migrate_in_child(const struct migrate_options *options)
{
    const pid_t child = fork();
    if (child == 0) {
        struct cof_error err;
        size_t applied = 0;
        const cof_code code = migrate_up(options, &applied, &err);
        _exit(code == COF_OK ? (int) applied : 100);
    }
    return child;
}

static void processes_that_migrate_at_once_apply_each_file_once(void)
{
    enum { PROCESSES = 4 };
    struct cof_error err;
    AUTO(database_cleanup) struct test_database database;
    test_database_init_empty(&database);
    const struct migrate_options options = options_for(&database, &schema_embedded);
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = migrate_in_child(&options);
        CHECK(children[i] > 0);
    }
    int sum = 0;
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        CHECK_INT(waitpid(children[i], &status, 0), children[i]);
        CHECK(WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    CHECK_INT(sum, schema_embedded.count);
    CHECK_OK(migrate_check(&options, &err), &err);
}

static void lock_held_by_another_ends_in_a_conflict(void)
{
    struct cof_error err;
    size_t applied = 0;
    AUTO(database_cleanup) struct test_database database;
    AUTO(session_cleanup) struct session *holder = NULL;
    test_database_init_empty(&database);
    const struct session_options session_options = {
        .conninfo = database.conninfo, .clock = &cof_system_clock, .connect_timeout_ms = 10000};
    CHECK_OK(session_new(&session_options, &holder, &err), &err);
    CHECK_OK(session_script(holder, "select pg_advisory_lock(x'436f66666572'::bigint)", &err), &err);
    struct migrate_options options = options_for(&database, &two);
    options.lock_timeout_ms = 120;
    CHECK_FAILS(migrate_up(&options, &applied, &err), &err, CONFLICT);
    CHECK_CONTAINS(err.message, "another process");
    session_free(TAKE(holder));
    options.lock_timeout_ms = 20000;
    CHECK_OK(migrate_up(&options, &applied, &err), &err);
    CHECK_INT(applied, 2);
}

static void unreachable_database_is_said_to_be_so(void)
{
    struct cof_error err;
    const struct migrate_options options = {
        .conninfo = "host=/nowhere user=u dbname=d",
        .schema = &two,
        .clock = &cof_system_clock,
        .connect_timeout_ms = 1000,
    };
    CHECK_FAILS(migrate_check(&options, &err), &err, DATABASE_UNAVAILABLE);
    CHECK_CONTAINS(err.trail, "/nowhere");
}

TEST_MAIN(TEST(embedded_files_are_numbered_and_end_with_nul),
          TEST(empty_database_gets_the_whole_schema_and_a_second_run_does_nothing),
          TEST(status_and_plan_change_nothing), TEST(plan_lists_only_what_is_pending),
          TEST(file_that_fails_leaves_no_trace_and_keeps_those_before_it), TEST(changed_file_is_refused_by_name),
          TEST(newer_database_is_refused_by_the_files_name),
          TEST(processes_that_migrate_at_once_apply_each_file_once), TEST(lock_held_by_another_ends_in_a_conflict),
          TEST(unreachable_database_is_said_to_be_so))
