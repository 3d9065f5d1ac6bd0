#include "server/server.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/arena.h"
#include "server/audit/audit.h"
#include "server/aws/roles.h"
#include "server/cache/cache.h"
#include "server/crypto/keyring.h"
#include "server/crypto/root_key.h"
#include "server/dispatch/dispatch.h"
#include "server/dispatch/method.h"
#include "server/jobs/chain.h"
#include "server/jobs/confirm.h"
#include "server/jobs/hint.h"
#include "server/jobs/offboard.h"
#include "server/jobs/purge.h"
#include "server/jobs/rotate.h"
#include "server/jobs/write_use.h"
#include "server/keys.h"
#include "server/notify.h"
#include "server/oauth_pages.h"
#include "server/outbound/http.h"
#include "server/providers/provider_catalogue.h"
#include "server/refreshing.h"
#include "server/reload.h"
#include "server/routes.h"
#include "server/service/asks.h"
#include "server/service/caller.h"
#include "server/service/catalogue.h"
#include "server/service/flights.h"
#include "server/service/instance.h"
#include "server/service/key_loader.h"
#include "server/store/migrate.h"
#include "server/transport/transport.h"

enum {
    FORCED_EXIT = 130,
    POLL_MS = 20,
    MIGRATE_LOCK_TIMEOUT_MS = 10000,
    MAX_ADDRESSES = 16,
    AUDIT_RESOLVE_DURABLE = 1,
    CONFIRM_BY_WORKSPACE = 1,   /* of changes.confirm */
    WATCHES_PART = 10,          /* of the calls that may wait on the server */
    WATCHES_WORKSPACE_PART = 2, /* and of those that may in a workspace */
    STALENESS_US = 1000000,     /* what is read from the cache is at most that old */
    PART_US = 1000000,          /* for the close of a WebSocket to get out */
    FLIGHTS_FOR_EACH = 2,       /* call that may wait on the server */
    AWS_CONCURRENT = 256,       /* requests to AWS under way */
    AWS_CONCURRENT_GROUP = 64,  /* and to one endpoint */
    AWS_QUEUE = 16384,
    AWS_CONNECT_MS = 3000,
    AWS_TIMEOUT_MS = 10000,
    AWS_ANSWER = 65536,
    ASKS = 128,          /* answers of providers that handlers wait for or read */
    ASKS_WORKSPACE = 16, /* of one workspace */
    WATCHDOG_PART = 3,   /* of its time, after which it is told that the server is alive */
};

struct server_core {
    const struct settings *settings;
    struct cof_log log;
    struct cof_pool *pool;
    struct keyring *keyring;
    struct provider_catalogue *providers;
    struct catalogue *catalogue; /* of integrations */
    struct service service;
    atomic_bool give_up;  /* the time for calls under way is over */
    atomic_uint connects; /* to the database, of all sessions */
    struct session_counts queries;
    struct session *session;
    bool has_instance;
};

/* --- The core ------------------------------------------------------------------------------------------------- */

static struct session_options session_options_of(struct server_core *core)
{
    return (struct session_options){
        .conninfo = core->settings->database_conninfo,
        .clock = &cof_system_clock,
        .connect_timeout_ms = core->settings->database_connect_timeout,
        .backoff_max_ms = core->settings->database_backoff_max,
        .on_connect = instance_on_connect,
        .context = &core->service,
        .connects = &core->connects,
        .counts = &core->queries,
        .give_up = &core->give_up,
    };
}

static uint32_t part_of(uint32_t all, uint32_t part)
{
    return all < part ? 1 : all / part;
}

static void fill_service(struct server_core *core)
{
    const struct settings *settings = core->settings;
    core->service.clock = &cof_system_clock;
    core->service.keyring = core->keyring;
    core->service.limits = service_default_limits;
    core->service.limits.request_bytes = (uint32_t) settings->limits_request;
    core->service.limits.response_bytes = (uint32_t) settings->limits_response;
    core->service.limits.max_timeout_ms = settings->limits_max_timeout;
    core->service.limits.default_timeout_ms = settings->limits_default_timeout;
    core->service.limits.in_flight_per_peer = settings->limits_in_flight_per_peer;
    core->service.limits.in_flight_per_token = settings->limits_in_flight_per_token;
    core->service.limits.secrets_per_import = settings->limits_import_secrets;
    core->service.limits.actions_per_workspace = settings->limits_actions;
    core->service.limits.providers_per_workspace = settings->limits_providers;
    core->service.limits.authorizations_per_workspace = settings->limits_authorizations;
    core->service.limits.versions_kept = settings->limits_versions_kept;
    core->service.limits.waiting_per_workspace = settings->limits_waiting_per_workspace;
    core->service.limits.waiting_per_provider = settings->limits_waiting_per_provider;
    core->service.limits.waiting_per_role = settings->limits_waiting_per_role;
    core->service.limits.watches = part_of(settings->transport_max_waiting, WATCHES_PART);
    core->service.limits.watches_per_workspace =
        part_of(settings->limits_waiting_per_workspace, WATCHES_WORKSPACE_PART);
    core->service.limits.workspace_restorable_ms = settings->workspaces_restorable;
    core->service.limits.backups_kept_days = settings->backups_kept_days;
    core->service.limits.changes_followed_ms = settings->changes_followed;
}

