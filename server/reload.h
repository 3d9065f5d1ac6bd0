#pragma once

#include "common/log.h"
#include "server/dispatch/dispatch.h"
#include "server/http/site.h"
#include "server/settings.h"
#include "server/transport/transport.h"

/* SIGHUP: the settings are read again, those of server/live.def are taken, and the log says which others wait for a
 * restart. What is wrong changes nothing. Used by one thread. */

struct reload {
    const struct settings *started; /* with which the server was started */
    struct settings *read;          /* what was read last and is in use; NULL: nothing was */
    struct cof_log *log;
    struct dispatch *dispatch;
    struct transport *transport;
    struct http_site *site;
};

/* Reads the settings; `context` is the caller's. */
typedef cof_code (*reload_reader)(struct settings *ret_settings, void *context, struct cof_error *err);

/* Without a reader only the files of TLS are read again. */
void reload_run(struct reload *reload, reload_reader reader, void *context);

/* When nothing uses the settings any more. */
void reload_done(struct reload *reload);

/* What transport takes of the settings. */
struct transport_limits reload_limits(const struct settings *settings);
struct certificate_options reload_certificate(const struct settings *settings, const struct cof_log *log);
