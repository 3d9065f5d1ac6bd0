#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "client/bench/load.h"

/*
 * The control: what bare nng reaches on this machine at this moment. A server of REP contexts that does nothing, in a
 * process of its own, and a client of REQ contexts; messages have the sizes of the calls that it is the control of.
 */

enum { ECHO_ADDRESS = 200 };

struct echo_server {
    pid_t process;
    char directory[40]; /* with the socket; empty for TCP */
    char address[ECHO_ADDRESS];
};

/* Starts the server on a loopback port, or on a socket if `ipc`. The process must not have used nng yet. */
bool echo_server_start(bool ipc, struct echo_server *ret_server);
void echo_server_stop(struct echo_server *server);

struct echo_client;

struct echo_client *echo_client_open(const char *address);
void echo_client_close(struct echo_client *client); /* no call may be running */

struct echo_sizes {
    size_t request; /* at least 4 bytes */
    size_t reply;
};

/* Begins one call, for load_begin. False: it failed, and load_done was called. */
void echo_call(struct echo_client *client, const struct echo_sizes *sizes, struct load_slot *slot);
