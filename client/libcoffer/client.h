#pragma once

#include <pthread.h>

#include <coffer/rpc.h>

#include "client/libcoffer/batch.h"
#include "client/libcoffer/call.h"
#include "client/libcoffer/credential.h"
#include "client/libcoffer/memory.h"
#include "client/libcoffer/settings.h"

/* A client: what the public functions of client.c, resolve.c, rpc.c and service.c share. */

struct coffer_client {
    struct settings settings;
    struct memory *memory;
    struct cof_tls *tls; /* NULL: no address has it */
    struct channel *channel;
    struct batches *batches; /* NULL: resolves travel by themselves */
    pthread_mutex_t lock;    /* of `credential` */
    struct credential *credential;
    char user_agent[160];
};

/* What all calls have in common. */
struct client_call {
    const char *method;
    struct cof_slice payload;
    uint32_t timeout_ms;                 /* 0: the client's */
    const char *traceparent;             /* NULL or empty: none */
    const struct cof_uuid *request_id;   /* NULL: a new one */
    const struct cof_metadata *metadata; /* NULL: none besides the library's own */
    struct credential *credential;       /* NULL: none */
    uint32_t patience_ms;                /* as in struct call_request */
    uint32_t delay_ms;                   /* the same */
};

/* The token of now, to be dropped; NULL if there is none. */
struct credential *client_credential(coffer_client *client);

/* A call with the client's metadata. Fails as call_new does. */
COF_CODE client_call_new(coffer_client *client, const struct client_call *call, struct call **ret_call,
                         struct cof_error *err);

/* The same with the token of now. */
COF_CODE client_call_new_now(coffer_client *client, const struct client_call *call, struct call **ret_call,
                             struct cof_error *err);

/* The failure of a public function that got NULL for something that it needs. */
coffer_status client_missing(const char *what, coffer_error **ret_error);
