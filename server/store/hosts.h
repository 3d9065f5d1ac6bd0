#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The servers that a connection string of libpq names: comma-separated lists, NULL where it has none. */
struct hosts {
    char *host;
    char *hostaddr;
    char *port;
    unsigned current; /* that was connected last */
};

/* Keeps the option's value if it is one of the lists. */
void hosts_keep(struct hosts *hosts, const char *keyword, const char *value);
void hosts_done(struct hosts *hosts);

/* At least 1: without lists libpq has its defaults. */
unsigned hosts_count(const struct hosts *hosts);

/* Item `index` of a list, copied into `to`; a list of one item holds for all. NULL for no list. */
const char *hosts_item(const char *list, unsigned index, char *to, size_t size);

/* Whether a URI reads as it was meant: with an @ or a / in its password libpq would take a part of that for a host
 * or a port, and quote it. */
bool hosts_unambiguous(const struct hosts *hosts, const char *conninfo);
