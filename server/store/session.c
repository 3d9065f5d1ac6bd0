/* All of libpq is in this file: connecting, pipelines, results. */
#include "server/store/session.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include <libpq-fe.h>

#include "common/secret.h"
#include "server/store/backoff.h"
#include "server/store/cell.h"
#include "server/store/hosts.h"
#include "server/store/pipeline.h"
#include "server/store/postgres_type.h"
#include "server/store/sqlstate.h"

enum {
    BACKOFF_FIRST_MS = 50,
    LOOK_MS = 100, /* how often a wait looks whether it is to give up */
    RESET_WAIT_US = 200000,
    FAIR_CONNECT_US = 1000000, /* a host that has not answered by then is away */
    CONNECT_ERROR_SIZE = 200,
    IDENTIFIER_SIZE = 64, /* PostgreSQL's NAMEDATALEN */
    NUMBER_TEXT_SIZE = 16,
    HOST_SIZE = 256,
    UNEXPECTED_EMPTY_RESULTS = 4,
    PLANS_US = 10000000,       /* how old a plan may become */
    ENTRIES_PER_STATEMENT = 2, /* its preparation and itself */
};

/* Transaction control is prepared like the statements of sql.def and numbered after them. */
enum {
    CONTROL_BEGIN = STATEMENT_COUNT,
    CONTROL_COMMIT,
    CONTROL_ROLLBACK,
    CONTROL_DISCARD_PLANS,
    PREPARED_COUNT,
};

struct control {
    const char *name;
    const char *sql;
};

static const struct control controls[] = {
    {"BEGIN", "begin isolation level read committed"},
    {"COMMIT", "commit"},
    {"ROLLBACK", "rollback"},
    {"DISCARD_PLANS", "discard plans"},
};
_Static_assert(COF_COUNT(controls) == PREPARED_COUNT - STATEMENT_COUNT, "one row for each control statement");
_Static_assert((int) PREPARED_COUNT == SESSION_STATEMENTS && (int) SQLSTATE_CLASSES == SESSION_ERRORS,
               "what is counted");

/* Whether the server has the prepared statement. */
struct prepared {
    bool done;
    uint64_t group; /* in which a prepare is on its way; 0: none */
};

struct session {
    struct session_options options;
    void (*before_waiting)(void *context); /* NULL: nothing is called */
    void *waiting_context;
    char *conninfo;
    struct hosts hosts;
    PGconn *connection; /* NULL: none */
    struct backoff backoff;
    struct pipeline pipeline;
    struct prepared prepared[PREPARED_COUNT];
    uint64_t failed_group; /* whose first failure is in `failure`; 0: none */
    bool lost;             /* `failure` says why; everything fails until the session is reset */
    bool in_doubt;
    int64_t deadline_us;
    int64_t plans_us;  /* since when there are plans */
    int64_t sent_us;   /* when the last group was */
    unsigned connects; /* of all sessions, when this one failed to */
    struct cof_error failure;
    char sqlstate[NUMBER_TEXT_SIZE]; /* of the last failure */
    char constraint[IDENTIFIER_SIZE];
    char connect_error[CONNECT_ERROR_SIZE];
};

struct rows {
    PGresult *result;
    atomic_uint owners;
};

/* The parameters of one statement as libpq takes them. */
struct bound {
    int count;
    const char *values[SESSION_PARAMS_MAX];
    int lengths[SESSION_PARAMS_MAX];
    int formats[SESSION_PARAMS_MAX];
};

static const char *name_of(unsigned id)
{
    return id < STATEMENT_COUNT ? statement_name((statement) id) : controls[id - STATEMENT_COUNT].name;
}

const char *session_statement_name(size_t index)
{
    return name_of((unsigned) index);
}

static const char *sql_of(unsigned id)
{
    return id < STATEMENT_COUNT ? statement_sql((statement) id) : controls[id - STATEMENT_COUNT].sql;
}

static int64_t now_us(const struct session *session)
{
    return cof_clock_monotonic(session->options.clock);
}

/* The earlier of two moments, where 0 is never. */
static int64_t earlier(int64_t a, int64_t b)
{
    if (a == 0 || b == 0) {
        return a == 0 ? b : a;
    }
    return a < b ? a : b;
}

static void result_cleanup(PGresult **result)
{
    PQclear(*result);
}

static void ignore_notice(void *context, const PGresult *result)
{
    (void) context;
    (void) result;
}

/* For poll: milliseconds until the moment, rounded up, but not so long that giving up goes unnoticed. */
static int wait_ms(const struct session *session, int64_t until_us)
{
    if (until_us == 0) {
        return LOOK_MS;
    }
    const int64_t left_us = until_us - now_us(session);
    const int64_t left_ms = left_us <= 0 ? 0 : (left_us + 999) / 1000;
    return left_ms > LOOK_MS ? LOOK_MS : (int) left_ms;
}

static bool gives_up(const struct session *session)
{
    return session->options.give_up != NULL && atomic_load(session->options.give_up);
}

