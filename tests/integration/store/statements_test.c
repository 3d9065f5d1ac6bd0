/* Does every statement of sql.def fit the schema? */
#include <stdio.h>

#include "common/error.h"
#include "server/store/session.h"
#include "tests/support/pg.h"
#include "tests/support/test.h"

static void every_statement_can_be_prepared_in_the_real_schema(void)
{
    struct cof_error err;
    struct test_database database;
    AUTO(session_cleanup) struct session *session = NULL;
    test_database_init(&database);
    const struct session_options options = {
        .conninfo = database.conninfo, .clock = &cof_system_clock, .connect_timeout_ms = 10000};
    CHECK_OK(session_new(&options, &session, &err), &err);
    for (unsigned id = 0; id < STATEMENT_COUNT; id++) {
        static char sql[8192];
        /* LISTEN can be prepared by the protocol, and in SQL by no command: it is run. */
        const bool listens = strncmp(statement_sql((statement) id), "listen ", 7) == 0;
        const int len = listens ? snprintf(sql, sizeof sql, "%s", statement_sql((statement) id))
                                : snprintf(sql, sizeof sql, "prepare s%u as %s", id, statement_sql((statement) id));
        CHECK(len > 0 && (size_t) len < sizeof sql);
        if (session_script(session, sql, &err) != COF_OK) {
            test_failures++;
            fprintf(stderr, "%s: %s\n", statement_name((statement) id), err.trail);
        }
    }
    test_database_done(&database);
}

static void names_are_distinct_and_short_enough_for_postgresql(void)
{
    for (unsigned a = 0; a < STATEMENT_COUNT; a++) {
        CHECK(strlen(statement_name((statement) a)) < 64);
        for (unsigned b = 0; b < a; b++) {
            CHECK(strcmp(statement_name((statement) a), statement_name((statement) b)) != 0);
        }
    }
}

TEST_MAIN(TEST(every_statement_can_be_prepared_in_the_real_schema),
          TEST(names_are_distinct_and_short_enough_for_postgresql))
