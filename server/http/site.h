#pragma once

#include <pthread.h>

#include "common/config.h"
#include "common/web/head.h"
#include "server/http/text.h"

/*
 * What is answered to HTTP requests: a fixed table of routes, one path at which a WebSocket is opened, and refusals for
 * everything else. Bytes in, bytes out; connections are transport's. Thread-safe once it is filled.
 */

typedef enum http_method {
    HTTP_OTHER = 0,
    HTTP_GET = 1,
    HTTP_HEAD = 2, /* every route that has GET has it */
    HTTP_POST = 4,
} http_method;

struct http_request {
    http_method method;
    struct cof_slice query; /* as it came, not decoded */
    const struct cof_head *head;
    struct cof_slice body; /* of POST */
    bool loopback;         /* the peer is on this host */
};

struct http_response {
    unsigned status;    /* 200 */
    const char *type;   /* of the body; "text/plain; charset=utf-8" */
    const char *fields; /* further fields, each with its CRLF; NULL: none */
    const char *policy; /* Content-Security-Policy; NULL: nothing is allowed */
    struct http_text body;
};

/* An answer that comes later; whoever took the request owes it. */
struct http_later {
    /* Once, on any thread, also before `take` returns; nothing of it may be used afterwards. The response is copied. */
    void (*answer)(struct http_later *later, const struct http_response *response);
};

/* For whoever serves: NULL if there is no memory for one. */
struct http_waiter {
    struct http_later *(*wait)(void *context, bool only_head);
    void *context;
};

struct http_route {
    const char *path;
    unsigned methods;   /* of http_method; HEAD goes with GET */
    size_t body_most;   /* bytes of a body; 0: none is taken */
    bool only_loopback; /* refused for other peers */
    const char *kind;   /* what it is for, in a few words */
    /* Fills the response. Must not block; on any thread. */
    void (*answer)(const struct http_request *request, struct http_response *response, void *context);
    /* Or takes it, and answers later. The request is borrowed until it returns; it must not block. */
    void (*take)(const struct http_request *request, struct http_later *later, void *context);
    void *taker; /* the context of `take` */
};

struct http_site {
    const struct http_route *routes;
    size_t route_count;
    void *context; /* of the routes */
    /* Names that a Host field may have, besides IP addresses and localhost: no page of a stranger can have these. */
    const struct cof_config_list *hosts;
    struct cof_slice own_host; /* one more that always may; empty: none */
    /* Origins from whose pages a WebSocket may be opened; a program that is no browser sends none. */
    const struct cof_config_list *origins;
    pthread_rwlock_t *lock; /* of these two; NULL: they do not change */
};

/* Puts others in their place. When it returns nobody reads the old ones any more. */
void http_site_allow(struct http_site *site, const struct cof_config_list *hosts,
                     const struct cof_config_list *origins);

typedef enum http_step {
    HTTP_MORE,    /* more bytes are needed: `wanted` in all, 0 if that is not known */
    HTTP_ANSWER,  /* `bytes` are to be sent, and the connection ends behind them */
    HTTP_LATER,   /* the waiter's answer is awaited; what follows is thrown away */
    HTTP_UPGRADE, /* `bytes` are to be sent, and what follows the first `taken` bytes is WebSocket */
} http_step;

struct http_outcome {
    http_step step;
    size_t wanted;
    size_t taken;
    unsigned status;
    bool only_head;      /* the request was HEAD */
    const char *refusal; /* why nothing was done, for the log; NULL */
    struct http_text bytes;
};

/*
 * Looks at what a peer has sent so far. `websocket` is the path of this listener. The outcome's bytes are to be freed
 * with http_text_done; they have no data if memory is exhausted, and then the connection is to be closed. `waiter` is asked for
 * routes that answer later; NULL: there is nobody who waits.
 */
void http_serve(const struct http_site *site, const char *websocket, bool loopback, struct cof_slice bytes,
                const struct http_waiter *waiter, struct http_outcome *ret_outcome);

/* The bytes of an answer that came later. */
void http_answer(const struct http_response *response, bool only_head, struct http_outcome *ret_outcome);

/* The answer to a peer for whom nothing came in time. */
void http_too_late(bool only_head, struct http_outcome *ret_outcome);

/* The answer to a peer that did not send its request in time. */
void http_too_slow(struct http_outcome *ret_outcome);
