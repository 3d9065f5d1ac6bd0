#include "server/routes.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "common/frame.h"
#include "server/audit/audit.h"
#include "server/aws/roles.h"
#include "server/cache/cache.h"
#include "server/crypto/keyring.h"
#include "server/store/migrate.h"
#include "server/store/session.h"
#include "server/store/sqlstate.h"

enum {
    UNAVAILABLE = 503,
    US_PER_S = 1000000,
    METRICS_LOOPBACK = 0, /* of http.metrics */
    METRICS_NONE = 2,
};

/* --- Probes --------------------------------------------------------------------------------------------------- */

static void answer_live(const struct http_request *request, struct http_response *response, void *context)
{
    (void) request;
    (void) context;
    http_text_add(&response->body, cof_slice_text("ok\n"));
}

static const char *state_of(bool good)
{
    return good ? "ok" : "failed";
}

/* A server whose keys do not open its database does not start, so that is nothing that could be asked here. */
static void answer_ready(const struct http_request *request, struct http_response *response, void *context)
{
    const struct routes *routes = context;
    const struct service *service = routes->service;
    const bool database = atomic_load(&service->database_up);
    const bool audit = audit_writable(service->audit);
    const bool serving = !atomic_load(&service->leaving);
    const bool ready = database && audit && serving;
    (void) request;
    response->status = ready ? response->status : UNAVAILABLE;
    response->type = "application/json";
    http_text_format(&response->body,
                     "{\"ready\":%s,\"checks\":{\"database\":\"%s\",\"audit\":\"%s\",\"serving\":\"%s\"}}\n",
                     ready ? "true" : "false", state_of(database), state_of(audit), state_of(serving));
}

/* --- Metrics -------------------------------------------------------------------------------------------------- */

static void write_build(struct http_text *to)
{
    metrics_write_head(to, "coffer_build_info", "gauge", "1, with what this server is.");
    http_text_format(to, "coffer_build_info{version=\"%s\",rpc_revision=\"%d\"} 1\n", COFFER_VERSION,
                     COF_FRAME_REVISION);
}

static void write_state(const struct routes *routes, struct http_text *to)
{
    const struct service *service = routes->service;
    const bool up = atomic_load(&service->database_up);
    const bool draining = atomic_load(&service->draining);
    const bool leaving = atomic_load(&service->leaving);
    const bool writable = audit_writable(service->audit);
    metrics_write_value(to, "coffer_ready", "gauge", "1 if calls can be served.", up && !leaving && writable);
    metrics_write_value(to, "coffer_draining", "gauge", "1 if no new calls are taken.", draining);
    metrics_write_value(to, "coffer_db_up", "gauge", "1 if the database answered the last time.", up);
    metrics_write_value(to, "coffer_db_connects_total", "counter", "Connections made to the database.",
                        atomic_load(routes->connects));
    metrics_write_value(to, "coffer_schema_version", "gauge",
                        "The schema that this server is made for, and had found when it started.",
                        schema_embedded.files[schema_embedded.count - 1].number);
}

static void write_load(const struct routes *routes, struct http_text *to)
{
    const struct dispatch_load load = dispatch_load_now(routes->dispatch);
    metrics_write_value(to, "coffer_rpc_in_flight", "gauge", "Calls that are not answered yet.", load.in_flight);
    metrics_write_value(to, "coffer_rpc_queued", "gauge", "Calls that wait for a worker.", load.queued);
    metrics_write_value(to, "coffer_rpc_contexts", "gauge", "Calls that can be worked on or queued at once.",
                        load.tickets);
    metrics_write_value(to, "coffer_rpc_workers", "gauge", "Workers, each with a connection to the database.",
                        load.workers);
    metrics_write_value(to, "coffer_rpc_waiting", "gauge", "Calls that wait for a revision.", load.parked);
    metrics_write_value(to, "coffer_rpc_watches", "gauge", "Watches that wait for a change.", load.watches);
    metrics_write_value(to, "coffer_rpc_waiting_outside", "gauge", "Calls that wait for a provider or a role.",
                        load.outside);
}

static void write_outbound(const struct routes *routes, struct http_text *to)
{
    const struct outbound_load load = outbound_load_now(routes->outbound);
    metrics_write_value(to, "coffer_outbound_in_flight", "gauge", "Requests to the outside that are under way.",
                        load.under_way);
    metrics_write_value(to, "coffer_outbound_queued", "gauge", "Requests to the outside that wait for their turn.",
                        load.queued);
    metrics_write_value(to, "coffer_outbound_open_breakers", "gauge",
                        "Providers that have failed so often that nothing is sent to them.", load.open_breakers);
    metrics_write_head(to, "coffer_outbound_requests_total", "counter",
                       "Requests to the outside, by how they ended.");
    for (int end = 0; end <= OUTBOUND_STOPPED; end++) {
        http_text_format(to, "coffer_outbound_requests_total{end=\"%s\"} %" PRIu64 "\n",
                         outbound_end_name((outbound_end) end), load.ended[end]);
    }
}

