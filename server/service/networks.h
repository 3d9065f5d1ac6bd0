#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "server/store/row.h"

/*
 * Where an account's calls may come from: pure functions over lists of networks and a peer's address.
 *
 * An entry is an IPv4 or IPv6 network ("10.0.0.0/8", "2001:db8::/32", an address alone), `unix` for every process on
 * the server's own machine that calls over ipc://, or `unix:<uid>` for those of one user. No entries: from anywhere.
 */

enum { NETWORKS_MAX = 32 };

/* Who is at the other end, as transport found out when the connection was made. */
struct call_peer {
    bool has_address;
    uint8_t address[16]; /* IPv6; of IPv4 its mapped form */
    bool local;          /* ipc */
    bool has_uid;
    uint32_t uid;
};

/* Reads entries from a request and gives them in their canonical form; failures name the entry below `field`. */
COF_CODE networks_read(char *const *texts, size_t count, const char *field, struct cof_arena *arena,
                       struct row_texts *ret_networks, struct cof_error *err);

/* Whether the peer is in one of them. A stored entry that cannot be read holds nobody. */
bool networks_permit(const struct row_texts *networks, const struct call_peer *peer);

/* Whether everybody whom `inner` lets in is let in by one entry of `outer`. Never says yes wrongly. */
bool networks_within(const struct row_texts *inner, const struct row_texts *outer);
