#include "server/store/migrate.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/store/session.h"

enum { LOCK_PAUSE_MS = 50 };

/* "Coffer" in ASCII; advisory locks are counted per database. */
#define LOCK_KEY INT64_C(0x436f66666572)

static const char create_history[] = "create table if not exists schema_history ("
                                     " number int primary key,"
                                     " name text not null,"
                                     " sha256 bytea not null check (length(sha256) = 32),"
                                     " applied_time timestamptz not null)";

static const char *const state_names[] = {
    [MIGRATION_APPLIED] = "applied",
    [MIGRATION_PENDING] = "pending",
    [MIGRATION_CHANGED] = "changed",
    [MIGRATION_UNKNOWN] = "unknown",
};

/* Sends one statement and waits for it. */
static cof_code run(struct session *session, statement id, const struct param *params, size_t count,
                    struct rows **ret_rows, struct cof_error *err)
{
    TRY(session_queue(session, id, params, count, err));
    TRY(session_sync(session, err));
    return session_next(session, ret_rows, err);
}

static cof_code open_session(const struct migrate_options *options, struct session **ret_session,
                             struct cof_error *err)
{
    AUTO(session_cleanup) struct session *session = NULL;
    const struct session_options session_options = {
        .conninfo = options->conninfo,
        .clock = options->clock,
        .connect_timeout_ms = options->connect_timeout_ms,
    };
    TRY(session_new(&session_options, &session, err));
    TRY(session_ready(session, err));
    *ret_session = TAKE(session);
    return COF_OK;
}

/* The history, or no rows where there is no such table yet. */
static cof_code read_history(struct session *session, struct rows **ret_rows, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *present = NULL;
    TRY(run(session, STATEMENT_SCHEMA_HISTORY_PRESENT, NULL, 0, &present, err));
    if (!rows_bool(present, 0, 0)) {
        return COF_OK;
    }
    return run(session, STATEMENT_SCHEMA_HISTORY_LIST, NULL, 0, ret_rows, err);
}

static void add(struct migration_report *report, int32_t number, migration_state state, struct cof_slice name)
{
    struct migration *item = &report->items[report->count++];
    item->number = number;
    item->state = state;
    const size_t kept = name.len < sizeof item->name ? name.len : sizeof item->name - 1;
    memcpy(item->name, name.data, kept);
    item->name[kept] = '\0';
}

static migration_state compare(const struct schema_file *file, const struct rows *history, size_t row)
{
    const struct cof_slice sha256 = cof_slice_of(file->sha256, sizeof file->sha256);
    return cof_slice_equal(rows_bytes(history, row, 2), sha256) ? MIGRATION_APPLIED : MIGRATION_CHANGED;
}

/* Merges the two lists, which are both in the order of their numbers. */
static void merge(const struct schema_set *schema, const struct rows *history, struct migration_report *report)
{
    const size_t applied = history == NULL ? 0 : rows_count(history);
    size_t row = 0;
    for (size_t i = 0; i < schema->count; i++) {
        const struct schema_file *file = &schema->files[i];
        for (; row < applied && rows_i32(history, row, 0) < file->number; row++) {
            add(report, rows_i32(history, row, 0), MIGRATION_UNKNOWN, rows_bytes(history, row, 1));
        }
        const bool known = row < applied && rows_i32(history, row, 0) == file->number;
        add(report, file->number, known ? compare(file, history, row) : MIGRATION_PENDING,
            cof_slice_text(file->name));
        row += known;
    }
    for (; row < applied; row++) {
        add(report, rows_i32(history, row, 0), MIGRATION_UNKNOWN, rows_bytes(history, row, 1));
    }
}

static cof_code make_report(struct session *session, const struct schema_set *schema,
                            struct migration_report **ret_report, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *history = NULL;
    TRY(read_history(session, &history, err));
    const size_t most = schema->count + (history == NULL ? 0 : rows_count(history));
    struct migration_report *report = calloc(1, sizeof *report + most * sizeof report->items[0]);
    if (report == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "no memory for the list of schema files");
    }
    merge(schema, history, report);
    *ret_report = report;
    return COF_OK;
}

/* The first file in a state; NULL if there is none. */
static const struct migration *find(const struct migration_report *report, migration_state state)
{
    for (size_t i = 0; i < report->count; i++) {
        if (report->items[i].state == state) {
            return &report->items[i];
        }
    }
    return NULL;
}

static cof_code refuse(const struct migration_report *report, struct cof_error *err)
{
    const struct migration *unknown = find(report, MIGRATION_UNKNOWN);
    const struct migration *changed = find(report, MIGRATION_CHANGED);
    if (unknown != NULL) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the database has schema file %s, which this version of cofferd does not know: use the "
                        "version that applied it, or a newer one",
                        unknown->name);
    }
    if (changed != NULL) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "schema file %s has changed since it was applied to the database: use the cofferd that "
                        "applied it, or another database; a schema is changed by a new file only",
                        changed->name);
    }
    return COF_OK;
}

