#pragma once

#include <stdatomic.h>

#include "server/dispatch/dispatch.h"
#include "server/http/site.h"
#include "server/metrics/metrics.h"
#include "server/outbound/http.h"
#include "server/refreshing.h"
#include "server/service/call.h"
#include "server/settings.h"
#include "server/transport/transport.h"

/* What cofferd answers to HTTP. Thread-safe once it is filled. */

enum { ROUTES_MOST = 5 };

struct routes {
    const struct service *service;
    struct metrics *metrics;
    const atomic_uint *connects;          /* to the database, of all sessions */
    const struct session_counts *queries; /* the same */
    /* There before the first request. */
    struct dispatch *dispatch;
    struct outbound *outbound;
    struct refreshing *refreshing; /* NULL: tokens are not refreshed */
    struct transport *_Atomic transport;
    struct http_site site;
    pthread_rwlock_t lock; /* of what the site allows */
    struct http_route table[ROUTES_MOST];
};

/* All of these must outlive it. */
void routes_init(struct routes *routes, const struct settings *settings, const struct service *service);
/* One more, of somebody else; before the first request. */
void routes_add(struct routes *routes, const struct http_route *route);
void routes_done(struct routes *routes);
