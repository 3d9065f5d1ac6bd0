#pragma once

#include "server/transport/connection.h"

/* One address that is listened on. What it accepts becomes a connection. */

struct listener;

/* Checks the address and listens; the failures are those of transport_start. `options` must outlive it. */
COF_CODE listener_new(const struct transport_options *options, const char *address, struct connections *connections,
                      struct listener **ret_listener, struct cof_error *err);

/* The address as it can be dialled: with the port that the system chose. */
const char *listener_address(const struct listener *listener);

/* Accepts nothing any more. Twice is once. */
void listener_close(struct listener *listener);

/* Closes it, waits for its callbacks, frees it. NULL is allowed. */
void listener_free(struct listener *listener);
