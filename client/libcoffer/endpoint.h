#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <nng/nng.h>

#include "common/error.h"

/*
 * One address: a REQ socket that connects, and connects again, by itself, and its contexts. Thread-safe.
 *
 * nng 1.5.2 can lose the end of a connection (client/libcoffer/socket.h). Then the socket is connected for ever, sends nothing, and
 * never connects again. So a socket to which nothing can be given while nothing comes from it is replaced by a new one;
 * the old one stays beside it until the endpoint is closed, and there are ENDPOINT_SOCKETS at most.
 */

struct endpoint;
struct endpoint_socket;

enum {
    ENDPOINT_SOCKETS = 4,
    /* Requests in a row that a socket did not take, and nothing received meanwhile, after which it is replaced. */
    ENDPOINT_REFUSALS = 3,
    ENDPOINT_REDIAL_MS = 2000,
};

/* A context, and the socket that it is of. */
struct endpoint_context {
    struct endpoint_socket *socket;
    nng_ctx context;
};

struct endpoint_options {
    const char *address;
    size_t max_reply; /* bytes of the largest message that is received */
    /* Told on a thread of nng when the first connection is there and when the last one is gone. Must not block. */
    void (*changed)(struct endpoint *endpoint, bool connected, void *context);
    void *context;
};

/* Fails with CONFIG_INVALID for an address that nng does not take, or OUT_OF_MEMORY. */
COF_CODE endpoint_new(const struct endpoint_options *options, struct endpoint **ret_endpoint,
                      struct cof_error *err);

/*
 * Ends everything that runs on the socket with NNG_ECLOSED; no `changed` is running or called afterwards. False: the
 * socket is still being closed (client/libcoffer/socket.h), and the endpoint and what `changed` uses must stay.
 */
bool endpoint_close(struct endpoint *endpoint);
/* Frees a closed endpoint. NULL is allowed. */
void endpoint_free(struct endpoint *endpoint);

const char *endpoint_address(const struct endpoint *endpoint);
bool endpoint_connected(const struct endpoint *endpoint);

/* A context on which nothing is running. 0, or an error of nng. */
int endpoint_context_take(struct endpoint *endpoint, struct endpoint_context *ret_context);
/* Takes it back. One with a request that was not answered is closed, which makes nng forget the request. */
void endpoint_context_give(struct endpoint *endpoint, const struct endpoint_context *context, bool answered);

/* nng_ctx_send and nng_ctx_recv. False, and nothing is begun, if the endpoint is being closed. */
bool endpoint_send(struct endpoint *endpoint, const struct endpoint_context *context, nng_aio *aio);
bool endpoint_receive(struct endpoint *endpoint, const struct endpoint_context *context, nng_aio *aio);

/*
 * Dials again if there has been no connection for ENDPOINT_REDIAL_MS. A dialer of nng 1.5.2 gives up for ever when its
 * peer takes a connection and closes it at once, as a proxy without its server does (EPIPE becomes NNG_ECLOSED, which it
 * takes for its own end).
 */
void endpoint_revive(struct endpoint *endpoint);

/* The socket of the context did not take a request in time. */
void endpoint_refused(struct endpoint *endpoint, const struct endpoint_context *context);
