#include "server/backup/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "server/backup/child.h"
#include "server/backup/files.h"
#include "server/backup/manifest.h"
#include "server/store/migrate.h"

enum { PATH_SIZE = 1024, SNAPSHOT_SIZE = 64 };

struct making {
    const struct backup_options *options;
    struct cof_error *err;
    struct manifest manifest;
    struct rows *instance; /* that the manifest borrows from */
    char snapshot[SNAPSHOT_SIZE];
    char folder[PATH_SIZE]; /* until it has its name */
    char dump[PATH_SIZE + 32];
    char list[PATH_SIZE + 32];
};

static void making_done(struct making *making)
{
    manifest_done(&making->manifest);
    rows_free(making->instance);
}

/* --- The directory -------------------------------------------------------------------------------------------- */

static cof_code make_folder(struct making *making)
{
    const char *path = making->options->path;
    if (access(path, F_OK) == 0) {
        return cof_fail(making->err, COF_REASON_CONFIG_INVALID, "%s is there already; name one that is not", path);
    }
    if (snprintf(making->folder, sizeof making->folder, "%s.partial", path) >= (int) sizeof making->folder) {
        return cof_fail(making->err, COF_REASON_CONFIG_INVALID, "the directory's path is too long");
    }
    (void) snprintf(making->dump, sizeof making->dump, "%s/%s", making->folder, MANIFEST_DUMP);
    (void) snprintf(making->list, sizeof making->list, "%s/%s", making->folder, MANIFEST_FILE);
    if (mkdir(making->folder, S_IRWXU) != 0) {
        return files_failed(making->err, making->folder,
                            errno == EEXIST
                                ? "used: another backup is being made, or one was broken off and may be removed"
                                : "made");
    }
    return COF_OK;
}

static void remove_folder(const struct making *making)
{
    (void) unlink(making->dump);
    (void) unlink(making->list);
    (void) rmdir(making->folder);
}

static cof_code finish_folder(const struct making *making)
{
    const char *path = making->options->path;
    TRY(files_sync_folder(making->dump, making->err));
    if (rename(making->folder, path) != 0) {
        return files_failed(making->err, path, "made");
    }
    return files_sync_folder(path, making->err);
}

/* --- The dump ------------------------------------------------------------------------------------------------- */

static cof_code copy_pieces(struct making *making, int from, int to, struct crypto_hash *hash)
{
    AUTO(files_piece_free) uint8_t *piece = malloc(FILES_PIECE);
    ssize_t got;
    if (piece == NULL) {
        return cof_arena_exhausted(making->err);
    }
    while ((got = read(from, piece, FILES_PIECE)) != 0) {
        if (got < 0 && errno == EINTR) {
            continue;
        }
        const struct cof_slice bytes = cof_slice_of(piece, got < 0 ? 0 : (size_t) got);
        if (got < 0 || !files_write_all(to, bytes)) {
            return files_failed(making->err, making->dump, "written");
        }
        TRY(crypto_hash_add(hash, bytes, making->err));
        making->manifest.dump_bytes += bytes.len;
        making->options->progress("dumped", making->manifest.dump_bytes, making->options->verify.context);
    }
    return fsync(to) == 0 ? COF_OK : files_failed(making->err, making->dump, "synced");
}

static cof_code take_dump(struct making *making, int from)
{
    AUTO(crypto_hash_cleanup) struct crypto_hash *hash = NULL;
    AUTO(files_close)
    int to = open(making->dump, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (to < 0) {
        return files_failed(making->err, making->dump, "made");
    }
    TRY(crypto_hash_new(&hash, making->err));
    TRY(copy_pieces(making, from, to, hash));
    return crypto_hash_end(hash, making->manifest.dump_sha256, making->err);
}

/* The instance's row is left out: it comes back last, when everything else was checked. */
static cof_code dump(struct making *making)
{
    char snapshot[SNAPSHOT_SIZE + 16];
    const char *const arguments[] = {
        "--format=custom", "--no-owner", "--no-privileges", "--no-password", "--exclude-table-data=public.instance",
        snapshot,          NULL};
    int ends[2];
    pid_t pid;
    (void) snprintf(snapshot, sizeof snapshot, "--snapshot=%s", making->snapshot);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return files_failed(making->err, making->dump, "written");
    }
    AUTO(files_close) int from = ends[0];
    const struct child_options child = {.folder = making->options->pg_folder,
                                        .program = "pg_dump",
                                        .arguments = arguments,
                                        .conninfo = making->options->conninfo,
                                        .input = -1,
                                        .output = ends[1]};
    const cof_code started = child_start(&child, &pid, making->err);
    (void) close(ends[1]);
    TRY(started);
    const cof_code code = take_dump(making, from);
    if (code != COF_OK) {
        child_end(pid);
        return code;
    }
    return child_wait(pid, child.program, making->err);
}

/* --- The state that is dumped --------------------------------------------------------------------------------- */

static cof_code ask(struct making *making, statement id, struct rows **ret_rows)
{
    struct session *session = making->options->verify.session;
    TRY(session_queue(session, id, NULL, 0, making->err));
    TRY(session_sync(session, making->err));
    return session_next(session, ret_rows, making->err);
}

static cof_code open_snapshot(struct making *making)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_script(making->options->verify.session, "begin isolation level repeatable read read only",
                       making->err));
    TRY(ask(making, STATEMENT_BACKUP_SNAPSHOT, &rows));
    const struct cof_slice name = rows_bytes(rows, 0, 0);
    if (name.len >= sizeof making->snapshot) {
        return cof_fail_internal(making->err, COF_ORIGIN_OWN, NULL, "the snapshot's name is too long");
    }
    memcpy(making->snapshot, name.data, name.len);
    making->snapshot[name.len] = '\0';
    TRY(ask(making, STATEMENT_BACKUP_INSTANCE, &making->instance));
    if (rows_count(making->instance) == 0) {
        return cof_fail(making->err, COF_REASON_CONFIG_INVALID,
                        "the database holds no instance: there is nothing to back up");
    }
    making->manifest.instance = rows_bytes(making->instance, 0, 0);
    making->manifest.schema = (uint64_t) schema_embedded.files[schema_embedded.count - 1].number;
    return COF_OK;
}

static cof_code fill(struct making *making, struct verify_summary *summary)
{
    struct verify_options verify = making->options->verify;
    verify.in_snapshot = true;
    verify.anchor = NULL;
    verify.collect = &making->manifest.anchor;
    TRY(open_snapshot(making));
    TRY(verify_run(&verify, summary, making->err));
    memcpy(making->manifest.rows, summary->rows, sizeof summary->rows);
    TRY(dump(making));
    TRY(manifest_write(&making->manifest, making->options->roots[0], making->list, making->err));
    return finish_folder(making);
}

cof_code backup_make(const struct backup_options *options, struct verify_summary *ret_summary,
                     struct cof_error *err)
{
    AUTO(making_done) struct making making = {.options = options, .err = err};
    TRY(make_folder(&making));
    const cof_code code = fill(&making, ret_summary);
    if (code != COF_OK) {
        remove_folder(&making);
    }
    return code;
}
