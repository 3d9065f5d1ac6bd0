#pragma once

#include <coffer/rpc/v1/reflection.pb-c.h>
#include <coffer/rpc/v1/server.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>

#include "server/service/call.h"

/* Methods about the server itself, answered from memory. */

COF_CODE server_check_health(struct call *call, const Grpc__Health__V1__HealthCheckRequest *request,
                             Grpc__Health__V1__HealthCheckResponse *response);
COF_CODE server_get_info(struct call *call, const Coffer__Rpc__V1__GetServerInfoRequest *request,
                         Coffer__Rpc__V1__GetServerInfoResponse *response);
COF_CODE server_get_descriptors(struct call *call, const Coffer__Rpc__V1__GetFileDescriptorSetRequest *request,
                                Coffer__Rpc__V1__GetFileDescriptorSetResponse *response);
