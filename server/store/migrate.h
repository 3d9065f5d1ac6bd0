#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/error.h"

/*
 * Brings a database to the schema of this binary: numbered files, embedded when it was built, each applied once, in
 * its own transaction, in the order of the numbers. The table schema_history remembers them with their checksums.
 * Processes that do this at once take turns by an advisory lock.
 *
 * Every failure of a rule is CONFIG_INVALID, names the file and says what to do.
 */

struct schema_file {
    int32_t number;
    const char *name;
    const char *sql;
    uint8_t sha256[32];
};

/* Files in the order of their numbers, which begin above 0. */
struct schema_set {
    const struct schema_file *files;
    size_t count;
};

/* server/store/schema as it was when this was built. */
extern const struct schema_set schema_embedded;

struct migrate_options {
    const char *conninfo;
    const struct schema_set *schema;
    const struct cof_clock *clock;
    uint32_t connect_timeout_ms;
    uint32_t lock_timeout_ms; /* how long to wait for another process that migrates */
};

typedef enum migration_state {
    MIGRATION_APPLIED,
    MIGRATION_PENDING,
    MIGRATION_CHANGED, /* applied with other content than this binary has */
    MIGRATION_UNKNOWN, /* applied, but not in this binary: the database is newer */
} migration_state;

/* "applied" and so on. */
const char *migration_state_name(migration_state state);

struct migration {
    int32_t number;
    migration_state state;
    char name[100];
};

struct migration_report {
    size_t count;
    struct migration items[]; /* in the order of their numbers */
};

void migration_report_free(struct migration_report *report);
static inline void migration_report_cleanup(struct migration_report **report)
{
    migration_report_free(*report);
}

/* What the database has and lacks. Changes nothing, also in an empty database. */
COF_CODE migrate_status(const struct migrate_options *options, struct migration_report **ret_report,
                        struct cof_error *err);

/* The files that migrate_up would apply now. Fails where it would refuse to. */
COF_CODE migrate_plan(const struct migrate_options *options, struct migration_report **ret_report,
                      struct cof_error *err);

/* Applies what is pending and returns the number of files applied. Refuses, before anything is applied, a database
 * with a changed or an unknown file. A file that fails leaves no trace of itself; those before it stay. */
COF_CODE migrate_up(const struct migrate_options *options, size_t *ret_applied, struct cof_error *err);

/* Success only if all files are applied, none is changed and none is unknown. */
COF_CODE migrate_check(const struct migrate_options *options, struct cof_error *err);
