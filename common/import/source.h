#pragma once

#include "common/arena.h"
#include "common/import/import.h"

/* A file that is being read: its text and a place in it. A copy of the struct remembers the place. */
struct cof_import_source {
    struct cof_slice text;
    struct cof_place at;
    struct cof_arena *arena;
    struct cof_error *err;
};

/* Begins to read. Fails with FILE_INVALID unless the file is text in UTF-8 without NUL; its byte order mark is passed
 * over. */
COF_CODE cof_import_source_open(struct cof_slice file, struct cof_arena *arena, struct cof_error *err,
                                struct cof_import_source *ret_source);

/* What was not read yet. */
static inline struct cof_slice cof_import_source_rest(const struct cof_import_source *source)
{
    return source->text.len == 0
               ? source->text
               : cof_slice_of(source->text.data + source->at.offset, source->text.len - source->at.offset);
}

/* The next byte; NUL at the end, for no file holds one. */
static inline uint8_t cof_import_source_peek(const struct cof_import_source *source)
{
    return source->at.offset == source->text.len ? 0 : source->text.data[source->at.offset];
}

/* Goes on by so many bytes, at most to the end, and returns them. */
struct cof_slice cof_import_source_take(struct cof_import_source *source, size_t count);

/* The failure FILE_INVALID at a place, which is also told as the facts line and column. The message holds nothing of the file's values. */
cof_code cof_import_refuse(struct cof_error *err, struct cof_place place, const char *format, ...) COF_PRINTF(3, 4);

enum { COF_IMPORT_SHOWN = 72 };

/* A name of the file for messages: its beginning, with nothing in it that a terminal would obey. */
const char *cof_import_show(struct cof_slice name, char shown[COF_IMPORT_SHOWN]);
