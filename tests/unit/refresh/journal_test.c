#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/attr.h"
#include "server/refresh/journal.h"
#include "tests/support/test.h"
#include "tests/unit/crypto/started.h"

enum { FOLDER = 64, PATH = 128, ENTRIES = 8, FILE_ROOM = 1 << 16, BYTES = 1 << 22 };

/* --- A disk that fails ---------------------------------------------------------------------------------------- */

int __real_fdatasync(int fd); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_fdatasync(int fd); /* NOLINT(bugprone-reserved-identifier) */

static atomic_int syncs_that_fail;
static atomic_int syncs;

int __wrap_fdatasync(int fd) /* NOLINT(bugprone-reserved-identifier) */
{
    (void) atomic_fetch_add(&syncs, 1);
    if (atomic_load(&syncs_that_fail) > 0) {
        (void) atomic_fetch_sub(&syncs_that_fail, 1);
        errno = EIO;
        return -1;
    }
    return __real_fdatasync(fd);
}

/* --- A folder of its own for each test ------------------------------------------------------------------------ */

struct place {
    char folder[FOLDER];
    char path[PATH]; /* of the journal's file */
    struct keyring *keyring;
    struct journal *journal;
    struct journal_found found;
    struct journal_options options;
    struct cof_error err;
};

static struct keyring *keyring_of(uint8_t byte)
{
    struct cof_error err;
    struct root_key *root = NULL;
    struct keyring *keyring = NULL;
    uint8_t key[CRYPTO_KEY];
    started();
    memset(key, byte, sizeof key);
    if (root_key_new(key, &root, &err) != COF_OK || keyring_new(&root, 1, 16, &keyring, &err) != COF_OK) {
        abort();
    }
    return keyring;
}

static void place_init(struct place *place)
{
    *place = (struct place){.keyring = keyring_of(7)};
    /* In memory where that is possible: the tests sync thousands of times. */
    (void) snprintf(place->folder, sizeof place->folder, "%s/coffer-journal-XXXXXX",
                    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(place->folder) == NULL) {
        abort();
    }
    (void) snprintf(place->path, sizeof place->path, "%s/journal", place->folder);
    place->options = (struct journal_options){.folder = place->folder,
                                              .server = {.bytes = {4}},
                                              .keyring = place->keyring,
                                              .entries = 64,
                                              .bytes = BYTES};
    cof_error_clear(&place->err);
}

static void place_done(struct place *place)
{
    char path[PATH];
    journal_close(place->journal);
    keyring_free(place->keyring);
    (void) snprintf(path, sizeof path, "%s/journal.new", place->folder);
    (void) unlink(path);
    (void) unlink(place->path);
    (void) rmdir(place->folder);
}

static cof_code open_again(struct place *place)
{
    journal_close(TAKE(place->journal));
    return journal_open(&place->options, &place->journal, &place->found, &place->err);
}

static cof_code put_text(struct place *place, const char *text, uint64_t *ret_number)
{
    return journal_put(place->journal, cof_slice_text(text), ret_number, &place->err);
}

/* Entries as one text, "first;second;". */
static cof_code append_text(void *context, uint64_t number, struct cof_slice entry, struct cof_error *err)
{
    char *text = context;
    (void) number;
    (void) err;
    const size_t len = strlen(text);
    if (entry.len + 2 <= FILE_ROOM - len) {
        memcpy(text + len, entry.data, entry.len);
        memcpy(text + len + entry.len, ";", 2);
    }
    return COF_OK;
}

static const char *texts_of(struct place *place)
{
    static char text[FILE_ROOM];
    text[0] = '\0';
    return journal_walk(place->journal, append_text, text, &place->err) == COF_OK ? text : "failed";
}

static size_t read_all(const char *path, uint8_t bytes[FILE_ROOM])
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd < 0 ? -1 : read(fd, bytes, FILE_ROOM);
    (void) close(fd);
    return got < 0 ? 0 : (size_t) got;
}

static bool write_all(const char *path, const uint8_t *bytes, size_t len)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    const bool written = fd >= 0 && write(fd, bytes, len) == (ssize_t) len;
    (void) close(fd);
    return written;
}

/* --- What is kept --------------------------------------------------------------------------------------------- */

