/* Prints the server's table of statements for tenancy_test.py: name, scope and SQL, separated by tabs. */
#include <stdio.h>

#include "server/store/session.h"

int main(void)
{
    for (unsigned id = 0; id < STATEMENT_COUNT; id++) {
        const bool tenant = statement_scope_of((statement) id) == STATEMENT_TENANT;
        (void) printf("%s\t%s\t%s\n", statement_name((statement) id), tenant ? "TENANT" : "ACROSS",
                      statement_sql((statement) id));
    }
    return 0;
}
