#include "server/outbound/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/attr.h"

enum { HOST_MAX = 255, PORT_MAX = 65535, PORT_DIGITS = 5 };

/* --- Addresses ------------------------------------------------------------------------------------------------ */

struct range {
    uint8_t bytes[16];
    unsigned bits;
};

/* IANA's registry of special-purpose addresses, and multicast. */
static const struct range closed_v4[] = {
    {{0}, 8},             /* this network */
    {{10}, 8},            /* private */
    {{100, 64}, 10},      /* between providers and their customers */
    {{127}, 8},           /* this host */
    {{169, 254}, 16},     /* link; metadata of clouds */
    {{172, 16}, 12},      /* private */
    {{192, 0, 0}, 24},    /* protocols */
    {{192, 0, 2}, 24},    /* documentation */
    {{192, 88, 99}, 24},  /* 6to4 relays */
    {{192, 168}, 16},     /* private */
    {{198, 18}, 15},      /* benchmarks */
    {{198, 51, 100}, 24}, /* documentation */
    {{203, 0, 113}, 24},  /* documentation */
    {{224}, 4},           /* multicast */
    {{240}, 4},           /* reserved, and broadcast */
};

/* Of IPv6 all that is not 2000::/3 is closed anyhow. */
static const struct range global_v6 = {{0x20}, 3};
static const struct range closed_v6[] = {
    {{0x20, 0x01, 0x00}, 23},       /* protocols, Teredo among them */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x20, 0x02}, 16},             /* 6to4: any address of IPv4 */
    {{0x3f, 0xff, 0x00}, 20},       /* documentation */
};

static const struct range nat64 = {{0x00, 0x64, 0xff, 0x9b}, 96};

static bool lies_in(const uint8_t *address, const struct range *range)
{
    const unsigned whole = range->bits / 8;
    const unsigned rest = range->bits % 8;
    const uint8_t mask = (uint8_t) (0xff00U >> rest);
    return memcmp(address, range->bytes, whole) == 0 &&
           (rest == 0 || (address[whole] & mask) == (range->bytes[whole] & mask));
}

static bool lies_in_one(const uint8_t *address, const struct range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (lies_in(address, &ranges[i])) {
            return true;
        }
    }
    return false;
}

static bool is_public_v4(const uint8_t address[4])
{
    return !lies_in_one(address, closed_v4, COF_COUNT(closed_v4));
}

static bool is_public_v6(const uint8_t address[16])
{
    if (lies_in(address, &nat64)) {
        return is_public_v4(address + 12);
    }
    return lies_in(address, &global_v6) && !lies_in_one(address, closed_v6, COF_COUNT(closed_v6));
}

bool address_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        uint8_t bytes[4];
        memcpy(bytes, &((const struct sockaddr_in *) (const void *) address)->sin_addr, sizeof bytes);
        return is_public_v4(bytes);
    }
    if (address->sa_family == AF_INET6) {
        return is_public_v6(((const struct sockaddr_in6 *) (const void *) address)->sin6_addr.s6_addr);
    }
    return false;
}

/* --- Hosts ---------------------------------------------------------------------------------------------------- */

/* The host without brackets, without a zone and without the dot at its end; false if it is too long to be one. */
static bool bare_host(const char *host, char bare[HOST_MAX + 1])
{
    size_t len = strlen(host);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    len = strcspn(host, "%") < len ? strcspn(host, "%") : len;
    len -= len > 0 && host[len - 1] == '.' ? 1 : 0;
    if (len == 0 || len > HOST_MAX) {
        return false;
    }
    memcpy(bare, host, len);
    bare[len] = '\0';
    return true;
}

/* RFC 6761: such names are this host's. */
static bool is_local_name(const char *name)
{
    static const char local[] = "localhost";
    const size_t len = strlen(name);
    const size_t tail = sizeof local - 1;
    return len >= tail && strcasecmp(name + len - tail, local) == 0 && (len == tail || name[len - tail - 1] == '.');
}

bool address_host_is_public(const char *host)
{
    char bare[HOST_MAX + 1];
    uint8_t v6[16];
    struct in_addr v4;
    if (!bare_host(host, bare)) {
        return false;
    }
    if (inet_pton(AF_INET6, bare, v6) == 1) {
        return is_public_v6(v6);
    }
    /* inet_aton takes the forms that resolvers take: fewer parts, octal, hexadecimal. */
    if (inet_aton(bare, &v4) != 0) {
        uint8_t bytes[4];
        memcpy(bytes, &v4, sizeof bytes);
        return is_public_v4(bytes);
    }
    return !is_local_name(bare);
}

/* --- Entries of the list -------------------------------------------------------------------------------------- */

bool address_entry_is(const char *entry, const char *host, const char *port)
{
    const char *colon = strrchr(entry, ':');
    const size_t len = strlen(host);
    return colon != NULL && (size_t) (colon - entry) == len && strncasecmp(entry, host, len) == 0 &&
           strcmp(colon + 1, port) == 0;
}

static bool is_port(const char *text)
{
    const size_t len = strlen(text);
    return len > 0 && len <= PORT_DIGITS && strspn(text, "0123456789") == len && text[0] != '0' &&
           strtoul(text, NULL, 10) <= PORT_MAX;
}

bool address_entry_valid(const char *entry)
{
    const char *colon = strrchr(entry, ':');
    if (colon == NULL || colon == entry || colon - entry > HOST_MAX || !is_port(colon + 1)) {
        return false;
    }
    const size_t len = (size_t) (colon - entry);
    if (entry[0] == '[') {
        return entry[len - 1] == ']' && strspn(entry + 1, "0123456789abcdefABCDEF:.") == len - 2;
    }
    return strspn(entry, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_") == len;
}
