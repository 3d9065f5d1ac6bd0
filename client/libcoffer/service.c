#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <protobuf-c/protobuf-c.h>

#include <coffer/rpc.h>

#include "client/libcoffer/client.h"
#include "client/libcoffer/failure.h"
#include "common/wire.h"

struct service {
    ProtobufCService base; /* first: protobuf-c knows the service by its address */
    coffer_client *client;
    coffer_error *error;
    uint32_t timeout_ms;
};

/* One call of a stub: its messages lie in one arena, which is wiped when it goes out of scope. */
struct stub_call {
    const ProtobufCMethodDescriptor *method;
    struct memory *memory;
    struct cof_arena arena;
    struct call *call;
};

static struct service *service_of(ProtobufCService *base)
{
    return (struct service *) (void *) base;
}

static void stub_call_done(struct stub_call *stub)
{
    call_free(stub->call);
    cof_arena_reset(&stub->arena);
    memory_drop(stub->memory);
}

static cof_code begin(const struct service *service, const ProtobufCMessage *input, struct stub_call *stub,
                      struct cof_error *err)
{
    char method[COF_FRAME_METHOD_MAX + 1];
    struct client_call plan = {.method = method, .timeout_ms = service->timeout_ms};
    (void) snprintf(method, sizeof method, "%s/%s", service->base.descriptor->name, stub->method->name);
    TRY(cof_wire_pack(input, &stub->arena, &plan.payload, err));
    return client_call_new_now(service->client, &plan, &stub->call, err);
}

static cof_code unpack(struct stub_call *stub, ProtobufCMessage **ret_output, struct cof_error *err)
{
    const struct cof_slice payload = call_reply(stub->call)->payload;
    const cof_code code = cof_wire_unpack(stub->method->output, payload, &stub->arena, ret_output, err);
    if (code == COF_INVALID_ARGUMENT) {
        return cof_fail(err, COF_REASON_REPLY_INVALID, "the answer is no %s; %s", stub->method->output->name,
                        cof_reason_next_step(COF_REASON_REPLY_INVALID));
    }
    return code;
}

static cof_code perform(const struct service *service, const ProtobufCMessage *input, struct stub_call *stub,
                        ProtobufCMessage **ret_output, struct cof_error *err)
{
    TRY(begin(service, input, stub, err));
    if (call_run(stub->call) != COF_OK) {
        *err = *call_error(stub->call);
        return err->code;
    }
    return unpack(stub, ret_output, err);
}

static void invoke(ProtobufCService *base, unsigned method_index, const ProtobufCMessage *input,
                   ProtobufCClosure closure, void *closure_data)
{
    struct service *service = service_of(base);
    ProtobufCMessage *output = NULL;
    struct cof_error err;
    AUTO(stub_call_done)
    struct stub_call stub = {.method = &base->descriptor->methods[method_index],
                             .memory = memory_hold(service->client->memory)};
    cof_arena_init(&stub.arena, memory_pool(stub.memory), SIZE_MAX);
    cof_error_clear(&err);
    coffer_error_free(service->error);
    service->error = NULL;
    if (perform(service, input, &stub, &output, &err) != COF_OK) {
        service->error = failure_new(&err, stub.call == NULL ? NULL : call_request_id(stub.call));
    }
    closure(output, closure_data);
}

static void destroy(ProtobufCService *base)
{
    struct service *service = service_of(base);
    coffer_error_free(service->error);
    free(service);
}

ProtobufCService *coffer_service_new(coffer_client *client, const ProtobufCServiceDescriptor *descriptor)
{
    struct service *service = client == NULL || descriptor == NULL ? NULL : calloc(1, sizeof *service);
    if (service == NULL) {
        return NULL;
    }
    service->base = (ProtobufCService){.descriptor = descriptor, .invoke = invoke, .destroy = destroy};
    service->client = client;
    return &service->base;
}

void coffer_service_free(ProtobufCService *service)
{
    if (service != NULL) {
        destroy(service);
    }
}

const coffer_error *coffer_service_error(const ProtobufCService *service)
{
    return ((const struct service *) (const void *) service)->error;
}

void coffer_service_set_timeout(ProtobufCService *service, uint32_t milliseconds)
{
    service_of(service)->timeout_ms =
        milliseconds > SETTINGS_TIMEOUT_MAX_MS ? SETTINGS_TIMEOUT_MAX_MS : milliseconds;
}
