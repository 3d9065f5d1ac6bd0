#pragma once

#include <coffer/coffer.h>
#include <coffer/v1/resolve.pb-c.h>

#include "common/error.h"

/* What coffer_request builds. */

enum {
    REQUEST_ID_MAX = 128,
    REQUEST_RUN_MAX = 256,
    REQUEST_TOKEN_MAX = 4096,
    REQUEST_TRACEPARENT_MAX = 128,
};

struct coffer_request {
    Coffer__V1__ResolveRequest *message; /* all of it from malloc, as protobuf-c frees it */
    uint32_t timeout_ms;                 /* 0: the client's */
    char traceparent[REQUEST_TRACEPARENT_MAX + 1];
    struct cof_error err; /* the first failure */
};

/* A serialized request. */
struct packed_request {
    uint8_t *bytes; /* from malloc */
    size_t len;
    size_t pairs; /* items x environments */
    bool validate_only;
};

/*
 * Serializes the request, with the client's workspace and environment (empty: none) for items that name none. Fails
 * with the request's own failure, FIELD_REQUIRED for an item without references, or OUT_OF_MEMORY.
 */
COF_CODE request_pack(const coffer_request *request, char *workspace, char *environment,
                      struct packed_request *ret_packed, struct cof_error *err);

/* The same request for the marked pairs only; there must be one. */
COF_CODE request_pack_part(const struct packed_request *whole, const bool *marked,
                           struct packed_request *ret_packed, struct cof_error *err);

void packed_request_done(struct packed_request *packed);
