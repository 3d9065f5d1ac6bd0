#pragma once

#include "server/transport/certificate.h"
#include "server/transport/connection.h"
#include "server/transport/web.h"

/* One address that is listened on. What it accepts becomes a connection. */

struct listener;

/* All of these must outlive it. */
struct listener_options {
    const struct transport_options *transport;
    struct connections *connections;
    struct webs *webs;
    struct certificate *certificate; /* for tls+tcp:// and wss://; NULL if no address has it */
};

/* Whether the address needs a certificate. */
bool listener_is_tls(const char *address);

/* Checks the address and listens; the failures are those of transport_start. */
COF_CODE listener_new(const struct listener_options *options, const char *address, struct listener **ret_listener,
                      struct cof_error *err);

/* The address as it can be dialled: with the port that the system chose. */
const char *listener_address(const struct listener *listener);

/* Accepts nothing any more. Twice is once. */
void listener_close(struct listener *listener);

/* Closes it, waits for its callbacks, frees it. NULL is allowed. */
void listener_free(struct listener *listener);
