#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/libcoffer/credential.h"
#include "tests/support/test.h"

static void memory_cleanup(struct memory **memory)
{
    memory_drop(*memory);
}

/* A file with this content, removed when it goes out of scope. */
struct token_file {
    char path[128];
};

static void token_file_write(struct token_file *file, const void *content, size_t len)
{
    const char *base = getenv("TMPDIR");
    (void) snprintf(file->path, sizeof file->path, "%.80s/coffer-token-XXXXXX", base == NULL ? "/tmp" : base);
    const int fd = mkstemp(file->path);
    if (fd < 0 || write(fd, content, len) != (ssize_t) len) {
        abort();
    }
    (void) close(fd);
}

static void token_file_done(struct token_file *file)
{
    (void) unlink(file->path);
}

#define WITH_MEMORY                                    \
    struct cof_error err;                              \
    AUTO(memory_cleanup) struct memory *memory = NULL; \
    struct credential *credential = NULL;              \
    CHECK_OK(memory_new(MEMORY_MIN, &memory, &err), &err)

static void token_becomes_a_bearer_header_in_locked_memory(void)
{
    WITH_MEMORY;
    CHECK_OK(credential_new(memory, cof_slice_text("cof_ws_x"), &credential, &err), &err);
    CHECK(cof_slice_equal(credential_text(credential), cof_slice_text("Bearer cof_ws_x")));
    CHECK_INT(cof_pool_used(memory_pool(memory)), 1);
    credential_drop(credential_hold(credential));
    CHECK_INT(cof_pool_used(memory_pool(memory)), 1);
    credential_drop(credential);
    CHECK_INT(cof_pool_used(memory_pool(memory)), 0);
}

static void no_token_is_an_empty_header(void)
{
    CHECK(credential_hold(NULL) == NULL);
    credential_drop(NULL);
    CHECK_INT(credential_text(NULL).len, 0);
}

static void what_cannot_be_a_token_is_refused_without_showing_it(void)
{
    static const char *const wrong[] = {"", "cof_ws_a b", "cof_ws_a\n", "cof_ws_\x7f", "cof_ws_\xc3\xa4"};
    WITH_MEMORY;
    for (size_t i = 0; i < COF_COUNT(wrong); i++) {
        CHECK_FAILS(credential_new(memory, cof_slice_text(wrong[i]), &credential, &err), &err, TOKEN_MALFORMED);
        CHECK(strstr(err.message, "cof_ws") == NULL);
    }
    static uint8_t large[CREDENTIAL_MAX + 1];
    memset(large, 'a', sizeof large);
    CHECK_FAILS(credential_new(memory, cof_slice_of(large, sizeof large), &credential, &err), &err,
                TOKEN_MALFORMED);
    CHECK_OK(credential_new(memory, cof_slice_of(large, CREDENTIAL_MAX), &credential, &err), &err);
    credential_drop(credential);
}

static void file_may_end_in_a_line_break(void)
{
    static const char *const contents[] = {"cof_ws_x", "cof_ws_x\n", "cof_ws_x\r\n", "cof_ws_x \n\n"};
    WITH_MEMORY;
    for (size_t i = 0; i < COF_COUNT(contents); i++) {
        AUTO(token_file_done) struct token_file file;
        token_file_write(&file, contents[i], strlen(contents[i]));
        CHECK_OK(credential_read(memory, file.path, &credential, &err), &err);
        CHECK(cof_slice_equal(credential_text(credential), cof_slice_text("Bearer cof_ws_x")));
        credential_drop(credential);
    }
}

static void wrong_files_are_told_with_their_path(void)
{
    WITH_MEMORY;
    CHECK_FAILS(credential_read(memory, "/nonexistent/token", &credential, &err), &err, CONFIG_INVALID);
    CHECK_TEXT(err.field, "token_file");
    CHECK_CONTAINS(err.message, "/nonexistent/token cannot be read: No such file");
    CHECK_FAILS(credential_read(memory, "/", &credential, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "directory");
}

static void file_with_something_else_is_refused(void)
{
    static uint8_t large[2 * CREDENTIAL_MAX];
    WITH_MEMORY;
    AUTO(token_file_done) struct token_file empty;
    token_file_write(&empty, "\n", 1);
    CHECK_FAILS(credential_read(memory, empty.path, &credential, &err), &err, TOKEN_MALFORMED);
    AUTO(token_file_done) struct token_file lines;
    token_file_write(&lines, "a\nb\n", 4);
    CHECK_FAILS(credential_read(memory, lines.path, &credential, &err), &err, TOKEN_MALFORMED);
    AUTO(token_file_done) struct token_file long_one;
    memset(large, 'a', sizeof large);
    token_file_write(&long_one, large, sizeof large);
    CHECK_FAILS(credential_read(memory, long_one.path, &credential, &err), &err, TOKEN_MALFORMED);
}

TEST_MAIN(TEST(token_becomes_a_bearer_header_in_locked_memory), TEST(no_token_is_an_empty_header),
          TEST(what_cannot_be_a_token_is_refused_without_showing_it), TEST(file_may_end_in_a_line_break),
          TEST(wrong_files_are_told_with_their_path), TEST(file_with_something_else_is_refused))