static cof_code check_schema(const struct settings *settings, struct cof_error *err)
{
    if (settings->database_conninfo[0] == '\0') {
        return cof_fail(
            err, COF_REASON_CONFIG_INVALID,
            "database.conninfo is empty; set it, for example to \"host=/run/postgresql dbname=coffer\"");
    }
    const struct migrate_options options = {
        .conninfo = settings->database_conninfo,
        .schema = &schema_embedded,
        .clock = &cof_system_clock,
        .connect_timeout_ms = settings->database_connect_timeout,
        .lock_timeout_ms = MIGRATE_LOCK_TIMEOUT_MS,
    };
    return migrate_check(&options, err);
}

static cof_code open_database(struct server_core *core, struct cof_error *err)
{
    const struct session_options options = session_options_of(core);
    TRY(check_schema(core->settings, err));
    TRY(session_new(&options, &core->session, err));
    TRY(session_ready(core->session, err));
    return instance_check_keys(core->session, core->keyring, &core->has_instance, err);
}

cof_code server_start(const struct settings *settings, struct cof_error *err)
{
    return crypto_start(settings->memory_secure_heap, settings_lock_mode(settings) == COF_LOCK_REQUIRED, err);
}

/* A new key could open nothing of a database that was made with another one: then none is made. */
static cof_code check_no_instance(const struct settings *settings, struct cof_error *err)
{
    AUTO(session_cleanup) struct session *session = NULL;
    bool exists = false;
    const struct session_options options = {
        .conninfo = settings->database_conninfo,
        .clock = &cof_system_clock,
        .connect_timeout_ms = settings->database_connect_timeout,
        .backoff_max_ms = settings->database_backoff_max,
    };
    TRY(check_schema(settings, err));
    TRY(session_new(&options, &session, err));
    TRY(session_ready(session, err));
    const cof_code code = instance_check_keys(session, NULL, &exists, err);
    if (!exists) {
        return code;
    }
    return cof_fail(
        err, COF_REASON_CONFIG_INVALID,
        "%s: there is no root key, but the database was made with one. Nothing was changed. Put that root "
        "key there; a new key cannot open the database, so none was made",
        settings->keys_root_key_file);
}

cof_code server_make_root_key(const struct settings *settings, bool *ret_made, struct cof_error *err)
{
    *ret_made = false;
    if (!root_key_in_file(settings->keys_root_key_file) || access(settings->keys_root_key_file, F_OK) == 0) {
        return COF_OK;
    }
    TRY(check_no_instance(settings, err));
    TRY(root_key_create(settings->keys_root_key_file, err));
    *ret_made = true;
    return COF_OK;
}

static cof_code build_core(struct server_core *core, struct cof_error *err)
{
    const struct settings *settings = core->settings;
    if (settings->database_conninfo[0] == '\0') {
        return cof_fail(
            err, COF_REASON_CONFIG_INVALID,
            "database.conninfo is empty; set it, for example to \"host=/run/postgresql dbname=coffer\"");
    }
    cof_log_init(&core->log, STDERR_FILENO, (cof_log_format) settings->log_format,
                 (cof_log_level) settings->log_level, &cof_system_clock);
    TRY(oauth_pages_check(settings->http_public_url, err));
    core->service.public_url = settings->http_public_url;
    TRY(cof_pool_new(settings->memory_pool, settings_lock_mode(settings), &core->pool, err));
    TRY(keys_open(settings, settings->keys_keyring, &core->keyring, err));
    core->service.token_use = token_use_new();
    core->service.nobody = caller_nobody();
    if (core->service.token_use == NULL || core->service.nobody == NULL) {
        return cof_arena_exhausted(err);
    }
    fill_service(core);
    TRY(provider_catalogue_new(settings->providers_files.items, settings->providers_files.count, &core->providers,
                               err));
    core->service.providers = core->providers;
    TRY(catalogue_new(settings->integrations_files.items, settings->integrations_files.count, &core->catalogue,
                      err));
    core->service.catalogue = core->catalogue;
    return open_database(core, err);
}