/* Waits until the socket is ready; false once the moment has passed. Other failures are left to libpq to find. */
static bool wait_socket(const struct session *session, int fd, short events, int64_t until_us)
{
    struct pollfd entry = {.fd = fd, .events = events};
    int ready = 0;
    if (session->before_waiting != NULL) {
        session->before_waiting(session->waiting_context);
    }
    while (fd >= 0 && ready <= 0) {
        ready = poll(&entry, 1, wait_ms(session, until_us));
        if (ready < 0 && errno != EINTR) {
            return true;
        }
        if (ready <= 0 && (gives_up(session) || (until_us != 0 && now_us(session) >= until_us))) {
            return false;
        }
    }
    return true;
}

/* Failures. */

static cof_code fail_unavailable(struct cof_error *err, const char *native)
{
    cof_ignore(cof_fail(err, COF_REASON_DATABASE_UNAVAILABLE, "%s; %s",
                        cof_reason_meaning(COF_REASON_DATABASE_UNAVAILABLE),
                        cof_reason_next_step(COF_REASON_DATABASE_UNAVAILABLE)));
    err->origin = COF_ORIGIN_POSTGRESQL;
    (void) snprintf(err->native, sizeof err->native, "%s", native == NULL ? "" : native);
    return err->code;
}

/* Gives the connection up. */
static void drop(struct session *session)
{
    if (session->connection == NULL) {
        return;
    }
    if (pipeline_waits_for(&session->pipeline, CONTROL_COMMIT, session->failed_group)) {
        session->in_doubt = true;
    }
    PQfinish(session->connection);
    session->connection = NULL;
    session->failed_group = 0;
    for (unsigned id = 0; id < PREPARED_COUNT; id++) {
        session->prepared[id] = (struct prepared){0};
    }
}

/* Gives the connection up; what is queued gets this failure. */
static cof_code lose(struct session *session, struct cof_error *err)
{
    drop(session);
    session->lost = true;
    session->failure = *err;
    return err->code;
}

static const char *oldest_name(const struct session *session)
{
    const struct pipeline_entry *entry = pipeline_front(&session->pipeline);
    if (entry == NULL) {
        return "SCRIPT";
    }
    return entry->kind == PIPELINE_SYNC ? "SYNC" : name_of(entry->id);
}

static cof_code lose_broken(struct session *session, struct cof_error *err)
{
    cof_ignore(fail_unavailable(err, NULL));
    cof_ignore(cof_note(err, "statement %s: the connection broke", oldest_name(session)));
    return lose(session, err);
}

static cof_code lose_late(struct session *session, struct cof_error *err)
{
    cof_ignore(
        cof_fail(err, COF_REASON_DEADLINE_EXCEEDED, "the time for the call was over before the database answered"));
    cof_ignore(cof_note(err, "statement %s: no result", oldest_name(session)));
    return lose(session, err);
}

/* What is queued behind a lost connection fails one by one. */
static cof_code fail_lost(struct session *session, struct cof_error *err)
{
    bool found = false;
    while (!found && pipeline_front(&session->pipeline) != NULL) {
        found = pipeline_front(&session->pipeline)->kind == PIPELINE_STATEMENT;
        pipeline_pop(&session->pipeline);
    }
    *err = session->failure;
    return err->code;
}

static void copy_field(char *to, size_t size, const PGresult *result, int field)
{
    const char *text = PQresultErrorField(result, field);
    (void) snprintf(to, size, "%s", text == NULL ? "" : text);
}

/* Says what PostgreSQL found wrong with names and syntax. Its other messages can hold values of rows. */
static void note_statement(const char *sqlstate, const char *name, const PGresult *result, struct cof_error *err)
{
    char detail[CONNECT_ERROR_SIZE];
    const bool about_names = strncmp(sqlstate, "42", 2) == 0;
    copy_field(detail, sizeof detail, result, about_names ? PG_DIAG_MESSAGE_PRIMARY : PG_DIAG_CONSTRAINT_NAME);
    cof_ignore(cof_note(err, "statement %s: %s%s%s", name, sqlstate, detail[0] == '\0' ? "" : " ", detail));
}

/* A failure that PostgreSQL reported; FATAL ones end the connection. */
static cof_code fail_result(struct session *session, const char *name, const PGresult *result,
                            struct cof_error *err)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const struct sqlstate_meaning meaning = sqlstate_meaning(sqlstate);
    if (sqlstate == NULL) {
        return lose_broken(session, err);
    }
    const bool fatal = severity != NULL && strcmp(severity, "ERROR") != 0;
    copy_field(session->sqlstate, sizeof session->sqlstate, result, PG_DIAG_SQLSTATE);
    if (session->options.counts != NULL) {
        (void) atomic_fetch_add(&session->options.counts->errors[sqlstate_class(sqlstate)], 1);
    }
    copy_field(session->constraint, sizeof session->constraint, result, PG_DIAG_CONSTRAINT_NAME);
    const cof_reason reason = fatal ? COF_REASON_DATABASE_UNAVAILABLE : meaning.reason;
    cof_ignore(cof_fail(err, reason, "%s; %s", cof_reason_meaning(reason), cof_reason_next_step(reason)));
    err->origin = COF_ORIGIN_POSTGRESQL;
    (void) snprintf(err->native, sizeof err->native, "%s", sqlstate);
    note_statement(sqlstate, name, result, err);
    return fatal || meaning.drop ? lose(session, err) : err->code;
}

