#include "client/libcoffer/address.h"

#include <arpa/inet.h>
#include <stdint.h>

#include "common/attr.h"

#define TLS "tls+tcp://"

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
    cof_code (*check)(const struct address *address); /* NULL: known, but not offered */
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

static const struct scheme schemes[] = {
    {"ipc://", check_ipc}, {"tcp://", check_tcp}, {TLS, check_tls}, {"ws://", NULL}, {"wss://", NULL},
};

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
    for (size_t i = 0; i < COF_COUNT(schemes); i++) {
        const struct cof_slice prefix = cof_slice_text(schemes[i].prefix);
        if (cof_slice_starts_with(text, prefix)) {
            address.rest = cof_slice_of(text.data + prefix.len, text.len - prefix.len);
            return schemes[i].check != NULL
                       ? schemes[i].check(&address)
                       : wrong(&address, "has a transport that this version does not offer; use "
                                         "ipc:///PATH or tls+tcp://HOST:PORT");
        }
    }
    return wrong(&address,
                 "has no transport that is known; write ipc:///PATH, tls+tcp://HOST:PORT or tcp://HOST:PORT");
}

bool address_is_tls(const char *address)
{
    return strncmp(address, TLS, strlen(TLS)) == 0;
}

void address_host(const char *address, char *host)
{
    struct cof_slice found;
    struct cof_slice port;
    if (!split(cof_slice_text(address + strlen(TLS)), &found, &port)) {
        host[0] = '\0';
        return;
    }
    memcpy(host, found.data, found.len);
    host[found.len] = '\0';
}