static void entry_that_is_not_done_is_there_again_after_the_server_has_ended(void)
{
    AUTO(place_done) struct place place;
    uint64_t numbers[3];
    place_init(&place);
    CHECK_OK(open_again(&place), &place.err);
    CHECK_INT(place.found.entries, 0);
    CHECK_OK(put_text(&place, "first", &numbers[0]), &place.err);
    CHECK_OK(put_text(&place, "second", &numbers[1]), &place.err);
    CHECK_OK(put_text(&place, "third", &numbers[2]), &place.err);
    journal_done(place.journal, numbers[1]);
    CHECK_TEXT(texts_of(&place), "first;third;");
    for (unsigned i = 0; i < 3; i++) {
        CHECK_OK(open_again(&place), &place.err);
        CHECK_INT(place.found.entries, 2);
        CHECK_INT(place.found.damaged, 0);
        CHECK_INT(place.found.torn, 0);
        CHECK_TEXT(texts_of(&place), "first;third;");
    }
    journal_done(place.journal, numbers[0]);
    journal_done(place.journal, numbers[2]);
    journal_done(place.journal, numbers[2]);
    CHECK_OK(open_again(&place), &place.err);
    CHECK_INT(place.found.entries, 0);
    CHECK_INT(journal_count(place.journal), 0);
}

static void nothing_of_an_entry_is_in_the_file_and_others_may_not_read_it(void)
{
    AUTO(place_done) struct place place;
    static uint8_t bytes[FILE_ROOM];
    struct stat status;
    uint64_t number = 0;
    place_init(&place);
    CHECK_OK(open_again(&place), &place.err);
    CHECK_OK(put_text(&place, "planted-secret-5b1e", &number), &place.err);
    const size_t len = read_all(place.path, bytes);
    CHECK(len > 0);
    CHECK(memmem(bytes, len, "planted-secret", 14) == NULL);
    CHECK_INT(stat(place.path, &status), 0);
    CHECK_INT(status.st_mode & 0777, 0600);
}

static void large_entry_is_kept_and_one_that_is_too_large_is_refused(void)
{
    AUTO(place_done) struct place place;
    static uint8_t large[JOURNAL_ENTRY_MAX + 1];
    uint64_t number = 0;
    place_init(&place);
    CHECK_OK(open_again(&place), &place.err);
    memset(large, 'x', sizeof large);
    CHECK_FAILS(journal_put(place.journal, cof_slice_of(large, sizeof large), &number, &place.err), &place.err,
                LIMIT_EXCEEDED);
    CHECK_OK(journal_put(place.journal, cof_slice_of(large, JOURNAL_ENTRY_MAX), &number, &place.err), &place.err);
    CHECK_OK(open_again(&place), &place.err);
    CHECK_INT(place.found.entries, 1);
}

static void more_than_may_be_kept_are_refused_until_some_are_done(void)
{
    AUTO(place_done) struct place place;
    uint64_t numbers[4] = {0};
    place_init(&place);
    place.options.entries = 3;
    CHECK_OK(open_again(&place), &place.err);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_OK(put_text(&place, "entry", &numbers[i]), &place.err);
    }
    CHECK_FAILS(put_text(&place, "entry", &numbers[3]), &place.err, LIMIT_EXCEEDED);
    journal_done(place.journal, numbers[1]);
    CHECK_OK(put_text(&place, "entry", &numbers[3]), &place.err);
}

/* The file is begun anew again and again, and one entry stays through all of it. */
static void file_does_not_grow_beyond_its_size_and_loses_nothing_by_being_begun_anew(void)
{
    AUTO(place_done) struct place place;
    static char text[1000];
    struct stat status;
    uint64_t kept = 0;
    uint64_t number = 0;
    place_init(&place);
    place.options.bytes = 1 << 15;
    CHECK_OK(open_again(&place), &place.err);
    memset(text, 'x', sizeof text - 1);
    CHECK_OK(put_text(&place, "kept", &kept), &place.err);
    for (unsigned i = 0; i < 200; i++) {
        CHECK_OK(put_text(&place, text, &number), &place.err);
        CHECK(number > kept);
        journal_done(place.journal, number);
        CHECK_INT(stat(place.path, &status), 0);
        CHECK(status.st_size <= (1 << 15) + 64);
    }
    CHECK_TEXT(texts_of(&place), "kept;");
    CHECK_OK(open_again(&place), &place.err);
    CHECK_TEXT(texts_of(&place), "kept;");
    journal_done(place.journal, kept);
    CHECK_INT(journal_count(place.journal), 0);
}

