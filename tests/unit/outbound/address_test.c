#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "common/attr.h"
#include "server/outbound/address.h"
#include "tests/support/test.h"

static bool is_public(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        return address_is_public((const struct sockaddr *) (const void *) &v4);
    }
    return inet_pton(AF_INET6, text, &v6.sin6_addr) == 1 &&
           address_is_public((const struct sockaddr *) (const void *) &v6);
}

/* The first and the last address of each range, and their neighbours outside. */
static const char *const closed_addresses[] = {
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.169.254",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.255",
    "192.88.99.1",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.255",
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:1ff:ffff::",
    "2001:db8::1",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "1fff:ffff::1",
};
static const char *const open_addresses[] = {
    "1.0.0.0",          "9.255.255.255",    "11.0.0.0",        "100.63.255.255",
    "100.128.0.0",      "126.255.255.255",  "128.0.0.0",       "169.253.255.255",
    "169.255.0.0",      "172.15.255.255",   "172.32.0.0",      "192.0.1.0",
    "192.0.3.0",        "192.88.98.255",    "192.167.255.255", "192.169.0.0",
    "198.17.255.255",   "198.20.0.0",       "203.0.114.0",     "223.255.255.255",
    "8.8.8.8",          "64:ff9b::8.8.8.8", "2001:200::1",     "2001:4860:4860::8888",
    "2001:db7:ffff::1", "2001:db9::1",      "2003::1",         "2606:4700::1111",
    "3ffe::1",          "3fff:1000::1",
};

static void ranges_begin_and_end_where_the_registry_says(void)
{
    for (size_t i = 0; i < COF_COUNT(closed_addresses); i++) {
        CHECK(!is_public(closed_addresses[i]));
        CHECK(!address_host_is_public(closed_addresses[i]));
    }
    for (size_t i = 0; i < COF_COUNT(open_addresses); i++) {
        CHECK(is_public(open_addresses[i]));
        CHECK(address_host_is_public(open_addresses[i]));
    }
}

static void what_is_no_address_of_ip_is_not_public(void)
{
    const struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/run/docker.sock"};
    const struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    CHECK(!address_is_public((const struct sockaddr *) (const void *) &local));
    CHECK(!address_is_public(&nothing));
}

static void hosts_that_are_addresses_in_disguise_are_seen_through(void)
{
    static const char *const closed[] = {
        "",           ".",          "127.1",      "0x7f000001",     "2130706433",
        "0177.0.0.1", "127.0.0.1.", "[::1]",      "[fe80::1%eth0]", "fe80::1%25eth0",
        "0",          "localhost",  "LOCALHOST.", "a.localhost",    "[::ffff:7f00:1]"};
    static const char *const open[] = {"example.com",    "localhost.example", "notlocalhost",         "8.8.8.8",
                                       "[2606:4700::1]", "0x08080808",        "xn--bcher-kva.example"};
    for (size_t i = 0; i < COF_COUNT(closed); i++) {
        CHECK(!address_host_is_public(closed[i]));
    }
    for (size_t i = 0; i < COF_COUNT(open); i++) {
        CHECK(address_host_is_public(open[i]));
    }
}

static void entry_is_one_host_and_one_port(void)
{
    CHECK(address_entry_valid("idp.internal:8443"));
    CHECK(address_entry_valid("[fd00::1]:443"));
    CHECK(address_entry_valid("10.0.0.1:65535"));
    static const char *const wrong[] = {
        "",        ":443",           "host",    "host:",       "host:0",    "host:65536",
        "host:08", "host:+8",        "host:8 ", "ho st:8",     "host/8:8",  "[::1:8",
        "[x]:8",   "*.internal:443", "[]:",     "user@host:8", "host:443:x"};
    for (size_t i = 0; i < COF_COUNT(wrong); i++) {
        CHECK(!address_entry_valid(wrong[i]));
    }
    CHECK(address_entry_is("idp.internal:8443", "IDP.internal", "8443"));
    CHECK(!address_entry_is("idp.internal:8443", "idp.internal", "443"));
    CHECK(!address_entry_is("idp.internal:8443", "idp.internal.evil", "8443"));
    CHECK(!address_entry_is("idp.internal:8443", "internal", "8443"));
    CHECK(address_entry_is("[fd00::1]:443", "[FD00::1]", "443"));
}

TEST_MAIN(TEST(ranges_begin_and_end_where_the_registry_says), TEST(what_is_no_address_of_ip_is_not_public),
          TEST(hosts_that_are_addresses_in_disguise_are_seen_through), TEST(entry_is_one_host_and_one_port))
