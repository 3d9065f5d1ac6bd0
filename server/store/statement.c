#include <assert.h>

#include "server/store/session.h"

struct statement_row {
    const char *name;
    statement_scope scope;
    const char *sql;
};

static const struct statement_row statements[] = {
#define STATEMENT(name, scope, sql) {#name, STATEMENT_##scope, sql},
#include COFFER_SQL_TABLE
#undef STATEMENT
};

static const struct statement_row *row_of(statement id)
{
    assert((size_t) id < COF_COUNT(statements));
    return &statements[id];
}

const char *statement_name(statement id)
{
    return row_of(id)->name;
}

const char *statement_sql(statement id)
{
    return row_of(id)->sql;
}

statement_scope statement_scope_of(statement id)
{
    return row_of(id)->scope;
}
