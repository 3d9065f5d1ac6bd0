#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

/*
 * The one way in which failures travel.
 *
 * A function that can fail returns a cof_code and fills the caller's cof_error. A layer that passes a failure on
 * may add to the trail; nobody overwrites what was first seen. Nothing here allocates.
 */

typedef enum cof_code {
#define CODE(name, number) COF_##name = (number),
#include "common/code.def"
#undef CODE
} cof_code;

/* A cof_code that must not be ignored. */
#define COF_CODE COF_MUST_USE cof_code

typedef enum cof_reason {
    COF_REASON_NONE = 0,
#define REASON(name, number, code, meaning, next) COF_REASON_##name = (number),
#include "common/reason.def"
#undef REASON
} cof_reason;

/* Where a failure was first seen. */
typedef enum cof_origin {
    COF_ORIGIN_OWN,
    COF_ORIGIN_ERRNO,
    COF_ORIGIN_POSTGRESQL,
    COF_ORIGIN_OPENSSL,
    COF_ORIGIN_NNG,
} cof_origin;

enum {
    COF_ERROR_FACTS = 4,
    COF_ERROR_FACT_SIZE = 132,
    COF_ERROR_MESSAGE_SIZE = 512,
    COF_ERROR_TRAIL_SIZE = 256,
    COF_ERROR_FIELD_SIZE = 96,
};

/* A fact for programs: one entry of google.rpc.ErrorInfo.metadata. */
struct cof_error_fact {
    const char *key; /* static */
    char value[COF_ERROR_FACT_SIZE];
};

struct cof_error {
    cof_code code;
    cof_reason reason;
    cof_origin origin;
    uint32_t retry_after_ms; /* 0: no advice */
    uint32_t fact_count;
    char native[16];                      /* SQLSTATE, errno or library code as it was first seen */
    char field[COF_ERROR_FIELD_SIZE];     /* path of the wrong field, or empty */
    char message[COF_ERROR_MESSAGE_SIZE]; /* for the peer: no secret, no SQL, no path of the server */
    char trail[COF_ERROR_TRAIL_SIZE];     /* for the log: what was being done, innermost first */
    struct cof_error_fact facts[COF_ERROR_FACTS];
};

/* Leaves the error without a failure in it. */
void cof_error_clear(struct cof_error *err);

/*
 * Sets the reason, its code and the message, and returns the code. The message says what failed and where; if it
 * does not end in a next step of its own, cof_error_next_step has the one of the reason.
 */
cof_code cof_fail(struct cof_error *err, cof_reason reason, const char *format, ...) COF_PRINTF(3, 4);

/* The same for one field of the request, whose path is kept for google.rpc.BadRequest. */
cof_code cof_fail_field(struct cof_error *err, cof_reason reason, const char *field, const char *format, ...)
    COF_PRINTF(4, 5);

/* INTERNAL: the peer is told nothing but that; `format` goes to the trail. */
cof_code cof_fail_internal(struct cof_error *err, cof_origin origin, const char *native, const char *format, ...)
    COF_PRINTF(4, 5);

/* Adds to the trail of a failure and returns its code. */
cof_code cof_note(struct cof_error *err, const char *format, ...) COF_PRINTF(2, 3);

/* Adds a fact; those past COF_ERROR_FACTS are dropped. `key` must be static. Returns the error's code. */
cof_code cof_error_fact(struct cof_error *err, const char *key, const char *format, ...) COF_PRINTF(3, 4);

/* Advises the peer to wait; returns the error's code. */
cof_code cof_error_retry_after(struct cof_error *err, uint32_t milliseconds);

/* "NOT_FOUND"; "UNKNOWN" for a number outside the table. */
const char *cof_code_name(cof_code code);

/* "SECRET_NOT_FOUND"; "UNSPECIFIED" for a number outside the table. */
const char *cof_reason_name(cof_reason reason);
cof_code cof_reason_code(cof_reason reason);
const char *cof_reason_meaning(cof_reason reason);
const char *cof_reason_next_step(cof_reason reason);

/* Passes a failure on. The only macro that returns. */
#define TRY(call)                          \
    do {                                   \
        const cof_code try_code_ = (call); \
        if (try_code_ != COF_OK) {         \
            return try_code_;              \
        }                                  \
    } while (0)

/* Says that a failure makes no difference here. */
static inline void cof_ignore(cof_code code)
{
    (void) code;
}
