#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include "common/slice.h"

/* Where requests may go. Pure: no names are resolved here. */

/*
 * Whether an address is one of the public internet: false for those of this host, of private networks, of providers'
 * inner networks, of links, for documentation and for many at once, for IPv4 in IPv6's clothes unless it is NAT64 of a
 * public one, and for whatever is not IP.
 */
bool address_is_public(const struct sockaddr *address);

/* The same of a host as it stands in a URL, brackets or not, if it is an address in one of its usual forms; a name is
 * public unless it is one of this host. What a name stands for is seen when it is connected to. */
bool address_host_is_public(const char *host);

/* Whether an entry of a list, "host:port" or "[address]:port", is this host and port. Letters are alike. */
bool address_entry_is(const char *entry, const char *host, const char *port);

/* Whether an entry can be one: a host, a colon, a port. */
bool address_entry_valid(const char *entry);
