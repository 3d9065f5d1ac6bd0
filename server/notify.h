#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * Tells whoever started the server (systemd: sd_notify(3), Type=notify) what becomes of it, and that it is alive. A few
 * lines over a datagram socket instead of libsystemd, which would bring a process with keys in it more code than that.
 */

struct notify {
    int fd; /* -1: nobody wants to know */
    struct sockaddr_un to;
    socklen_t to_size;
    uint32_t watchdog_ms; /* within which it must be told that the server is alive; 0: not at all */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and removes them. To be called before threads read the
 * environment. */
void notify_init(struct notify *notify);
void notify_done(struct notify *notify);

void notify_ready(const struct notify *notify);
/* To be followed by notify_ready. */
void notify_reloading(const struct notify *notify);
void notify_stopping(const struct notify *notify);
void notify_alive(const struct notify *notify);
