#pragma once

#include "client/cli/cli.h"

/*
 * The end of an authorization in a browser on this host (RFC 8252, 7.3): a socket on 127.0.0.1 that takes one request, that
 * which brings the state that is awaited. All others are answered 404, and are waited past.
 */

enum { LISTENER_URI = 64 };

struct listener {
    int socket;
    int peer; /* whose request is answered by listener_answer; -1: nobody's */
    char redirect_uri[LISTENER_URI];
};

/* `port`: NULL for any that is free. */
cli_exit listener_open(const char *port, struct listener *ret_listener);

/* Waits for the request with that state, for so many seconds; the query is to be freed. */
cli_exit listener_wait(struct listener *listener, const char *state, long long seconds, char **ret_query);

/* The page for whoever waits in the browser: it went well, or it did not. */
void listener_answer(struct listener *listener, bool connected);

void listener_close(struct listener *listener);
