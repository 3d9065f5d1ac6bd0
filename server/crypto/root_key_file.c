#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/encode.h"
#include "common/secret.h"
#include "server/crypto/contexts.h"
#include "server/crypto/root_key.h"

enum { KEY_TEXT = 2 * CRYPTO_KEY, CREDENTIAL_PATH = 1100 };

#define CREDENTIAL "credential:"
#define VARIABLE "env:"

/* What a key file holds, with room for the line end, the NUL of the encoder, and one byte more than is allowed. */
struct key_text {
    char bytes[KEY_TEXT + 2];
    size_t len;
};

static void key_text_done(struct key_text *text)
{
    cof_wipe(text, sizeof *text);
}

static void fd_close_auto(const int *fd)
{
    if (*fd >= 0) {
        (void) close(*fd);
    }
}

/* Commands in messages quote the path so that they can be copied as they stand. */
static COF_CODE open_failed(const char *path, int number, struct cof_error *err)
{
    if (number == ENOENT) {
        return cof_fail(
            err, COF_REASON_CONFIG_INVALID,
            "there is no root key file \"%s\"; restore it from its backup, or, if there is no data yet, "
            "run: (umask 077; openssl rand -hex 32 > '%s')",
            path, path);
    }
    if (number == ELOOP) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the root key file \"%s\" is a symbolic link, or its path has too many; configure the file "
                        "itself, which this prints: readlink -f '%s'",
                        path, path);
    }
    if (number == EACCES) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the root key file \"%s\" must not be read by this user; run: chown %u '%s'", path,
                        (unsigned) geteuid(), path);
    }
    return cof_fail(err, COF_REASON_CONFIG_INVALID,
                    "the root key file \"%s\" cannot be opened: %s; check: ls -ld '%s'", path,
                    strerrordesc_np(number), path);
}

static COF_CODE check_type(const char *path, const struct stat *file, struct cof_error *err)
{
    if (!S_ISREG(file->st_mode)) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the root key file \"%s\" is not a regular file; configure one, and check: stat '%s'", path,
                        path);
    }
    return COF_OK;
}

static COF_CODE check_owner(const char *path, const struct stat *file, struct cof_error *err)
{
    if (file->st_uid != geteuid() && file->st_uid != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the root key file \"%s\" belongs to user %u instead of user %u; run: chown %u '%s'", path,
                        (unsigned) file->st_uid, (unsigned) geteuid(), (unsigned) geteuid(), path);
    }
    return COF_OK;
}

static COF_CODE check_mode(const char *path, const struct stat *file, mode_t forbidden, struct cof_error *err)
{
    if ((file->st_mode & forbidden) != 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the root key file \"%s\" has mode %04o, so others than its owner may use it; "
                        "run: chmod 600 '%s'",
                        path, (unsigned) (file->st_mode & 07777U), path);
    }
    return COF_OK;
}

static COF_CODE check_size(const char *path, const struct stat *file, struct cof_error *err)
{
    if (file->st_size != KEY_TEXT && file->st_size != KEY_TEXT + 1) {
        return cof_fail(
            err, COF_REASON_CONFIG_INVALID,
            "the root key file \"%s\" has %lld bytes instead of 64 hex digits and an optional line end; "
            "restore it from its backup, and check: wc -c '%s'",
            path, (long long) file->st_size, path);
    }
    return COF_OK;
}

static COF_CODE check_file(const char *path, int fd, mode_t forbidden, struct cof_error *err)
{
    struct stat file;
    if (fstat(fd, &file) != 0) {
        return open_failed(path, errno, err);
    }
    TRY(check_type(path, &file, err));
    TRY(check_owner(path, &file, err));
    TRY(check_mode(path, &file, forbidden, err));
    return check_size(path, &file, err);
}

static COF_CODE read_text(const char *path, int fd, struct key_text *ret_text, struct cof_error *err)
{
    const ssize_t got = read(fd, ret_text->bytes, sizeof ret_text->bytes);
    if (got < 0) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the root key file \"%s\" cannot be read: %s; check: wc -c '%s'", path,
                        strerrordesc_np(errno), path);
    }
    ret_text->len = (size_t) got;
    return COF_OK;
}

static COF_CODE decode(const char *path, const struct key_text *text, uint8_t key[CRYPTO_KEY],
                       struct cof_error *err)
{
    const bool line_end = text->len == KEY_TEXT + 1 && text->bytes[KEY_TEXT] == '\n';
    if ((text->len != KEY_TEXT && !line_end) ||
        !cof_hex_decode(cof_slice_of(text->bytes, KEY_TEXT), key, CRYPTO_KEY)) {
        return cof_fail(
            err, COF_REASON_CONFIG_INVALID,
            "the root key file \"%s\" holds something else than 64 hex digits and an optional line end; "
            "restore it from its backup, and check: grep -cxE '[0-9a-fA-F]{64}' '%s'",
            path, path);
    }
    return COF_OK;
}

/* O_NONBLOCK, because opening a FIFO would wait for a writer for ever. */
static COF_CODE read_file(const char *path, mode_t forbidden, struct root_key **ret_key, struct cof_error *err)
{
    AUTO(fd_close_auto) const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return open_failed(path, errno, err);
    }
    TRY(check_file(path, fd, forbidden, err));
    AUTO(key_text_done) struct key_text text;
    TRY(read_text(path, fd, &text, err));
    AUTO(crypto_key_done) struct crypto_key key;
    TRY(decode(path, &text, key.bytes, err));
    return root_key_new(key.bytes, ret_key, err);
}

