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

/* connection, feature, data, constraints, transaction state, statement names, authorization, conflicts, syntax and access,
 * resources, limits, object state, operator, system, internal. */
static const char *const classes[SQLSTATE_CLASSES] = {"08", "0A", "22", "23", "25", "26", "28", "40",
                                                      "42", "53", "54", "55", "57", "58", "XX", "other"};

size_t sqlstate_class(const char *sqlstate)
{
    size_t i = 0;
    while (i < SQLSTATE_CLASSES - 1 && strncmp(classes[i], sqlstate, 2) != 0) {
        i++;
    }
    return i;
}

const char *sqlstate_class_name(size_t index)
{
    return classes[index];
}