static void write_refreshes(const struct routes *routes, struct http_text *to)
{
    uint64_t counts[REFRESHING_OUTCOMES];
    if (routes->refreshing == NULL) {
        return;
    }
    refreshing_counts(routes->refreshing, counts);
    metrics_write_head(to, "coffer_oauth_refresh_total", "counter",
                       "Refreshes of tokens of OAuth connections, by how they ended.");
    for (size_t i = 0; i < REFRESHING_OUTCOMES; i++) {
        http_text_format(to, "coffer_oauth_refresh_total{outcome=\"%s\"} %" PRIu64 "\n",
                         refreshing_outcome_name((refresh_outcome) i), counts[i]);
    }
}

static void write_roles(const struct routes *routes, struct http_text *to)
{
    uint64_t counts[STS_VERDICTS];
    if (!roles_are_assumed(routes->service->roles)) {
        return;
    }
    roles_counts(routes->service->roles, counts);
    metrics_write_head(to, "coffer_aws_assume_role_total", "counter", "What AWS STS said to roles to be assumed.");
    for (size_t i = 0; i < STS_VERDICTS; i++) {
        http_text_format(to, "coffer_aws_assume_role_total{verdict=\"%s\"} %" PRIu64 "\n",
                         sts_verdict_name((sts_verdict) i), counts[i]);
    }
}

static void write_connections(const struct routes *routes, struct http_text *to)
{
    struct transport_count counts[TRANSPORT_COUNTS];
    const struct transport *transport = atomic_load(&routes->transport);
    if (transport == NULL) {
        return;
    }
    transport_counts(transport, counts);
    metrics_write_head(to, "coffer_pipes", "gauge", "Connections that are open.");
    for (size_t i = 0; i < TRANSPORT_COUNTS; i++) {
        http_text_format(to, "coffer_pipes{transport=\"%s\"} %" PRIu64 "\n", counts[i].transport, counts[i].open);
    }
    metrics_write_head(to, "coffer_pipes_opened_total", "counter", "Connections that were opened.");
    for (size_t i = 0; i < TRANSPORT_COUNTS; i++) {
        http_text_format(to, "coffer_pipes_opened_total{transport=\"%s\"} %" PRIu64 "\n", counts[i].transport,
                         counts[i].opened);
    }
    metrics_write_head(to, "coffer_rpc_reply_timeouts_total", "counter",
                       "Connections that were closed, for the peer took no byte of a reply for too long.");
    for (size_t i = 0; i < TRANSPORT_COUNTS; i++) {
        http_text_format(to, "coffer_rpc_reply_timeouts_total{transport=\"%s\"} %" PRIu64 "\n", counts[i].transport,
                         counts[i].timed_out);
    }
}

static void write_cache(const struct routes *routes, struct http_text *to)
{
    if (routes->service->cache == NULL) {
        return;
    }
    const struct cache_use use = cache_use_now(routes->service->cache);
    metrics_write_value(to, "coffer_cache_entries", "gauge", "Entries in the cache.", (double) use.entries);
    metrics_write_value(to, "coffer_cache_bytes", "gauge", "Memory that they take.", (double) use.bytes);
    metrics_write_value(to, "coffer_cache_hits_total", "counter", "Look-ups that found what they wanted.",
                        (double) use.hits);
    metrics_write_value(to, "coffer_cache_misses_total", "counter", "Look-ups that did not.", (double) use.misses);
    metrics_write_value(to, "coffer_cache_evictions_total", "counter", "Entries that gave way to others.",
                        (double) use.evictions);
}

static void write_queries(const struct routes *routes, struct http_text *to)
{
    char label[128];
    const struct session_counts *counts = routes->queries;
    metrics_write_head(to, "coffer_db_query_duration_seconds", "histogram",
                       "Time from sending statements to the result of one.");
    for (size_t i = 0; i < SESSION_STATEMENTS; i++) {
        struct cof_histogram_sum sum = {.count = 0};
        cof_histogram_add(&sum, &counts->durations[i]);
        if (sum.count > 0) {
            (void) snprintf(label, sizeof label, "query=\"%s\",", session_statement_name(i));
            metrics_write_histogram(to, "coffer_db_query_duration_seconds", label, &sum);
        }
    }
    metrics_write_head(to, "coffer_db_errors_total", "counter", "Statements that the database refused.");
    for (size_t i = 0; i < SESSION_ERRORS; i++) {
        const uint64_t count = atomic_load(&counts->errors[i]);
        if (count > 0) {
            http_text_format(to, "coffer_db_errors_total{sqlstate_class=\"%s\"} %" PRIu64 "\n",
                             sqlstate_class_name(i), count);
        }
    }
}

