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

#define METHOD(service, method, Type, handler, access, permission, kind, record) \
    {.class = METHOD_##kind, .audit = METHOD_AUDIT_##record, .handle = call_##handler},
static struct method methods[] = {
#include "common/method.def"
};
#undef METHOD

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

bool method_is_of(const char *name, const char *service)
{
    const size_t length = strlen(service);
    return strncmp(name, service, length) == 0 && name[length] == '/';
}

static const ProtobufCMethodDescriptor *descriptor_of(const char *name)
{
    for (size_t i = 0; i < COF_COUNT(services); i++) {
        if (method_is_of(name, services[i]->name)) {
            return protobuf_c_service_descriptor_get_method_by_name(services[i],
                                                                    name + strlen(services[i]->name) + 1);
        }
    }
    return NULL;
}

static void fill_table(void)
{
    for (size_t i = 0; i < COF_COUNT(methods); i++) {
        const struct cof_method *row = cof_method_at(i);
        const ProtobufCMethodDescriptor *descriptor = descriptor_of(row->name);
        if (descriptor == NULL) {
            fprintf(stderr, "the method table names %s, which no proto file has\n", row->name);
            abort();
        }
        methods[i].name = row->name;
        methods[i].access = row->access;
        methods[i].permission = row->permission;
        methods[i].request = descriptor->input;
        methods[i].response = descriptor->output;
        if (methods[i].handle == call_resolve) {
            methods[i].prefetch = prefetch_resolve;
            methods[i].from_memory = true;
        }
    }
}

void method_table_start(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void) pthread_once(&once, fill_table);
}

const struct method *method_find(struct cof_slice name)
{
    size_t index = 0;
    return cof_method_find(name, &index) ? &methods[index] : NULL;
}

bool method_takes_narrowed(const struct method *method)
{
    return method_is_of(method->name, "coffer.v1.ResolveService");
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
