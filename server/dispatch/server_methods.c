#include "server/dispatch/server_methods.h"

#include <stdatomic.h>

#include "common/frame.h"
#include "proto/descriptors.h"
#include "server/audit/audit.h"
#include "server/dispatch/method.h"
#include "server/service/text.h"

static bool service_exists(const char *name)
{
    for (size_t i = 0; i < method_count(); i++) {
        if (method_is_of(method_at(i)->name, name)) {
            return true;
        }
    }
    return false;
}

static bool ready(const struct service *service)
{
    return !atomic_load(&service->leaving) && atomic_load(&service->database_up) && audit_writable(service->audit);
}

cof_code server_check_health(struct call *call, const Grpc__Health__V1__HealthCheckRequest *request,
                             Grpc__Health__V1__HealthCheckResponse *response)
{
    const char *name = request->service;
    response->status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    if (name[0] == '\0' || strcmp(name, "liveness") == 0) {
        return COF_OK;
    }
    if (strcmp(name, "readiness") != 0 && !service_exists(name)) {
        return cof_fail_field(call->err, COF_REASON_SERVICE_UNKNOWN, "service", "%s; %s",
                              cof_reason_meaning(COF_REASON_SERVICE_UNKNOWN),
                              cof_reason_next_step(COF_REASON_SERVICE_UNKNOWN));
    }
    if (!ready(call->service)) {
        response->status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    }
    return COF_OK;
}

static cof_code fill_limits(struct call *call, Coffer__Rpc__V1__GetServerInfoResponse *response)
{
    const struct service_limits *limits = &call->service->limits;
    Coffer__Rpc__V1__ServerLimits *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__rpc__v1__server_limits__init(message);
    message->max_request_bytes = limits->request_bytes;
    message->max_response_bytes = limits->response_bytes;
    message->max_references_per_item = limits->references_per_item;
    message->max_environments_per_item = limits->environments_per_item;
    message->max_pairs_per_resolve = limits->pairs_per_resolve;
    message->max_items_per_resolve = limits->items_per_resolve;
    message->max_timeout_ms = limits->max_timeout_ms;
    message->default_timeout_ms = limits->default_timeout_ms;
    message->max_in_flight_per_peer = limits->in_flight_per_peer;
    message->max_in_flight_per_token = limits->in_flight_per_token;
    message->max_value_bytes = limits->value_bytes;
    message->max_secret_bytes = limits->secret_bytes;
    message->max_keys_per_secret = limits->keys_per_secret;
    message->max_page_size = limits->page_size_max;
    message->max_waiting_per_workspace = limits->waiting_per_workspace;
    message->max_secrets_per_import = limits->secrets_per_import;
    message->max_actions_per_workspace = limits->actions_per_workspace;
    message->max_providers_per_workspace = limits->providers_per_workspace;
    message->max_authorizations_per_workspace = limits->authorizations_per_workspace;
    message->max_watches = limits->watches;
    message->max_watches_per_workspace = limits->watches_per_workspace;
    response->limits = message;
    return COF_OK;
}

cof_code server_get_info(struct call *call, const Coffer__Rpc__V1__GetServerInfoRequest *request,
                         Coffer__Rpc__V1__GetServerInfoResponse *response)
{
    (void) request;
    response->version = cof_arena_text(call->arena, cof_slice_text(COFFER_VERSION));
    response->min_revision = COF_FRAME_REVISION;
    response->max_revision = COF_FRAME_REVISION;
    response->server_time = time_of(call->arena, call_now(call));
    if (response->version == NULL || response->server_time == NULL) {
        return cof_arena_exhausted(call->err);
    }
    return fill_limits(call, response);
}

/* The answer is packed from where the descriptors lie; nothing writes through the pointer. */
cof_code server_get_descriptors(struct call *call, const Coffer__Rpc__V1__GetFileDescriptorSetRequest *request,
                                Coffer__Rpc__V1__GetFileDescriptorSetResponse *response)
{
    (void) call;
    (void) request;
    response->file_descriptor_set.data = (uint8_t *) (uintptr_t) proto_descriptors;
    response->file_descriptor_set.len = proto_descriptors_size;
    return COF_OK;
}
