#pragma once

#include <stdbool.h>

/*
 * Looks whether a server of Coffer answers at an address, step by step and without the library, which only knows that no
 * connection came about: name, connection, and what speaks there. TLS itself is left to the library.
 */

enum { REACH_TEXT = 400 };

typedef enum reach_end {
    REACH_OK,      /* as far as it can be seen from here */
    REACH_FAILED,  /* `what` says why, `next` what to do */
    REACH_UNKNOWN, /* a transport that is not looked at here */
} reach_end;

struct reach {
    reach_end end;
    char what[REACH_TEXT];
    const char *next;
};

/* ipc://PATH, tcp://HOST:PORT or tls+tcp://HOST:PORT. */
void reach_probe(const char *address, struct reach *ret_reach);