cof_code server_core_new(const struct settings *settings, struct server_core **ret_core, struct cof_error *err)
{
    AUTO(server_core_cleanup) struct server_core *core = calloc(1, sizeof *core);
    if (core == NULL) {
        return cof_arena_exhausted(err);
    }
    core->settings = settings;
    TRY(build_core(core, err));
    *ret_core = TAKE(core);
    return COF_OK;
}

void server_core_free(struct server_core *core)
{
    if (core == NULL) {
        return;
    }
    session_free(core->session);
    token_use_free(core->service.token_use);
    rows_free(core->service.nobody);
    provider_catalogue_free(core->providers);
    catalogue_free(core->catalogue);
    keyring_free(core->keyring);
    cof_pool_free(core->pool);
    free(core);
}

struct service *server_core_service(struct server_core *core)
{
    return &core->service;
}

struct session *server_core_session(struct server_core *core)
{
    return core->session;
}

struct cof_pool *server_core_pool(struct server_core *core)
{
    return core->pool;
}

bool server_core_has_instance(const struct server_core *core)
{
    return core->has_instance;
}

/* --- Signals -------------------------------------------------------------------------------------------------- */

static sigset_t awaited_signals(void)
{
    sigset_t signals;
    (void) sigemptyset(&signals);
    (void) sigaddset(&signals, SIGTERM);
    (void) sigaddset(&signals, SIGINT);
    (void) sigaddset(&signals, SIGHUP);
    return signals;
}

void server_block_signals(void)
{
    const sigset_t signals = awaited_signals();
    (void) pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void) signal(SIGPIPE, SIG_IGN);
    (void) signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like any other */
}

/* A pause that a second signal ends together with the process. */
static void pause_or_leave(void)
{
    const sigset_t signals = awaited_signals();
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    const int received = sigtimedwait(&signals, NULL, &pause);
    if (received == SIGTERM || received == SIGINT) {
        _exit(FORCED_EXIT);
    }
}

/* --- Running -------------------------------------------------------------------------------------------------- */

struct server {
    struct server_core *core;
    struct state *state;
    struct audit *audit;
    struct dispatch *dispatch;
    struct flights *flights;
    struct aws_identity_config aws_identity;
    struct outbound *aws_outbound;
    struct roles *roles;
    struct cof_pool *outbound_pool;
    struct outbound *outbound;
    struct asks *asks;
    struct cache *cache; /* NULL: none */
    struct confirm *confirm;
    struct hint *hint; /* NULL: there are none */
    struct chain *chain;
    struct write_use *write_use;
    struct purge *purge;
    struct offboard *offboard;
    struct rotate *rotate;
    struct refreshing *refreshing;
    struct key_loader *key_loader;
    struct routes routes;
    struct oauth_pages pages;
    struct reload reload;
    struct notify notify;
    struct transport *transport;
};

/*
 * --- Who must know of revisions, and who tells them: dispatch and the job do not know each other ------------------
 *
 * Each of these functions names all who are to be told or asked.
 */

static confirm_need need_of(void *context)
{
    const struct server *server = context;
    if (dispatch_waits_for_revisions(server->dispatch)) {
        return CONFIRM_WAITED;
    }
    /* That the database is back has to be seen, whether anybody asks or not. */
    const bool keeps = server->cache != NULL && (cache_in_use(server->cache) || cache_database_lost(server->cache));
    return keeps || dispatch_watches(server->dispatch) ? CONFIRM_IN_USE : CONFIRM_NOTHING;
}

/* The cache does not ask: what is in doubt is read again when somebody needs it. */
static size_t unconfirmed(void *context, struct cof_uuid *ret_workspaces, size_t max)
{
    const struct server *server = context;
    return dispatch_unconfirmed(server->dispatch, ret_workspaces, max);
}

/* The cache comes first: whoever goes on finds the new state. */
static void reached(void *context, const struct cof_uuid *workspace, uint64_t revision)
{
    const struct server *server = context;
    if (server->cache != NULL) {
        cache_reached(server->cache, workspace, revision);
    }
    dispatch_reached(server->dispatch, workspace, revision);
}

static void asks(void *context)
{
    const struct server *server = context;
    if (server->cache != NULL) {
        cache_asks(server->cache);
    }
}

