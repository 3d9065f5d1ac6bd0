#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "tests/unit/audit/fixture.h"

/*
 * A disk that takes writes and fails when they are to be brought to it. The linker puts the function below in the
 * place of fdatasync; everything else is the log itself.
 */

enum { PATIENCE_MS = 60000, LOG_ROOM = 1 << 16 };

int __real_fdatasync(int fd); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_fdatasync(int fd); /* NOLINT(bugprone-reserved-identifier) */

enum { NONE, FIRST_SEGMENT, ALL_SEGMENTS };

static struct disk {
    atomic_int failing;              /* which of them; the keeper makes the next one at any time */
    atomic_int failed;               /* calls that did */
    void (*_Atomic meanwhile)(void); /* done once, in the first call that fails, before it does */
} disk;

static bool is_first(int fd)
{
    static const char name[] = "/segment-00000001";
    char link[64];
    char path[SEGMENT_PATH] = "";
    (void) snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    return length >= (ssize_t) sizeof name && strcmp(path + length - (sizeof name - 1), name) == 0;
}

int __wrap_fdatasync(int fd) /* NOLINT(bugprone-reserved-identifier) */
{
    const int failing = atomic_load(&disk.failing);
    if (failing == NONE || (failing == FIRST_SEGMENT && !is_first(fd))) {
        return __real_fdatasync(fd);
    }
    void (*meanwhile)(void) = atomic_exchange(&disk.meanwhile, NULL);
    if (meanwhile != NULL) {
        meanwhile();
    }
    (void) atomic_fetch_add(&disk.failed, 1);
    errno = EIO;
    return -1;
}

struct waiting {
    struct audit_waiter waiter;
    atomic_int called;
    atomic_int durable;
};

struct trial {
    struct place place;
    struct waiting waiting[4];
    char log[LOG_ROOM];
};

static struct trial trial;

static void on_disk(struct audit_waiter *waiter, bool durable)
{
    struct waiting *waiting = (struct waiting *) (void *) waiter;
    atomic_store(&waiting->durable, durable);
    atomic_fetch_add(&waiting->called, 1);
}

static bool wait_until(bool (*condition)(size_t index), size_t index)
{
    for (int i = 0; i < PATIENCE_MS; i++) {
        if (condition(index)) {
            return true;
        }
        (void) usleep(1000);
    }
    return false;
}

static bool was_called(size_t index)
{
    return atomic_load(&trial.waiting[index].called) > 0;
}

static bool is_writable(size_t index)
{
    (void) index;
    return audit_writable(trial.place.audit);
}

static bool is_not_writable(size_t index)
{
    return !is_writable(index);
}

static bool has_failed(size_t count)
{
    return atomic_load(&disk.failed) >= (int) count;
}

/* A log whose messages are kept, on a disk that works. */
static void begin(void)
{
    memset(&trial, 0, sizeof trial);
    disk = (struct disk){.failing = NONE};
    place_init(&trial.place);
    (void) close(trial.place.log.fd);
    cof_log_init(&trial.place.log, memfd_create("log", MFD_CLOEXEC), COF_LOG_JSON, COF_LOG_INFO, &cof_system_clock);
    place_open(&trial.place);
}

static void end(void)
{
    place_done(&trial.place);
}

/* Appends a record and waits for the disk. */
static void record(size_t index, const char *text)
{
    struct waiting *waiting = &trial.waiting[index];
    *waiting = (struct waiting){.waiter = {.done = on_disk}};
    waiting->waiter.sequence = place_append(&trial.place, text);
    audit_wait(trial.place.audit, &waiting->waiter);
}

/* How often the words stand in what was logged so far. */
static size_t logged(const char *words)
{
    size_t count = 0;
    const ssize_t length = pread(trial.place.log.fd, trial.log, LOG_ROOM - 1, 0);
    trial.log[length > 0 ? length : 0] = '\0';
    for (const char *at = strstr(trial.log, words); at != NULL; at = strstr(at + 1, words)) {
        count++;
    }
    return count;
}

static void sync_that_fails_makes_no_record_durable_and_is_logged(void)
{
    begin();
    record(0, "before");
    CHECK(wait_until(was_called, 0));
    CHECK(atomic_load(&trial.waiting[0].durable));
    CHECK_INT(logged("the audit log cannot be written; nothing is released"), 0);
    atomic_store(&disk.failing, FIRST_SEGMENT);
    record(1, "lost");
    CHECK(wait_until(was_called, 1));
    CHECK(!atomic_load(&trial.waiting[1].durable));
    CHECK_INT(logged("the audit log cannot be written; nothing is released"), 1);
    CHECK_CONTAINS(trial.log, "\"native\":\"EIO\"");
    CHECK_CONTAINS(trial.log, "syncing a segment of the audit log");
    end();
}

