#pragma once

#include "server/store/session.h"

/* What the session tests share: a database with two small tables, and sessions in it. */

/* Connection string of the database, which is made at the first use and dropped by fixture_end. */
const char *fixture_conninfo(void);
void fixture_end(void);

/* A session with the usual options; ends the program if it cannot be made. */
struct session *fixture_session(void);
struct session *fixture_session_with(const struct session_options *options);
struct session_options fixture_options(void);

/* Sends one statement with its sync and waits for it. */
COF_CODE run(struct session *session, statement id, const struct param *params, size_t count,
             struct rows **ret_rows, struct cof_error *err);

/* The same for a statement with one number as parameter; the result's only cell is not looked at. */
COF_CODE run_i32(struct session *session, statement id, int32_t number, struct cof_error *err);

/* Queues a statement with one number. */
COF_CODE queue_i32(struct session *session, statement id, int32_t number, struct cof_error *err);

/* Takes the next result, a single int4; INT32_MIN if that fails. */
int32_t next_i32(struct session *session, struct cof_error *err);

/* The process that serves the session; 0 if it cannot be asked. */
int32_t backend_of(struct session *session);

/* Ends a server process from another connection and waits until it has gone. */
void terminate_backend(int32_t pid);

void sleep_ms(unsigned milliseconds);