static cof_code try_lock(struct session *session, bool *ret_locked, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param key = param_i64(LOCK_KEY);
    TRY(run(session, STATEMENT_SCHEMA_LOCK, &key, 1, &rows, err));
    *ret_locked = rows_bool(rows, 0, 0);
    return COF_OK;
}

/* Asks again and again, so that a limit on the time needs no cancelling. The lock ends with the connection. */
static cof_code lock(const struct migrate_options *options, struct session *session, struct cof_error *err)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
    const int64_t until_us = cof_clock_monotonic(options->clock) + (int64_t) options->lock_timeout_ms * 1000;
    for (;;) {
        bool locked = false;
        TRY(try_lock(session, &locked, err));
        if (locked) {
            return COF_OK;
        }
        if (cof_clock_monotonic(options->clock) >= until_us) {
            return cof_fail(err, COF_REASON_CONFLICT,
                            "another process has been migrating the database for more than %u ms: wait for it, "
                            "then check with cofferd migrate status",
                            options->lock_timeout_ms);
        }
        (void) nanosleep(&pause, NULL);
    }
}

/* Commits the file's effect together with its row in the history. */
static cof_code commit(struct session *session, const struct schema_file *file, const struct cof_clock *clock,
                       struct cof_error *err)
{
    const struct param params[] = {
        param_i32(file->number),
        param_text(cof_slice_text(file->name)),
        param_text(cof_slice_of(file->sha256, sizeof file->sha256)),
        param_time(cof_clock_wall(clock)),
    };
    TRY(session_queue(session, STATEMENT_SCHEMA_HISTORY_INSERT, params, COF_COUNT(params), err));
    TRY(session_commit(session, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, NULL, err));
    return session_next(session, NULL, err);
}

static cof_code apply_in_transaction(struct session *session, const struct schema_file *file,
                                     const struct cof_clock *clock, struct cof_error *err)
{
    TRY(session_begin(session, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, NULL, err));
    TRY(session_script(session, file->sql, err));
    return commit(session, file, clock, err);
}

static cof_code apply(struct session *session, const struct schema_file *file, const struct cof_clock *clock,
                      struct cof_error *err)
{
    if (apply_in_transaction(session, file, clock, err) == COF_OK) {
        return COF_OK;
    }
    session_reset(session);
    return cof_note(err, "schema file %s", file->name);
}

static bool pending(const struct migration_report *report, int32_t number)
{
    for (size_t i = 0; i < report->count; i++) {
        if (report->items[i].number == number) {
            return report->items[i].state == MIGRATION_PENDING;
        }
    }
    return false;
}

static cof_code apply_pending(struct session *session, const struct migrate_options *options,
                              const struct migration_report *report, size_t *ret_applied, struct cof_error *err)
{
    size_t applied = 0;
    for (size_t i = 0; i < options->schema->count; i++) {
        const struct schema_file *file = &options->schema->files[i];
        if (pending(report, file->number)) {
            TRY(apply(session, file, options->clock, err));
            applied++;
        }
    }
    *ret_applied = applied;
    return COF_OK;
}

const char *migration_state_name(migration_state state)
{
    return state_names[state];
}

void migration_report_free(struct migration_report *report)
{
    free(report);
}

cof_code migrate_status(const struct migrate_options *options, struct migration_report **ret_report,
                        struct cof_error *err)
{
    AUTO(session_cleanup) struct session *session = NULL;
    TRY(open_session(options, &session, err));
    return make_report(session, options->schema, ret_report, err);
}

cof_code migrate_plan(const struct migrate_options *options, struct migration_report **ret_report,
                      struct cof_error *err)
{
    AUTO(migration_report_cleanup) struct migration_report *report = NULL;
    TRY(migrate_status(options, &report, err));
    TRY(refuse(report, err));
    size_t kept = 0;
    for (size_t i = 0; i < report->count; i++) {
        if (report->items[i].state == MIGRATION_PENDING) {
            report->items[kept++] = report->items[i];
        }
    }
    report->count = kept;
    *ret_report = TAKE(report);
    return COF_OK;
}

cof_code migrate_up(const struct migrate_options *options, size_t *ret_applied, struct cof_error *err)
{
    AUTO(session_cleanup) struct session *session = NULL;
    AUTO(migration_report_cleanup) struct migration_report *report = NULL;
    TRY(open_session(options, &session, err));
    TRY(lock(options, session, err));
    TRY(session_script(session, create_history, err));
    TRY(make_report(session, options->schema, &report, err));
    TRY(refuse(report, err));
    return apply_pending(session, options, report, ret_applied, err);
}

cof_code migrate_check(const struct migrate_options *options, struct cof_error *err)
{
    AUTO(migration_report_cleanup) struct migration_report *report = NULL;
    TRY(migrate_status(options, &report, err));
    TRY(refuse(report, err));
    const struct migration *missing = find(report, MIGRATION_PENDING);
    if (missing == NULL) {
        return COF_OK;
    }
    return cof_fail(err, COF_REASON_CONFIG_INVALID,
                    "the database lacks schema file %s: run cofferd migrate up, then start the server",
                    missing->name);
}
