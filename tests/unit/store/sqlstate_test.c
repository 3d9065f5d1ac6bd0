#include "server/store/sqlstate.h"
#include "tests/support/test.h"

static void check(const char *sqlstate, cof_reason reason, bool drop)
{
    const struct sqlstate_meaning meaning = sqlstate_meaning(sqlstate);
    CHECK_TEXT(cof_reason_name(meaning.reason), cof_reason_name(reason));
    CHECK_INT(meaning.drop, drop);
}

static void conflicts_keep_the_connection(void)
{
    check("40001", COF_REASON_CONFLICT, false);
    check("40P01", COF_REASON_CONFLICT, false);
    check("23505", COF_REASON_CONFLICT, false);
}

static void lost_and_read_only_servers_drop_the_connection(void)
{
    static const char *const sqlstates[] = {"57P01", "57P02", "57P03", "08006", "25006", "26000"};
    for (size_t i = 0; i < COF_COUNT(sqlstates); i++) {
        check(sqlstates[i], COF_REASON_DATABASE_UNAVAILABLE, true);
    }
}

static void full_servers_are_unavailable(void)
{
    check("53300", COF_REASON_DATABASE_UNAVAILABLE, false);
    check("53100", COF_REASON_DATABASE_UNAVAILABLE, false);
}

static void cancelled_statement_is_a_deadline(void)
{
    check("57014", COF_REASON_DEADLINE_EXCEEDED, false);
}

static void everything_else_is_internal(void)
{
    check("22012", COF_REASON_INTERNAL, false);
    check("40002", COF_REASON_INTERNAL, false);
    check("", COF_REASON_INTERNAL, false);
}

static void missing_sqlstate_is_a_broken_connection(void)
{
    check(NULL, COF_REASON_DATABASE_UNAVAILABLE, true);
}

TEST_MAIN(TEST(conflicts_keep_the_connection), TEST(lost_and_read_only_servers_drop_the_connection),
          TEST(full_servers_are_unavailable), TEST(cancelled_statement_is_a_deadline),
          TEST(everything_else_is_internal), TEST(missing_sqlstate_is_a_broken_connection))
