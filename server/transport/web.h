#pragma once

#include "common/tls/stream.h"
#include "server/transport/connection.h"
#include "server/transport/transport.h"

/*
 * The connections that speak HTTP: one request each, answered by the site (server/http/site.h), or turned into a
 * WebSocket and given to the others (connection.h). Whoever is slow or says nothing is limited in time and number.
 * Thread-safe.
 */

struct webs;

/* `options` and `connections` must outlive them. NULL if there is no memory. */
struct webs *webs_new(const struct transport_options *options, struct connections *connections);

/* Takes over a stream that was accepted at an address whose WebSocket has `path`, which must outlive it. `transport` is
 * "ws" or "wss". If there are too many, the oldest gives way. */
void webs_add(struct webs *webs, struct cof_stream *stream, const char *transport, const char *path);

/* Closes all of them and waits until they are gone. Twice is once; NULL is allowed. */
void webs_close(struct webs *webs);
void webs_free(struct webs *webs);
