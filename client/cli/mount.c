#include "client/cli/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Those below are the program's own. */
enum { FIRST_FD = 3 };

static const unsigned seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

static bool write_all(int fd, coffer_bytes value)
{
    size_t done = 0;
    while (done < value.length) {
        const ssize_t wrote = write(fd, value.data + done, value.length - done);
        if (wrote < 0 && errno != EINTR) {
            return false;
        }
        done += wrote > 0 ? (size_t) wrote : 0;
    }
    return true;
}

/* Whoever reads it by its descriptor rather than by its path begins at its beginning. */
static bool fill(int fd, coffer_bytes value)
{
    return write_all(fd, value) && lseek(fd, 0, SEEK_SET) == 0 && fchmod(fd, S_IRUSR) == 0 &&
           fcntl(fd, F_ADD_SEALS, seals) == 0;
}

cli_exit mount_make(coffer_bytes value, int *ret_fd)
{
    const int made = memfd_create("coffer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const int fd = made < 0 ? -1 : fcntl(made, F_DUPFD_CLOEXEC, (int) FIRST_FD);
    if (made >= 0) {
        (void) close(made);
    }
    if (fd < 0 || !fill(fd, value)) {
        const int why = errno;
        if (fd >= 0) {
            (void) close(fd);
        }
        return cli_refuse(CLI_ERROR, NULL, "a file in memory cannot be made: %s", strerror(why));
    }
    *ret_fd = fd;
    return CLI_OK;
}

void mount_path(int fd, char path[MOUNT_PATH])
{
    (void) snprintf(path, MOUNT_PATH, "/proc/self/fd/%d", fd);
}