/* --- Damage --------------------------------------------------------------------------------------------------- */

static const char *const prefixes[] = {"", "entry 0;", "entry 0;entry 1;", "entry 0;entry 1;entry 2;"};

/* Three entries, and the file's bytes with them. */
static size_t make_file(struct place *place, uint8_t bytes[FILE_ROOM])
{
    uint64_t number = 0;
    if (open_again(place) != COF_OK || put_text(place, "entry 0", &number) != COF_OK ||
        put_text(place, "entry 1", &number) != COF_OK || put_text(place, "entry 2", &number) != COF_OK) {
        return 0;
    }
    return read_all(place->path, bytes);
}

static void file_that_ends_anywhere_gives_all_entries_that_are_whole_and_takes_new_ones(void)
{
    AUTO(place_done) struct place place;
    static uint8_t bytes[FILE_ROOM];
    uint64_t number = 0;
    size_t whole = 0;
    place_init(&place);
    const size_t len = make_file(&place, bytes);
    CHECK(len > 0);
    const size_t record = 4 + 1 + 8 + 7 + CRYPTO_TAG;
    const size_t head = len - 3 * record;
    for (size_t end = head; end <= len; end++) {
        CHECK(write_all(place.path, bytes, end));
        CHECK_OK(open_again(&place), &place.err);
        whole = (end - head) / record;
        CHECK_INT(place.found.entries, whole);
        CHECK_INT(place.found.torn, (end - head) % record);
        CHECK_TEXT(texts_of(&place), prefixes[whole]);
        CHECK_OK(put_text(&place, "new", &number), &place.err);
        CHECK_OK(open_again(&place), &place.err);
        CHECK_INT(place.found.entries, whole + 1);
    }
    for (size_t end = 0; end < head; end++) {
        CHECK(write_all(place.path, bytes, end));
        CHECK_FAILS(open_again(&place), &place.err, CORRUPTED);
    }
}

static void byte_that_changed_costs_at_most_what_it_is_in_and_is_noticed(void)
{
    AUTO(place_done) struct place place;
    static uint8_t bytes[FILE_ROOM];
    place_init(&place);
    const size_t len = make_file(&place, bytes);
    CHECK(len > 0);
    const size_t head = len - 3 * (size_t) (4 + 1 + 8 + 7 + CRYPTO_TAG);
    for (size_t at = 0; at < len; at++) {
        bytes[at] ^= (uint8_t) (1U << (at % 8));
        CHECK(write_all(place.path, bytes, len));
        bytes[at] ^= (uint8_t) (1U << (at % 8));
        if (at < head) {
            CHECK_FAILS(open_again(&place), &place.err, CORRUPTED);
            continue;
        }
        CHECK_OK(open_again(&place), &place.err);
        CHECK(place.found.entries < 3);
        CHECK(place.found.damaged > 0 || place.found.torn > 0);
        CHECK(strstr("entry 0;entry 1;entry 2;entry 0;entry 2;", texts_of(&place)) != NULL);
    }
}

static void zeros_behind_the_last_record_are_no_entries(void)
{
    AUTO(place_done) struct place place;
    static uint8_t bytes[FILE_ROOM];
    place_init(&place);
    const size_t len = make_file(&place, bytes);
    memset(bytes + len, 0, 4096);
    CHECK(write_all(place.path, bytes, len + 4096));
    CHECK_OK(open_again(&place), &place.err);
    CHECK_INT(place.found.entries, 3);
    CHECK_INT(place.found.torn, 4096);
}

static void journal_of_another_server_or_root_key_is_not_opened_and_not_touched(void)
{
    AUTO(place_done) struct place place;
    static uint8_t bytes[FILE_ROOM];
    static uint8_t after[FILE_ROOM];
    place_init(&place);
    const size_t len = make_file(&place, bytes);
    struct keyring *own = place.keyring;
    struct keyring *other = keyring_of(8);
    place.options.keyring = other;
    CHECK_FAILS(open_again(&place), &place.err, CORRUPTED);
    CHECK_CONTAINS(place.err.message, "keys.other_root_keys");
    place.options.keyring = own;
    keyring_free(other);
    place.options.server.bytes[0] = 5;
    CHECK_FAILS(open_again(&place), &place.err, CORRUPTED);
    CHECK_INT(read_all(place.path, after), len);
    CHECK_BYTES(bytes, after, len);
    place.options.server.bytes[0] = 4;
    CHECK_OK(open_again(&place), &place.err);
    CHECK_INT(place.found.entries, 3);
}

