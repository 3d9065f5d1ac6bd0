#include "server/dispatch/method.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <coffer/rpc/v1/reflection.pb-c.h>
#include <coffer/rpc/v1/server.pb-c.h>
#include <coffer/v1/aws.pb-c.h>
#include <coffer/v1/connection.pb-c.h>
#include <coffer/v1/environment.pb-c.h>
#include <coffer/v1/identity.pb-c.h>
#include <coffer/v1/integration.pb-c.h>
#include <coffer/v1/provider.pb-c.h>
#include <coffer/v1/resolve.pb-c.h>
#include <coffer/v1/secret.pb-c.h>
#include <coffer/v1/workspace.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>

#include "server/dispatch/server_methods.h"
#include "server/service/accounts.h"
#include "server/service/authorizations.h"
#include "server/service/aws_roles.h"
#include "server/service/connections.h"
#include "server/service/device_authorization.h"
#include "server/service/environments.h"
#include "server/service/integrations.h"
#include "server/service/providers.h"
#include "server/service/resolve.h"
#include "server/service/secrets.h"
#include "server/service/tokens.h"
#include "server/service/workspaces.h"

/* Handlers take their own types; the table holds one type for all. A message's first member is its base. */
#define METHOD(service, method, Type, handler, access, permission, class, audit)                                   \
    static cof_code call_##handler(struct call *call, const ProtobufCMessage *request, ProtobufCMessage *response) \
    {                                                                                                              \
        return handler(call, (const Type##Request *) (const void *) request,                                       \
                       (Type##Response *) (void *) response);                                                      \
    }
#include "common/method.def"
#undef METHOD

#define METHOD(service, method, Type, handler, access, permission, class, audit) \
    {service,        method,         METHOD_##access,                            \
     permission,     METHOD_##class, METHOD_AUDIT_##audit,                       \
     call_##handler, NULL,           "",                                         \
     NULL,           NULL,           false},
static struct method methods[] = {
#include "common/method.def"
};
#undef METHOD

/* Open addressing over the names; a power of two, at least twice the number of methods. */
enum { INDEX_SIZE = 256 };
static const struct method *name_index[INDEX_SIZE];

_Static_assert(COF_COUNT(methods) * 2 <= INDEX_SIZE, "INDEX_SIZE is too small");

static const ProtobufCServiceDescriptor *const services[] = {
    &grpc__health__v1__health__descriptor,
    &coffer__rpc__v1__server_service__descriptor,
    &coffer__rpc__v1__reflection_service__descriptor,
    &coffer__v1__workspace_service__descriptor,
    &coffer__v1__connection_service__descriptor,
    &coffer__v1__environment_service__descriptor,
    &coffer__v1__secret_service__descriptor,
    &coffer__v1__resolve_service__descriptor,
    &coffer__v1__integration_service__descriptor,
    &coffer__v1__aws_service__descriptor,
    &coffer__v1__provider_service__descriptor,
    &coffer__v1__service_account_service__descriptor,
    &coffer__v1__token_service__descriptor,
};

static cof_code prefetch_resolve(struct call *call, const ProtobufCMessage *request,
                                 const struct cof_uuid *workspace)
{
    return resolve_prefetch(call, (const Coffer__V1__ResolveRequest *) (const void *) request, workspace);
}

static uint32_t hash_of(struct cof_slice name)
{
    uint32_t hash = 2166136261U; /* FNV-1a: the names are ours, not a peer's */
    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ name.data[i]) * 16777619U;
    }
    return hash;
}

static const ProtobufCMethodDescriptor *descriptor_of(const struct method *method)
{
    for (size_t i = 0; i < COF_COUNT(services); i++) {
        if (strcmp(services[i]->name, method->service) == 0) {
            return protobuf_c_service_descriptor_get_method_by_name(services[i], method->method);
        }
    }
    return NULL;
}

static void index_method(struct method *method)
{
    uint32_t at = hash_of(cof_slice_text(method->name)) % INDEX_SIZE;
    while (name_index[at] != NULL) {
        at = (at + 1) % INDEX_SIZE;
    }
    name_index[at] = method;
}

static void fill_table(void)
{
    for (size_t i = 0; i < COF_COUNT(methods); i++) {
        const ProtobufCMethodDescriptor *descriptor = descriptor_of(&methods[i]);
        if (descriptor == NULL) {
            fprintf(stderr, "the method table names %s/%s, which no proto file has\n", methods[i].service,
                    methods[i].method);
            abort();
        }
        (void) snprintf(methods[i].name, sizeof methods[i].name, "%s/%s", methods[i].service, methods[i].method);
        methods[i].request = descriptor->input;
        methods[i].response = descriptor->output;
        if (methods[i].handle == call_resolve) {
            methods[i].prefetch = prefetch_resolve;
            methods[i].from_memory = true;
        }
        index_method(&methods[i]);
    }
}

void method_table_start(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void) pthread_once(&once, fill_table);
}

const struct method *method_find(struct cof_slice name)
{
    uint32_t at = hash_of(name) % INDEX_SIZE;
    while (name_index[at] != NULL) {
        if (cof_slice_equal(cof_slice_text(name_index[at]->name), name)) {
            return name_index[at];
        }
        at = (at + 1) % INDEX_SIZE;
    }
    return NULL;
}

bool method_takes_narrowed(const struct method *method)
{
    return strcmp(method->service, "coffer.v1.ResolveService") == 0;
}

size_t method_count(void)
{
    return COF_COUNT(methods);
}

const struct method *method_at(size_t index)
{
    return &methods[index];
}

size_t method_index(const struct method *method)
{
    return (size_t) (method - methods);
}
