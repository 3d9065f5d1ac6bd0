#include "client/libcoffer/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/secret.h"

#define SCHEME "Bearer "

struct credential {
    struct memory *memory;
    struct cof_arena arena;
    struct cof_slice text;
    atomic_uint holders;
};

/* A file that is being read; the bytes are wiped when it goes out of scope. */
struct file {
    int fd;
    size_t len;
    uint8_t bytes[CREDENTIAL_MAX + 2];
};

static void file_done(struct file *file)
{
    if (file->fd >= 0) {
        (void) close(file->fd);
    }
    cof_wipe(file->bytes, sizeof file->bytes);
}

static cof_code check(struct cof_slice token, struct cof_error *err)
{
    if (token.len == 0) {
        return cof_fail_field(err, COF_REASON_TOKEN_MALFORMED, "token", "the token is empty; %s",
                              cof_reason_next_step(COF_REASON_TOKEN_MALFORMED));
    }
    if (token.len > CREDENTIAL_MAX) {
        return cof_fail_field(err, COF_REASON_TOKEN_MALFORMED, "token", "the token is longer than %d bytes; %s",
                              CREDENTIAL_MAX, cof_reason_next_step(COF_REASON_TOKEN_MALFORMED));
    }
    for (size_t i = 0; i < token.len; i++) {
        if (token.data[i] <= ' ' || token.data[i] > '~') {
            return cof_fail_field(
                err, COF_REASON_TOKEN_MALFORMED, "token",
                "the token holds white space or another byte that no token has, at offset %zu; %s", i,
                cof_reason_next_step(COF_REASON_TOKEN_MALFORMED));
        }
    }
    return COF_OK;
}

static void drop_cleanup(struct credential **credential)
{
    credential_drop(*credential);
}

cof_code credential_new(struct memory *memory, struct cof_slice token, struct credential **ret_credential,
                        struct cof_error *err)
{
    const size_t scheme = strlen(SCHEME);
    TRY(check(token, err));
    AUTO(drop_cleanup) struct credential *credential = calloc(1, sizeof *credential);
    if (credential == NULL) {
        return memory_exhausted(err);
    }
    atomic_init(&credential->holders, 1);
    credential->memory = memory_hold(memory);
    cof_arena_init(&credential->arena, memory_pool(memory), COF_ARENA_CHUNK);
    uint8_t *text = cof_arena_alloc(&credential->arena, scheme + token.len);
    if (text == NULL) {
        return memory_exhausted(err);
    }
    memcpy(text, SCHEME, scheme);
    memcpy(text + scheme, token.data, token.len);
    credential->text = cof_slice_of(text, scheme + token.len);
    *ret_credential = TAKE(credential);
    return COF_OK;
}

static cof_code unreadable(const char *path, int error, struct cof_error *err)
{
    char text[128];
    return cof_fail_field(err, COF_REASON_CONFIG_INVALID, "token_file",
                          "the token file %.200s cannot be read: %s; check the path and its permissions", path,
                          strerror_r(error, text, sizeof text));
}

static cof_code read_file(const char *path, struct file *file, struct cof_error *err)
{
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file->fd < 0) {
        return unreadable(path, errno, err);
    }
    while (file->len < sizeof file->bytes) {
        const ssize_t got = read(file->fd, file->bytes + file->len, sizeof file->bytes - file->len);
        if (got < 0) {
            return unreadable(path, errno, err);
        }
        if (got == 0) {
            return COF_OK;
        }
        file->len += (size_t) got;
    }
    return COF_OK;
}

cof_code credential_read(struct memory *memory, const char *path, struct credential **ret_credential,
                         struct cof_error *err)
{
    AUTO(file_done) struct file file = {.fd = -1};
    TRY(read_file(path, &file, err));
    while (file.len > 0 && (file.bytes[file.len - 1] == '\n' || file.bytes[file.len - 1] == '\r' ||
                            file.bytes[file.len - 1] == ' ')) {
        file.len--;
    }
    return credential_new(memory, cof_slice_of(file.bytes, file.len), ret_credential, err);
}

struct credential *credential_hold(struct credential *credential)
{
    if (credential != NULL) {
        atomic_fetch_add(&credential->holders, 1);
    }
    return credential;
}

void credential_drop(struct credential *credential)
{
    if (credential == NULL || atomic_fetch_sub(&credential->holders, 1) != 1) {
        return;
    }
    cof_arena_reset(&credential->arena);
    memory_drop(credential->memory);
    free(credential);
}

struct cof_slice credential_text(const struct credential *credential)
{
    return credential == NULL ? cof_slice_of(NULL, 0) : credential->text;
}