static void log_goes_on_in_a_new_segment_after_a_sync_that_failed(void)
{
    struct findings findings;
    begin();
    atomic_store(&disk.failing, FIRST_SEGMENT);
    record(0, "lost");
    CHECK(wait_until(was_called, 0));
    CHECK(!atomic_load(&trial.waiting[0].durable));
    CHECK(wait_until(is_writable, 0));
    record(1, "after");
    CHECK(wait_until(was_called, 1));
    CHECK(atomic_load(&trial.waiting[1].durable));
    place_close(&trial.place);
    place_walk(&trial.place, &findings);
    CHECK_TEXT(findings.damage, "");
    CHECK_TEXT(findings.last, "after");
    CHECK_INT(findings.summary.segments, 2);
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(atomic_load(&trial.waiting[i].called), 1);
    }
    end();
}

static void append_meanwhile(void)
{
    record(1, "meanwhile");
}

/* The sync did not begin with this record, but its segment is the one that is given up. */
static void record_that_comes_while_a_sync_fails_is_not_durable_either(void)
{
    begin();
    atomic_store(&disk.meanwhile, append_meanwhile);
    atomic_store(&disk.failing, FIRST_SEGMENT);
    record(0, "lost");
    CHECK(wait_until(was_called, 0));
    CHECK(wait_until(was_called, 1));
    CHECK(!atomic_load(&trial.waiting[0].durable));
    CHECK(!atomic_load(&trial.waiting[1].durable));
    end();
}

/* A sync that works after one that failed says nothing of what the kernel has thrown away. */
static void later_sync_does_not_make_durable_what_was_lost(void)
{
    begin();
    atomic_store(&disk.failing, FIRST_SEGMENT);
    record(0, "lost");
    CHECK(wait_until(was_called, 0));
    CHECK(wait_until(is_writable, 0));
    record(1, "after");
    CHECK(wait_until(was_called, 1));
    trial.waiting[2] = (struct waiting){.waiter = {.done = on_disk, .sequence = trial.waiting[0].waiter.sequence}};
    audit_wait(trial.place.audit, &trial.waiting[2].waiter);
    CHECK(wait_until(was_called, 2));
    CHECK(!atomic_load(&trial.waiting[2].durable));
    end();
}

/* One whose making began while the disk still worked is lost with the first record in it. */
static bool has_no_further_segment(size_t index)
{
    struct cof_error err;
    uint64_t sequence;
    (void) index;
    return audit_append(trial.place.audit, cof_slice_text("lost, too"), &sequence, &err) != COF_OK &&
           logged("no further segment of the audit log can be made") == 1;
}

static void disk_that_goes_on_failing_refuses_every_record_until_it_works(void)
{
    struct cof_error err;
    uint64_t sequence;
    begin();
    atomic_store(&disk.failing, ALL_SEGMENTS);
    record(0, "lost");
    CHECK(wait_until(was_called, 0));
    CHECK(!atomic_load(&trial.waiting[0].durable));
    CHECK(wait_until(has_no_further_segment, 0));
    CHECK(wait_until(has_failed, 6)); /* it tries again */
    CHECK_FAILS(audit_append(trial.place.audit, cof_slice_text("refused"), &sequence, &err), &err,
                AUDIT_UNAVAILABLE);
    CHECK(err.retry_after_ms > 0);
    CHECK(is_not_writable(0));
    CHECK_INT(logged("no further segment of the audit log can be made"), 1);
    CHECK_INT(logged("the audit log can be written again"), 0);
    atomic_store(&disk.failing, NONE);
    CHECK(wait_until(is_writable, 0));
    record(1, "after");
    CHECK(wait_until(was_called, 1));
    CHECK(atomic_load(&trial.waiting[1].durable));
    CHECK_INT(logged("the audit log can be written again"), 1);
    end();
}

static void waiter_that_is_left_when_the_log_stops_is_told_of_a_sync_that_fails(void)
{
    begin();
    atomic_store(&disk.failing, ALL_SEGMENTS);
    record(0, "last");
    place_close(&trial.place);
    CHECK_INT(atomic_load(&trial.waiting[0].called), 1);
    CHECK(!atomic_load(&trial.waiting[0].durable));
    atomic_store(&disk.failing, NONE);
    end();
}

TEST_MAIN(TEST(sync_that_fails_makes_no_record_durable_and_is_logged),
          TEST(log_goes_on_in_a_new_segment_after_a_sync_that_failed),
          TEST(record_that_comes_while_a_sync_fails_is_not_durable_either),
          TEST(later_sync_does_not_make_durable_what_was_lost),
          TEST(disk_that_goes_on_failing_refuses_every_record_until_it_works),
          TEST(waiter_that_is_left_when_the_log_stops_is_told_of_a_sync_that_fails))
