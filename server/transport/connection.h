#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/tls/stream.h"
#include "server/transport/transport.h"

/*
 * The connections of a server: bytes of nng's streams in and out, framed as nanomsg's REQ/REP is (docs/protocol.md,
 * Bytes on the connection), requests to dispatch, replies back in whatever order they come. Thread-safe.
 *
 * Why not nng's REP socket: see docs/decisions/0009-connections.md.
 */

struct connections;

/* `options` must outlive them. NULL if there is no memory. */
struct connections *connections_new(const struct transport_options *options);

/*
 * Takes over a stream that was accepted. `transport` is "tcp", "tls" or "ipc". A connection over the limit is closed. If
 * too many have not greeted yet, the oldest of them gives way: whoever opens connections and says nothing shuts nobody
 * out.
 */
void connections_add(struct connections *connections, struct cof_stream *stream, const char *transport);

/* A connection of HTTP that becomes a WebSocket. */
struct web_opening {
    struct cof_stream *stream; /* taken over */
    const char *transport;     /* "ws" or "wss" */
    struct cof_slice answer;   /* to be sent first */
    struct cof_slice early;    /* what the peer has sent behind its request already */
};
void connections_add_web(struct connections *connections, const struct web_opening *opening);

/* Describes the peer of a connection: its addresses, and who it is on ipc. */
void connection_describe(struct cof_stream *connected, const char *transport, struct exchange_peer *ret_peer);

/* For transport_counts. */
void connections_counts(struct connections *connections, struct transport_count counts[TRANSPORT_COUNTS]);

/* Requests whose reply is not out yet. */
uint32_t connections_in_flight(const struct connections *connections);

/* For transport_part. */
void connections_part(struct connections *connections);

/* Closes all connections and waits until they are gone; every request must have its reply, and none may come any
 * more. NULL is allowed. */
void connections_free(struct connections *connections);
