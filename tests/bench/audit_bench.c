#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/attr.h"
#include "server/audit/audit.h"
#include "server/audit/segment_file.h"

/*
 * What one record of the audit stream costs, from one thread and from two at once, beside a plain copy of the same
 * bytes into a file that is mapped in the same way. All are measured in turn, several times, in one run; the best time
 * counts. The argument is a folder on the disk that is to be measured; without it /tmp.
 */

enum { SIZE = 350, RECORDS = 100000, ROUNDS = 5, THREADS = 2, SEGMENT = 256 << 20 };

struct bench {
    struct audit *audit;
    uint8_t *map;
    size_t offset;
    uint8_t text[SIZE];
    uint64_t refused;
};

/* The processor's time of this thread: other programs of the machine do not count. */
static double now_ns(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double) now.tv_sec * 1e9 + (double) now.tv_nsec;
}

static void *append_many(void *context)
{
    struct bench *bench = context;
    struct cof_error err;
    uint64_t sequence;
    for (int i = 0; i < RECORDS; i++) {
        if (audit_append(bench->audit, cof_slice_of(bench->text, SIZE), &sequence, &err) != COF_OK) {
            (void) __atomic_add_fetch(&bench->refused, 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

static double append_by(struct bench *bench, size_t threads)
{
    pthread_t others[THREADS];
    const double begin = now_ns();
    for (size_t i = 1; i < threads; i++) {
        if (pthread_create(&others[i], NULL, append_many, bench) != 0) {
            abort();
        }
    }
    (void) append_many(bench);
    const double end = now_ns();
    for (size_t i = 1; i < threads; i++) {
        (void) pthread_join(others[i], NULL);
    }
    return (end - begin) / RECORDS;
}

static double copy(struct bench *bench)
{
    const double begin = now_ns();
    for (int i = 0; i < RECORDS; i++) {
        if (bench->offset + SIZE > SEGMENT) {
            bench->offset = 0;
        }
        memcpy(bench->map + bench->offset, bench->text, SIZE);
        bench->offset += SIZE;
    }
    return (now_ns() - begin) / RECORDS;
}

static void map_file(struct bench *bench, const char *folder)
{
    char path[1200];
    (void) snprintf(path, sizeof path, "%s/copy", folder);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *map = MAP_FAILED;
    if (fd >= 0 && posix_fallocate(fd, 0, SEGMENT) == 0) {
        map = mmap(NULL, SEGMENT, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (map == MAP_FAILED) {
        abort();
    }
    bench->map = map;
    (void) close(fd);
    (void) unlink(path);
}

/* Not inlined: errors are large. */
__attribute__((noinline)) static struct keyring *make_keyring(void)
{
    struct cof_error err;
    struct root_key *root = NULL;
    struct keyring *keyring = NULL;
    const uint8_t key[CRYPTO_KEY] = {1};
    if (crypto_start((size_t) 1 << 20, 0, &err) != COF_OK || root_key_new(key, &root, &err) != COF_OK ||
        keyring_new(&root, 1, 1, &keyring, &err) != COF_OK) {
        abort();
    }
    return keyring;
}

static void measure(struct bench *bench)
{
    double best[3] = {1e18, 1e18, 1e18};
    for (int round = 0; round < ROUNDS; round++) {
        const double times[3] = {copy(bench), append_by(bench, 1), append_by(bench, THREADS)};
        for (size_t i = 0; i < COF_COUNT(best); i++) {
            best[i] = times[i] < best[i] ? times[i] : best[i];
        }
    }
    printf("record of %d bytes, ns of processor time each\n  memcpy into a mapped file  %8.0f\n  append, one "
           "thread         %8.0f\n"
           "  append, two threads        %8.0f   (of one of them)\n  refused                    %8llu\n",
           SIZE, best[0], best[1], best[2], (unsigned long long) bench->refused);
}

__attribute__((noinline)) static void remove_log(const char *folder)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    struct cof_error err;
    if (segment_list(folder, &numbers, &count, &err) == COF_OK) {
        for (size_t i = 0; i < count; i++) {
            cof_ignore(segment_remove(folder, numbers[i], &err));
        }
    }
    free(numbers);
    (void) rmdir(folder);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    static char folder[1100];
    struct cof_error err;
    struct cof_log log;
    (void) snprintf(folder, sizeof folder, "%s/coffer-audit-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (mkdtemp(folder) == NULL) {
        return EXIT_FAILURE;
    }
    struct keyring *keyring = make_keyring();
    cof_log_init(&log, STDERR_FILENO, COF_LOG_TEXT, COF_LOG_ERROR, &cof_system_clock);
    const struct audit_options options = {
        .folder = folder,
        .keyring = keyring,
        .clock = &cof_system_clock,
        .log = &log,
        .segment_bytes = SEGMENT,
        .keep_segments = 1,
        .refusals_per_second = 1,
    };
    if (audit_open(&options, &bench.audit, &err) != COF_OK) {
        fprintf(stderr, "%s (%s)\n", err.message, err.trail);
        return EXIT_FAILURE;
    }
    map_file(&bench, folder);
    measure(&bench);
    audit_free(bench.audit);
    keyring_free(keyring);
    remove_log(folder);
    return EXIT_SUCCESS;
}
