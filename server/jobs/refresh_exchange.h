#pragma once

#include "server/jobs/refresher.h"
#include "server/outbound/http.h"

/* A refresh's request to its provider, and what the answer means to it. */

struct refresh_exchange_options {
    struct outbound *outbound;
    struct cof_pool *pool; /* locked: credentials and tokens lie in it */
    uint32_t memory;       /* bytes for each exchange */
    uint32_t timeout_ms;   /* for an answer; the lease lasts longer */
};

/*
 * Sends the request's grant to its provider; refresher_answered is called for it once, on outbound's thread, or on the
 * caller's before this returns. What cannot be made into a request is answered as well.
 */
void refresh_exchange_send(const struct refresh_exchange_options *options, struct refresher *refresher,
                           const struct refresher_request *request);