/* Results. */

static cof_code wait_result(struct session *session, struct cof_error *err)
{
    while (PQisBusy(session->connection) == 1) {
        const int left = PQflush(session->connection);
        if (left < 0) {
            return lose_broken(session, err);
        }
        const short events = (short) (left > 0 ? POLLIN | POLLOUT : POLLIN);
        if (!wait_socket(session, PQsocket(session->connection), events, session->deadline_us)) {
            return lose_late(session, err);
        }
        if (PQconsumeInput(session->connection) != 1) {
            return lose_broken(session, err);
        }
    }
    return COF_OK;
}

/* Keeps the first result and frees the others. */
static void keep_first(PGresult **first, PGresult *next)
{
    if (*first == NULL) {
        *first = next;
    } else {
        PQclear(next);
    }
}

/* Reads all that libpq has for one entry and keeps the first: a statement's ends with NULL, a sync's with its mark.
 */
static cof_code gather(struct session *session, pipeline_kind kind, PGresult **ret_result, struct cof_error *err)
{
    AUTO(result_cleanup) PGresult *first = NULL;
    unsigned empty = 0;
    bool end = false;
    while (!end && empty < UNEXPECTED_EMPTY_RESULTS) {
        TRY(wait_result(session, err));
        PGresult *next = PQgetResult(session->connection);
        end =
            PQresultStatus(next) == PGRES_PIPELINE_SYNC || (next == NULL && first != NULL && kind != PIPELINE_SYNC);
        empty += next == NULL;
        keep_first(&first, next);
    }
    if (first == NULL) {
        return lose_broken(session, err);
    }
    *ret_result = TAKE(first);
    return COF_OK;
}

/* Keeps the first failure of a group for those behind it. */
static cof_code fail_group(struct session *session, const struct pipeline_entry *entry, const PGresult *result,
                           struct cof_error *err)
{
    const char *name = entry->kind == PIPELINE_SYNC ? "SYNC" : name_of(entry->id);
    const cof_code code = fail_result(session, name, result, err);
    if (!session->lost && entry->kind != PIPELINE_SYNC) {
        session->failed_group = entry->group;
        session->failure = *err;
    }
    return code;
}

/* PostgreSQL answers the commit of a failed transaction with success and the tag ROLLBACK. */
static cof_code check_commit(PGresult *result, struct cof_error *err)
{
    if (strcmp(PQcmdStatus(result), "ROLLBACK") == 0) {
        return cof_fail_internal(err, COF_ORIGIN_POSTGRESQL, NULL,
                                 "statement COMMIT: the transaction had failed and was rolled back");
    }
    return COF_OK;
}

static cof_code judge_success(struct session *session, const struct pipeline_entry *entry, PGresult *result,
                              struct cof_error *err)
{
    switch (entry->kind) {
    case PIPELINE_PREPARE:
        session->prepared[entry->id].done = true;
        return COF_OK;
    case PIPELINE_SYNC:
        return COF_OK;
    case PIPELINE_STATEMENT:
        return entry->id == CONTROL_COMMIT ? check_commit(result, err) : COF_OK;
    }
    return COF_OK;
}

static cof_code judge(struct session *session, const struct pipeline_entry *entry, PGresult *result,
                      struct cof_error *err)
{
    const ExecStatusType status = PQresultStatus(result);
    const bool sync = entry->kind == PIPELINE_SYNC;
    if (status == (sync ? PGRES_PIPELINE_SYNC : PGRES_TUPLES_OK) || (!sync && status == PGRES_COMMAND_OK)) {
        return judge_success(session, entry, result, err);
    }
    if (status == PGRES_FATAL_ERROR) {
        return fail_group(session, entry, result, err);
    }
    if (status == PGRES_PIPELINE_ABORTED && session->failed_group == entry->group) {
        *err = session->failure;
        return err->code;
    }
    cof_ignore(cof_fail_internal(err, COF_ORIGIN_POSTGRESQL, NULL, "statement %s: unexpected result %s",
                                 oldest_name(session), PQresStatus(status)));
    return lose(session, err);
}

static void count_statement(const struct session *session, const struct pipeline_entry *entry)
{
    if (session->options.counts != NULL && entry->kind == PIPELINE_STATEMENT) {
        cof_histogram_count(&session->options.counts->durations[entry->id], now_us(session) - session->sent_us);
    }
}