static void answered(void *context, bool answered)
{
    const struct server *server = context;
    if (server->cache != NULL && answered) {
        cache_answered(server->cache);
    } else if (server->cache != NULL) {
        cache_unanswered(server->cache);
    }
}

static void confirmed(void *context, int64_t time_us)
{
    const struct server *server = context;
    if (server->cache != NULL) {
        cache_confirmed(server->cache, time_us);
    }
}

static void doubt(void *context)
{
    const struct server *server = context;
    if (server->cache != NULL) {
        cache_doubt(server->cache);
    }
    dispatch_doubt(server->dispatch);
}

static void behind(void *context, int64_t time_us)
{
    const struct server *server = context;
    if (server->cache == NULL) {
        return;
    }
    cache_clear(server->cache);
    COF_LOG(&server->core->log, COF_LOG_INFO, "cache_dropped",
            "changes are not followed for so long: all is read anew", cof_log_number("behind_ms", time_us / 1000));
}

static void replaced(void *context)
{
    const struct server *server = context;
    if (server->cache != NULL) {
        cache_clear(server->cache);
    }
    dispatch_all_go_on(server->dispatch);
}

/* Calls come only when everything is started, and none is parked any more when it is taken down. */
static void wake_confirm(void *context)
{
    const struct server *server = context;
    confirm_wake(server->confirm);
}

/* Of a write of this server, which is not answered yet. */
static void written(void *context, const struct cof_uuid *workspace, uint64_t revision)
{
    const struct server *server = context;
    reached(context, workspace, revision);
    if (server->hint != NULL) {
        hint_written(server->hint);
    }
}

/* --- Starting and stopping ------------------------------------------------------------------------------------ */

static cof_code start_audit(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct settings *settings = core->settings;
    TRY(state_open(settings->server_state_dir, &server->state, err));
    const struct audit_options options = {
        .folder = state_audit_folder(server->state),
        .server = *state_server(server->state),
        .keyring = core->keyring,
        .clock = &cof_system_clock,
        .log = &core->log,
        .segment_bytes = settings->audit_segment,
        .keep_segments = settings->audit_keep_segments,
        .keep_days = settings->audit_keep_days,
        .refusals_per_second = settings->audit_refusals_per_second,
    };
    TRY(audit_open(&options, &server->audit, err));
    core->service.audit = server->audit;
    return COF_OK;
}

static cof_code start_cache(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct cache_options options = {
        .bytes = core->settings->cache_size,
        .staleness_us = STALENESS_US,
        .clock = &cof_system_clock,
        .epoch = &core->service.epoch,
        .used = wake_confirm,
        .context = server,
    };
    if (options.bytes == 0) {
        return COF_OK;
    }
    TRY(cache_new(&options, &server->cache, err));
    core->service.cache = server->cache;
    core->service.keeps_secrets = core->settings->cache_secrets;
    return COF_OK;
}

static void landed(void *context, const struct flight_key *key)
{
    const struct server *server = context;
    dispatch_landed(server->dispatch, key);
}

/* Flights go on when nobody waits for them any more, and some nobody waits for from the beginning. */
static cof_code start_flights(struct server *server, struct cof_error *err)
{
    server->flights = flights_new(server->core->settings->transport_max_waiting * FLIGHTS_FOR_EACH);
    if (server->flights == NULL) {
        return cof_arena_exhausted(err);
    }
    flights_on_landing(server->flights, landed, server);
    server->core->service.flights = server->flights;
    return COF_OK;
}

static void role_landed(void *context, const uint8_t key[SESSIONS_KEY])
{
    const struct server *server = context;
    struct flight_key landed_key;
    memcpy(landed_key.bytes, key, sizeof landed_key.bytes);
    flights_land(server->flights, &landed_key);
}

static const char *variable(const char *name)
{
    return getenv(name);
}

static const struct aws_outside aws_outside = {outbound_send, outbound_answer_view, outbound_answer_free};

/* Whether STS is asked as providers are. An address of the settings is so only where there is a proxy to a server that
 * speaks TLS: who may send nothing but through the proxy reaches STS by it as well. */
static bool sts_is_asked_like_others(const struct settings *settings)
{
    return settings->aws_sts_endpoint[0] == '\0' ||
           (settings->outbound_proxy[0] != '\0' && strncmp(settings->aws_sts_endpoint, "https://", 8) == 0);
}

/*
 * AWS's regional endpoints are asked as all others are. For the addresses that the environment and the settings name for
 * AWS there is a client of its own: they may be private, for nobody else, and are reached without a proxy.
 */
