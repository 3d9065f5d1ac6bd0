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

/* The protocols that both ends name in ALPN, in their wire form. A peer that names others only is refused. */
#define COF_TLS_ALPN \
    "\x08"           \
    "coffer/1"
#define COF_TLS_ALPN_WEB \
    "\x08"               \
    "http/1.1"

/* session.c: OpenSSL's callback of a server. */
int cof_tls_choose_protocol(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_size,
                            const unsigned char *offered, unsigned offered_size, void *context);