/* Takes the results of the oldest entry, which stays if the connection is lost. */
static cof_code settle_oldest(struct session *session, PGresult **ret_result, struct cof_error *err)
{
    AUTO(result_cleanup) PGresult *result = NULL;
    const struct pipeline_entry entry = *pipeline_front(&session->pipeline);
    TRY(gather(session, entry.kind, &result, err));
    const cof_code code = judge(session, &entry, result, err);
    if (session->lost) {
        return code;
    }
    if (entry.kind == PIPELINE_PREPARE) {
        session->prepared[entry.id].group = 0;
    }
    if (entry.kind == PIPELINE_SYNC) {
        session->failed_group = 0;
    }
    pipeline_pop(&session->pipeline);
    if (code == COF_OK) {
        count_statement(session, &entry);
        *ret_result = TAKE(result);
    }
    return code;
}

/* Sending. */

/* Prepares the statement unless the server has it. While an earlier group's prepare has not succeeded yet, nobody
 * knows whether it will; then the statement goes unprepared. */
static bool send_statement(struct session *session, unsigned id, const struct bound *bound)
{
    struct prepared *prepared = &session->prepared[id];
    if (!prepared->done && prepared->group == 0) {
        if (PQsendPrepare(session->connection, name_of(id), sql_of(id), 0, NULL) != 1) {
            return false;
        }
        prepared->group = session->pipeline.group;
        pipeline_push(&session->pipeline, PIPELINE_PREPARE, id);
    }
    const bool known = prepared->done || prepared->group == session->pipeline.group;
    pipeline_push(&session->pipeline, PIPELINE_STATEMENT, id);
    const int sent = known ? PQsendQueryPrepared(session->connection, name_of(id), bound->count, bound->values,
                                                 bound->lengths, bound->formats, 1)
                           : PQsendQueryParams(session->connection, sql_of(id), bound->count, NULL, bound->values,
                                               bound->lengths, bound->formats, 1);
    return sent == 1;
}

static cof_code usable(struct session *session, struct cof_error *err)
{
    if (session->lost) {
        *err = session->failure;
        return err->code;
    }
    return session->connection == NULL ? session_ready(session, err) : COF_OK;
}

static cof_code no_room(const struct session *session, struct cof_error *err)
{
    if (session->pipeline.count + ENTRIES_PER_STATEMENT <= SESSION_QUEUE_MAX) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "no memory for a pipeline to the database");
    }
    return cof_fail(err, COF_REASON_LIMIT_EXCEEDED, "more than %d statements in one pipeline to the database",
                    SESSION_QUEUE_MAX);
}

static cof_code queue(struct session *session, unsigned id, const struct bound *bound, struct cof_error *err)
{
    TRY(usable(session, err));
    if (!pipeline_reserve(&session->pipeline, ENTRIES_PER_STATEMENT, SESSION_QUEUE_MAX)) {
        return no_room(session, err);
    }
    return send_statement(session, id, bound) ? COF_OK : lose_broken(session, err);
}

static cof_code queue_control(struct session *session, unsigned id, struct cof_error *err)
{
    static const struct bound nothing;
    return queue(session, id, &nothing, err);
}

static struct cof_slice bytes_of(const struct param *param)
{
    return param->number_len > 0 ? cof_slice_of(param->number, param->number_len) : param->bytes;
}

/* A value is NULL for NULL only, so an empty one needs a pointer. */
static void bind_params(const struct param *params, size_t count, struct bound *ret_bound)
{
    assert(count <= SESSION_PARAMS_MAX);
    ret_bound->count = (int) count;
    for (size_t i = 0; i < count; i++) {
        const struct cof_slice bytes = bytes_of(&params[i]);
        const char *value = bytes.len == 0 ? "" : (const char *) bytes.data;
        assert(bytes.len <= INT_MAX);
        ret_bound->values[i] = params[i].null ? NULL : value;
        ret_bound->lengths[i] = (int) bytes.len;
        ret_bound->formats[i] = 1;
    }
}

/* Sends what libpq holds back; the server answers what has no sync behind it as well. */
static cof_code push_out(struct session *session, struct cof_error *err)
{
    const bool ask = session->pipeline.unflushed;
    session->pipeline.unflushed = false;
    if ((ask && PQsendFlushRequest(session->connection) != 1) || PQflush(session->connection) < 0) {
        return lose_broken(session, err);
    }
    return COF_OK;
}

/* Connecting. */

/* Keywords before the connection string are defaults, those behind it hold in any case. */
static PGconn *start_connection(const struct session *session, unsigned index)
{
    char host[HOST_SIZE];
    char hostaddr[HOST_SIZE];
    char port[NUMBER_TEXT_SIZE];
    const struct hosts *hosts = &session->hosts;
    const bool several = hosts_count(hosts) > 1;
    const char *const keywords[] = {
        "application_name",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "target_session_attrs",
        "dbname",
        "client_encoding",
        "host",
        "hostaddr",
        "port",
        NULL,
    };
    const char *const values[] = {
        "coffer",
        "10",
        "5",
        "3",
        "15000",
        "read-write",
        session->conninfo,
        "UTF8",
        several ? hosts_item(hosts->host, index, host, sizeof host) : NULL,
        several ? hosts_item(hosts->hostaddr, index, hostaddr, sizeof hostaddr) : NULL,
        several ? hosts_item(hosts->port, index, port, sizeof port) : NULL,
        NULL,
    };
    PGconn *connection = PQconnectStartParams(keywords, values, 1);
    if (connection != NULL) {
        (void) PQsetNoticeReceiver(connection, ignore_notice, NULL);
    }
    return connection;
}

