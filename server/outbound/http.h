#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"

/*
 * Requests to the outside: OAuth providers, AWS (docs/decisions/0021-outside-calls.md). One thread sends all of them. It
 * knows neither tenants nor what an answer means.
 *
 * A request goes to https only, except for hosts and ports that the operator allows, and to public addresses only, with
 * the same exception; redirects are not followed; what comes back is bounded in time, in bytes on the wire and in bytes
 * after decompression. A request is sent at most once: if it may have arrived and no answer came, that is what the
 * caller is told.
 *
 * Requests are counted in groups, one for each provider: so many at once, the others wait their turn; and a group whose
 * requests keep failing gets none for a while, and then one to try (server/outbound/breaker.h).
 *
 * outbound_send and the functions that ask are thread-safe and do not block.
 */

enum {
    OUTBOUND_GROUP_MAX = 64,   /* bytes of a group's name */
    OUTBOUND_HEADERS_MAX = 16, /* of a request, and those wanted of an answer */
    OUTBOUND_URL_MAX = 8192,
};

struct outbound;

struct outbound_options {
    struct cof_pool *pool; /* locked memory: what is sent and received; not that of calls */
    const struct cof_clock *clock;
    const struct cof_log *log;
    const char *const *allowed; /* "host:port" that may be private and without TLS; host as in the URL */
    size_t allowed_count;
    const char *proxy;             /* URL of an HTTP proxy; empty: none. Nothing is taken from the environment */
    const char *ca_file;           /* CAs of servers, in PEM; empty: those of the system */
    uint32_t concurrent;           /* requests under way at once */
    uint32_t concurrent_per_group; /* of one group */
    uint32_t queue;                /* requests that wait for their turn */
    uint32_t connect_timeout_ms;   /* most, with name and TLS */
    uint32_t timeout_ms;           /* most, from the moment it is sent, that is, when its turn comes */
    uint32_t answer_bytes;         /* most of a body */
};

/* What became of a request. */
typedef enum outbound_end {
    OUTBOUND_ANSWERED,  /* the answer came whole */
    OUTBOUND_CUT,       /* its status and the first part of its body came */
    OUTBOUND_TOO_LARGE, /* the same, since no more was taken: body or headers are over their limits */
    OUTBOUND_LOST,      /* no status came, and the request may have arrived */
    /* These were not sent: nothing of the request left, or it did not leave whole. */
    OUTBOUND_NOT_SENT,        /* no name, no connection, no TLS, or no time left before it could be sent */
    OUTBOUND_REFUSED_URL,     /* not https and not allowed, or no URL at all */
    OUTBOUND_REFUSED_ADDRESS, /* the host has a private address and is not allowed */
    OUTBOUND_BREAKER_OPEN,    /* the group fails too often; `retry_after_ms` says when it is tried again */
    OUTBOUND_QUEUE_FULL,      /* too many wait; or there was no memory for it */
    OUTBOUND_STOPPED,         /* the server ends */
} outbound_end;

/* Static, for logs and messages. */
const char *outbound_end_name(outbound_end end);

struct outbound_header {
    const char *name;
    struct cof_slice value; /* no control characters */
};

/* Signed by AWS's Signature Version 4. */
struct outbound_sigv4 {
    const char *region;
    const char *service;
    struct cof_slice access_key;
    struct cof_slice secret_key;
    struct cof_slice session_token; /* empty: none */
};

struct outbound_answer;

/* All of it is copied, into locked memory that is wiped. */
struct outbound_request {
    const char *group; /* what is counted together: a provider's ID, "aws" */
    const char *method;
    const char *url;
    const struct outbound_header *headers;
    size_t header_count;
    struct cof_slice body;     /* "Content-Type" is a header of the caller */
    const char *const *wanted; /* names of headers of the answer that are kept; static */
    size_t wanted_count;
    const struct outbound_sigv4 *sign; /* NULL: not signed */
    uint32_t connect_timeout_ms;       /* 0: as much as there may be; else no more than that */
    uint32_t timeout_ms;
    uint32_t answer_bytes;
    int64_t send_until_us; /* monotonic: NOT_SENT if it was not sent until then; 0: whenever its turn comes */
    /*
     * Called exactly once, on outbound's thread, or on the caller's before outbound_send returns; must not block. The
     * answer is the receiver's, who frees it, on any thread.
     */
    void (*done)(void *context, struct outbound_answer *answer);
    void *context;
};

void outbound_send(struct outbound *outbound, const struct outbound_request *request);

/* --- Answers -------------------------------------------------------------------------------------------------- */

struct outbound_answer_view {
    outbound_end end;
    bool sent;               /* the request may have arrived, whole or in part */
    int status;              /* 0: none came */
    struct cof_slice body;   /* decompressed, as much as came */
    uint32_t retry_after_ms; /* of BREAKER_OPEN */
    int64_t received_us;     /* since 1970 */
    const char *what;        /* why it was not answered, in a few static words without names; "" if it was */
};

/* Borrows from the answer. */
struct outbound_answer_view outbound_answer_view(const struct outbound_answer *answer);

/* The first one of that name, which was wanted; empty if none came. */
struct cof_slice outbound_answer_header(const struct outbound_answer *answer, const char *name);

/* Wipes it. NULL is allowed. */
void outbound_answer_free(struct outbound_answer *answer);
static inline void outbound_answer_cleanup(struct outbound_answer **answer)
{
    outbound_answer_free(*answer);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

COF_CODE outbound_start(const struct outbound_options *options, struct outbound **ret_outbound,
                        struct cof_error *err);

/* Later requests are STOPPED, and so are those that wait for their turn; those under way may end. NULL is allowed. */
void outbound_drain(struct outbound *outbound);

/* The same; those under way are ended at once, and told so: every `done` has been called when this returns. NULL is
 * allowed. */
void outbound_stop(struct outbound *outbound);

/* After outbound_stop, when no other thread sends any more. NULL is allowed. */
void outbound_free(struct outbound *outbound);

/* For metrics. */
struct outbound_load {
    uint32_t under_way;
    uint32_t queued;
    uint32_t open_breakers;
    uint64_t ended[OUTBOUND_STOPPED + 1]; /* requests, by how they ended */
};
struct outbound_load outbound_load_now(struct outbound *outbound);
