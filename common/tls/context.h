#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

/*
 * What handshakes stand on: a certificate with its key, and whom to trust. TLS 1.3 only, without session tickets and
 * early data, so each connection proves itself anew and nothing can be replayed. Immutable and counted, so that
 * connections go on with theirs while new ones get another; thread-safe.
 */

struct cof_tls;

/* A file, and the setting that names it, for messages. */
struct cof_tls_file {
    const char *path; /* NULL or empty: none */
    const char *setting;
};

typedef enum cof_tls_role {
    COF_TLS_SERVER,
    COF_TLS_CLIENT,
} cof_tls_role;

struct cof_tls_options {
    cof_tls_role role;
    struct cof_tls_file
        certificate;         /* PEM: the certificate, then those that lead to the CA; a server must have one */
    struct cof_tls_file key; /* PEM, not encrypted; only its owner may use the file */
    /* PEM: whose certificates a peer may have. A client without one trusts the system's; a server without one asks
     * for no certificate. */
    struct cof_tls_file ca;
    bool optional; /* a server's client may come without a certificate, but not with a wrong one */
};

/* Reads the files. Fails with CONFIG_INVALID for the setting, and says what is wrong and what to do. */
COF_CODE cof_tls_new(const struct cof_tls_options *options, struct cof_tls **ret_tls, struct cof_error *err);

struct cof_tls *cof_tls_hold(struct cof_tls *tls);
/* NULL is allowed. */
void cof_tls_drop(struct cof_tls *tls);
static inline void cof_tls_cleanup(struct cof_tls **tls)
{
    cof_tls_drop(*tls);
}

/* Days until the own certificate expires; negative if it has; INT32_MAX if there is none. */
int32_t cof_tls_days_left(const struct cof_tls *tls);