/* --- Other sources -------------------------------------------------------------------------------------------- */

static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

/* systemd gives the folder to the service alone. Where it grants that by an access list, the list's mask shows as
 * rights of the file's group. */
static COF_CODE read_credential(const char *name, struct root_key **ret_key, struct cof_error *err)
{
    char path[CREDENTIAL_PATH];
    const char *folder = getenv("CREDENTIALS_DIRECTORY"); /* NOLINT(concurrency-mt-unsafe) */
    if (!is_plain_name(name)) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "\"credential:%s\" names no credential of systemd; put the NAME of LoadCredential= there",
                        name);
    }
    if (folder == NULL || folder[0] != '/') {
        return cof_fail(
            err, COF_REASON_CONFIG_INVALID,
            "the root key is to come from the systemd credential \"%s\", but systemd has given this process "
            "none; add to the unit: LoadCredential=%s:/etc/coffer/%s",
            name, name, name);
    }
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int) sizeof path) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "the path of the systemd credential \"%s\" is too long",
                        name);
    }
    return read_file(path, S_IWGRP | S_IXGRP | S_IRWXO, ret_key, err);
}

/* What is taken from the environment is wiped there, so that neither /proc nor a child has it. */
static COF_CODE read_variable(const char *name, struct root_key **ret_key, struct cof_error *err)
{
    AUTO(crypto_key_done) struct crypto_key key;
    char *text = getenv(name); /* NOLINT(concurrency-mt-unsafe) */
    if (text == NULL) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the root key is to come from the environment, but there is no variable %s", name);
    }
    const size_t length = strlen(text);
    const bool decoded = length == KEY_TEXT && cof_hex_decode(cof_slice_of(text, length), key.bytes, CRYPTO_KEY);
    cof_wipe(text, length);
    (void) unsetenv(name); /* NOLINT(concurrency-mt-unsafe) */
    if (!decoded) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the environment variable %s holds something else than a root key of 64 hex digits", name);
    }
    return root_key_new(key.bytes, ret_key, err);
}

static const char *behind(const char *source, const char *prefix)
{
    const size_t length = strlen(prefix);
    return strncmp(source, prefix, length) == 0 ? source + length : NULL;
}

bool root_key_in_file(const char *source)
{
    return behind(source, CREDENTIAL) == NULL && behind(source, VARIABLE) == NULL;
}

COF_CODE root_key_read(const char *source, struct root_key **ret_key, struct cof_error *err)
{
    const char *name = behind(source, CREDENTIAL);
    if (name != NULL) {
        return read_credential(name, ret_key, err);
    }
    name = behind(source, VARIABLE);
    return name != NULL ? read_variable(name, ret_key, err) : read_file(source, S_IRWXG | S_IRWXO, ret_key, err);
}

/* --- Making --------------------------------------------------------------------------------------------------- */

static COF_CODE write_failed(const char *path, int number, struct cof_error *err)
{
    if (number == EEXIST) {
        return cof_fail(
            err, COF_REASON_CONFIG_INVALID,
            "\"%s\" exists, and a root key never replaces a file; use the key that is there, or name another "
            "file; check: ls -l '%s'",
            path, path);
    }
    return cof_fail(err, COF_REASON_CONFIG_INVALID,
                    "the root key file \"%s\" cannot be written: %s; check: ls -ld \"$(dirname '%s')\"", path,
                    strerrordesc_np(number), path);
}

static COF_CODE make_text(struct key_text *ret_text, struct cof_error *err)
{
    AUTO(crypto_key_done) struct crypto_key key;
    TRY(crypto_random(key.bytes, sizeof key.bytes, err));
    cof_hex_encode(cof_slice_of(key.bytes, sizeof key.bytes), ret_text->bytes);
    ret_text->bytes[KEY_TEXT] = '\n';
    ret_text->len = KEY_TEXT + 1;
    return COF_OK;
}

/* The mode is set again because a strange umask may have taken the owner's rights away. */
static COF_CODE write_text(const char *path, int fd, const struct key_text *text, struct cof_error *err)
{
    errno = 0;
    if (fchmod(fd, S_IRUSR | S_IWUSR) != 0 || write(fd, text->bytes, text->len) != (ssize_t) text->len ||
        fsync(fd) != 0) {
        return write_failed(path, errno == 0 ? ENOSPC : errno, err);
    }
    return COF_OK;
}

static void free_auto(char **text)
{
    free(*text);
}

static COF_CODE sync_folder(const char *path, struct cof_error *err)
{
    const char *slash = strrchr(path, '/');
    AUTO(free_auto) char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t) (slash - path) + 1);
    if (folder == NULL) {
        return write_failed(path, ENOMEM, err);
    }
    AUTO(fd_close_auto) const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        return write_failed(path, errno, err);
    }
    return COF_OK;
}

COF_CODE root_key_create(const char *path, struct cof_error *err)
{
    AUTO(key_text_done) struct key_text text;
    TRY(make_text(&text, err));
    AUTO(fd_close_auto)
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return write_failed(path, errno, err);
    }
    cof_code code = write_text(path, fd, &text, err);
    if (code == COF_OK) {
        code = sync_folder(path, err);
    }
    if (code != COF_OK) {
        (void) unlink(path);
    }
    return code;
}
