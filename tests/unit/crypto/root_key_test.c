#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/crypto/root_key.h"
#include "tests/unit/crypto/started.h"

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

/* A folder of one test with one file name in it. */
struct place {
    char folder[64];
    char path[80];
};

static void place_done(const struct place *place)
{
    (void) unlink(place->path);
    (void) rmdir(place->path);
    (void) rmdir(place->folder);
}

static void place_init(struct place *place)
{
    started();
    (void) snprintf(place->folder, sizeof place->folder, "/tmp/coffer-root-key-XXXXXX");
    if (mkdtemp(place->folder) == NULL) {
        perror(place->folder);
        abort();
    }
    (void) snprintf(place->path, sizeof place->path, "%s/root.key", place->folder);
}

static void put(const struct place *place, const char *text, mode_t mode)
{
    const int fd = open(place->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text) || fchmod(fd, mode) != 0) {
        perror(place->path);
        abort();
    }
    (void) close(fd);
}

static void check_refused(const struct place *place, const char *fault, const char *command)
{
    struct cof_error err;
    struct root_key *key = NULL;
    CHECK_FAILS(root_key_read(place->path, &key, &err), &err, CONFIG_INVALID);
    CHECK(key == NULL);
    CHECK_CONTAINS(err.message, place->path);
    CHECK_CONTAINS(err.message, fault);
    CHECK_CONTAINS(err.message, command);
    CHECK(strstr(err.message, "00112233") == NULL);
}

static void check_read(const struct place *place)
{
    struct cof_error err;
    struct root_key *key = NULL;
    struct root_key *same = NULL;
    uint8_t bytes[CRYPTO_KEY];
    uint8_t check[ROOT_KEY_CHECK];
    uint8_t same_check[ROOT_KEY_CHECK];
    (void) unhex(HEX64, bytes, sizeof bytes);
    CHECK_OK(root_key_read(place->path, &key, &err), &err);
    CHECK_OK(root_key_new(bytes, &same, &err), &err);
    CHECK_BYTES(root_key_id(key), root_key_id(same), ROOT_KEY_ID);
    root_key_check(key, check);
    root_key_check(same, same_check);
    CHECK_BYTES(check, same_check, sizeof check);
    root_key_free(key);
    root_key_free(same);
}

static void key_of_64_digits_is_read_with_and_without_a_line_end(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    put(&place, HEX64, 0600);
    check_read(&place);
    put(&place, HEX64 "\n", 0400);
    check_read(&place);
}

static void other_keys_have_other_names_and_check_values(void)
{
    struct cof_error err;
    uint8_t bytes[CRYPTO_KEY] = {0};
    uint8_t check[2][ROOT_KEY_CHECK];
    struct root_key *keys[2] = {NULL, NULL};
    started();
    CHECK_OK(root_key_new(bytes, &keys[0], &err), &err);
    bytes[31] = 1;
    CHECK_OK(root_key_new(bytes, &keys[1], &err), &err);
    root_key_check(keys[0], check[0]);
    root_key_check(keys[1], check[1]);
    CHECK(memcmp(root_key_id(keys[0]), root_key_id(keys[1]), ROOT_KEY_ID) != 0);
    CHECK(memcmp(check[0], check[1], ROOT_KEY_CHECK) != 0);
    root_key_free(keys[0]);
    root_key_free(keys[1]);
}

static void missing_file_is_refused(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    check_refused(&place, "there is no root key file", "openssl rand -hex 32");
}

static void symbolic_link_is_refused(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    CHECK_INT(symlink("/dev/null", place.path), 0);
    check_refused(&place, "is a symbolic link", "readlink -f");
}

static void folder_is_refused(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    CHECK_INT(mkdir(place.path, 0700), 0);
    check_refused(&place, "not a regular file", "stat");
}

static void fifo_is_refused_without_waiting_for_a_writer(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    CHECK_INT(mkfifo(place.path, 0600), 0);
    check_refused(&place, "not a regular file", "stat");
}

static void file_of_another_user_is_refused(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    put(&place, HEX64, 0600);
    if (geteuid() != 0) {
        printf("skipped: only root can give a file away\n");
        return;
    }
    CHECK_INT(chown(place.path, 65534, 65534), 0);
    check_refused(&place, "belongs to user 65534 instead of user 0", "chown 0 ");
}

static int read_as_nobody(const struct place *place, mode_t mode)
{
    struct cof_error err;
    struct root_key *key = NULL;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const bool ready = chmod(place->folder, 0755) == 0 && chmod(place->path, mode) == 0 && setuid(65534) == 0;
        const cof_code code = ready ? root_key_read(place->path, &key, &err) : COF_OK;
        _exit(code != COF_OK && strstr(err.message, "must not be read by this user; run: chown 65534 '") != NULL);
    }
    int status = -1;
    (void) waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void file_that_the_user_may_not_open_is_refused(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    put(&place, HEX64, 0600);
    if (geteuid() != 0) {
        printf("skipped: only root can become another user\n");
        return;
    }
    CHECK_INT(read_as_nobody(&place, 0600), 1);
}

static void every_right_of_group_or_others_is_refused(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    for (mode_t bit = 1; bit < 0100; bit <<= 1) {
        put(&place, HEX64, 0600 | bit);
        check_refused(&place, "so others than its owner may use it", "run: chmod 600 '");
    }
}

static void file_of_another_size_is_refused(void)
{
    static const char *const texts[] = {"", "00", "0" HEX64 "0", HEX64 "\r\n", HEX64 "\n\n"};
    AUTO(place_done) struct place place;
    place_init(&place);
    for (size_t i = 0; i < COF_COUNT(texts); i++) {
        put(&place, texts[i], 0600);
        check_refused(&place, "bytes instead of 64 hex digits", "wc -c");
    }
}

