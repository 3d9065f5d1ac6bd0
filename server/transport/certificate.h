#pragma once

#include "common/log.h"
#include "common/tls/context.h"

/*
 * What tls+tcp:// listeners show and ask for; replaced from its files while connections run, which go on with what
 * they began with. Thread-safe.
 */

struct certificate;

struct certificate_options {
    const char *certificate; /* paths; empty: none */
    const char *key;
    const char *client_ca;
    bool client_optional; /* a client may come without a certificate */
    const struct cof_log *log;
};

/* Reads the files. CONFIG_INVALID, naming the setting. `options` are used in the call only. */
COF_CODE certificate_new(const struct certificate_options *options, struct certificate **ret_certificate,
                         struct cof_error *err);
/* NULL is allowed. */
void certificate_free(struct certificate *certificate);

/* Reads them again, or others. After a failure the old ones stay. Used by one thread. */
COF_CODE certificate_reload(struct certificate *certificate, const struct certificate_options *options,
                            struct cof_error *err);

/* What the next handshake uses; to be dropped. */
struct cof_tls *certificate_now(struct certificate *certificate);