/* Drives the connection until it is there; returns what went wrong, or NULL. */
static const char *await_connection(const struct session *session, PGconn *connection, int64_t until_us)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    if (PQstatus(connection) == CONNECTION_BAD) {
        return PQerrorMessage(connection);
    }
    while (status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING) {
        const short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!wait_socket(session, PQsocket(connection), events, until_us)) {
            return "no answer in time";
        }
        status = PQconnectPoll(connection);
    }
    return status == PGRES_POLLING_OK ? NULL : PQerrorMessage(connection);
}

/* One printable line. The message of a failed connect names hosts, users and databases, never the password:
 * session_new refuses the strings whose parts libpq would take for something else. */
static void keep_connect_error(struct session *session, const char *message)
{
    size_t used = 0;
    for (; *message != '\0' && used + 1 < sizeof session->connect_error; message++) {
        const bool printable = *message >= ' ' && *message <= '~';
        memcpy(&session->connect_error[used++], printable ? message : " ", 1);
    }
    session->connect_error[used] = '\0';
}

static bool connect_host(struct session *session, unsigned index, int64_t until_us)
{
    PGconn *connection = start_connection(session, index);
    if (connection == NULL) {
        keep_connect_error(session, "out of memory");
        return false;
    }
    const char *problem = await_connection(session, connection, until_us);
    if (problem == NULL && (PQsetnonblocking(connection, 1) != 0 || PQenterPipelineMode(connection) != 1)) {
        problem = "the connection cannot be switched to pipelines";
    }
    if (problem != NULL) {
        keep_connect_error(session, problem);
        PQfinish(connection);
        return false;
    }
    session->connection = connection;
    session->hosts.current = index;
    return true;
}

/* Each host may take an equal part of the time that is left. */
static bool connect_any(struct session *session, int64_t until_us)
{
    const unsigned count = hosts_count(&session->hosts);
    const unsigned first = session->hosts.current;
    for (unsigned i = 0; i < count; i++) {
        const int64_t now = now_us(session);
        const int64_t share = until_us > now ? (until_us - now) / (count - i) : 0;
        if (connect_host(session, (first + i) % count, now + share)) {
            return true;
        }
    }
    return false;
}

/* Server-side limits; see session_deadline. */
static cof_code set_limits(struct session *session, struct cof_error *err)
{
    char limit[NUMBER_TEXT_SIZE];
    (void) snprintf(limit, sizeof limit, "%u", session->options.statement_timeout_ms);
    const struct param param = param_text(cof_slice_text(limit));
    TRY(session_queue(session, STATEMENT_CONNECTION_SETTINGS, &param, 1, err));
    TRY(session_sync(session, err));
    return session_next(session, NULL, err);
}

static cof_code set_up(struct session *session, struct cof_error *err)
{
    TRY(set_limits(session, err));
    if (session->options.on_connect != NULL) {
        TRY(session->options.on_connect(session, session->options.context, err));
    }
    session_reset(session);
    return session->connection != NULL ? COF_OK : lose_broken(session, err);
}

static cof_code fail_connect(const struct session *session, struct cof_error *err)
{
    if (session->deadline_us != 0 && now_us(session) >= session->deadline_us) {
        cof_ignore(cof_fail(err, COF_REASON_DEADLINE_EXCEEDED,
                            "the time for the call was over before the database could be reached"));
    } else {
        cof_ignore(fail_unavailable(err, NULL));
    }
    return cof_note(err, "connect: %s", session->connect_error);
}

static cof_code connect_once(struct session *session, struct cof_error *err)
{
    const int64_t deadline_us = session->deadline_us;
    const int64_t until_us =
        earlier(deadline_us, now_us(session) + (int64_t) session->options.connect_timeout_ms * 1000);
    if (!connect_any(session, until_us)) {
        return fail_connect(session, err);
    }
    session->deadline_us = until_us;
    const cof_code code = set_up(session, err);
    session->deadline_us = deadline_us;
    if (code == COF_OK) {
        return COF_OK;
    }
    drop(session);
    pipeline_clear(&session->pipeline);
    session->lost = false;
    keep_connect_error(session, err->trail);
    return err->reason == COF_REASON_DEADLINE_EXCEEDED ? fail_connect(session, err) : code;
}

static uint64_t chance(void)
{
    uint64_t number = 0;
    return getrandom(&number, sizeof number, GRND_NONBLOCK) == (ssize_t) sizeof number ? number : 0;
}

static unsigned connects(const struct session *session)
{
    return session->options.connects == NULL ? 0 : atomic_load(session->options.connects);
}

