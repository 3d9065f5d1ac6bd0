#include "client/cli/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MOST = 16384, REQUEST_MS = 5000, MS = 1000, NS_IN_MS = 1000000, BACKLOG = 8, PORT_MOST = 65535 };

static const char path[] = "/callback";

static long long now_ms(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long) now.tv_sec * MS + now.tv_nsec / NS_IN_MS;
}

/* --- The socket ------------------------------------------------------------------------------------------------- */

static cli_exit failed(void)
{
    return cli_refuse(CLI_ERROR, "give another --port, or use the server's page: --page",
                      "nothing can be listened to on 127.0.0.1: %s", strerror(errno));
}

cli_exit listener_open(const char *port, struct listener *ret_listener)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct listener listener = {.socket = -1, .peer = -1};
    socklen_t length = sizeof address;
    uint64_t number = 0;
    if (port != NULL) {
        const cli_exit code = cli_read_number("--port", port, &number);
        if (code != CLI_OK || number > PORT_MOST) {
            return code != CLI_OK ? code : cli_usage("--port 8400", "--port has to be less than 65536");
        }
    }
    address.sin_port = htons((uint16_t) number);
    listener.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener.socket < 0) {
        return failed();
    }
    if (bind(listener.socket, (const struct sockaddr *) &address, sizeof address) != 0 ||
        listen(listener.socket, BACKLOG) != 0 ||
        getsockname(listener.socket, (struct sockaddr *) &address, &length) != 0) {
        const cli_exit code = failed();
        (void) close(listener.socket);
        return code;
    }
    (void) snprintf(listener.redirect_uri, sizeof listener.redirect_uri, "http://127.0.0.1:%u%s",
                    (unsigned) ntohs(address.sin_port), path);
    *ret_listener = listener;
    return CLI_OK;
}

void listener_close(struct listener *listener)
{
    if (listener->peer >= 0) {
        (void) close(listener->peer);
    }
    if (listener->socket >= 0) {
        (void) close(listener->socket);
    }
    listener->peer = -1;
    listener->socket = -1;
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

/* False once the time is over. */
static bool ready(int descriptor, long long until_ms)
{
    struct pollfd wait = {.fd = descriptor, .events = POLLIN};
    const long long left = until_ms - now_ms();
    return left > 0 && poll(&wait, 1, left > REQUEST_MS ? REQUEST_MS : (int) left) > 0;
}

/* The head of a request, as a text; false if there is none in time. */
static bool read_head(int peer, char head[HEAD_MOST])
{
    const long long until_ms = now_ms() + REQUEST_MS;
    size_t size = 0;
    head[0] = '\0';
    while (strstr(head, "\r\n\r\n") == NULL) {
        const ssize_t count =
            size < HEAD_MOST - 1 && ready(peer, until_ms) ? recv(peer, head + size, HEAD_MOST - 1 - size, 0) : -1;
        if (count <= 0 || memchr(head + size, '\0', (size_t) count) != NULL) {
            return false;
        }
        size += (size_t) count;
        head[size] = '\0';
    }
    return true;
}

/* The query of "GET /callback?QUERY HTTP/1.1", cut out in place; NULL if it is another request. */
static char *query_of(char *head)
{
    const size_t before = strlen("GET ") + strlen(path);
    if (strncmp(head, "GET ", strlen("GET ")) != 0 || strncmp(head + strlen("GET "), path, strlen(path)) != 0 ||
        head[before] != '?') {
        return NULL;
    }
    char *query = head + before + 1;
    query[strcspn(query, " \r\n")] = '\0';
    return query;
}

static bool has_state(const char *query, const char *state)
{
    const size_t length = strlen(state);
    for (const char *at = query; at != NULL; at = strchr(at, '&')) {
        at += *at == '&' ? 1 : 0;
        if (strncmp(at, "state=", strlen("state=")) == 0 && strncmp(at + strlen("state="), state, length) == 0 &&
            (at[strlen("state=") + length] == '&' || at[strlen("state=") + length] == '\0')) {
            return true;
        }
    }
    return false;
}

/* The policy allows this style by its hash, and nothing else. */
#define STYLE                                                                                            \
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh " \
    "auto;padding:0 1rem}h1{font-size:1.35rem}"
#define STYLE_HASH "aaKUz41wWxEy2BoJIdbOwR1cr7G4VnpMerrjHQWRfhI="

static void send_page(int peer, const char *status, const char *title, const char *text)
{
    char page[2048];
    char body[1024];
    const int length = snprintf(body, sizeof body,
                                "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
                                "content=\"width=device-width,initial-scale=1\"><title>%s</title><style>" STYLE
                                "</style><h1>%s</h1><p>%s</p></html>\n",
                                title, title, text);
    const int size = snprintf(page, sizeof page,
                              "HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n"
                              "Connection: close\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
                              "Content-Security-Policy: default-src 'none'; style-src 'sha256-" STYLE_HASH "'; "
                              "frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\n\r\n%s",
                              status, length, body);
    (void) send(peer, page, (size_t) size, MSG_NOSIGNAL);
    (void) shutdown(peer, SHUT_WR);
}

/* Whether the peer's is the request that is awaited; others are answered. */
static bool take(struct listener *listener, int peer, const char *state, char **ret_query)
{
    char *head = malloc(HEAD_MOST);
    char *query = head != NULL && read_head(peer, head) ? query_of(head) : NULL;
    const bool awaited = query != NULL && has_state(query, state);
    if (awaited) {
        *ret_query = strdup(query);
        listener->peer = peer;
    } else {
        send_page(peer, "404 Not Found", "This is not what is awaited",
                  "Go on in the page that coffer has opened.");
        (void) close(peer);
    }
    free(head);
    return awaited;
}

cli_exit listener_wait(struct listener *listener, const char *state, long long seconds, char **ret_query)
{
    const long long until_ms = now_ms() + seconds * MS;
    *ret_query = NULL;
    while (now_ms() < until_ms) {
        const int peer =
            ready(listener->socket, until_ms) ? accept4(listener->socket, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (peer >= 0 && take(listener, peer, state, ret_query)) {
            return *ret_query == NULL ? cli_no_memory() : CLI_OK;
        }
    }
    return cli_refuse(CLI_ERROR, "start anew, and go through the provider's page to its end",
                      "the browser did not come back in time; nothing was changed");
}

void listener_answer(struct listener *listener, bool connected)
{
    if (listener->peer < 0) {
        return;
    }
    if (connected) {
        send_page(listener->peer, "200 OK", "Connected", "You can close this page and go back to the terminal.");
    } else {
        send_page(listener->peer, "200 OK", "Not connected", "The terminal says why, and what to do.");
    }
    (void) close(listener->peer);
    listener->peer = -1;
}
