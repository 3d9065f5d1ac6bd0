#pragma once

#include <stdbool.h>

#include "common/error.h"

/* What follows from a SQLSTATE; see sqlstate.def. */
struct sqlstate_meaning {
    cof_reason reason;
    bool drop; /* the connection is of no further use */
};

/* The meaning of five characters; NULL is a connection that broke. */
struct sqlstate_meaning sqlstate_meaning(const char *sqlstate);