static cof_code connect_session(struct session *session, struct cof_error *err)
{
    const uint32_t remaining_ms = backoff_remaining_ms(&session->backoff, now_us(session));
    const unsigned connects_before = connects(session); /* another's success while this one fails counts, too */
    if (remaining_ms > 0 && connects_before == session->connects) {
        cof_ignore(fail_unavailable(err, NULL));
        cof_ignore(cof_note(err, "waiting before the next connect; the last: %s", session->connect_error));
        return cof_error_retry_after(err, remaining_ms);
    }
    const int64_t begin_us = now_us(session);
    const cof_code code = connect_once(session, err);
    if (code == COF_DEADLINE_EXCEEDED && now_us(session) - begin_us < FAIR_CONNECT_US) {
        return code; /* the caller had too little time, which says nothing of the database */
    }
    if (code != COF_OK) {
        session->connects = connects_before;
        return cof_error_retry_after(err, backoff_failed(&session->backoff, now_us(session), chance()));
    }
    backoff_succeeded(&session->backoff);
    if (session->options.connects != NULL) {
        (void) atomic_fetch_add(session->options.connects, 1);
    }
    return COF_OK;
}

/* Nothing is queued or under way and no transaction is open. */
static bool idle(const struct session *session)
{
    return pipeline_front(&session->pipeline) == NULL && !session->pipeline.unsynced &&
           PQtransactionStatus(session->connection) == PQTRANS_IDLE;
}

/* What an idle connection has to read is a notice, or its end. */
static bool alive(const struct session *session)
{
    struct pollfd entry = {.fd = PQsocket(session->connection), .events = POLLIN};
    for (unsigned i = 0; i < 8 && poll(&entry, 1, 0) > 0; i++) {
        if (PQconsumeInput(session->connection) != 1) {
            return false;
        }
        (void) PQisBusy(session->connection);
    }
    return PQstatus(session->connection) == CONNECTION_OK;
}

/* Reset. */

static cof_code drain(struct session *session, struct cof_error *err)
{
    TRY(push_out(session, err));
    while (pipeline_front(&session->pipeline) != NULL) {
        AUTO(result_cleanup) PGresult *result = NULL;
        cof_ignore(settle_oldest(session, &result, err));
        if (session->lost) {
            return err->code;
        }
    }
    return COF_OK;
}

/* In a group that failed the server hears nothing before the sync. */
static cof_code roll_back(struct session *session, struct cof_error *err)
{
    if (session->failed_group == session->pipeline.group) {
        TRY(session_sync(session, err));
    }
    TRY(queue_control(session, CONTROL_ROLLBACK, err));
    TRY(session_sync(session, err));
    return drain(session, err);
}

/* Makes the connection idle within a short time, without letting a statement that nobody waited for take effect. */
static bool settle(struct session *session)
{
    struct cof_error err;
    const int64_t deadline_us = session->deadline_us;
    if (idle(session)) {
        return true;
    }
    if (!pipeline_revocable(&session->pipeline, session->failed_group) ||
        pipeline_waits_for(&session->pipeline, CONTROL_COMMIT, session->failed_group)) {
        return false;
    }
    session->deadline_us = now_us(session) + RESET_WAIT_US;
    const cof_code code = roll_back(session, &err);
    session->deadline_us = deadline_us;
    return code == COF_OK && idle(session);
}

/* Making a session. */

static cof_code unreadable(struct cof_error *err)
{
    return cof_fail(err, COF_REASON_CONFIG_INVALID,
                    "the connection string of the database cannot be read: write postgresql://user@host/name, "
                    "with %%-escapes for special characters in a password, or host=... user=... dbname=...");
}

cof_code session_environment(const char *conninfo, void (*take)(const char *name, const char *value, void *context),
                             void *context, struct cof_error *err)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    if (options == NULL) {
        return unreadable(err);
    }
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->envvar != NULL && option->val != NULL) {
            take(option->envvar, option->val, context);
        }
    }
    PQconninfoFree(options);
    return COF_OK;
}

static cof_code read_conninfo(struct session *session, struct cof_error *err)
{
    PQconninfoOption *options = PQconninfoParse(session->conninfo, NULL);
    for (const PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++) {
        hosts_keep(&session->hosts, option->keyword, option->val);
    }
    PQconninfoFree(options);
    if (options == NULL || !hosts_unambiguous(&session->hosts, session->conninfo)) {
        return unreadable(err);
    }
    return COF_OK;
}

cof_code session_new(const struct session_options *options, struct session **ret_session, struct cof_error *err)
{
    AUTO(session_cleanup) struct session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "no memory for a session with the database");
    }
    session->options = *options;
    pipeline_init(&session->pipeline);
    backoff_init(&session->backoff, BACKOFF_FIRST_MS, options->backoff_max_ms);
    session->conninfo = strdup(options->conninfo);
    if (session->conninfo == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "no memory for a session with the database");
    }
    session->options.conninfo = session->conninfo;
    TRY(read_conninfo(session, err));
    *ret_session = TAKE(session);
    return COF_OK;
}

void session_before_waiting(struct session *session, void (*call)(void *context), void *context)
{
    session->before_waiting = call;
    session->waiting_context = context;
}

