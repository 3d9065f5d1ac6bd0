#pragma once

#include <stdbool.h>

#include "common/slice.h"

/*
 * Where a text is written to whose length is not known before: once without memory, which only counts, and once with
 * exactly as much. So values of secrets never lie in buffers that grew and were left behind.
 */
struct cof_sink {
    uint8_t *to; /* NULL: only counts */
    size_t room;
    size_t used;
};

/* How a text becomes part of a document. */
typedef enum cof_encoding {
    COF_ENCODING_RAW,  /* as it is */
    COF_ENCODING_JSON, /* within the quotes of a JSON string */
    COF_ENCODING_YAML, /* within the double quotes of a YAML scalar on one line */
} cof_encoding;

/* Writes the bytes, which for JSON and YAML must be UTF-8. There must be room for them, if anything is written. */
void cof_sink_put(struct cof_sink *sink, cof_encoding encoding, struct cof_slice bytes);

/* Writes the bytes as they are. */
void cof_sink_put_raw(struct cof_sink *sink, struct cof_slice bytes);

/* Valid UTF-8, in which NUL may stand. */
bool cof_sink_accepts(struct cof_slice bytes);
