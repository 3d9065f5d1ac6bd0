#include "server/notify.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

enum {
    STATE_SIZE = 128,
    US_PER_MS = 1000,
    WATCHDOG_MOST_MS = 3600000,
};

/* A path, or with an at sign in front a name of the abstract kind. */
static bool read_address(const char *name, struct notify *notify)
{
    const size_t size = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || size < 2 || size >= sizeof notify->to.sun_path) {
        return false;
    }
    notify->to.sun_family = AF_UNIX;
    memcpy(notify->to.sun_path, name, size + 1);
    if (name[0] == '@') {
        notify->to.sun_path[0] = '\0';
    }
    notify->to_size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + size + (name[0] == '/'));
    return true;
}

static uint64_t number_of(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

/* The watchdog may be meant for another process of the service. */
static uint32_t read_watchdog(void)
{
    const uint64_t process = number_of("WATCHDOG_PID");
    const uint64_t ms = number_of("WATCHDOG_USEC") / US_PER_MS;
    if (process != 0 && process != (uint64_t) getpid()) {
        return 0;
    }
    return (uint32_t) (ms < WATCHDOG_MOST_MS ? ms : WATCHDOG_MOST_MS);
}

void notify_init(struct notify *notify)
{
    const char *name = getenv("NOTIFY_SOCKET");
    *notify = (struct notify){.fd = -1};
    if (name != NULL && read_address(name, notify)) {
        notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        notify->watchdog_ms = read_watchdog();
    }
    (void) unsetenv("NOTIFY_SOCKET");
    (void) unsetenv("WATCHDOG_USEC");
    (void) unsetenv("WATCHDOG_PID");
}

void notify_done(struct notify *notify)
{
    if (notify->fd >= 0) {
        (void) close(notify->fd);
        notify->fd = -1;
    }
}

/* Nobody is helped if a server ends because it cannot say how it is. */
static void tell(const struct notify *notify, const char *state)
{
    if (notify->fd >= 0) {
        (void) sendto(notify->fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                      (const struct sockaddr *) (const void *) &notify->to, notify->to_size);
    }
}

void notify_ready(const struct notify *notify)
{
    tell(notify, "READY=1\nSTATUS=ready for calls");
}

void notify_reloading(const struct notify *notify)
{
    char state[STATE_SIZE];
    (void) snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
                    cof_clock_monotonic(&cof_system_clock));
    tell(notify, state);
}

void notify_stopping(const struct notify *notify)
{
    tell(notify, "STOPPING=1\nSTATUS=no new calls are taken");
}

void notify_alive(const struct notify *notify)
{
    tell(notify, "WATCHDOG=1");
}
