#include <stdlib.h>
#include <time.h>

/*
 * A clock that is ahead by as many seconds as the environment's TEST_CLOCK_AHEAD says. The linker puts this in the place of
 * clock_gettime (--wrap), so a whole server lives that much later than the others.
 */

int __real_clock_gettime(clockid_t id, struct timespec *time); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_clock_gettime(clockid_t id, struct timespec *time); /* NOLINT(bugprone-reserved-identifier) */

int __wrap_clock_gettime(clockid_t id, struct timespec *time) /* NOLINT(bugprone-reserved-identifier) */
{
    const char *ahead = getenv("TEST_CLOCK_AHEAD"); /* NOLINT(concurrency-mt-unsafe): nobody sets it meanwhile */
    const int result = __real_clock_gettime(id, time);
    if (result == 0 && id == CLOCK_REALTIME && ahead != NULL) {
        time->tv_sec += strtol(ahead, NULL, 10);
    }
    return result;
}
