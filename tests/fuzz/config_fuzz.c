#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/settings.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes as the server's settings file: read within all limits, or refused as CONFIG_INVALID with words. */

enum { PATH_SIZE = 64 };

static void check(const struct settings *settings)
{
    MUST(settings->limits_workers >= 1 && settings->limits_workers <= 256);
    MUST(settings->limits_request >= 65536 && settings->limits_default_timeout >= 10);
    MUST(settings->log_format <= 2 && settings->transport_listen.count >= 1);
    for (size_t i = 0; i < settings->transport_listen.count; i++) {
        MUST(settings->transport_listen.items[i] != NULL);
    }
    MUST(settings->database_conninfo != NULL && settings->keys_root_key_file != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct settings settings;
    struct cof_error err;
    char path[PATH_SIZE];
    const int fd = memfd_create("settings", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, data, size) == (ssize_t) size);
    (void) snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (settings_read(path, &settings, &err) == COF_OK) {
        check(&settings);
        settings_done(&settings);
    } else {
        MUST(err.reason == COF_REASON_CONFIG_INVALID && strlen(err.message) > 10);
    }
    (void) close(fd);
    return 0;
}
