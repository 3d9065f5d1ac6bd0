#include "server/audit/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/attr.h"

enum { PATH_SIZE = 1024, FOLDER_SIZE = PATH_SIZE + 16, ID_TEXT = COF_UUID_TEXT }; /* the text and a line end */

struct state {
    int folder;
    int lock;
    struct cof_uuid server;
    char audit[FOLDER_SIZE];
    char refresh[FOLDER_SIZE];
};

static void fd_cleanup(const int *fd)
{
    if (*fd >= 0) {
        (void) close(*fd);
    }
}

static COF_CODE fails(struct cof_error *err, const char *path, const char *what)
{
    const int number = errno;
    return cof_fail(err, COF_REASON_CONFIG_INVALID, "server.state_dir: \"%s\" cannot be %s: %s", path, what,
                    strerrordesc_np(number));
}

static COF_CODE check_folder(const char *path, int folder, struct cof_error *err)
{
    struct stat status;
    if (fstat(folder, &status) != 0) {
        return fails(err, path, "looked at");
    }
    if (status.st_uid != geteuid()) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "server.state_dir: \"%s\" belongs to user %u instead of user %u; run: chown %u '%s'", path,
                        (unsigned) status.st_uid, (unsigned) geteuid(), (unsigned) geteuid(), path);
    }
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "server.state_dir: \"%s\" has mode %04o, so others than its owner may use it; run: chmod "
                        "700 '%s'",
                        path, (unsigned) (status.st_mode & 07777U), path);
    }
    return COF_OK;
}

static COF_CODE open_folder(const char *path, int *ret_folder, struct cof_error *err)
{
    if (mkdir(path, S_IRWXU) != 0 && errno != EEXIST) {
        return fails(err, path, "made");
    }
    *ret_folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*ret_folder < 0) {
        return fails(err, path, "opened as a directory");
    }
    return check_folder(path, *ret_folder, err);
}

static COF_CODE take_lock(struct state *state, const char *path, struct cof_error *err)
{
    state->lock = openat(state->folder, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (state->lock < 0) {
        return fails(err, path, "written to");
    }
    if (flock(state->lock, LOCK_EX | LOCK_NB) != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "server.state_dir: \"%s\" is in use by another server; give each a directory of its own",
                        path);
    }
    return COF_OK;
}

/* Written whole under another name first, so that a crash leaves a whole file or none. */
static COF_CODE make_id(struct state *state, const char *path, struct cof_error *err)
{
    char text[COF_UUID_TEXT];
    state->server = cof_uuid_random();
    cof_uuid_format(&state->server, text);
    text[ID_TEXT - 1] = '\n';
    AUTO(fd_cleanup)
    const int fd = openat(state->folder, "server-id.new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                          S_IRUSR | S_IWUSR);
    if (fd < 0 || write(fd, text, ID_TEXT) != ID_TEXT || fsync(fd) != 0 ||
        renameat(state->folder, "server-id.new", state->folder, "server-id") != 0 || fsync(state->folder) != 0) {
        return fails(err, path, "written to");
    }
    return COF_OK;
}

static COF_CODE read_id(struct state *state, const char *path, struct cof_error *err)
{
    char text[ID_TEXT + 1];
    AUTO(fd_cleanup) const int fd = openat(state->folder, "server-id", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? make_id(state, path, err) : fails(err, path, "read");
    }
    if (read(fd, text, sizeof text) != ID_TEXT || text[ID_TEXT - 1] != '\n' ||
        !cof_uuid_parse(cof_slice_of(text, ID_TEXT - 1), &state->server)) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "server.state_dir: \"%s/server-id\" holds no UUID; restore it, or move the directory away",
                        path);
    }
    return COF_OK;
}

static COF_CODE fill(struct state *state, const char *path, struct cof_error *err)
{
    if (path[0] != '/' || strlen(path) >= PATH_SIZE) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "server.state_dir: \"%s\" is no absolute path of less than %d bytes", path, PATH_SIZE);
    }
    TRY(open_folder(path, &state->folder, err));
    TRY(take_lock(state, path, err));
    TRY(read_id(state, path, err));
    (void) snprintf(state->audit, sizeof state->audit, "%s/audit", path);
    (void) snprintf(state->refresh, sizeof state->refresh, "%s/refresh", path);
    AUTO(fd_cleanup) int audit = -1;
    AUTO(fd_cleanup) int refresh = -1;
    TRY(open_folder(state->audit, &audit, err));
    return open_folder(state->refresh, &refresh, err);
}

COF_CODE state_open(const char *path, struct state **ret_state, struct cof_error *err)
{
    AUTO(state_cleanup) struct state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    state->folder = -1;
    state->lock = -1;
    TRY(fill(state, path, err));
    *ret_state = TAKE(state);
    return COF_OK;
}

void state_close(struct state *state)
{
    if (state == NULL) {
        return;
    }
    fd_cleanup(&state->lock);
    fd_cleanup(&state->folder);
    free(state);
}

const struct cof_uuid *state_server(const struct state *state)
{
    return &state->server;
}

const char *state_audit_folder(const struct state *state)
{
    return state->audit;
}

const char *state_refresh_folder(const struct state *state)
{
    return state->refresh;
}
