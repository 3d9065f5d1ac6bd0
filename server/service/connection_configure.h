#pragma once

#include <coffer/v1/connection.pb-c.h>

#include "server/service/write.h"

/* The configuration of a connection with a client that the provider has just registered. */

struct connection_registered {
    uint64_t provider_generation; /* of the provider that was asked */
    int64_t secret_expire_us;     /* since 1970; 0: never, or not known */
    const char *access_token;     /* for the client's management; empty: none */
    const char *client_uri;
    /* In the place of the configuration's answer, which `configured` is told of before it is packed. */
    const ProtobufCMessage *answer;
    void (*configured)(void *context, const Coffer__V1__ConfigureConnectionResponse *response);
    void *context;
    bool intended; /* see write_intend */
};

/* connection_configure, as if the request had come with that client. CONFLICT if the provider has changed since. */
COF_CODE connection_configure_registered(struct call *call, const Coffer__V1__ConfigureConnectionRequest *request,
                                         Coffer__V1__ConfigureConnectionResponse *response,
                                         const struct connection_registered *registered);
