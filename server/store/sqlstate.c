#include "server/store/sqlstate.h"

#include <string.h>

enum { KEEP = 0, DROP = 1 };

struct sqlstate_row {
    const char *prefix;
    struct sqlstate_meaning meaning;
};

static const struct sqlstate_row sqlstates[] = {
#define SQLSTATE(prefix, reason, connection) {prefix, {COF_REASON_##reason, (connection) == DROP}},
#include "server/store/sqlstate.def"
#undef SQLSTATE
};

struct sqlstate_meaning sqlstate_meaning(const char *sqlstate)
{
    if (sqlstate == NULL) {
        return (struct sqlstate_meaning){COF_REASON_DATABASE_UNAVAILABLE, true};
    }
    for (size_t i = 0; i < COF_COUNT(sqlstates); i++) {
        if (strncmp(sqlstate, sqlstates[i].prefix, strlen(sqlstates[i].prefix)) == 0) {
            return sqlstates[i].meaning;
        }
    }
    return (struct sqlstate_meaning){COF_REASON_INTERNAL, false};
}
