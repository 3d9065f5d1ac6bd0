#include "client/libcoffer/address.h"

#include <arpa/inet.h>
#include <stdint.h>

#include "common/attr.h"

enum {
    SOCKET_PATH_MAX = 107, /* sun_path with its NUL has 108 */
    PORT_DIGITS = 5,
    PORT_MAX = 65535,
};

/* What is being checked, and how a failure is told. */
struct address {
    struct cof_slice text; /* whole */
    struct cof_slice rest; /* after the scheme */
    bool insecure;
    const char *from;
    struct cof_error *err;
};

struct scheme {
    const char *prefix;
    cof_code (*check)(const struct address *address);
    bool tls;
    bool web;
};

static cof_code wrong(const struct address *address, const char *what)
{
    return cof_fail_field(address->err, COF_REASON_CONFIG_INVALID, "addr", "%s: the address \"%.*s\" %s",
                          address->from, (int) address->text.len, (const char *) address->text.data, what);
}

static cof_code check_ipc(const struct address *address)
{
    if (address->rest.len < 2 || address->rest.data[0] != '/') {
        return wrong(address, "has no absolute path; write ipc:///run/coffer/coffer.sock");
    }
    if (address->rest.len > SOCKET_PATH_MAX) {
        return wrong(address, "has a path of more than 107 bytes, which the system does not take for a socket");
    }
    return COF_OK;
}

static bool port_valid(struct cof_slice port)
{
    unsigned number = 0;
    if (port.len == 0 || port.len > PORT_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < port.len; i++) {
        if (port.data[i] < '0' || port.data[i] > '9') {
            return false;
        }
        number = number * 10 + (unsigned) (port.data[i] - '0');
    }
    return number > 0 && number <= PORT_MAX;
}

/* "HOST:PORT" or "[IPV6]:PORT"; false if there is no host or no port. */
static bool split(struct cof_slice rest, struct cof_slice *ret_host, struct cof_slice *ret_port)
{
    size_t colon = rest.len;
    while (colon > 0 && rest.data[colon - 1] != ':') {
        colon--;
    }
    if (colon < 2) {
        return false;
    }
    *ret_host = cof_slice_of(rest.data, colon - 1);
    *ret_port = cof_slice_of(rest.data + colon, rest.len - colon);
    if (ret_host->data[0] == '[' && ret_host->len > 2 && ret_host->data[ret_host->len - 1] == ']') {
        *ret_host = cof_slice_of(ret_host->data + 1, ret_host->len - 2);
    }
    return port_valid(*ret_port);
}

/* Names are not looked up: one that means this host today may mean another tomorrow. "localhost" is this host's. */
static bool is_loopback(struct cof_slice host)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr four;
    struct in6_addr six;
    if (host.len >= sizeof text) {
        return false;
    }
    memcpy(text, host.data, host.len);
    text[host.len] = '\0';
    if (inet_pton(AF_INET, text, &four) == 1) {
        return ntohl(four.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, text, &six) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&six);
    }
    return cof_slice_equal(host, cof_slice_text("localhost"));
}

static cof_code check_tcp(const struct address *address)
{
    struct cof_slice host;
    struct cof_slice port;
    if (!split(address->rest, &host, &port)) {
        return wrong(address, "is not tcp://HOST:PORT with a port of 1 to 65535");
    }
    if (!address->insecure && !is_loopback(host)) {
        return wrong(address, "is another host, to which the token and the values would travel in the clear; use "
                              "tls+tcp://, ipc://, or set insecure_transport=yes");
    }
    return COF_OK;
}

static cof_code check_tls(const struct address *address)
{
    struct cof_slice host;
    struct cof_slice port;
    if (!split(address->rest, &host, &port)) {
        return wrong(address, "is not tls+tcp://HOST:PORT with a port of 1 to 65535");
    }
    return COF_OK;
}

/* The host and port of a WebSocket's address, without the path. */
static struct cof_slice place_of(struct cof_slice rest)
{
    const uint8_t *slash = rest.len == 0 ? NULL : memchr(rest.data, '/', rest.len);
    return slash == NULL ? rest : cof_slice_of(rest.data, (size_t) (slash - rest.data));
}