static cof_code start_aws_outbound(struct server *server, struct cof_error *err)
{
    static char authorities[2][AWS_URL_MAX];
    static const char *allowed[2];
    const char *urls[] = {server->core->settings->aws_sts_endpoint, server->aws_identity.url};
    size_t count = 0;
    for (size_t i = 0; i < COF_COUNT(urls); i++) {
        if (aws_authority_of(urls[i], authorities[count], sizeof authorities[count])) {
            allowed[count] = authorities[count];
            count++;
        }
    }
    const struct outbound_options options = {
        .pool = server->core->pool,
        .clock = &cof_system_clock,
        .log = &server->core->log,
        .allowed = allowed,
        .allowed_count = count,
        .proxy = "", /* it asks no other addresses than those */
        .ca_file = server->core->settings->outbound_ca_file,
        .concurrent = AWS_CONCURRENT,
        .concurrent_per_group = AWS_CONCURRENT_GROUP,
        .queue = AWS_QUEUE,
        .connect_timeout_ms = AWS_CONNECT_MS,
        .timeout_ms = AWS_TIMEOUT_MS,
        .answer_bytes = AWS_ANSWER,
    };
    return outbound_start(&options, &server->aws_outbound, err);
}

/* The server's own identity is looked for when it is needed first. */
static cof_code start_roles(struct server *server, struct cof_error *err)
{
    const struct settings *settings = server->core->settings;
    aws_identity_configure(variable, &server->aws_identity);
    TRY(start_aws_outbound(server, err));
    const struct roles_options options = {
        .clock = &cof_system_clock,
        .log = &server->core->log,
        .outside = &aws_outside,
        .outbound = sts_is_asked_like_others(settings) ? server->outbound : server->aws_outbound,
        .local = server->aws_outbound,
        .pool = server->core->pool,
        .config = &server->aws_identity,
        .sts_endpoint = settings->aws_sts_endpoint,
        .principal_arn = settings->aws_principal_arn,
        .duration_s = settings->aws_session_duration / 1000,
        .sessions = settings->aws_sessions,
        .landed = role_landed,
        .context = server,
    };
    TRY(roles_new(&options, &server->roles, err));
    server->core->service.roles = server->roles;
    return COF_OK;
}

/* With memory of its own: what providers send must not take that of calls. */
static cof_code start_outbound(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct settings *settings = core->settings;
    TRY(cof_pool_new(settings->outbound_memory, settings_lock_mode(settings), &server->outbound_pool, err));
    const struct outbound_options options = {
        .pool = server->outbound_pool,
        .clock = &cof_system_clock,
        .log = &core->log,
        .allowed = settings->outbound_allow_private.items,
        .allowed_count = settings->outbound_allow_private.count,
        .proxy = settings->outbound_proxy,
        .ca_file = settings->outbound_ca_file,
        .concurrent = settings->outbound_concurrent,
        .concurrent_per_group = settings->outbound_concurrent_per_provider,
        .queue = settings->outbound_queue,
        .connect_timeout_ms = settings->outbound_connect_timeout,
        .timeout_ms = settings->outbound_timeout,
        .answer_bytes = (uint32_t) settings->outbound_answer,
    };
    TRY(outbound_start(&options, &server->outbound, err));
    server->routes.outbound = server->outbound;
    return COF_OK;
}

static cof_code start_asks(struct server *server, struct cof_error *err)
{
    const struct asks_options options = {
        .outbound = server->outbound,
        .flights = server->flights,
        .clock = &cof_system_clock,
        .most = ASKS,
        .most_per_workspace = ASKS_WORKSPACE,
    };
    server->asks = asks_new(&options);
    server->core->service.asks = server->asks;
    return server->asks == NULL ? cof_arena_exhausted(err) : COF_OK;
}

static const char *method_name(size_t index)
{
    return method_at(index)->name;
}

static cof_code start_metrics(struct server *server, struct cof_error *err)
{
    const struct metrics_options options = {.method_count = method_count(), .method_name = method_name};
    server->routes.metrics = metrics_new(&options);
    server->routes.connects = &server->core->connects;
    server->routes.queries = &server->core->queries;
    return server->routes.metrics == NULL ? cof_arena_exhausted(err) : COF_OK;
}

static cof_code start_key_loader(struct server *server, struct cof_error *err)
{
    const struct session_options options = session_options_of(server->core);
    TRY(key_loader_new(&options, &server->key_loader, err));
    server->core->service.key_loader = server->key_loader;
    return COF_OK;
}

