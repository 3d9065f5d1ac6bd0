#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "common/expression.h"
#include "common/slice.h"

/*
 * Reads JSON (RFC 8259) as a row of events that say where in the text they stand, so that whoever writes it again can
 * leave every byte as it was. Strict: nothing is accepted that the RFC does not allow. Takes no memory and does not
 * recurse.
 */

enum { COF_JSON_DEPTH = 64 };

typedef enum cof_json_kind {
    COF_JSON_OBJECT, /* begins */
    COF_JSON_OBJECT_END,
    COF_JSON_ARRAY, /* begins */
    COF_JSON_ARRAY_END,
    COF_JSON_KEY,
    COF_JSON_STRING,
    COF_JSON_WORD, /* a number, true, false or null */
    COF_JSON_END,  /* of the text */
} cof_json_kind;

struct cof_json_event {
    cof_json_kind kind;
    struct cof_slice raw; /* its bytes; those of keys and strings with their quotes */
    struct cof_place place;
};

/* What may come next; white space may always. */
typedef enum cof_json_expected {
    COF_JSON_EXPECT_VALUE,
    COF_JSON_EXPECT_FIRST_VALUE, /* of an array, or its end */
    COF_JSON_EXPECT_FIRST_KEY,   /* of an object, or its end */
    COF_JSON_EXPECT_KEY,
    COF_JSON_EXPECT_COLON,
    COF_JSON_EXPECT_COMMA, /* or the container's end */
    COF_JSON_EXPECT_NOTHING,
} cof_json_expected;

struct cof_json_scan {
    struct cof_slice text;
    struct cof_place at;
    size_t depth;
    uint64_t objects; /* a bit for each depth: an object, not an array */
    cof_json_expected expected;
};

void cof_json_scan_init(struct cof_json_scan *scan, struct cof_slice text);

/* The next event. Fails with DOCUMENT_INVALID or DOCUMENT_TOO_DEEP, with the place. Not called again after the end or
 * a failure. */
COF_CODE cof_json_next(struct cof_json_scan *scan, struct cof_json_event *ret_event, struct cof_error *err);

/* Whether a string or key is its own decoded form: no escape in it. */
bool cof_json_is_plain(struct cof_slice raw);

/* The decoded form of a string or key of an event, written to `to`, which has room for raw.len bytes. False: it holds
 * half of a surrogate pair, which is no character. */
bool cof_json_decode(struct cof_slice raw, uint8_t *to, size_t *ret_length);
