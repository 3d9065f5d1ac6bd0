#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"

/*
 * The boundary between transport and dispatch: one request and the way back to its peer. Transport makes it, gives
 * it to dispatch_submit, and keeps it alive until exchange_reply was called, which happens exactly once, on any
 * thread.
 */

enum { EXCHANGE_PEER_TEXT = 80 };

/* What is known of the peer; a copy, valid as long as the exchange. */
struct exchange_peer {
    const char *transport; /* "tcp", "tls", "ipc", "ws", "wss"; static */
    uint32_t connection;   /* the same for all requests of one connection */
    bool has_uid;          /* ipc only */
    uint32_t uid;
    bool has_ip;                      /* not ipc */
    uint8_t ip[16];                   /* IPv6, or IPv4 in its mapped form */
    char address[EXCHANGE_PEER_TEXT]; /* "127.0.0.1:4711", "pid 123" */
};

struct exchange;

struct exchange_ops {
    /* Room for a reply of exactly `size` bytes, zeroed or not; NULL if memory is exhausted. A second call replaces
     * the first. */
    uint8_t *(*buffer)(struct exchange *exchange, size_t size);
    /* Sends the buffer and ends the exchange; without a buffer the request is dropped. `malformed` counts against
     * the connection. `more`: the same thread replies to another request of this connection right away, so this reply
     * may wait for that. */
    void (*reply)(struct exchange *exchange, uint32_t send_timeout_ms, bool malformed, bool more);
};

struct exchange {
    const struct exchange_ops *ops;
    struct cof_slice frame; /* the request; owned by transport, writable for wiping, gone after the reply */
    int64_t received_us;    /* monotonic */
    struct exchange_peer peer;
    void *dispatch; /* dispatch's own */
};

static inline uint8_t *exchange_buffer(struct exchange *exchange, size_t size)
{
    return exchange->ops->buffer(exchange, size);
}

static inline void exchange_reply(struct exchange *exchange, uint32_t send_timeout_ms, bool malformed, bool more)
{
    exchange->ops->reply(exchange, send_timeout_ms, malformed, more);
}
