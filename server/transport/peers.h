#pragma once

#include <nng/nng.h>

#include "server/dispatch/exchange.h"

/*
 * The connections of the server: how many requests each has in flight and how many undecodable frames it has sent.
 * Thread-safe. An entry outlives its connection as long as requests of it are in flight.
 */

struct peer;
struct peers;

struct peers *peers_new(uint32_t max_peers, uint32_t max_in_flight, uint32_t max_malformed);
void peers_free(struct peers *peers);

/* Adds a connection; false if there are too many. */
bool peers_add(struct peers *peers, nng_pipe pipe, const struct exchange_peer *description);

/* Forgets a connection. */
void peers_remove(struct peers *peers, nng_pipe pipe);

/* Counts a request in and describes its peer. NULL if the connection is gone; `ret_allowed` is false if it has as
 * many requests in flight as it may, and the request is counted all the same. */
struct peer *peers_enter(struct peers *peers, nng_pipe pipe, struct exchange_peer *ret_description,
                         bool *ret_allowed);

/* Counts a request out; true if the connection has sent too many undecodable frames and must be closed. */
bool peers_leave(struct peers *peers, struct peer *peer, bool malformed);

nng_pipe peer_pipe(const struct peer *peer);