static void anything_but_hex_digits_is_refused(void)
{
    char text[] = HEX64;
    AUTO(place_done) struct place place;
    place_init(&place);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        const char digit = text[i];
        text[i] = 'g';
        put(&place, text, 0600);
        check_refused(&place, "something else than 64 hex digits", "grep -cxE");
        text[i] = digit;
    }
    put(&place, HEX64 "0", 0600);
    check_refused(&place, "something else than 64 hex digits", "grep -cxE");
    put(&place, HEX64 "\r", 0600);
    check_refused(&place, "something else than 64 hex digits", "grep -cxE");
}

static void check_created(const struct place *place)
{
    struct cof_error err;
    struct stat file;
    struct root_key *key = NULL;
    CHECK_OK(root_key_create(place->path, &err), &err);
    CHECK_INT(stat(place->path, &file), 0);
    CHECK_INT(file.st_mode & 07777, 0600);
    CHECK_INT(file.st_size, 65);
    CHECK_OK(root_key_read(place->path, &key, &err), &err);
    root_key_free(key);
    (void) unlink(place->path);
}

static void created_file_can_be_read_and_has_mode_0600_under_any_umask(void)
{
    static const mode_t masks[] = {0, 022, 077, 0777};
    AUTO(place_done) struct place place;
    place_init(&place);
    const mode_t before = umask(0);
    for (size_t i = 0; i < COF_COUNT(masks); i++) {
        (void) umask(masks[i]);
        check_created(&place);
    }
    (void) umask(before);
}

static void created_keys_differ(void)
{
    struct cof_error err;
    struct root_key *keys[2] = {NULL, NULL};
    AUTO(place_done) struct place place;
    place_init(&place);
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(root_key_create(place.path, &err), &err);
        CHECK_OK(root_key_read(place.path, &keys[i], &err), &err);
        CHECK_INT(unlink(place.path), 0);
    }
    CHECK(memcmp(root_key_id(keys[0]), root_key_id(keys[1]), ROOT_KEY_ID) != 0);
    root_key_free(keys[0]);
    root_key_free(keys[1]);
}

static void file_that_exists_is_never_replaced(void)
{
    struct cof_error err;
    AUTO(place_done) struct place place;
    place_init(&place);
    put(&place, HEX64, 0600);
    CHECK_FAILS(root_key_create(place.path, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, "exists, and a root key never replaces a file");
    check_read(&place);
}

static void dangling_link_is_not_followed_when_a_key_is_created(void)
{
    struct cof_error err;
    AUTO(place_done) struct place place;
    place_init(&place);
    char target[96];
    (void) snprintf(target, sizeof target, "%s/target", place.folder);
    CHECK_INT(symlink(target, place.path), 0);
    CHECK_FAILS(root_key_create(place.path, &err), &err, CONFIG_INVALID);
    CHECK(access(target, F_OK) != 0);
}

static void key_in_a_missing_folder_cannot_be_created(void)
{
    struct cof_error err;
    char path[96];
    AUTO(place_done) struct place place;
    place_init(&place);
    started();
    (void) snprintf(path, sizeof path, "%s/missing/root.key", place.folder);
    CHECK_FAILS(root_key_create(path, &err), &err, CONFIG_INVALID);
    CHECK_CONTAINS(err.message, path);
    CHECK_CONTAINS(err.message, "cannot be written: No such file or directory");
}

static void key_is_created_beside_the_process_if_the_path_has_no_folder(void)
{
    struct cof_error err;
    char before[512];
    AUTO(place_done) struct place place;
    place_init(&place);
    CHECK(getcwd(before, sizeof before) != NULL);
    CHECK_INT(chdir(place.folder), 0);
    const cof_code code = root_key_create("root.key", &err);
    CHECK_INT(chdir(before), 0);
    CHECK_OK(code, &err);
    CHECK_INT(access(place.path, R_OK), 0);
}

static int create_on_a_full_disk(const struct place *place)
{
    struct cof_error err;
    const struct rlimit none = {10, 10};
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        (void) signal(SIGXFSZ, SIG_IGN);
        const bool limited = setrlimit(RLIMIT_FSIZE, &none) == 0;
        const cof_code code = limited ? root_key_create(place->path, &err) : COF_OK;
        _exit(code != COF_OK && strstr(err.message, "cannot be written") != NULL);
    }
    int status = -1;
    (void) waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void half_written_key_is_removed(void)
{
    AUTO(place_done) struct place place;
    place_init(&place);
    CHECK_INT(create_on_a_full_disk(&place), 1);
    CHECK(access(place.path, F_OK) != 0);
}

TEST_MAIN(TEST(key_of_64_digits_is_read_with_and_without_a_line_end),
          TEST(other_keys_have_other_names_and_check_values), TEST(missing_file_is_refused),
          TEST(symbolic_link_is_refused), TEST(folder_is_refused),
          TEST(fifo_is_refused_without_waiting_for_a_writer), TEST(file_of_another_user_is_refused),
          TEST(file_that_the_user_may_not_open_is_refused), TEST(every_right_of_group_or_others_is_refused),
          TEST(file_of_another_size_is_refused), TEST(anything_but_hex_digits_is_refused),
          TEST(created_file_can_be_read_and_has_mode_0600_under_any_umask), TEST(created_keys_differ),
          TEST(file_that_exists_is_never_replaced), TEST(dangling_link_is_not_followed_when_a_key_is_created),
          TEST(key_in_a_missing_folder_cannot_be_created),
          TEST(key_is_created_beside_the_process_if_the_path_has_no_folder), TEST(half_written_key_is_removed))
