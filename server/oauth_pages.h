#pragma once

#include <pthread.h>

#include "server/http/site.h"
#include "server/refreshing.h"

/*
 * The pages for browsers of OAuth authorizations (docs/decisions/0025-authorization.md): /oauth/start and /oauth/callback.
 * HTTP, cookies and HTML; what is to be done is the authorizer's business.
 */

struct oauth_pages {
    const char *public_url; /* empty: there are no pages */
    pthread_rwlock_t lock;
    struct refreshing *refreshing; /* NULL: not yet, or not any more */
    char policy[160];
};

/* Whether it can be: https, or http on a loopback address, with a host and perhaps a port and nothing else. CONFIG_INVALID. */
COF_CODE oauth_pages_check(const char *public_url, struct cof_error *err);

/* The host's name in it, with neither scheme nor port. */
struct cof_slice oauth_pages_host(const char *public_url);

COF_CODE oauth_pages_init(struct oauth_pages *pages, const char *public_url, struct cof_error *err);
void oauth_pages_done(struct oauth_pages *pages);

/* From now on they are answered; NULL: not any more, and when it returns nobody uses the one before. */
void oauth_pages_connect(struct oauth_pages *pages, struct refreshing *refreshing);

/* What they are reached by. */
enum { OAUTH_PAGES_ROUTES = 2 };
void oauth_pages_routes(struct oauth_pages *pages, struct http_route routes[OAUTH_PAGES_ROUTES]);
