#include "common/tls/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/secret.h"

enum { FILE_MOST = 4 << 20 };

static void close_cleanup(const int *fd)
{
    if (*fd >= 0) {
        (void) close(*fd);
    }
}

void cof_tls_text_done(struct cof_tls_text *text)
{
    if (text->bytes != NULL) {
        cof_wipe(text->bytes, text->size);
    }
    free(text->bytes);
    *text = (struct cof_tls_text){0};
}

static COF_CODE unreadable(const struct cof_tls_file *file, int number, struct cof_error *err)
{
    return cof_fail_field(err, COF_REASON_CONFIG_INVALID, file->setting,
                          "%s: the file \"%.200s\" cannot be read: %s; correct the path, or check: ls -l '%.120s'",
                          file->setting, file->path, strerrordesc_np(number), file->path);
}

/* The file may be reached through a symbolic link, which is how renewed certificates are usually put in place. */
static COF_CODE open_file(const struct cof_tls_file *file, int *ret_fd, struct stat *ret_status,
                          struct cof_error *err)
{
    const int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    *ret_fd = fd;
    if (fd < 0 || fstat(fd, ret_status) != 0) {
        return unreadable(file, errno, err);
    }
    if (!S_ISREG(ret_status->st_mode) || ret_status->st_size > FILE_MOST) {
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, file->setting,
                              "%s: \"%.200s\" is no file, or is larger than 4 MiB; name a file in PEM form",
                              file->setting, file->path);
    }
    return COF_OK;
}

static COF_CODE check_private(const struct cof_tls_file *file, const struct stat *status, struct cof_error *err)
{
    if (status->st_uid != geteuid() && status->st_uid != 0) {
        return cof_fail_field(
            err, COF_REASON_CONFIG_INVALID, file->setting,
            "%s: the key \"%.200s\" belongs to user %u instead of user %u; run: chown %u '%.120s'", file->setting,
            file->path, (unsigned) status->st_uid, (unsigned) geteuid(), (unsigned) geteuid(), file->path);
    }
    if ((status->st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, file->setting,
                              "%s: the key \"%.200s\" has mode %04o, so others than its owner may use it; run: "
                              "chmod 600 '%.120s'",
                              file->setting, file->path, (unsigned) (status->st_mode & 07777U), file->path);
    }
    return COF_OK;
}

static COF_CODE read_all(const struct cof_tls_file *file, int fd, size_t size, struct cof_tls_text *ret_text,
                         struct cof_error *err)
{
    size_t filled = 0;
    AUTO(cof_tls_text_done) struct cof_tls_text text = {.bytes = malloc(size + 1), .size = size};
    if (text.bytes == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the file of %s", file->setting);
    }
    while (filled < size) {
        const ssize_t got = read(fd, text.bytes + filled, size - filled);
        if (got < 0) {
            return unreadable(file, errno, err);
        }
        if (got == 0) {
            break;
        }
        filled += (size_t) got;
    }
    ret_text->bytes = TAKE(text.bytes);
    ret_text->size = filled;
    return COF_OK;
}

static COF_CODE read_file(const struct cof_tls_file *file, bool is_private, struct cof_tls_text *ret_text,
                          struct cof_error *err)
{
    AUTO(close_cleanup) int fd = -1;
    struct stat status = {0};
    TRY(open_file(file, &fd, &status, err));
    if (is_private) {
        TRY(check_private(file, &status, err));
    }
    return read_all(file, fd, (size_t) status.st_size, ret_text, err);
}

cof_code cof_tls_file_read(const struct cof_tls_file *file, struct cof_tls_text *ret_text, struct cof_error *err)
{
    return read_file(file, false, ret_text, err);
}

cof_code cof_tls_file_read_key(const struct cof_tls_file *file, struct cof_tls_text *ret_text,
                               struct cof_error *err)
{
    return read_file(file, true, ret_text, err);
}
