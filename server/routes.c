#include "server/routes.h"

#include <stdatomic.h>

#include "server/audit/audit.h"

enum { UNAVAILABLE = 503 };

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
    const bool serving = !atomic_load(&service->draining);
    const bool ready = database && audit && serving;
    (void) request;
    response->status = ready ? response->status : UNAVAILABLE;
    response->type = "application/json";
    http_text_format(&response->body,
                     "{\"ready\":%s,\"checks\":{\"database\":\"%s\",\"audit\":\"%s\",\"serving\":\"%s\"}}\n",
                     ready ? "true" : "false", state_of(database), state_of(audit), state_of(serving));
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
}

void routes_done(struct routes *routes)
{
    (void) pthread_rwlock_destroy(&routes->lock);
}
