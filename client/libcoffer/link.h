#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "client/libcoffer/parcel.h"
#include "common/tls/stream.h"

/*
 * One connection to a server: bytes of a stream of nng, framed as nanomsg's REQ/REP is (docs/protocol.md, Bytes on the
 * connection). Why not nng's REQ socket: docs/decisions/0009-connections.md.
 *
 * Its functions are called, and it calls its owner, with the owner's lock.
 */

struct link;

/* What an owner is told, on a thread of nng. It may end the link inside of each. */
struct link_events {
    void (*greeted)(void *owner);                       /* the peer is a server */
    void (*progress)(void *owner);                      /* bytes came, or went out */
    void (*arrived)(struct parcel *reply, void *owner); /* which the owner takes over */
    void (*ended)(void *owner);                         /* nothing comes or goes any more */
    void (*gone)(void *owner);                          /* the last that is heard of it */
};

struct link_options {
    const struct link_events *events;
    void *owner;
    pthread_mutex_t *lock;
    parcel_framing framing;
    const char *place; /* of a WebSocket: host and port, and the path; used in link_new only */
    const char *path;
    size_t max_reply; /* bytes of the largest frame that is received */
};

/* Takes over the stream, and begins to receive. NULL, and the stream is freed, if there is no memory. */
struct link *link_new(const struct link_options *options, struct cof_stream *stream);

/* Whether a parcel that is given now goes out with the next write. */
bool link_ready(const struct link *link);
/* Takes over a parcel for a link that is ready; it goes out with link_flush. The link may end in it. */
void link_put(struct link *link, struct parcel *parcel);
void link_flush(struct link *link);

/* Copies why there is no greeting from what answers; empty if that is not known. */
void link_problem(const struct link *link, char *to, size_t size);

/* Closes the stream. What was not sent is dropped; `ended` is called inside, `gone` later. Ending again does nothing. */
void link_end(struct link *link);
