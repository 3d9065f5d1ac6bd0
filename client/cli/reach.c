#include "client/cli/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/attr.h"

enum {
    CONNECT_MS = 3000,
    ANSWER_MS = 3000,
    /* A server without TLS greets at once; one with TLS waits for the client. */
    GREETING_MS = 500,
    GREETING = 8,
    HOST_TEXT = 256,
    TLS_ALERT = 0x15,
    TLS_HANDSHAKE = 0x16,
};

static const char greeting[GREETING] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};

static void tell(struct reach *reach, const char *next, const char *format, ...) COF_PRINTF(3, 4);

static void tell(struct reach *reach, const char *next, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void) vsnprintf(reach->what, sizeof reach->what, format, args);
    va_end(args);
    reach->next = next;
    reach->end = next == NULL ? REACH_OK : REACH_FAILED;
}

/* --- Connections ------------------------------------------------------------------------------------------------ */

/* 0, or why there is none. */
static int await(int fd)
{
    struct pollfd waiting = {fd, POLLOUT, 0};
    int failed = 0;
    socklen_t size = sizeof failed;
    if (poll(&waiting, 1, CONNECT_MS) != 1) {
        return ETIMEDOUT;
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) == 0 ? failed : errno;
}

/* A connected socket, or -1 with errno. */
static int open_to(int family, const struct sockaddr *to, socklen_t size)
{
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int failed = fd < 0 ? errno : 0;
    if (failed == 0 && connect(fd, to, size) != 0) {
        failed = errno == EINPROGRESS ? await(fd) : errno;
    }
    if (failed == 0) {
        return fd;
    }
    if (fd >= 0) {
        (void) close(fd);
    }
    errno = failed;
    return -1;
}

/* What comes within the time, at most `size` bytes; -1 if nothing does, 0 if the other side ends. */
static ssize_t hear(int fd, char *to, size_t size, int ms)
{
    struct pollfd waiting = {fd, POLLIN, 0};
    return poll(&waiting, 1, ms) == 1 ? read(fd, to, size) : -1;
}

/* --- What speaks there ------------------------------------------------------------------------------------------ */

static const char look_elsewhere[] = "check host and port: server and client must mean the same";

static void judge(struct reach *reach, const char *heard, ssize_t length, bool tls)
{
    const uint8_t first = length > 0 ? (uint8_t) heard[0] : 0;
    if (length >= 4 && memcmp(heard, greeting, 4) == 0) {
        if (tls) {
            tell(reach, "dial tcp:// there, or have the server listen on tls+tcp://",
                 "the server speaks without TLS there, and the address wants TLS");
        } else {
            tell(reach, NULL, "a server greets");
        }
    } else if (length >= 5 && memcmp(heard, "HTTP/", 5) == 0) {
        tell(reach, look_elsewhere, "what answers there speaks HTTP and is no server of Coffer");
    } else if (first == TLS_ALERT || first == TLS_HANDSHAKE) {
        tell(reach, "dial tls+tcp://HOST:PORT, with --cacert where its CA is none of the system's",
             "the server wants TLS there, and the address is without it");
    } else if (length > 0) {
        tell(reach, look_elsewhere, "what answers there is no server of Coffer");
    } else if (length == 0) {
        tell(reach, "see the server's log; a limit of connections or networks, or another program, is in the way",
             "the connection is taken and ended at once");
    } else {
        tell(reach, look_elsewhere, "the connection is taken, and nothing answers within %d s", ANSWER_MS / 1000);
    }
}

/* With TLS the client begins, so silence is right there. */
static void listen_there(int fd, bool tls, struct reach *reach)
{
    char heard[GREETING] = "";
    ssize_t length = hear(fd, heard, sizeof heard, GREETING_MS);
    if (length < 0 && tls) {
        tell(reach, NULL, "the connection is taken");
        return;
    }
    if (length < 0) {
        (void) !write(fd, greeting, sizeof greeting);
        length = hear(fd, heard, sizeof heard, ANSWER_MS);
    }
    judge(reach, heard, length, tls);
}

