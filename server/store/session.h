#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/error.h"
#include "common/slice.h"
#include "common/uuid.h"

/*
 * One connection to PostgreSQL and what is sent over it. All of libpq is behind this header, in session.c.
 *
 * Statements go out in pipelines and come back in the order in which they were queued. A session belongs to one
 * thread at a time. Values travel in PostgreSQL's binary format.
 *
 * Failures: DATABASE_UNAVAILABLE (no connection, or it broke; the session reconnects by itself on its next use, with
 * back-off), CONFLICT (serialization failure or deadlock: SQLSTATE 40001, 40P01), the code of sqlstate.def for other
 * SQLSTATEs, INTERNAL for the rest. A session whose pipeline failed is ready again after session_reset.
 */

struct session;

typedef enum statement {
#define STATEMENT(name, scope, sql) STATEMENT_##name,
#include "server/store/sql.def"
#undef STATEMENT
    STATEMENT_COUNT,
} statement;

/* Statements whose scope is ACROSS do not name a workspace; the tenancy test lists them. */
typedef enum statement_scope {
    STATEMENT_TENANT,
    STATEMENT_ACROSS,
} statement_scope;

const char *statement_name(statement id);
const char *statement_sql(statement id);
statement_scope statement_scope_of(statement id);

/* One parameter. Its bytes are copied when the statement is queued. */
struct param {
    struct cof_slice bytes;
    bool null;
    uint8_t number[8]; /* place for the small ones; `bytes` then points here only while it is queued */
    uint8_t number_len;
};

struct param param_uuid(const struct cof_uuid *value); /* borrows */
struct param param_text(struct cof_slice value);       /* borrows; also for bytea */
struct param param_i64(int64_t value);
struct param param_i32(int32_t value);
struct param param_bool(bool value);
struct param param_time(int64_t unix_us); /* timestamptz */
struct param param_null(void);
/* Makes param_text's result NULL where the value is empty. */
struct param param_text_or_null(struct cof_slice value);
/* Arrays: `to` is the caller's buffer for PostgreSQL's binary form; see array_text_size. */
struct param param_text_array(const struct cof_slice *items, size_t count, uint8_t *to);
size_t array_text_size(const struct cof_slice *items, size_t count);

struct session_options {
    const char *conninfo;        /* libpq's connection string */
    const struct cof_clock *clock;
    uint32_t connect_timeout_ms;
    uint32_t backoff_max_ms;
    /* Called once on every new connection, after the statements' cache is empty; may be NULL. */
    cof_code (*on_connect)(struct session *session, void *context, struct cof_error *err);
    void *context;
};

COF_CODE session_new(const struct session_options *options, struct session **ret_session, struct cof_error *err);
void session_free(struct session *session);

/* Connects if there is no connection; fails at once while the back-off of an earlier failure lasts. */
COF_CODE session_ready(struct session *session, struct cof_error *err);

/* Time at which work must be over (monotonic µs); waiting for PostgreSQL ends then with DEADLINE_EXCEEDED, the
 * statement is cancelled and the connection dropped. 0: no limit. */
void session_deadline(struct session *session, int64_t monotonic_us);

/* Queues a statement, prepared on its first use on this connection. */
COF_CODE session_queue(struct session *session, statement id, const struct param *params, size_t count,
                       struct cof_error *err);

/* Queues plain transaction control in the same pipeline. */
COF_CODE session_begin(struct session *session, struct cof_error *err);  /* READ COMMITTED */
COF_CODE session_commit(struct session *session, struct cof_error *err);

/* Ends a group: a failure inside it spares the statements after it. */
COF_CODE session_sync(struct session *session, struct cof_error *err);

/* Rows of one statement's result. */
struct rows;

/* Sends what is queued and waits for the result of the oldest statement that has none yet. `ret_rows` may be NULL if
 * only success matters. Begin and commit count as statements. */
COF_CODE session_next(struct session *session, struct rows **ret_rows, struct cof_error *err);

/* Drops what is queued or under way, ends an open transaction and leaves the session idle; drops the connection if
 * that cannot be done at once. */
void session_reset(struct session *session);

/* Whether a commit was sent whose result has not arrived: the outcome is unknown. */
bool session_commit_in_doubt(const struct session *session);

void rows_free(struct rows *rows);
static inline void rows_cleanup(struct rows **rows)
{
    rows_free(*rows);
}
size_t rows_count(const struct rows *rows);
/* Rows that an INSERT, UPDATE or DELETE touched. */
size_t rows_affected(const struct rows *rows);

/* Cells; the slices borrow from the rows. Reading a column with the wrong type is an assertion. */
bool rows_null(const struct rows *rows, size_t row, size_t column);
struct cof_slice rows_bytes(const struct rows *rows, size_t row, size_t column); /* text and bytea */
int64_t rows_i64(const struct rows *rows, size_t row, size_t column);
int32_t rows_i32(const struct rows *rows, size_t row, size_t column);
bool rows_bool(const struct rows *rows, size_t row, size_t column);
int64_t rows_time(const struct rows *rows, size_t row, size_t column); /* unix µs */
struct cof_uuid rows_uuid(const struct rows *rows, size_t row, size_t column);
/* Items of a text array, at most `max`; returns how many there are. */
size_t rows_text_array(const struct rows *rows, size_t row, size_t column, struct cof_slice *items, size_t max);