static const char *const uses[KEYRING_USES] = {"seal", "open"};

static void write_use_counts(const struct routes *routes, const char *name, bool failed, struct http_text *to)
{
    struct keyring_count count;
    for (size_t i = 0; i < KEYRING_USES; i++) {
        keyring_counts(routes->service->keyring, (keyring_use) i, &count);
        http_text_format(to, "%s{op=\"%s\"} %" PRIu64 "\n", name, uses[i], failed ? count.failed : count.done);
    }
}

static void write_crypto(const struct routes *routes, struct http_text *to)
{
    char label[32];
    metrics_write_head(to, "coffer_crypto_operations_total", "counter", "Blobs that were sealed and opened.");
    write_use_counts(routes, "coffer_crypto_operations_total", false, to);
    metrics_write_head(to, "coffer_crypto_failures_total", "counter",
                       "Blobs that could not be: damaged, or without a key.");
    write_use_counts(routes, "coffer_crypto_failures_total", true, to);
    metrics_write_head(to, "coffer_crypto_duration_seconds", "histogram", "Time for one of every 64 of them.");
    for (size_t i = 0; i < KEYRING_USES; i++) {
        struct keyring_count count;
        keyring_counts(routes->service->keyring, (keyring_use) i, &count);
        (void) snprintf(label, sizeof label, "op=\"%s\",", uses[i]);
        metrics_write_histogram(to, "coffer_crypto_duration_seconds", label, &count.timed);
    }
}

static void write_audit(const struct routes *routes, struct http_text *to)
{
    const struct audit_progress progress = audit_progress_now(routes->service->audit);
    metrics_write_value(to, "coffer_audit_records_total", "counter", "Records written to the server's audit log.",
                        (double) progress.written);
    metrics_write_value(to, "coffer_audit_queue", "gauge", "Records that are not known to be on the disk.",
                        (double) progress.behind);
    metrics_write_value(to, "coffer_audit_lag_seconds", "gauge", "Time since all of them were, at most.",
                        (double) progress.behind_us / US_PER_S);
    metrics_write_value(to, "coffer_audit_writable", "gauge", "1 if the audit log can be written.",
                        audit_writable(routes->service->audit));
}

static void answer_metrics(const struct http_request *request, struct http_response *response, void *context)
{
    struct routes *routes = context;
    (void) request;
    response->type = "text/plain; version=0.0.4; charset=utf-8";
    write_build(&response->body);
    write_state(routes, &response->body);
    write_load(routes, &response->body);
    write_outbound(routes, &response->body);
    write_refreshes(routes, &response->body);
    write_roles(routes, &response->body);
    write_connections(routes, &response->body);
    metrics_write(routes->metrics, &response->body);
    write_cache(routes, &response->body);
    write_queries(routes, &response->body);
    write_crypto(routes, &response->body);
    write_audit(routes, &response->body);
    metrics_write_process(&response->body);
}

/* --- All of them ---------------------------------------------------------------------------------------------- */

static void add(struct routes *routes, struct http_route route)
{
    routes->table[routes->site.route_count++] = route;
}

void routes_init(struct routes *routes, const struct settings *settings, const struct service *service)
{
    *routes = (struct routes){
        .service = service,
        .site = {.routes = routes->table,
                 .context = routes,
                 .hosts = &settings->http_hosts,
                 .origins = &settings->http_origins,
                 .lock = &routes->lock},
    };
    (void) pthread_rwlock_init(&routes->lock, NULL);
    add(routes,
        (struct http_route){
            .path = "/livez", .methods = HTTP_GET, .kind = "whether the process serves", .answer = answer_live});
    add(routes, (struct http_route){.path = "/readyz",
                                    .methods = HTTP_GET,
                                    .kind = "whether calls can be served now, in JSON",
                                    .answer = answer_ready});
    if (settings->http_metrics != METRICS_NONE) {
        add(routes, (struct http_route){.path = "/metrics",
                                        .methods = HTTP_GET,
                                        .only_loopback = settings->http_metrics == METRICS_LOOPBACK,
                                        .kind = "metrics, in Prometheus' text format",
                                        .answer = answer_metrics});
    }
}

void routes_add(struct routes *routes, const struct http_route *route)
{
    assert(routes->site.route_count < ROUTES_MOST);
    add(routes, *route);
}

void routes_done(struct routes *routes)
{
    (void) pthread_rwlock_destroy(&routes->lock);
}
