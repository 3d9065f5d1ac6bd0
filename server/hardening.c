#include "server/hardening.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 2048 };

#define BIND_NOW "LD_BIND_NOW"

/* NOLINTBEGIN(concurrency-mt-unsafe): there are no other threads yet */
static bool bound(void)
{
    const char *value = getenv(BIND_NOW);
    return value != NULL && value[0] != '\0'; /* as the loader reads it */
}

/* By its path, after which the system names the process. */
void hardening_bind(char *const *arguments)
{
    char path[PATH_SIZE];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (bound() || length <= 0 || length == sizeof path || setenv(BIND_NOW, "1", 1) != 0) {
        return;
    }
    path[length] = '\0';
    (void) execv(path, arguments);
}
/* NOLINTEND(concurrency-mt-unsafe) */

static cof_code failed(struct cof_error *err, const char *what)
{
    char native[16];
    (void) snprintf(native, sizeof native, "%d", errno);
    return cof_fail_internal(err, COF_ORIGIN_ERRNO, native, "%s", what);
}

cof_code hardening_start(struct cof_error *err)
{
    const struct rlimit none = {0, 0};
    (void) umask(S_IRWXG | S_IRWXO);
    if (setrlimit(RLIMIT_CORE, &none) != 0) {
        return failed(err, "setting RLIMIT_CORE");
    }
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return failed(err, "clearing PR_SET_DUMPABLE");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return failed(err, "setting PR_SET_NO_NEW_PRIVS");
    }
    return COF_OK;
}
