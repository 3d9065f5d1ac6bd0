#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/secret.h"
#include "server/backup/backup.h"
#include "server/backup/child.h"
#include "server/backup/files.h"
#include "server/backup/manifest.h"
#include "server/service/fault.h"
#include "server/service/instance.h"
#include "server/store/migrate.h"

enum { PATH_SIZE = 1024, LOCK_TIMEOUT_MS = 30000, FAULT_TEXT = 200 };

struct restoring {
    const struct backup_options *options;
    struct cof_error *err;
    struct manifest manifest;
    int dump;
};

static void restoring_done(struct restoring *restoring)
{
    manifest_done(&restoring->manifest);
    files_close(&restoring->dump);
}

/* --- Before anything is written ------------------------------------------------------------------------------- */

static cof_code open_files(struct restoring *restoring)
{
    char path[PATH_SIZE];
    (void) snprintf(path, sizeof path, "%s/%s", restoring->options->path, MANIFEST_FILE);
    TRY(manifest_read(path, restoring->options->roots, restoring->options->root_count, &restoring->manifest,
                      restoring->err));
    (void) snprintf(path, sizeof path, "%s/%s", restoring->options->path, MANIFEST_DUMP);
    restoring->dump = open(path, O_RDONLY | O_CLOEXEC);
    return restoring->dump >= 0 ? COF_OK : files_failed(restoring->err, path, "opened");
}

static cof_code hash_dump(struct restoring *restoring, uint64_t *ret_bytes, uint8_t digest[CRYPTO_DIGEST])
{
    AUTO(crypto_hash_cleanup) struct crypto_hash *hash = NULL;
    AUTO(files_piece_free) uint8_t *piece = malloc(FILES_PIECE);
    ssize_t got = -1;
    *ret_bytes = 0;
    if (piece == NULL) {
        return cof_arena_exhausted(restoring->err);
    }
    TRY(crypto_hash_new(&hash, restoring->err));
    while ((got = read(restoring->dump, piece, FILES_PIECE)) > 0) {
        TRY(crypto_hash_add(hash, cof_slice_of(piece, (size_t) got), restoring->err));
        *ret_bytes += (uint64_t) got;
        restoring->options->progress("read", *ret_bytes, restoring->options->verify.context);
    }
    return got == 0 ? crypto_hash_end(hash, digest, restoring->err)
                    : files_failed(restoring->err, restoring->options->path, "read");
}

/* The file that was hashed is the one that is loaded, also if its name meanwhile has another. */
static cof_code check_dump(struct restoring *restoring)
{
    uint8_t digest[CRYPTO_DIGEST];
    uint64_t bytes = 0;
    TRY(hash_dump(restoring, &bytes, digest));
    if (bytes != restoring->manifest.dump_bytes ||
        !cof_secret_equal(cof_slice_of(digest, sizeof digest),
                          cof_slice_of(restoring->manifest.dump_sha256, CRYPTO_DIGEST))) {
        return cof_fail(
            restoring->err, COF_REASON_CORRUPTED,
            "%s/%s was changed or cut after the backup was made. Nothing was changed; take another backup",
            restoring->options->path, MANIFEST_DUMP);
    }
    return lseek(restoring->dump, 0, SEEK_SET) == 0
               ? COF_OK
               : files_failed(restoring->err, restoring->options->path, "read");
}

static cof_code check_schema(const struct restoring *restoring)
{
    const uint64_t known = (uint64_t) schema_embedded.files[schema_embedded.count - 1].number;
    if (restoring->manifest.schema > known) {
        return cof_fail(restoring->err, COF_REASON_CONFIG_INVALID,
                        "the backup has schema %" PRIu64 ", this cofferd knows %" PRIu64
                        ". Nothing was changed; use the newer cofferd that made it",
                        restoring->manifest.schema, known);
    }
    return COF_OK;
}

