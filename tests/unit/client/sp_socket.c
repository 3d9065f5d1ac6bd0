#include "tests/unit/client/sp_socket.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/encode.h"

enum {
    GREETING = 8,
    LENGTH = 8,
    FRAME_MOST = 16 << 20,
};

#define IPC "ipc://"

static void give_up(const char *what)
{
    perror(what);
    exit(2);
}

bool sp_is_ipc(const char *address)
{
    return strncmp(address, IPC, strlen(IPC)) == 0;
}

static int open_socket(int family)
{
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        give_up("socket");
    }
    return fd;
}

static int listen_on_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = open_socket(AF_UNIX);
    (void) snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    (void) unlink(path);
    if (bind(fd, (const struct sockaddr *) &address, sizeof address) != 0 || listen(fd, SOMAXCONN) != 0) {
        give_up(path);
    }
    return fd;
}

static int listen_on_port(char ret_address[SP_ADDRESS])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int fd = open_socket(AF_INET);
    if (bind(fd, (const struct sockaddr *) &address, size) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *) &address, &size) != 0) {
        give_up("127.0.0.1");
    }
    (void) snprintf(ret_address, SP_ADDRESS, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
    return fd;
}

int sp_listen(const char *address, char ret_address[SP_ADDRESS])
{
    if (address == NULL) {
        return listen_on_port(ret_address);
    }
    (void) snprintf(ret_address, SP_ADDRESS, "%s", address);
    return listen_on_path(address + strlen(IPC));
}

bool sp_read(int fd, void *to, size_t len)
{
    uint8_t *at = to;
    while (len > 0) {
        const ssize_t got = recv(fd, at, len, 0);
        if (got <= 0) {
            return false;
        }
        at += got;
        len -= (size_t) got;
    }
    return true;
}

bool sp_write(int fd, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    while (len > 0) {
        const ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        at += sent;
        len -= (size_t) sent;
    }
    return true;
}

bool sp_greet(int fd)
{
    static const uint8_t ours[GREETING] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
    static const uint8_t expected[GREETING] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    uint8_t theirs[GREETING];
    return sp_write(fd, ours, sizeof ours) && sp_read(fd, theirs, sizeof theirs) &&
           memcmp(theirs, expected, sizeof theirs) == 0;
}

bool sp_read_header(int fd, bool ipc, uint8_t ret_id[SP_ID], size_t *ret_size)
{
    uint8_t header[SP_HEADER_MOST];
    const size_t before = ipc ? 1 : 0;
    if (!sp_read(fd, header, before + LENGTH + SP_ID)) {
        return false;
    }
    const uint64_t size = cof_get_u64(header + before);
    memcpy(ret_id, header + before + LENGTH, SP_ID);
    *ret_size = size - SP_ID;
    return (!ipc || header[0] == 1) && size >= SP_ID && size <= FRAME_MOST && (ret_id[0] & 0x80U) != 0;
}

size_t sp_put_header(uint8_t to[SP_HEADER_MOST], bool ipc, const uint8_t id[SP_ID], size_t size)
{
    const size_t before = ipc ? 1 : 0;
    to[0] = 1;
    cof_put_u64(to + before, SP_ID + size);
    memcpy(to + before + LENGTH, id, SP_ID);
    return before + LENGTH + SP_ID;
}
