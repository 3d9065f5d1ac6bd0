#pragma once

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "common/tls/context.h"

/* A context as a session sees it. */

struct cof_tls {
    cof_tls_role role;
    SSL_CTX *ctx;
    atomic_uint holders;
};

/* The protocol that both ends name in ALPN, in its wire form. A peer that names others only is refused. */
#define COF_TLS_ALPN \
    "\x08"           \
    "coffer/1"