static cof_code ask(const struct restoring *restoring, statement id, const struct param *params, size_t count,
                    struct rows **ret_rows)
{
    struct session *session = restoring->options->verify.session;
    TRY(session_queue(session, id, params, count, restoring->err));
    TRY(session_sync(session, restoring->err));
    return session_next(session, ret_rows, restoring->err);
}

static cof_code check_empty(const struct restoring *restoring)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(ask(restoring, STATEMENT_RESTORE_TABLES, NULL, 0, &rows));
    if (rows_i64(rows, 0, 0) == 0) {
        return COF_OK;
    }
    return cof_fail(
        restoring->err, COF_REASON_CONFIG_INVALID,
        "the database is not empty. Nothing was changed. Restore into a new one: a restore that was broken off "
        "after the dump was loaded is begun anew by dropping its database and making it again");
}

/* --- Loading -------------------------------------------------------------------------------------------------- */

static cof_code load(const struct restoring *restoring)
{
    static const char *const arguments[] = {
        "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges",
        "--no-password",        "--dbname=",       NULL};
    const struct child_options child = {.folder = restoring->options->pg_folder,
                                        .program = "pg_restore",
                                        .arguments = arguments,
                                        .conninfo = restoring->options->conninfo,
                                        .input = restoring->dump,
                                        .output = -1};
    const struct migrate_options migration = {.conninfo = restoring->options->conninfo,
                                              .schema = &schema_embedded,
                                              .clock = restoring->options->verify.clock,
                                              .connect_timeout_ms = LOCK_TIMEOUT_MS,
                                              .lock_timeout_ms = LOCK_TIMEOUT_MS};
    pid_t pid;
    size_t applied;
    TRY(child_start(&child, &pid, restoring->err));
    TRY(child_wait(pid, child.program, restoring->err));
    return migrate_up(&migration, &applied, restoring->err);
}

/* --- Afterwards ----------------------------------------------------------------------------------------------- */

static void compare_rows(struct restoring *restoring, struct verify_summary *summary)
{
    const struct verify_options *verify = &restoring->options->verify;
    for (size_t i = 0; i < VERIFY_TABLE_COUNT; i++) {
        if (summary->rows[i] != restoring->manifest.rows[i]) {
            char text[FAULT_TEXT];
            (void) snprintf(text, sizeof text, "there are %" PRIu64 " rows, and were %" PRIu64, summary->rows[i],
                            restoring->manifest.rows[i]);
            const struct verify_fault fault = {verify_table_name((verify_table) i), &cof_uuid_zero, "", text};
            summary->faults++;
            verify->fault(&fault, verify->context);
        }
    }
}

static cof_code check_rows(struct restoring *restoring, bool accept_faults, struct verify_summary *summary)
{
    struct verify_options verify = restoring->options->verify;
    verify.anchor = &restoring->manifest.anchor;
    verify.other_epoch = true;
    TRY(verify_run(&verify, summary, restoring->err));
    compare_rows(restoring, summary);
    if (summary->faults == 0 || accept_faults) {
        return COF_OK;
    }
    return cof_fail(restoring->err, COF_REASON_CORRUPTED,
                    "what was restored has %" PRIu64
                    " faults, so it was not given to servers. Take another backup, or drop "
                    "the database, make it again and restore with --accept-faults",
                    summary->faults);
}

cof_code backup_restore(const struct backup_options *options, bool accept_faults,
                        struct verify_summary *ret_summary, struct cof_error *err)
{
    AUTO(restoring_done) struct restoring restoring = {.options = options, .err = err, .dump = -1};
    TRY(open_files(&restoring));
    TRY(check_schema(&restoring));
    TRY(check_dump(&restoring));
    TRY(check_empty(&restoring));
    TRY(load(&restoring));
    TRY(check_rows(&restoring, accept_faults, ret_summary));
    FAULT_POINT("restore.before_instance");
    return instance_restore(options->verify.session, restoring.manifest.instance, err);
}
