#pragma once

#include <stdbool.h>

#include <nng/nng.h>

/*
 * Closes a socket, and waits for its end, but never for ever: a few seconds at most.
 *
 * nng 1.5.2 loses the end of a connection that is closed by one side in the moment in which the other part of it goes
 * on with a message that takes several reads or writes (an operation that is begun on a stopped aio is neither done nor
 * refused). Its one thread that takes connections apart then waits for ever, and nng_close with it.
 *
 * False: the socket is still being closed by a thread of its own, and what its callbacks use must stay for ever.
 */
bool socket_close(nng_socket socket);
