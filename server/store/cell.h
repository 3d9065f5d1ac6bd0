#pragma once

#include "server/store/session.h"

/* One cell as it came from PostgreSQL. */
struct cell {
    struct cof_slice bytes;
    uint32_t type; /* of postgres_type.h */
    bool null;
};

/* The cell borrows from the rows. Places outside of them are an assertion. */
struct cell rows_cell(const struct rows *rows, size_t row, size_t column);
