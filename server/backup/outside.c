#include "server/backup/outside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/encode.h"
#include "common/secret.h"
#include "server/backup/files.h"

enum { MAC_TEXT = 2 * CRYPTO_DIGEST + 1, MAC_LINE = 4 + MAC_TEXT, FILE_MOST = 1 << 30, FIRST_ROOM = 4096 };

/* --- Making --------------------------------------------------------------------------------------------------- */

void outside_done(struct outside *file)
{
    free(file->text);
    *file = (struct outside){.text = NULL};
}

static bool make_room(struct outside *file, size_t more)
{
    size_t capacity = file->capacity == 0 ? FIRST_ROOM : file->capacity;
    while (capacity - file->len < more) {
        capacity *= 2;
    }
    char *text = capacity == file->capacity ? file->text : realloc(file->text, capacity);
    if (text == NULL) {
        file->exhausted = true;
        return false;
    }
    file->text = text;
    file->capacity = capacity;
    return true;
}

void outside_line(struct outside *file, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !make_room(file, (size_t) length + 2)) {
        return;
    }
    va_start(arguments, format);
    (void) vsnprintf(file->text + file->len, (size_t) length + 1, format, arguments);
    va_end(arguments);
    file->len += (size_t) length;
    file->text[file->len++] = '\n';
}

static cof_code mac_of(const struct root_key *root, const char *text, size_t len, char hex[MAC_TEXT],
                       struct cof_error *err)
{
    uint8_t mac[CRYPTO_DIGEST];
    TRY(root_key_mac(root, cof_slice_of(text, len), mac, err));
    cof_hex_encode(cof_slice_of(mac, sizeof mac), hex);
    return COF_OK;
}

cof_code outside_write(struct outside *file, const struct root_key *root, const char *path, struct cof_error *err)
{
    char hex[MAC_TEXT];
    if (file->exhausted) {
        return cof_arena_exhausted(err);
    }
    TRY(mac_of(root, file->text, file->len, hex, err));
    outside_line(file, "mac %s", hex);
    if (file->exhausted) {
        return cof_arena_exhausted(err);
    }
    return files_write(path, cof_slice_of(file->text, file->len), err);
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

static cof_code no_such_file(struct cof_error *err, const char *path, const char *what)
{
    return cof_fail(err, COF_REASON_CONFIG_INVALID, "%s: %s", path, what);
}

static cof_code read_all(const char *path, struct outside *file, struct cof_error *err)
{
    struct stat info;
    AUTO(files_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        return files_failed(err, path, "opened");
    }
    if (!S_ISREG(info.st_mode) || info.st_size > FILE_MOST) {
        return no_such_file(err, path, "it is no file that cofferd has written");
    }
    if (!make_room(file, (size_t) info.st_size + 1)) {
        return cof_arena_exhausted(err);
    }
    while (file->len < (size_t) info.st_size) {
        const ssize_t got = read(fd, file->text + file->len, (size_t) info.st_size - file->len);
        if (got <= 0) {
            return files_failed(err, path, "read");
        }
        file->len += (size_t) got;
    }
    file->text[file->len] = '\0';
    return COF_OK;
}

static const struct root_key *find_root(struct cof_slice id, struct root_key *const *roots, size_t count)
{
    uint8_t bytes[ROOT_KEY_ID];
    for (size_t i = 0; i < count && cof_hex_decode(id, bytes, sizeof bytes); i++) {
        if (memcmp(root_key_id(roots[i]), bytes, sizeof bytes) == 0) {
            return roots[i];
        }
    }
    return NULL;
}

static cof_code check_mac(const char *path, struct outside *file, struct root_key *const *roots, size_t count,
                          struct cof_error *err)
{
    char hex[MAC_TEXT];
    const size_t len = file->len - MAC_LINE;
    const struct root_key *root = find_root(outside_value(file, "root-key"), roots, count);
    if (root == NULL) {
        return no_such_file(err, path,
                            "it was made with another root key. Nothing was changed. Use the root key that the "
                            "database had then");
    }
    TRY(mac_of(root, file->text, len, hex, err));
    if (!cof_slice_equal(cof_slice_of(file->text + len, 4), cof_slice_text("mac ")) ||
        !cof_secret_equal(cof_slice_of(file->text + len + 4, MAC_TEXT - 1), cof_slice_of(hex, MAC_TEXT - 1))) {
        return cof_fail(err, COF_REASON_CORRUPTED,
                        "%s: it was changed or cut after it was made: its MAC does not fit", path);
    }
    file->len = len;
    file->text[len] = '\0';
    return COF_OK;
}

cof_code outside_read(const char *path, const char *first, struct root_key *const *roots, size_t count,
                      struct outside *ret_file, struct cof_error *err)
{
    AUTO(outside_done) struct outside file = {.text = NULL};
    const size_t length = strlen(first);
    TRY(read_all(path, &file, err));
    if (file.len < length + 1 + MAC_LINE || memcmp(file.text, first, length) != 0 || file.text[length] != '\n') {
        return no_such_file(err, path,
                            "it is no file of this kind, or of a format that this cofferd does not know");
    }
    TRY(check_mac(path, &file, roots, count, err));
    *ret_file = file;
    file = (struct outside){.text = NULL};
    return COF_OK;
}

bool outside_next(const struct outside *file, size_t *at, struct cof_slice *ret_key, struct cof_slice *ret_value)
{
    if (*at >= file->len) {
        return false;
    }
    const char *line = file->text + *at;
    const char *end = memchr(line, '\n', file->len - *at);
    const size_t length = end == NULL ? file->len - *at : (size_t) (end - line);
    const char *space = memchr(line, ' ', length);
    const size_t key = space == NULL ? length : (size_t) (space - line);
    *ret_key = cof_slice_of(line, key);
    *ret_value = space == NULL ? cof_slice_of(line + length, 0) : cof_slice_of(space + 1, length - key - 1);
    *at += length + 1;
    return true;
}

struct cof_slice outside_value(const struct outside *file, const char *key)
{
    size_t at = 0;
    struct cof_slice found;
    struct cof_slice value;
    while (outside_next(file, &at, &found, &value)) {
        if (cof_slice_equal(found, cof_slice_text(key))) {
            return value;
        }
    }
    return cof_slice_of(NULL, 0);
}