static cof_code start_dispatch(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct settings *settings = core->settings;
    const struct dispatch_options options = {
        .service = &core->service,
        .pool = core->pool,
        .log = &core->log,
        .metrics = server->routes.metrics,
        .log_requests = (dispatch_log) settings->log_requests,
        .resolve_durable = settings->audit_resolve == AUDIT_RESOLVE_DURABLE,
        .workers = settings->limits_workers,
        .queue = settings->limits_queue,
        .call_memory = (uint32_t) settings->limits_call_memory,
        .max_parked = settings->transport_max_waiting,
        .max_parked_workspace = settings->limits_waiting_per_workspace,
        .max_parked_bytes = settings->limits_waiting_requests,
        .reply_timeout_ms = settings->transport_reply_timeout,
        .session = session_options_of(core),
        .unconfirmed = wake_confirm,
        .written = written,
        .context = server,
    };
    TRY(dispatch_start(&options, &server->dispatch, err));
    server->routes.dispatch = server->dispatch;
    return COF_OK;
}

static cof_code start_write_use(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct write_use_options options = {
        .log = &core->log,
        .session = session_options_of(core),
        .use = core->service.token_use,
        .interval_ms = core->settings->tokens_use_interval,
    };
    return write_use_start(&options, &server->write_use, err);
}

static cof_code start_purge(struct server *server, struct cof_error *err)
{
    const struct purge_options options = {
        .log = &server->core->log,
        .session = session_options_of(server->core),
        .interval_ms = server->core->settings->jobs_purge_interval,
    };
    return purge_start(&options, &server->purge, err);
}

static cof_code start_chain(struct server *server, struct cof_error *err)
{
    const struct chain_options options = {
        .log = &server->core->log,
        .session = session_options_of(server->core),
        .service = &server->core->service,
    };
    return chain_start(&options, &server->chain, err);
}

static cof_code start_offboard(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct offboard_options options = {
        .log = &core->log,
        .session = session_options_of(core),
        .service = &core->service,
        .pool = core->pool,
        .purge_interval_ms = core->settings->jobs_purge_interval,
    };
    return offboard_start(&options, &server->offboard, err);
}

static cof_code start_hint(struct server *server, struct cof_error *err)
{
    struct hint_options options = {
        .log = &server->core->log,
        .session = session_options_of(server->core),
        .hinted = wake_confirm,
        .context = server,
    };
    options.session.on_connect = NULL;
    return server->core->settings->changes_hints ? hint_start(&options, &server->hint, err) : COF_OK;
}

static cof_code start_rotate(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct rotate_options options = {
        .log = &core->log,
        .session = session_options_of(core),
        .service = &core->service,
        .pool = core->pool,
        .kept_ms = core->settings->keys_old_key_kept,
    };
    return rotate_start(&options, &server->rotate, err);
}

static cof_code start_refreshing(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct refreshing_options options = {
        .log = &core->log,
        .session = session_options_of(core),
        .service = &core->service,
        .pool = server->outbound_pool,
        .outbound = server->outbound,
        .server = *state_server(server->state),
        .folder = state_refresh_folder(server->state),
    };
    TRY(refreshing_start(&options, &server->refreshing, err));
    server->routes.refreshing = server->refreshing;
    core->service.tokens = refreshing_source(server->refreshing);
    core->service.authorizations = refreshing_authorizations(server->refreshing);
    oauth_pages_connect(&server->pages, server->refreshing);
    return COF_OK;
}

static cof_code start_jobs(struct server *server, struct cof_error *err)
{
    struct server_core *core = server->core;
    const struct confirm_options options = {
        .log = &core->log,
        .session = session_options_of(core),
        .service = &core->service,
        .interval_ms = core->settings->changes_interval,
        .by_workspace = core->settings->changes_confirm == CONFIRM_BY_WORKSPACE,
        .followed_ms = core->settings->changes_followed,
        .need = need_of,
        .asks = asks,
        .answered = answered,
        .unconfirmed = unconfirmed,
        .reached = reached,
        .confirmed = confirmed,
        .doubt = doubt,
        .behind = behind,
        .replaced = replaced,
        .context = server,
    };
    TRY(confirm_start(&options, &server->confirm, err));
    TRY(start_hint(server, err));
    TRY(start_chain(server, err));
    TRY(start_purge(server, err));
    TRY(start_offboard(server, err));
    TRY(start_rotate(server, err));
    TRY(start_refreshing(server, err));
    return start_write_use(server, err);
}