void session_free(struct session *session)
{
    if (session == NULL) {
        return;
    }
    PQfinish(session->connection);
    pipeline_done(&session->pipeline);
    if (session->conninfo != NULL) {
        cof_wipe(session->conninfo, strlen(session->conninfo));
    }
    free(session->conninfo);
    hosts_done(&session->hosts);
    free(session);
}

/* A plan that PostgreSQL made while a table was empty serves badly once it is full, and nothing but new statistics, which
 * may be minutes away, would end it. */
static cof_code renew_plans(struct session *session, struct cof_error *err)
{
    const int64_t now = now_us(session);
    if (now - session->plans_us < PLANS_US) {
        return COF_OK;
    }
    session->plans_us = now;
    TRY(queue_control(session, CONTROL_DISCARD_PLANS, err));
    TRY(session_sync(session, err));
    return session_next(session, NULL, err);
}

cof_code session_ready(struct session *session, struct cof_error *err)
{
    if (session->lost) {
        session_reset(session);
    }
    if (session->connection != NULL && idle(session) && !alive(session)) {
        drop(session);
    }
    if (session->connection != NULL && idle(session) && renew_plans(session, err) != COF_OK) {
        session_reset(session);
    }
    if (session->connection == NULL) {
        session->plans_us = now_us(session);
        return connect_session(session, err);
    }
    return COF_OK;
}

void session_deadline(struct session *session, int64_t monotonic_us)
{
    session->deadline_us = monotonic_us;
}

cof_code session_queue(struct session *session, statement id, const struct param *params, size_t count,
                       struct cof_error *err)
{
    struct bound bound;
    bind_params(params, count, &bound);
    return queue(session, (unsigned) id, &bound, err);
}

cof_code session_begin(struct session *session, struct cof_error *err)
{
    session->in_doubt = false;
    return queue_control(session, CONTROL_BEGIN, err);
}

cof_code session_commit(struct session *session, struct cof_error *err)
{
    return queue_control(session, CONTROL_COMMIT, err);
}

cof_code session_sync(struct session *session, struct cof_error *err)
{
    TRY(usable(session, err));
    if (!session->pipeline.unsynced) {
        return COF_OK;
    }
    if (!pipeline_reserve(&session->pipeline, 1, SESSION_QUEUE_MAX + 1)) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "no memory for a pipeline to the database");
    }
    pipeline_push(&session->pipeline, PIPELINE_SYNC, 0);
    session->sent_us = now_us(session);
    return PQpipelineSync(session->connection) == 1 ? COF_OK : lose_broken(session, err);
}

/* A group without begin and commit succeeds with its sync only; a failure of that belongs to its last statement. */
static cof_code settle_sync(struct session *session, bool committed, struct cof_error *err)
{
    struct cof_error own;
    AUTO(result_cleanup) PGresult *mark = NULL;
    const struct pipeline_entry *next = pipeline_front(&session->pipeline);
    if (next == NULL || next->kind != PIPELINE_SYNC) {
        return COF_OK;
    }
    const cof_code code = settle_oldest(session, &mark, &own);
    if (code == COF_OK || committed) {
        return COF_OK;
    }
    *err = own;
    return code;
}

/* Hands the rows of a statement on, or its failure, together with the sync behind it. */
static cof_code finish(struct session *session, unsigned id, cof_code code, PGresult **result,
                       struct rows **ret_rows, struct cof_error *err)
{
    const cof_code synced = settle_sync(session, code != COF_OK || id == CONTROL_COMMIT, err);
    if (code != COF_OK || synced != COF_OK) {
        return code != COF_OK ? code : synced;
    }
    if (ret_rows == NULL) {
        return COF_OK;
    }
    struct rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "no memory for rows of the database");
    }
    rows->result = TAKE(*result);
    atomic_init(&rows->owners, 1);
    *ret_rows = rows;
    return COF_OK;
}

cof_code session_next(struct session *session, struct rows **ret_rows, struct cof_error *err)
{
    if (!session->lost) {
        cof_ignore(push_out(session, err));
    }
    while (!session->lost) {
        AUTO(result_cleanup) PGresult *result = NULL;
        assert(pipeline_front(&session->pipeline) != NULL);
        const struct pipeline_entry entry = *pipeline_front(&session->pipeline);
        const cof_code code = settle_oldest(session, &result, err);
        if (!session->lost && entry.kind == PIPELINE_STATEMENT) {
            return finish(session, entry.id, code, &result, ret_rows, err);
        }
    }
    return fail_lost(session, err);
}

void session_reset(struct session *session)
{
    if (session->connection != NULL && !settle(session)) {
        drop(session);
    }
    pipeline_clear(&session->pipeline);
    session->failed_group = 0;
    session->lost = false;
}

/* Takes what has arrived. */
static bool take_notices(struct session *session)
{
    bool noticed = false;
    PGnotify *notice = PQnotifies(session->connection);
    while (notice != NULL) {
        noticed = noticed || notice->be_pid != PQbackendPID(session->connection);
        PQfreemem(notice);
        notice = PQnotifies(session->connection);
    }
    return noticed;
}

