#pragma once

#include <stddef.h>

#include <openssl/x509.h>

#include "common/tls/context.h"

/* What went wrong in a handshake, in words for whoever has to mend it. Texts are printable ASCII. */

/* A certificate of the peer that is not taken, for an error of X509_verify_cert. `name`: which it should have. */
void cof_tls_problem_certificate(cof_tls_role role, const X509 *certificate, int error, const char *name, char *to,
                                 size_t size);

/* A failure of OpenSSL, from its queue of errors, which is emptied. */
void cof_tls_problem_protocol(cof_tls_role role, char *to, size_t size);

/* Bytes of the peer that are no TLS. */
void cof_tls_problem_plain(cof_tls_role role, const uint8_t *first, size_t count, char *to, size_t size);
