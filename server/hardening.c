#include "server/hardening.h"

#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

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
