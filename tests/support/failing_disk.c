#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * A disk that fails while a file is there: the one that the environment's TEST_DISK_FAILS names. The linker puts this
 * in the place of fdatasync (--wrap), so a whole server runs with it.
 */

int __real_fdatasync(int fd); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_fdatasync(int fd); /* NOLINT(bugprone-reserved-identifier) */

int __wrap_fdatasync(int fd) /* NOLINT(bugprone-reserved-identifier) */
{
    const char *path = getenv("TEST_DISK_FAILS"); /* NOLINT(concurrency-mt-unsafe): nobody sets it meanwhile */
    if (path == NULL || access(path, F_OK) != 0) {
        return __real_fdatasync(fd);
    }
    errno = EIO;
    return -1;
}
