#pragma once

#include "server/jobs/refresher.h"
#include "server/outbound/http.h"
#include "server/service/connection_exchange.h"

/* An exchange with a provider, of a refresh or of an authorization: the request, and what the answer means. */

struct refresh_exchange_options {
    struct outbound *outbound;
    struct cof_pool *pool; /* locked: credentials and tokens lie in it */
    uint32_t memory;       /* bytes for each exchange */
    uint32_t timeout_ms;   /* for an answer; the lease lasts longer */
};

/* What is exchanged; all of it is borrowed until the function returns. */
struct refresh_exchange_order {
    struct call *call; /* one of the server's own */
    const struct refresh_rows *rows;
    const struct provider *provider;
    struct cof_slice refresh_token;     /* empty: the connection has credentials of its own */
    const struct connection_code *code; /* NULL: it is not a code */
    int64_t not_after;                  /* monotonic: what would leave later does not */
    uint64_t ticket;                    /* of whoever is told */
    /* Once, on outbound's thread, or on the caller's before refresh_exchange_send returns. */
    void (*answered)(void *context, uint64_t ticket, const struct refresher_answer *answer);
    void *context;
};

/* Sends what it makes to the provider. What cannot be made into a request is answered as well. */
void refresh_exchange_send(const struct refresh_exchange_options *options,
                           const struct refresh_exchange_order *order);
