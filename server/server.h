#pragma once

#include "common/log.h"
#include "server/settings.h"

/*
 * The server as a whole: builds the layers from the bottom up, runs until a signal, drains, and takes them down in
 * the reverse order.
 */

struct server_hooks {
    /* Called once, when everything is there but the listeners; may be NULL. */
    cof_code (*prepare)(const struct settings *settings, void *context, struct cof_error *err);
    /* Called when the server listens; may be NULL. `addresses` as they can be dialled. */
    void (*listening)(const char *const *addresses, size_t count, void *context);
    /* Reads the settings again at SIGHUP; NULL: only the files of TLS are. */
    cof_code (*reread)(struct settings *ret_settings, void *context, struct cof_error *err);
    void *context;
};

/* Blocks the signals that server_run waits for. Call it in the main thread before any other thread exists. */
void server_block_signals(void);

/* Runs until SIGTERM or SIGINT; a second one ends the process at once. */
COF_CODE server_run(const struct settings *settings, const struct server_hooks *hooks, struct cof_error *err);

/* Starts what a process starts once: the cryptography with its locked memory. Before everything below. */
COF_CODE server_start(const struct settings *settings, struct cof_error *err);

/* Makes the root key's file if there is none and the database, whose schema must be there, holds no instance;
 * `ret_made` says whether it did. */
COF_CODE server_make_root_key(const struct settings *settings, bool *ret_made, struct cof_error *err);

/* What a command without listeners needs of the server: keys, service, one session, memory. */
struct server_core;
COF_CODE server_core_new(const struct settings *settings, struct server_core **ret_core, struct cof_error *err);
void server_core_free(struct server_core *core);
static inline void server_core_cleanup(struct server_core **core)
{
    server_core_free(*core);
}

struct service *server_core_service(struct server_core *core);
struct session *server_core_session(struct server_core *core);
struct cof_pool *server_core_pool(struct server_core *core);

/* Whether the instance exists in the database; set by server_core_new. */
bool server_core_has_instance(const struct server_core *core);