/* --- Sockets of this host --------------------------------------------------------------------------------------- */

static void refuse_socket(const char *path, int why, struct reach *reach)
{
    struct stat status;
    if (why == ENOENT) {
        tell(reach, "start cofferd, or name the socket that its setting transport.listen names",
             "there is no socket %s", path);
    } else if (why == EACCES) {
        tell(reach, "have an administrator add you to the group that may use it", "you may not use the socket %s",
             path);
    } else if (stat(path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
        tell(reach, "name the socket that the server's setting transport.listen names", "%s is no socket", path);
    } else if (why == ECONNREFUSED) {
        tell(reach, "start cofferd", "nobody listens on the socket %s, which a server has left behind", path);
    } else {
        tell(reach, "see the server's log", "the socket %s takes no connection: %s", path, strerror(why));
    }
}

static void probe_ipc(const char *path, struct reach *reach)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void) snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    const int fd = open_to(AF_UNIX, (const struct sockaddr *) &to, sizeof to);
    if (fd < 0) {
        refuse_socket(path, errno, reach);
        return;
    }
    listen_there(fd, false, reach);
    (void) close(fd);
}

/* --- Hosts ------------------------------------------------------------------------------------------------------ */

static void refuse_host(const char *host, const char *port, int why, struct reach *reach)
{
    if (why == ECONNREFUSED) {
        tell(reach, "start cofferd there, or correct the port", "nobody listens at %s, port %s", host, port);
    } else if (why == ETIMEDOUT) {
        tell(reach, "look for a firewall between here and there, or correct the host",
             "%s does not answer at port %s within %d s", host, port, CONNECT_MS / 1000);
    } else {
        tell(reach, "look at this host's network", "%s, port %s, cannot be reached: %s", host, port, strerror(why));
    }
}

/* The first of the host's addresses that takes a connection; -1 if none does. */
static int open_any(const struct addrinfo *all)
{
    int fd = -1;
    for (const struct addrinfo *at = all; fd < 0 && at != NULL; at = at->ai_next) {
        fd = open_to(at->ai_family, at->ai_addr, at->ai_addrlen);
    }
    return fd;
}

static void probe_host(const char *host, const char *port, bool tls, struct reach *reach)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *all = NULL;
    const int failed = getaddrinfo(host, port, &hints, &all);
    if (failed != 0) {
        tell(reach, "check how it is written, and this host's DNS", "the name %s is not known: %s", host,
             gai_strerror(failed));
        return;
    }
    const int fd = open_any(all);
    const int why = errno;
    freeaddrinfo(all);
    if (fd < 0) {
        refuse_host(host, port, why, reach);
        return;
    }
    listen_there(fd, tls, reach);
    (void) close(fd);
}

/* "HOST:PORT" or "[IPV6]:PORT". */
static void probe_tcp(const char *rest, bool tls, struct reach *reach)
{
    char text[HOST_TEXT];
    (void) snprintf(text, sizeof text, "%s", rest);
    char *colon = strrchr(text, ':');
    char *host = text;
    if (colon == NULL) {
        tell(reach, look_elsewhere, "the address has no port");
        return;
    }
    *colon = '\0';
    const size_t length = strlen(host);
    if (host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        host++;
    }
    probe_host(host, colon + 1, tls, reach);
}

void reach_probe(const char *address, struct reach *ret_reach)
{
    static const char ipc[] = "ipc://";
    static const char tcp[] = "tcp://";
    static const char tls[] = "tls+tcp://";
    *ret_reach = (struct reach){.end = REACH_UNKNOWN};
    if (strncmp(address, ipc, strlen(ipc)) == 0) {
        probe_ipc(address + strlen(ipc), ret_reach);
    } else if (strncmp(address, tcp, strlen(tcp)) == 0) {
        probe_tcp(address + strlen(tcp), false, ret_reach);
    } else if (strncmp(address, tls, strlen(tls)) == 0) {
        probe_tcp(address + strlen(tls), true, ret_reach);
    }
}
