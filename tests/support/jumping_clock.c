#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/*
 * A system clock that can be put ahead and back while processes run (LD_PRELOAD), by the seconds in the file that the
 * environment's TEST_CLOCK_FILE names, an int64 in this machine's order. The monotonic clock goes on as it is.
 */

static const volatile int64_t *seconds;

__attribute__((constructor)) static void map_file(void)
{
    const char *path = getenv("TEST_CLOCK_FILE"); /* NOLINT(concurrency-mt-unsafe): nobody sets it meanwhile */
    const int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *place = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
    if (place == MAP_FAILED) {
        abort();
    }
    (void) close(file);
    seconds = place;
}

/* libc's names: what is loaded first answers. */
#define IN_PLACE_OF(name) __asm__(name) __attribute__((visibility("default")))
int jumping_clock_gettime(clockid_t id, struct timespec *time) IN_PLACE_OF("clock_gettime");
int jumping_gettimeofday(struct timeval *restrict time, void *restrict zone) IN_PLACE_OF("gettimeofday");

int jumping_clock_gettime(clockid_t id, struct timespec *time)
{
    const long result = syscall(SYS_clock_gettime, id, time);
    if (result == 0 && id == CLOCK_REALTIME) {
        time->tv_sec += *seconds;
    }
    return (int) result;
}

int jumping_gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void) zone;
    (void) jumping_clock_gettime(CLOCK_REALTIME, &now);
    *time = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}
