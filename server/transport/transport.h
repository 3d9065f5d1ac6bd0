#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"
#include "server/dispatch/exchange.h"
#include "server/http/site.h"
#include "server/transport/certificate.h"
#include "server/transport/ipc_users.h"

/*
 * Listens, and speaks nanomsg's REQ/REP protocol with whoever connects: frames in, frames out. HTTP is answered at the
 * addresses that are open to WebSocket. Callbacks run on nng's
 * threads and never block; a request may be answered before dispatch's submit returns, or at any later time.
 */

struct transport;

/* Those limits that may change while it runs; read with transport_now. */
struct transport_limits {
    uint32_t max_peers;            /* connections */
    uint32_t max_strangers;        /* connections that have not greeted yet, and as many of HTTP */
    uint32_t max_malformed;        /* undecodable frames after which a connection is closed (3) */
    uint32_t receive_timeout_ms;   /* for the rest of a greeting or request that has begun */
    uint32_t handshake_timeout_ms; /* of TLS */
    uint32_t http_timeout_ms;      /* for a request of HTTP to be there */
};

static inline uint32_t transport_now(const uint32_t *limit)
{
    return __atomic_load_n(limit, __ATOMIC_RELAXED);
}

struct transport_options {
    const char *const *addresses; /* "wss://0.0.0.0:7443/coffer", "ipc:///run/coffer/coffer.sock" */
    size_t address_count;
    bool insecure_tcp;          /* allow plain tcp:// and ws:// on other than loopback addresses */
    uint32_t ipc_mode;          /* permissions of the socket file, e.g. 0660 */
    struct ipc_users ipc_users; /* who may connect at ipc:// */
    uint32_t max_waiting;       /* requests that may wait for an answer (16384) */
    uint32_t max_request;       /* bytes of a request frame */
    uint32_t max_per_peer;      /* requests in flight on one connection */
    struct transport_limits limits;
    struct certificate_options certificate; /* for tls+tcp:// and wss:// */
    const struct http_site *site;           /* what is answered to HTTP; for ws:// and wss:// */
    const struct cof_clock *clock;
    const struct cof_log *log;
    /* Takes a request; must not block. Called on any thread. */
    void (*submit)(struct exchange *exchange, void *context);
    /* Answers a request that is refused for a limit of transport's own (TOO_MANY_IN_FLIGHT, SERVER_BUSY); must not
     * block, must reply before it returns. */
    void (*refuse)(struct exchange *exchange, cof_reason reason, void *context);
    void *context;
};

/*
 * Opens the sockets and listens. Fails with CONFIG_INVALID, naming the address and what is wrong: a plain tcp://
 * listener on other than loopback without `insecure_tcp`, an address in use, a socket file that belongs to a
 * running server, a scheme that is not there.
 */
COF_CODE transport_start(const struct transport_options *options, struct transport **ret_transport,
                         struct cof_error *err);

/* The addresses listened on, with the port that the system chose where 0 was asked for. */
const char *transport_address(const struct transport *transport, size_t index);

/* Reads the certificate's files again, for the handshakes to come. CONFIG_INVALID, and the old ones stay. */
COF_CODE transport_reload(struct transport *transport, const struct certificate_options *options,
                          struct cof_error *err);

/* Changes the limits, for what begins from now on. */
void transport_limit(struct transport *transport, const struct transport_limits *limits);

/*
 * Whether nng's threads go on with what they are given: begins something that takes them a moment, and tells whether
 * what the call before has begun is done. To be called by one thread, with pauses.
 */
bool transport_alive(struct transport *transport);

/* Stops taking new connections; requests that arrive on old ones are still given to submit, which refuses them. */
void transport_drain(struct transport *transport);

/* Tells the peers of all WebSockets that the server goes away (1001); what was not answered by then is not any more. A
 * connection ends when its peer has been told. */
void transport_part(struct transport *transport);

/* Whether no WebSocket is open. */
bool transport_parted(const struct transport *transport);

/* Requests whose reply is not out yet: a server that ends waits for them. */
uint32_t transport_in_flight(const struct transport *transport);

/* Connections that are open, and that were opened, by transport. */
struct transport_count {
    const char *transport;
    bool web; /* it speaks WebSocket */
    uint64_t open;
    uint64_t opened;
    uint64_t timed_out; /* closed, since the peer took no byte of a reply for as long as it may wait */
};
enum { TRANSPORT_COUNTS = 5 };
void transport_counts(const struct transport *transport, struct transport_count counts[TRANSPORT_COUNTS]);

/* Closes everything; waits for callbacks. All exchanges must have been answered. NULL is allowed. */
void transport_free(struct transport *transport);
