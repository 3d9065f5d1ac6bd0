#pragma once

#include "common/import/import.h"
#include "tests/support/test.h"

/* A list that was read, with the memory that it lies in. */
struct reading {
    struct cof_pool *pool;
    struct cof_arena arena;
    struct cof_import_list list;
    struct cof_error err;
};

/* Ends the program if there is no memory. */
void reading_init(struct reading *reading);
void reading_done(struct reading *reading);

/* Reads into an arena that is empty again. Flat files are for the secret "app". */
cof_code reading_read(struct reading *reading, cof_import_format format, struct cof_slice file);

/* The list as a text: "line:column secret.KEY=value" with `|` between them; bytes that are not printable as \xNN. */
const char *reading_show(struct reading *reading);

/* Writes `before`, so many digits 7 and `after` to where it says, which has the room; returns where the NUL stands. */
char *reading_put(char *to, const char *before, size_t count, const char *after);

/* The text is read as the list that reading_show writes so. */
void reading_gives(cof_import_format format, const char *text, const char *expected);

/* The text is refused as FILE_INVALID; the message begins with this. */
void reading_refuses(cof_import_format format, const char *text, const char *message);
