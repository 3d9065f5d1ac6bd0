#include "server/reload.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    NAMES_SIZE = 1024,
    TLS_CLIENT_OPTIONAL = 1,
};

/* The names of settings, for the log. */
struct names {
    char text[NAMES_SIZE];
    size_t size;
    bool live; /* those that are looked for */
};

/* Those that find no room are told at the next reload, when others are done. */
static void add_name(const char *section, const char *key, bool live, void *context)
{
    struct names *names = context;
    if (live != names->live) {
        return;
    }
    const size_t room = sizeof names->text - names->size;
    const int size =
        snprintf(names->text + names->size, room, "%s%s.%s", names->size == 0 ? "" : ",", section, key);
    if (size > 0 && (size_t) size < room) {
        names->size += (size_t) size;
    } else {
        names->text[names->size] = '\0';
    }
}

struct certificate_options reload_certificate(const struct settings *settings, const struct cof_log *log)
{
    return (struct certificate_options){
        .certificate = settings->tls_certificate,
        .key = settings->tls_key,
        .client_ca = settings->tls_client_ca,
        .client_optional = settings->tls_client_certificate == TLS_CLIENT_OPTIONAL,
        .log = log,
    };
}

struct transport_limits reload_limits(const struct settings *settings)
{
    return (struct transport_limits){
        .max_peers = settings->transport_max_peers,
        .max_strangers = settings->transport_max_strangers,
        .max_malformed = settings->transport_max_malformed,
        .receive_timeout_ms = settings->transport_receive_timeout,
        .handshake_timeout_ms = settings->tls_handshake_timeout,
        .http_timeout_ms = settings->http_request_timeout,
    };
}

/* What can fail comes first. */
static cof_code apply(struct reload *reload, const struct settings *settings, struct cof_error *err)
{
    const struct certificate_options certificate = reload_certificate(settings, reload->log);
    const struct transport_limits limits = reload_limits(settings);
    TRY(transport_reload(reload->transport, &certificate, err));
    transport_limit(reload->transport, &limits);
    http_site_allow(reload->site, &settings->http_hosts, &settings->http_origins);
    dispatch_log_requests(reload->dispatch, (dispatch_log) settings->log_requests);
    cof_log_set_level(reload->log, (cof_log_level) settings->log_level);
    return COF_OK;
}

static void tell(struct reload *reload, const struct settings *settings)
{
    struct names taken = {.live = true};
    struct names waiting = {.live = false};
    settings_compare(reload->read != NULL ? reload->read : reload->started, settings, add_name, &taken);
    settings_compare(reload->started, settings, add_name, &waiting);
    COF_LOG(reload->log, COF_LOG_INFO, "reload",
            "new TLS connections use the files as they are now; the settings that can change are taken",
            cof_log_text("signal", "SIGHUP"), cof_log_text("changed", taken.text));
    if (waiting.size > 0) {
        COF_LOG(reload->log, COF_LOG_WARN, "reload_restart", "settings have changed that need a restart",
                cof_log_text("settings", waiting.text));
    }
}

static void drop(struct settings *settings)
{
    if (settings != NULL) {
        settings_done(settings);
        free(settings);
    }
}

static cof_code read_settings(reload_reader reader, void *context, struct settings **ret_settings,
                              struct cof_error *err)
{
    struct settings *settings = calloc(1, sizeof *settings);
    if (settings == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the settings");
    }
    const cof_code code = reader(settings, context, err);
    if (code != COF_OK) {
        free(settings);
        return code;
    }
    *ret_settings = settings;
    return COF_OK;
}

static cof_code read_and_apply(struct reload *reload, reload_reader reader, void *context, struct cof_error *err)
{
    struct settings *settings = NULL;
    if (reader == NULL) {
        TRY(apply(reload, reload->started, err));
        tell(reload, reload->started);
        return COF_OK;
    }
    TRY(read_settings(reader, context, &settings, err));
    const cof_code code = apply(reload, settings, err);
    if (code != COF_OK) {
        drop(settings);
        return code;
    }
    tell(reload, settings);
    drop(reload->read);
    reload->read = settings;
    return COF_OK;
}

void reload_run(struct reload *reload, reload_reader reader, void *context)
{
    struct cof_error err;
    if (read_and_apply(reload, reader, context, &err) != COF_OK) {
        COF_LOG(reload->log, COF_LOG_ERROR, "reload_failed", "nothing was changed: what was read cannot be used",
                cof_log_text("signal", "SIGHUP"), cof_log_text("error", err.message));
    }
}

void reload_done(struct reload *reload)
{
    drop(reload->read);
    reload->read = NULL;
}
