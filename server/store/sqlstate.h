#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

/* What follows from a SQLSTATE; see sqlstate.def. */
struct sqlstate_meaning {
    cof_reason reason;
    bool drop; /* the connection is of no further use */
};

/* The classes that are told apart where failures are counted: the first two characters, or "other". */
enum { SQLSTATE_CLASSES = 16 };
size_t sqlstate_class(const char *sqlstate);
const char *sqlstate_class_name(size_t index);

/* The meaning of five characters; NULL is a connection that broke. */
struct sqlstate_meaning sqlstate_meaning(const char *sqlstate);
