#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include <nng/nng.h>

#include "client/libcoffer/parcel.h"
#include "common/error.h"
#include "common/tls/context.h"

/*
 * One address: a connection that is made, and made again, by itself, and the requests on it. Thread-safe.
 *
 * A connection to which nothing can be given while nothing comes from it is closed, and another one is made: a server
 * that hangs, or a network that lost the end of it, would otherwise be taken for one that answers late.
 */

struct endpoint;

/* Requests in a row that a connection did not take, and not a byte moved meanwhile, after which it is closed. */
enum { ENDPOINT_REFUSALS = 3 };

typedef enum exchange_state {
    EXCHANGE_NONE,
    EXCHANGE_QUEUED,   /* waits for the connection's turn */
    EXCHANGE_OPEN,     /* the request is on its way */
    EXCHANGE_ANSWERED, /* the answer is in `parcel` */
    EXCHANGE_LOST,     /* the connection has ended */
} exchange_state;

/* A request and its answer. Zeroed memory is one that is not used. Of the endpoint, but for what is said below. */
struct exchange {
    exchange_state state;
    nng_aio *aio;          /* of the operation that runs */
    struct parcel *parcel; /* the request until it is on its way; later the answer */
    uint32_t id;
    TAILQ_ENTRY(exchange) link;
};

struct endpoint_options {
    const char *address;
    struct cof_tls *tls;         /* for an address with TLS */
    const char *tls_server_name; /* NULL: the host of the address */
    size_t max_reply;            /* bytes of the largest frame that is received */
    /*
     * Told on a thread of nng when there is a connection, with a lock of the endpoint: it must not block, and call
     * nothing here but endpoint_connected.
     */
    void (*connected)(void *context);
    void *context;
};

/* Fails with CONFIG_INVALID for an address that nng does not take, or OUT_OF_MEMORY. */
COF_CODE endpoint_new(const struct endpoint_options *options, struct endpoint **ret_endpoint,
                      struct cof_error *err);

/* Ends everything that runs here with NNG_ECLOSED, and waits for it; `connected` is not called afterwards. */
void endpoint_close(struct endpoint *endpoint);
/* Frees a closed endpoint. The aios of its operations must be gone already. NULL is allowed. */
void endpoint_free(struct endpoint *endpoint);

const char *endpoint_address(const struct endpoint *endpoint);
bool endpoint_connected(const struct endpoint *endpoint);
/* Copies why there is no connection although somebody answered at the address; empty if that is not known. */
void endpoint_problem(struct endpoint *endpoint, char *to, size_t size);

/*
 * Takes over the request, and completes the aio when it is on its way: 0, NNG_ETIMEDOUT if the connection did not take
 * it in time, NNG_ECONNRESET if there is none. After a failure nothing of it was sent. The aio has a time-out of at
 * least a millisecond. False, and nothing is begun, if the endpoint is being closed.
 */
bool endpoint_send(struct endpoint *endpoint, struct exchange *exchange, struct parcel *request, nng_aio *aio);

/*
 * Completes the aio when the answer is there: 0, NNG_ETIMEDOUT, or NNG_ECONNRESET if the connection was lost. Its
 * time-out and the result as above.
 */
bool endpoint_receive(struct endpoint *endpoint, struct exchange *exchange, nng_aio *aio);

/* The answer after an endpoint_receive that succeeded, for the caller to free. */
struct parcel *endpoint_take_answer(struct exchange *exchange);

/* Forgets an exchange on which no operation runs; an answer to it that comes later is dropped. */
void endpoint_forget(struct endpoint *endpoint, struct exchange *exchange);
