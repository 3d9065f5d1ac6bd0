#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/error.h"
#include "common/histogram.h"
#include "common/slice.h"
#include "common/uuid.h"

/*
 * One connection to PostgreSQL and what is sent over it. All of libpq is behind this header, in session.c.
 *
 * Statements go out in pipelines and come back in the order in which they were queued. A session belongs to one
 * thread at a time. Values travel in PostgreSQL's binary format.
 *
 * Failures: DATABASE_UNAVAILABLE (no connection, or it broke), DEADLINE_EXCEEDED, the reason of sqlstate.def for a
 * SQLSTATE, INTERNAL for the rest. `native` is the SQLSTATE; neither message nor trail holds a value of a row or a
 * parameter. A statement that fails makes the rest of its group fail with the same error. When the connection is
 * lost, everything queued fails, and so does every further call until session_reset or session_ready; these begin
 * anew, so that half a transaction can never go on over another connection. A session without a connection connects
 * by itself on its next use.
 */

struct session;

/* Tests add statements of their own by giving another table that begins with this one. */
#ifndef COFFER_SQL_TABLE
#define COFFER_SQL_TABLE "server/store/sql.def"
#endif

typedef enum statement {
#define STATEMENT(name, scope, sql) STATEMENT_##name,
#include COFFER_SQL_TABLE
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

/* What all sessions of a process count. All zero at first. */
enum { SESSION_CONTROLS = 4, SESSION_STATEMENTS = STATEMENT_COUNT + SESSION_CONTROLS, SESSION_ERRORS = 16 };
struct session_counts {
    struct cof_histogram durations[SESSION_STATEMENTS]; /* from when the group was sent to the statement's result */
    _Atomic uint64_t errors[SESSION_ERRORS];            /* by sqlstate_class */
};

/* The name of a statement, also of those that control transactions. */
const char *session_statement_name(size_t index);

struct session_options {
    struct session_counts *counts; /* NULL: nothing is counted */
    const char *conninfo;          /* libpq's connection string; copied */
    const struct cof_clock *clock;
    uint32_t connect_timeout_ms; /* for all hosts of the connection string together */
    uint32_t backoff_max_ms;
    uint32_t statement_timeout_ms; /* PostgreSQL's own limit for one statement or an idle transaction; 0: none */
    /* Called once on every new connection, before anything else is sent; may be NULL. It takes the results of all
     * that it queues. Its failure is the failure to connect. */
    cof_code (*on_connect)(struct session *session, void *context, struct cof_error *err);
    void *context;
    /* How often any session of the process has connected; NULL: this one is by itself. A success of another one ends
     * this one's waiting after a failure: the database is back. */
    atomic_uint *connects;
    const atomic_bool
        *give_up; /* once true, nothing is waited for any more, as if all time were over; may be NULL */
};

/* Does not connect yet. Fails with CONFIG_INVALID if the connection string cannot be read; it is never quoted. */
COF_CODE session_new(const struct session_options *options, struct session **ret_session, struct cof_error *err);
void session_free(struct session *session);

/* Called before each time that the session waits for PostgreSQL. */
void session_before_waiting(struct session *session, void (*call)(void *context), void *context);

static inline void session_cleanup(struct session **session)
{
    session_free(*session);
}

/*
 * Connects if there is no connection or an idle one turns out to be dead; resets the session if its connection was
 * lost. Fails at once while the back-off of an earlier failure lasts, with retry advice. Hosts of the connection
 * string are tried one after the other, beginning with the one that answered last; only one that accepts writes is
 * taken, unless the string says otherwise.
 */
COF_CODE session_ready(struct session *session, struct cof_error *err);

/*
 * Time at which work must be over (monotonic µs); waiting for PostgreSQL ends then with DEADLINE_EXCEEDED and the
 * connection is dropped. PostgreSQL 14 and newer notice that within a second and cancel the statement; older ones
 * end it by the statement timeout. libpq's own cancel request is not used, since it can block. 0: no limit.
 */
void session_deadline(struct session *session, int64_t monotonic_us);

enum { SESSION_PARAMS_MAX = 32, SESSION_QUEUE_MAX = 65536 };

/* Queues a statement, prepared on its first use on this connection. LIMIT_EXCEEDED past SESSION_QUEUE_MAX. */
COF_CODE session_queue(struct session *session, statement id, const struct param *params, size_t count,
                       struct cof_error *err);

/* Queues plain transaction control in the same pipeline. */
COF_CODE session_begin(struct session *session, struct cof_error *err); /* READ COMMITTED */
COF_CODE session_commit(struct session *session, struct cof_error *err);

/*
 * Ends a group: a failure inside it spares the statements after it. A group without session_begin is a transaction
 * of its own, committed by the sync: session_next waits for that together with the group's last statement, if the
 * sync was queued by then.
 */
COF_CODE session_sync(struct session *session, struct cof_error *err);

/* Rows of one statement's result. */
struct rows;

/*
 * Sends what is queued and waits for the result of the oldest statement that has none yet. `ret_rows` may be NULL
 * if only success matters. Begin and commit count as statements. A commit that ended as a rollback, since an
 * earlier group of the transaction failed, is a failure. Asking for more results than statements is an assertion.
 * PostgreSQL sends the results of a group when it has reached the end of what was queued by now, or the group's
 * sync.
 */
COF_CODE session_next(struct session *session, struct rows **ret_rows, struct cof_error *err);

/*
 * Waits until the connection, which must be idle, has a notification (LISTEN) that another connection sent, or until
 * `wake_fd` can be read, or until then; says whether there was one. Several are one.
 */
COF_CODE session_await_notice(struct session *session, int wake_fd, int64_t until_us, bool *ret_noticed,
                              struct cof_error *err);

/* Drops what is queued or under way, ends an open transaction and leaves the session idle; drops the connection if
 * that cannot be done at once. */
void session_reset(struct session *session);

/* Whether the connection was lost or dropped while a commit had been queued whose result had not arrived: the
 * outcome is unknown. Stays so until the next session_begin. */
bool session_commit_in_doubt(const struct session *session);

/* Whether the last statement that failed did so with SQLSTATE 23505 on this constraint or unique index (NULL: on
 * any). Such a failure has the reason CONFLICT. */
bool session_unique_violation(const struct session *session, const char *constraint);

/* Whether `err` is the failure of a statement with SQLSTATE 23514 on this check constraint. */
bool session_check_violation(const struct session *session, const char *constraint, const struct cof_error *err);

/* Runs a script of several statements, outside of any pipeline: for the schema. Nothing may be queued. */
COF_CODE session_script(struct session *session, const char *sql, struct cof_error *err);

/* Gives a connection string as the environment variables that libpq reads instead, a password among them. */
COF_CODE session_environment(const char *conninfo, void (*take)(const char *name, const char *value, void *context),
                             void *context, struct cof_error *err);

/* Whether a server accepts connections there; waits two seconds at most for each host. */
bool session_ping(const char *conninfo);

/* One more owner of the rows, on any thread; they go with the last one. */
struct rows *rows_share(struct rows *rows);
/* One row of no table, with so many columns of type bytea and so many zero bytes: in the place of one that does not exist, for who must
 * not take less time then. NULL if there is no memory. */
struct rows *rows_blank(size_t columns, size_t size);
void rows_free(struct rows *rows);
static inline void rows_cleanup(struct rows **rows)
{
    rows_free(*rows);
}
size_t rows_count(const struct rows *rows);
/* Rows that an INSERT, UPDATE or DELETE touched. */
size_t rows_affected(const struct rows *rows);

/* Cells; the slices borrow from the rows. Reading a column with the wrong type, or a number that is NULL, is an
 * assertion; the bytes of a NULL are empty. */
bool rows_null(const struct rows *rows, size_t row, size_t column);
struct cof_slice rows_bytes(const struct rows *rows, size_t row, size_t column); /* text and bytea */
int64_t rows_i64(const struct rows *rows, size_t row, size_t column);
int32_t rows_i32(const struct rows *rows, size_t row, size_t column);
bool rows_bool(const struct rows *rows, size_t row, size_t column);
int64_t rows_time(const struct rows *rows, size_t row, size_t column); /* unix µs */
struct cof_uuid rows_uuid(const struct rows *rows, size_t row, size_t column);
/* Items of a text array, at most `max`; returns how many there are, or SIZE_MAX if it has several dimensions or a
 * NULL, which Coffer never writes. */
size_t rows_text_array(const struct rows *rows, size_t row, size_t column, struct cof_slice *items, size_t max);
