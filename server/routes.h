#pragma once

#include "server/http/site.h"
#include "server/service/call.h"
#include "server/settings.h"

/* What cofferd answers to HTTP. Thread-safe once it is filled. */

enum { ROUTES_MOST = 3 };

struct routes {
    const struct service *service;
    struct http_site site;
    pthread_rwlock_t lock; /* of what the site allows */
    struct http_route table[ROUTES_MOST];
};

/* All of these must outlive it. */
void routes_init(struct routes *routes, const struct settings *settings, const struct service *service);
void routes_done(struct routes *routes);
