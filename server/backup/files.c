#include "server/backup/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"

enum { PATH_SIZE = 1024 };

cof_code files_failed(struct cof_error *err, const char *path, const char *what)
{
    const int number = errno;
    cof_ignore(
        cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: cannot be %s: %s", path, what, strerrordesc_np(number)));
    err->origin = COF_ORIGIN_ERRNO;
    (void) snprintf(err->native, sizeof err->native, "%d", number);
    return err->code;
}

void files_close(int *fd) /* NOLINT(readability-non-const-parameter): of AUTO */
{
    if (*fd >= 0) {
        (void) close(*fd);
    }
}

void files_piece_free(uint8_t **piece)
{
    free(*piece);
}

bool files_write_all(int fd, struct cof_slice bytes)
{
    while (bytes.len > 0) {
        const ssize_t written = write(fd, bytes.data, bytes.len);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return false;
        }
        bytes = cof_slice_of(bytes.data + written, bytes.len - (size_t) written);
    }
    return true;
}

static void text_free(char **text)
{
    free(*text);
}

cof_code files_sync_folder(const char *path, struct cof_error *err)
{
    const char *slash = strrchr(path, '/');
    AUTO(text_free) char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t) (slash - path) + 1);
    if (folder == NULL) {
        return cof_arena_exhausted(err);
    }
    AUTO(files_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? COF_OK : files_failed(err, folder, "synced");
}

static cof_code write_new(const char *path, struct cof_slice bytes, struct cof_error *err)
{
    AUTO(files_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return files_failed(err, path, "made");
    }
    return fchmod(fd, S_IRUSR | S_IWUSR) == 0 && files_write_all(fd, bytes) && fsync(fd) == 0
               ? COF_OK
               : files_failed(err, path, "written");
}

cof_code files_write(const char *path, struct cof_slice bytes, struct cof_error *err)
{
    char temporary[PATH_SIZE];
    if (snprintf(temporary, sizeof temporary, "%s.partial", path) >= (int) sizeof temporary) {
        errno = ENAMETOOLONG;
        return files_failed(err, path, "made");
    }
    cof_code code = write_new(temporary, bytes, err);
    if (code == COF_OK && rename(temporary, path) != 0) {
        code = files_failed(err, path, "renamed");
    }
    if (code != COF_OK) {
        (void) unlink(temporary);
        return code;
    }
    return files_sync_folder(path, err);
}