static cof_code start_transport(struct server *server, struct cof_error *err)
{
    static const uint32_t ipc_modes[] = {0600, 0660, 0666};
    struct server_core *core = server->core;
    const struct settings *settings = core->settings;
    struct transport_options options = {
        .addresses = settings->transport_listen.items,
        .address_count = settings->transport_listen.count,
        .insecure_tcp = settings->transport_insecure_tcp,
        .ipc_mode = ipc_modes[settings->transport_ipc_mode],
        /* Those that are parked must not keep others out of the queue. */
        .max_waiting = settings->transport_max_waiting + settings->limits_queue,
        .max_request = (uint32_t) settings->limits_request,
        .max_per_peer = settings->limits_in_flight_per_peer,
        .limits = reload_limits(settings),
        .certificate = reload_certificate(settings, &core->log),
        .site = &server->routes.site,
        .clock = &cof_system_clock,
        .log = &core->log,
        .submit = dispatch_submit,
        .refuse = dispatch_refuse,
        .context = server->dispatch,
    };
    TRY(ipc_users_parse(settings->transport_ipc_uids.items, settings->transport_ipc_uids.count, &options.ipc_users,
                        err));
    TRY(transport_start(&options, &server->transport, err));
    atomic_store(&server->routes.transport, server->transport);
    return COF_OK;
}

static void reload(struct server *server, const struct server_hooks *hooks)
{
    struct reload *reload = &server->reload;
    reload->dispatch = server->dispatch;
    reload->transport = server->transport;
    reload->site = &server->routes.site;
    notify_reloading(&server->notify);
    reload_run(reload, hooks->reread, hooks->context);
    notify_ready(&server->notify);
}

/* The next signal; 0: it is time to say that the server is alive. */
static int next_signal(const struct server *server)
{
    const sigset_t signals = awaited_signals();
    const uint32_t pause_ms = server->notify.watchdog_ms / WATCHDOG_PART;
    const struct timespec pause = {.tv_sec = pause_ms / 1000, .tv_nsec = pause_ms % 1000 * 1000000L};
    int received;
    do {
        received = pause_ms == 0 ? sigwaitinfo(&signals, NULL) : sigtimedwait(&signals, NULL, &pause);
    } while (received < 0 && errno == EINTR);
    return received < 0 ? 0 : received;
}

/* A server that does not get on is ended by whoever watches it. Its database does not count: nobody is helped if it
 * starts anew without one. */
static void tell_alive(struct server *server)
{
    if (transport_alive(server->transport)) {
        notify_alive(&server->notify);
    }
}

static void wait_for_end(struct server *server, const struct server_hooks *hooks)
{
    int received = 0;
    while (received != SIGTERM && received != SIGINT) {
        received = next_signal(server);
        if (received == SIGHUP) {
            reload(server, hooks);
        } else if (received == 0) {
            tell_alive(server);
        }
    }
    notify_stopping(&server->notify);
}

static void tell_listening(struct server *server, const struct server_hooks *hooks)
{
    const char *addresses[MAX_ADDRESSES];
    const struct settings *settings = server->core->settings;
    size_t count = 0;
    for (size_t i = 0; i < settings->transport_listen.count && count < MAX_ADDRESSES; i++) {
        addresses[count] = transport_address(server->transport, i);
        COF_LOG(&server->core->log, COF_LOG_INFO, "listening", "ready for calls",
                cof_log_text("address", addresses[count]), cof_log_text("version", COFFER_VERSION),
                cof_log_number("memory_locked", cof_pool_locked(server->core->pool)));
        count++;
    }
    if (hooks->listening != NULL) {
        hooks->listening(addresses, count, hooks->context);
    }
}

static bool idle(const struct server *server)
{
    return dispatch_in_flight(server->dispatch) == 0 && transport_in_flight(server->transport) == 0 &&
           refreshing_settled(server->refreshing);
}

/* Whoever asks whether to send calls here has time to hear that he should not, before they are refused. */
static void announce(struct server *server)
{
    const uint32_t delay_ms = server->core->settings->server_drain_delay;
    const int64_t until = cof_clock_monotonic(&cof_system_clock) + (int64_t) delay_ms * 1000;
    atomic_store(&server->core->service.leaving, true);
    if (delay_ms > 0) {
        COF_LOG(&server->core->log, COF_LOG_INFO, "leaving", "calls are taken for a while, and readiness has ended",
                cof_log_number("drain_delay_ms", delay_ms));
    }
    while (cof_clock_monotonic(&cof_system_clock) < until) {
        pause_or_leave();
    }
}

/* Peers of WebSockets are told; one that does not read keeps nobody. */
static void part(struct server *server)
{
    const int64_t until = cof_clock_monotonic(&cof_system_clock) + PART_US;
    transport_part(server->transport);
    while (!transport_parted(server->transport) && cof_clock_monotonic(&cof_system_clock) < until) {
        pause_or_leave();
    }
}