static void half_made_new_file_is_passed_over(void)
{
    AUTO(place_done) struct place place;
    static uint8_t bytes[FILE_ROOM];
    char path[PATH];
    place_init(&place);
    CHECK(make_file(&place, bytes) > 0);
    (void) snprintf(path, sizeof path, "%s/journal.new", place.folder);
    CHECK(write_all(path, bytes, 40));
    CHECK_OK(open_again(&place), &place.err);
    CHECK_INT(place.found.entries, 3);
    CHECK(access(path, F_OK) != 0);
}

/* --- Disks that fail ------------------------------------------------------------------------------------------ */

static void sync_that_fails_fails_the_entry_and_the_next_one_begins_a_new_file(void)
{
    AUTO(place_done) struct place place;
    struct stat before;
    struct stat after;
    uint64_t number = 0;
    place_init(&place);
    CHECK_OK(open_again(&place), &place.err);
    CHECK_OK(put_text(&place, "first", &number), &place.err);
    CHECK_INT(stat(place.path, &before), 0);
    atomic_store(&syncs_that_fail, 2);
    CHECK_FAILS(put_text(&place, "second", &number), &place.err, INTERNAL);
    CHECK_FAILS(put_text(&place, "third", &number), &place.err, INTERNAL);
    CHECK_OK(put_text(&place, "fourth", &number), &place.err);
    CHECK_INT(stat(place.path, &after), 0);
    CHECK(before.st_ino != after.st_ino);
    CHECK_OK(open_again(&place), &place.err);
    CHECK_TEXT(texts_of(&place), "first;fourth;");
}

static void full_disk_fails_the_entry_and_leaves_the_others(void)
{
    AUTO(place_done) struct place place;
    static char text[3000];
    struct rlimit before;
    uint64_t number = 0;
    place_init(&place);
    memset(text, 'x', sizeof text - 1);
    CHECK_OK(open_again(&place), &place.err);
    CHECK_OK(put_text(&place, "first", &number), &place.err);
    (void) signal(SIGXFSZ, SIG_IGN);
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit tight = {.rlim_cur = 1500, .rlim_max = before.rlim_max};
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const cof_code code = put_text(&place, text, &number);
    const cof_code small = put_text(&place, "second", &number);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    CHECK(code != COF_OK && place.err.reason == COF_REASON_INTERNAL);
    CHECK_OK(small, &place.err);
    CHECK_OK(put_text(&place, "third", &number), &place.err);
    CHECK_OK(open_again(&place), &place.err);
    CHECK_INT(place.found.damaged, 0);
    CHECK_TEXT(texts_of(&place), "first;second;third;");
}

/* --- Many at once --------------------------------------------------------------------------------------------- */

enum { WRITERS = 4, WRITES = 150 };

struct writer {
    struct place *place;
    unsigned number;
    unsigned failed;
};

static void *write_many(void *context)
{
    struct writer *writer = context;
    for (unsigned i = 0; i < WRITES; i++) {
        struct cof_error err;
        char text[32];
        uint64_t number = 0;
        (void) snprintf(text, sizeof text, "%u-%u", writer->number, i);
        if (journal_put(writer->place->journal, cof_slice_text(text), &number, &err) != COF_OK) {
            writer->failed++;
        } else if (i != WRITES - 1) {
            journal_done(writer->place->journal, number);
        }
    }
    return NULL;
}

static void entries_of_many_threads_are_kept_while_the_file_is_begun_anew_under_them(void)
{
    AUTO(place_done) struct place place;
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    place_init(&place);
    place.options.bytes = 4096;
    CHECK_OK(open_again(&place), &place.err);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){&place, i, 0};
        CHECK_INT(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
        CHECK_INT(writers[i].failed, 0);
    }
    CHECK_OK(open_again(&place), &place.err);
    CHECK_INT(place.found.entries, WRITERS);
    CHECK_INT(place.found.damaged, 0);
    const char *texts = texts_of(&place);
    CHECK_CONTAINS(texts, "0-149;");
    CHECK_CONTAINS(texts, "3-149;");
}

