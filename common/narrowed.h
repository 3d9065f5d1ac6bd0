#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/slice.h"
#include "common/token.h"
#include "common/uuid.h"

/*
 * Narrowed tokens (docs/decisions/0013-narrowed-tokens.md): what may be made of a token without asking a server, and
 * what a server reads again. Nothing here decides what a token may do.
 */

enum {
    COF_NARROWED_TEXT_MAX = 2048,
    COF_NARROWED_TEXT = COF_NARROWED_TEXT_MAX + 1, /* with the NUL */
    COF_NARROWED_BYTES_MAX = (COF_NARROWED_TEXT_MAX - 6 - COF_TOKEN_CHECK_TEXT) / 4 * 3,
    COF_NARROWED_KEY = 32,
    COF_NARROWED_TAG = 32,
    COF_CAVEATS_MAX = 32,          /* in one token */
    COF_CAVEAT_PATTERNS_MAX = 256, /* in one caveat */
    COF_CAVEAT_RUN_MAX = 256,      /* bytes of the ID of a workflow or a run */
};

/* Kinds of caveats; the numbers are those of the format. */
typedef enum cof_caveat_kind {
    COF_CAVEAT_WORKSPACE = 1,
    COF_CAVEAT_ENVIRONMENTS = 2,
    COF_CAVEAT_NAMES = 3,
    COF_CAVEAT_WORKFLOW = 4,
    COF_CAVEAT_RUN = 5,
    COF_CAVEAT_EXPIRY = 6,
} cof_caveat_kind;

/* A narrowed token that was read: its form is right, its tag was not looked at. */
struct cof_narrowed {
    cof_token_kind kind; /* these three are the issued token's */
    struct cof_uuid workspace;
    struct cof_uuid id;
    size_t len;
    uint8_t bytes[COF_NARROWED_BYTES_MAX]; /* the payload */
};

/* One caveat. Borrows from the token. */
struct cof_caveat {
    cof_caveat_kind kind;
    struct cof_slice bytes; /* all of it */
    struct cof_slice value;
    /* What the value says, by its kind: */
    struct cof_uuid workspace;
    uint64_t expire_ms; /* since 1970 */
};

/* What a token is narrowed to; at least one of these. */
struct cof_narrowing {
    const struct cof_uuid *workspace; /* NULL: not */
    const struct cof_slice *environments;
    size_t environment_count; /* 0: not */
    const struct cof_slice *names;
    size_t name_count;            /* 0: not */
    struct cof_slice workflow_id; /* empty: not */
    struct cof_slice run_id;      /* empty: not */
    bool expires;
    uint64_t expire_ms;
};

/* HMAC-SHA-256. */
typedef cof_code cof_hmac(const uint8_t key[COF_NARROWED_KEY], struct cof_slice data, uint8_t mac[COF_NARROWED_TAG],
                          struct cof_error *err);

/* Whether the text says that it is a narrowed token. */
bool cof_narrowed_is(struct cof_slice text);

/* Reads a narrowed token. Fails with TOKEN_MALFORMED, which says what is wrong, or with TOKEN_UNSUPPORTED. */
COF_CODE cof_narrowed_parse(struct cof_slice text, struct cof_narrowed *ret_narrowed, struct cof_error *err);

/* A token as a caller presents it, whole or narrowed. Fails as cof_token_parse and cof_narrowed_parse. */
COF_CODE cof_narrowed_or_whole(struct cof_slice text, struct cof_token *ret_token, struct cof_error *err);

/* The tag that the token has, and the one that it should have by the narrowing key of the issued token. */
struct cof_slice cof_narrowed_tag(const struct cof_narrowed *narrowed);
COF_CODE cof_narrowed_compute(const struct cof_narrowed *narrowed, const uint8_t key[COF_NARROWED_KEY],
                              cof_hmac *hmac, uint8_t tag[COF_NARROWED_TAG], struct cof_error *err);

/* The next caveat; `at` is 0 at first. False behind the last one. */
bool cof_narrowed_next(const struct cof_narrowed *narrowed, size_t *at, struct cof_caveat *ret_caveat);

/* The next pattern of a caveat of environments or names; `at` is 0 at first. */
bool cof_caveat_next_pattern(const struct cof_caveat *caveat, size_t *at, struct cof_slice *ret_pattern);

/*
 * Narrows a whole or a narrowed token; writes the text and a NUL, and nothing if it fails. FIELD_INVALID names the
 * wish that cannot be, TOKEN_MALFORMED and TOKEN_UNSUPPORTED say what is wrong with the token, LIMIT_EXCEEDED that the
 * narrowed one would be too long.
 */
COF_CODE cof_narrow(struct cof_slice token, const struct cof_narrowing *narrowing, cof_hmac *hmac,
                    char text[COF_NARROWED_TEXT], struct cof_error *err);
