#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/*
 * A DNS whose answers a test decides, and a part of the public internet that is on this host. These functions stand before
 * those of the C library for libcurl, too, since a program's own symbols come first.
 *
 * The file that the environment's TEST_NAMES names has a line "NAME ADDRESS..." for each name that is answered for; it is read
 * for each question. Connections to REACHED go to the same port of 127.0.0.1, and nobody listens at GONE. Both are addresses
 * of the public internet, so nothing but what is connected to says that they are not allowed.
 */

#define REACHED "11.11.11.11"
#define GONE "11.11.11.12"

enum { LINE_MOST = 256 };

/* Those of the C library. ISO C has no way from an object's address to a function's; POSIX has them alike. */
union real {
    void *found;
    int (*getaddrinfo)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    int (*connect)(int, const struct sockaddr *, socklen_t);
};

/* Whether the line is the name's; its addresses are what strtok_r finds next. */
static bool is_of(char *line, const char *name, char **rest)
{
    const char *word = strtok_r(line, " \n", rest);
    return word != NULL && strcmp(word, name) == 0;
}

static bool find(const char *name, char line[LINE_MOST], char **rest)
{
    const char *path = getenv("TEST_NAMES"); /* NOLINT(concurrency-mt-unsafe): nobody sets it meanwhile */
    FILE *names = path == NULL ? NULL : fopen(path, "re");
    bool found = false;
    while (names != NULL && !found && fgets(line, LINE_MOST, names) != NULL) {
        found = is_of(line, name, rest);
    }
    if (names != NULL) {
        (void) fclose(names);
    }
    return found;
}

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int getaddrinfo(const char *restrict name, const char *restrict service,
                         const struct addrinfo *restrict req, struct addrinfo **restrict pai)
{
    const union real real = {.found = dlsym(RTLD_NEXT, "getaddrinfo")};
    char line[LINE_MOST];
    char *rest = NULL;
    if (name == NULL || !find(name, line, &rest)) {
        return real.getaddrinfo(name, service, req, pai);
    }
    int result = EAI_NONAME;
    struct addrinfo **end = pai;
    *end = NULL;
    for (const char *word = strtok_r(NULL, " \n", &rest); word != NULL; word = strtok_r(NULL, " \n", &rest)) {
        while (*end != NULL) {
            end = &(*end)->ai_next;
        }
        result = real.getaddrinfo(word, service, req, end);
    }
    return result;
}

static bool is_at(const struct sockaddr *address, const char *text)
{
    struct sockaddr_in v4;
    if (address->sa_family != AF_INET) {
        return false;
    }
    memcpy(&v4, address, sizeof v4);
    return v4.sin_addr.s_addr == inet_addr(text);
}

/* The type is that of the C library, under GNU: a union of pointers to all kinds of addresses. */
EXPORTED int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
    const struct sockaddr *address = addr.__sockaddr__;
    const union real real = {.found = dlsym(RTLD_NEXT, "connect")};
    if (is_at(address, GONE)) {
        errno = ECONNREFUSED;
        return -1;
    }
    if (!is_at(address, REACHED)) {
        return real.connect(fd, address, len);
    }
    struct sockaddr_in here;
    memcpy(&here, address, sizeof here);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return real.connect(fd, (const struct sockaddr *) &here, sizeof here);
}