/* --- Killed --------------------------------------------------------------------------------------------------- */

enum { KILLS = 25, KILLED_WRITES = 4000 };

/* Puts entries and marks every second one as done, and says so through the pipe after each step. */
static void write_until_killed(struct place *place, int to)
{
    for (uint32_t i = 0; i < KILLED_WRITES; i++) {
        struct cof_error err;
        char text[16];
        uint64_t number = 0;
        (void) snprintf(text, sizeof text, "%u", i);
        if (journal_put(place->journal, cof_slice_text(text), &number, &err) != COF_OK) {
            _exit(1);
        }
        if (write(to, &i, sizeof i) != sizeof i) {
            _exit(1);
        }
        if (i % 2 != 0) {
            journal_done(place->journal, number);
        }
    }
    _exit(0);
}

struct seen {
    bool there[KILLED_WRITES];
    unsigned wrong;
};

static cof_code see(void *context, uint64_t number, struct cof_slice entry, struct cof_error *err)
{
    struct seen *seen = context;
    char text[16] = "";
    (void) number;
    (void) err;
    memcpy(text, entry.data, entry.len < sizeof text ? entry.len : 0);
    const unsigned long at = strtoul(text, NULL, 10);
    if (at >= KILLED_WRITES || seen->there[at]) {
        seen->wrong++;
        return COF_OK;
    }
    seen->there[at] = true;
    return COF_OK;
}

/* How many entries the child had said were on the disk. */
static uint32_t kill_one(struct place *place, unsigned pause_us)
{
    int pipes[2];
    uint32_t said = 0;
    uint32_t last = 0;
    if (pipe(pipes) != 0) {
        abort();
    }
    const pid_t child = fork();
    if (child == 0) {
        write_until_killed(place, pipes[1]);
    }
    (void) close(pipes[1]);
    bool first = true;
    while (read(pipes[0], &last, sizeof last) == sizeof last) {
        said = last + 1;
        if (first) {
            first = false;
            (void) usleep(pause_us);
            (void) kill(child, SIGKILL);
        }
    }
    (void) close(pipes[0]);
    (void) waitpid(child, NULL, 0);
    return said;
}

static void process_that_is_killed_at_any_moment_leaves_every_entry_that_it_had_put(void)
{
    static struct seen seen;
    uint64_t state = test_seed();
    for (unsigned round = 0; round < KILLS; round++) {
        AUTO(place_done) struct place place;
        place_init(&place);
        place.options.entries = KILLED_WRITES;
        place.options.bytes = 1 << 17;
        CHECK_OK(open_again(&place), &place.err);
        const uint32_t said = kill_one(&place, (unsigned) (test_random(&state) % 3000));
        CHECK(said > 0);
        CHECK_OK(open_again(&place), &place.err);
        CHECK_INT(place.found.damaged, 0);
        memset(&seen, 0, sizeof seen);
        CHECK_OK(journal_walk(place.journal, see, &seen, &place.err), &place.err);
        CHECK_INT(seen.wrong, 0);
        for (uint32_t i = 0; i < said; i += 2) {
            CHECK(seen.there[i]);
        }
    }
}

TEST_MAIN(TEST(entry_that_is_not_done_is_there_again_after_the_server_has_ended),
          TEST(nothing_of_an_entry_is_in_the_file_and_others_may_not_read_it),
          TEST(large_entry_is_kept_and_one_that_is_too_large_is_refused),
          TEST(more_than_may_be_kept_are_refused_until_some_are_done),
          TEST(file_does_not_grow_beyond_its_size_and_loses_nothing_by_being_begun_anew),
          TEST(file_that_ends_anywhere_gives_all_entries_that_are_whole_and_takes_new_ones),
          TEST(byte_that_changed_costs_at_most_what_it_is_in_and_is_noticed),
          TEST(zeros_behind_the_last_record_are_no_entries),
          TEST(journal_of_another_server_or_root_key_is_not_opened_and_not_touched),
          TEST(half_made_new_file_is_passed_over),
          TEST(sync_that_fails_fails_the_entry_and_the_next_one_begins_a_new_file),
          TEST(full_disk_fails_the_entry_and_leaves_the_others),
          TEST(entries_of_many_threads_are_kept_while_the_file_is_begun_anew_under_them),
          TEST(process_that_is_killed_at_any_moment_leaves_every_entry_that_it_had_put))