/* Calls under way get their time, and their replies get out; after it the server ends all the same. */
static void drain(struct server *server)
{
    announce(server);
    const int64_t until =
        cof_clock_monotonic(&cof_system_clock) + (int64_t) server->core->settings->server_drain_timeout * 1000;
    COF_LOG(&server->core->log, COF_LOG_INFO, "draining", "no new calls are taken",
            cof_log_number("in_flight", dispatch_in_flight(server->dispatch)));
    dispatch_drain(server->dispatch);
    transport_drain(server->transport);
    /* What still waits for its turn would keep the server; another one sends it, when it is due there. */
    outbound_drain(server->outbound);
    outbound_drain(server->aws_outbound);
    while (!idle(server) && cof_clock_monotonic(&cof_system_clock) < until) {
        pause_or_leave();
    }
    atomic_store(&server->core->give_up, true);
    part(server);
    COF_LOG(&server->core->log, COF_LOG_INFO, "stopped", "the server ends",
            cof_log_number("in_flight", dispatch_in_flight(server->dispatch)));
}

static void take_down(struct server *server)
{
    if (server->transport != NULL) {
        drain(server);
    }
    /* Workers first, then the audit log: they answer what they still have, which transport must be there for. */
    dispatch_stop(server->dispatch);
    outbound_stop(server->aws_outbound);
    outbound_stop(server->outbound); /* what is under way ends, and the jobs hear of it */
    hint_stop(server->hint);         /* before those whom it wakes */
    confirm_stop(server->confirm);
    chain_stop(server->chain);
    write_use_stop(server->write_use);
    purge_stop(server->purge);
    offboard_stop(server->offboard);
    rotate_stop(server->rotate);
    oauth_pages_connect(&server->pages, NULL);
    refreshing_stop(server->refreshing);
    audit_stop(server->audit);
    transport_free(server->transport);
    dispatch_free(server->dispatch);
    metrics_free(server->routes.metrics);
    outbound_free(server->aws_outbound);
    roles_free(server->roles);
    asks_free(server->asks);
    outbound_free(server->outbound);
    cof_pool_free(server->outbound_pool);
    flights_free(server->flights);
    cache_free(server->cache);
    key_loader_free(server->key_loader);
    audit_free(server->audit);
    state_close(server->state);
}

static cof_code run(struct server *server, const struct server_hooks *hooks, struct cof_error *err)
{
    if (hooks->prepare != NULL) {
        TRY(hooks->prepare(server->core->settings, hooks->context, err));
    }
    if (!server->core->has_instance) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "the database holds no instance of Coffer yet; run cofferd init once");
    }
    TRY(start_audit(server, err));
    TRY(start_cache(server, err));
    TRY(start_key_loader(server, err));
    TRY(start_flights(server, err));
    TRY(start_metrics(server, err));
    TRY(start_outbound(server, err));
    TRY(start_asks(server, err));
    TRY(start_roles(server, err));
    TRY(start_dispatch(server, err));
    TRY(start_jobs(server, err));
    TRY(start_transport(server, err));
    tell_listening(server, hooks);
    notify_ready(&server->notify);
    wait_for_end(server, hooks);
    return COF_OK;
}

/* Where the public URL is known, providers can send browsers here, and its name is ours. */
static void add_pages(struct server *server)
{
    struct http_route routes[OAUTH_PAGES_ROUTES];
    const char *public_url = server->core->settings->http_public_url;
    if (public_url[0] == '\0') {
        return;
    }
    oauth_pages_routes(&server->pages, routes);
    for (size_t i = 0; i < COF_COUNT(routes); i++) {
        routes_add(&server->routes, &routes[i]);
    }
    server->routes.site.own_host = oauth_pages_host(public_url);
}

cof_code server_run(const struct settings *settings, const struct server_hooks *hooks, struct cof_error *err)
{
    AUTO(server_core_cleanup) struct server_core *core = NULL;
    TRY(server_core_new(settings, &core, err));
    assert(core != NULL);
    struct server server = {.core = core, .reload = {.started = core->settings, .log = &core->log}};
    TRY(oauth_pages_init(&server.pages, core->settings->http_public_url, err));
    routes_init(&server.routes, core->settings, &core->service);
    add_pages(&server);
    notify_init(&server.notify);
    const cof_code code = run(&server, hooks, err);
    take_down(&server);
    routes_done(&server.routes);
    oauth_pages_done(&server.pages);
    reload_done(&server.reload);
    notify_done(&server.notify);
    return code;
}