cof_code session_await_notice(struct session *session, int wake_fd, int64_t until_us, bool *ret_noticed,
                              struct cof_error *err)
{
    struct pollfd entries[] = {{.fd = PQsocket(session->connection), .events = POLLIN},
                               {.fd = wake_fd, .events = POLLIN}};
    assert(idle(session));
    *ret_noticed = take_notices(session);
    while (!*ret_noticed && !gives_up(session) && now_us(session) < until_us && entries[1].revents == 0) {
        if (poll(entries, COF_COUNT(entries), wait_ms(session, until_us)) <= 0) {
            continue;
        }
        if (entries[0].revents != 0 && PQconsumeInput(session->connection) != 1) {
            return lose_broken(session, err);
        }
        *ret_noticed = take_notices(session);
    }
    return COF_OK;
}

bool session_commit_in_doubt(const struct session *session)
{
    return session->in_doubt;
}

bool session_unique_violation(const struct session *session, const char *constraint)
{
    return strcmp(session->sqlstate, "23505") == 0 &&
           (constraint == NULL || strcmp(session->constraint, constraint) == 0);
}

bool session_check_violation(const struct session *session, const char *constraint, const struct cof_error *err)
{
    return strcmp(err->native, "23514") == 0 && strcmp(session->sqlstate, "23514") == 0 &&
           strcmp(session->constraint, constraint) == 0;
}

/* Takes the results of a script; its first failure is kept. */
static cof_code finish_script(struct session *session, struct cof_error *err)
{
    struct cof_error later;
    cof_code code = COF_OK;
    for (;;) {
        TRY(wait_result(session, err));
        AUTO(result_cleanup) PGresult *result = PQgetResult(session->connection);
        if (result == NULL) {
            return code;
        }
        if (PQresultStatus(result) == PGRES_FATAL_ERROR) {
            code = fail_result(session, "SCRIPT", result, code == COF_OK ? err : &later);
        }
        if (session->lost) {
            return code;
        }
    }
}

cof_code session_script(struct session *session, const char *sql, struct cof_error *err)
{
    TRY(usable(session, err));
    assert(pipeline_front(&session->pipeline) == NULL && !session->pipeline.unsynced);
    if (PQexitPipelineMode(session->connection) != 1 || PQsendQuery(session->connection, sql) != 1) {
        return lose_broken(session, err);
    }
    const cof_code code = finish_script(session, err);
    if (!session->lost && PQenterPipelineMode(session->connection) != 1) {
        return lose_broken(session, err);
    }
    return code;
}

bool session_ping(const char *conninfo)
{
    const char *const keywords[] = {"connect_timeout", "dbname", NULL};
    const char *const values[] = {"2", conninfo, NULL};
    return PQpingParams(keywords, values, 1) == PQPING_OK;
}

struct rows *rows_share(struct rows *rows)
{
    (void) atomic_fetch_add_explicit(&rows->owners, 1, memory_order_relaxed);
    return rows;
}

void rows_free(struct rows *rows)
{
    if (rows == NULL || atomic_fetch_sub_explicit(&rows->owners, 1, memory_order_acq_rel) > 1) {
        return;
    }
    PQclear(rows->result);
    free(rows);
}

static bool fill_blank(PGresult *result, size_t columns, size_t size)
{
    static char none[] = "";
    PGresAttDesc *described = calloc(columns, sizeof *described);
    char *zeroes = calloc(1, size + 1);
    bool filled = described != NULL && zeroes != NULL;
    for (size_t i = 0; filled && i < columns; i++) {
        described[i].name = none;
        described[i].format = 1;
        described[i].typid = POSTGRES_BYTEA;
    }
    filled = filled && PQsetResultAttrs(result, (int) columns, described) != 0;
    for (size_t i = 0; filled && i < columns; i++) {
        filled = PQsetvalue(result, 0, (int) i, zeroes, (int) size) != 0;
    }
    free(described);
    free(zeroes);
    return filled;
}

struct rows *rows_blank(size_t columns, size_t size)
{
    struct rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL) {
        return NULL;
    }
    atomic_init(&rows->owners, 1);
    rows->result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    if (rows->result == NULL || !fill_blank(rows->result, columns, size)) {
        rows_free(rows);
        return NULL;
    }
    return rows;
}

size_t rows_count(const struct rows *rows)
{
    return (size_t) PQntuples(rows->result);
}

size_t rows_affected(const struct rows *rows)
{
    return (size_t) strtoull(PQcmdTuples(rows->result), NULL, 10);
}

struct cell rows_cell(const struct rows *rows, size_t row, size_t column)
{
    assert(row < (size_t) PQntuples(rows->result) && column < (size_t) PQnfields(rows->result));
    const int r = (int) row;
    const int c = (int) column;
    const size_t len = (size_t) PQgetlength(rows->result, r, c);
    return (struct cell){
        .bytes = cof_slice_of(PQgetvalue(rows->result, r, c), len),
        .type = PQftype(rows->result, c),
        .null = len == 0 && PQgetisnull(rows->result, r, c) == 1, /* whose length is 0 */
    };
}