static cof_code check_path(const struct address *address)
{
    if (memchr(address->rest.data, '?', address->rest.len) != NULL ||
        memchr(address->rest.data, '#', address->rest.len) != NULL) {
        return wrong(address, "has a query or a fragment, which a WebSocket here has not");
    }
    return COF_OK;
}

static cof_code check_ws(const struct address *address)
{
    struct cof_slice host;
    struct cof_slice port;
    if (!split(place_of(address->rest), &host, &port)) {
        return wrong(address, "is not ws://HOST:PORT/PATH with a port of 1 to 65535");
    }
    if (!address->insecure && !is_loopback(host)) {
        return wrong(address, "is another host, to which the token and the values would travel in the clear; use "
                              "wss://, ipc://, or set insecure_transport=yes");
    }
    return check_path(address);
}

static cof_code check_wss(const struct address *address)
{
    struct cof_slice host;
    struct cof_slice port;
    if (!split(place_of(address->rest), &host, &port)) {
        return wrong(address, "is not wss://HOST:PORT/PATH with a port of 1 to 65535");
    }
    return check_path(address);
}

static const struct scheme schemes[] = {
    {"ipc://", check_ipc, false, false},    {"tcp://", check_tcp, false, false},
    {"tls+tcp://", check_tls, true, false}, {"ws://", check_ws, false, true},
    {"wss://", check_wss, true, true},
};

static const struct scheme *scheme_of(struct cof_slice text)
{
    for (size_t i = 0; i < COF_COUNT(schemes); i++) {
        if (cof_slice_starts_with(text, cof_slice_text(schemes[i].prefix))) {
            return &schemes[i];
        }
    }
    return NULL;
}

/* The address goes into messages, so it must be text. */
static bool printable(struct cof_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return true;
}

cof_code address_check(struct cof_slice text, bool insecure, const char *from, struct cof_error *err)
{
    struct address address = {.text = text, .insecure = insecure, .from = from, .err = err};
    if (text.len == 0 || text.len >= ADDRESS_MAX || !printable(text)) {
        return cof_fail_field(err, COF_REASON_CONFIG_INVALID, "addr",
                              "%s: an address is empty, longer than %d bytes or not printable ASCII; write "
                              "ipc:///PATH or tls+tcp://HOST:PORT, separated by single commas",
                              from, ADDRESS_MAX - 1);
    }
    const struct scheme *scheme = scheme_of(text);
    if (scheme != NULL) {
        const size_t prefix = strlen(scheme->prefix);
        address.rest = cof_slice_of(text.data + prefix, text.len - prefix);
        return scheme->check(&address);
    }
    return wrong(&address, "has no transport that is known; write ipc:///PATH, tls+tcp://HOST:PORT, "
                           "wss://HOST:PORT/PATH, tcp://HOST:PORT or ws://HOST:PORT/PATH");
}

bool address_is_tls(const char *address)
{
    const struct scheme *scheme = scheme_of(cof_slice_text(address));
    return scheme != NULL && scheme->tls;
}

bool address_is_web(const char *address)
{
    const struct scheme *scheme = scheme_of(cof_slice_text(address));
    return scheme != NULL && scheme->web;
}

/* What stands behind the scheme, without a path. */
static struct cof_slice place(const char *address)
{
    const char *end = strstr(address, "://");
    return end == NULL ? cof_slice_of(address, 0) : place_of(cof_slice_text(end + strlen("://")));
}

void address_host(const char *address, char *host)
{
    struct cof_slice found;
    struct cof_slice port;
    if (!split(place(address), &found, &port)) {
        host[0] = '\0';
        return;
    }
    memcpy(host, found.data, found.len);
    host[found.len] = '\0';
}

void address_place(const char *address, char *to)
{
    const struct cof_slice found = place(address);
    memcpy(to, found.data, found.len);
    to[found.len] = '\0';
}

const char *address_path(const char *address)
{
    const struct cof_slice found = place(address);
    const char *end = (const char *) found.data + found.len;
    return *end == '/' ? end : "/";
}
