#pragma once

#include <coffer/coffer.h>
#include <coffer/v1/resolve.pb-c.h>

#include "client/libcoffer/asked.h"
#include "common/error.h"
#include "common/slice.h"

/* What coffer_request builds (request.c), and how it becomes bytes (request_pack.c). */

#define RESOLVE_METHOD "coffer.v1.ResolveService/Resolve"

enum {
    REQUEST_ID_MAX = 128,
    REQUEST_RUN_MAX = 256,
    REQUEST_TOKEN_MAX = 4096,
    REQUEST_TRACEPARENT_MAX = 128,
};

struct coffer_request {
    Coffer__V1__ResolveRequest *message; /* all of it from malloc, as protobuf-c frees it */
    coffer_pending pending;
    uint32_t timeout_ms; /* 0: the client's */
    char traceparent[REQUEST_TRACEPARENT_MAX + 1];
    struct cof_error err; /* the first failure */
};

/* A serialized request. */
struct packed_request {
    uint8_t *bytes; /* from malloc */
    size_t len;
    size_t items;
    size_t pairs;        /* items x environments: so many results come back */
    size_t values;       /* entries of the lists x environments of all items */
    struct asked *asked; /* what its items ask for; NULL: for references only, or it is a part of another request */
    coffer_pending pending;
    bool validate_only;
};

/* A request like the other one. Fails with the other one's failure, or OUT_OF_MEMORY. */
COF_CODE request_copy(const coffer_request *request, coffer_request **ret_copy, struct cof_error *err);

/*
 * Serializes the request, with the client's workspace and environment (empty: none) for items that name none. Fails
 * with the request's own failure, FIELD_REQUIRED for an item that asks for nothing, or OUT_OF_MEMORY.
 */
COF_CODE request_pack(const coffer_request *request, char *workspace, char *environment,
                      struct packed_request *ret_packed, struct cof_error *err);

/* The same request for the marked pairs only; there must be one. */
COF_CODE request_pack_part(const struct packed_request *whole, const bool *marked,
                           struct packed_request *ret_packed, struct cof_error *err);

void packed_request_done(struct packed_request *packed);

/* Whether the last item asks for it already. */
bool request_asks_for_reference(const coffer_request *request, const char *name, const char *key);
bool request_asks_for_expression(const coffer_request *request, const char *expression);

/* The failure of everything that builds a request. */
COF_CODE request_without_memory(struct cof_error *err);

/* One item in one environment, as the result to it must name them. */
struct request_pair {
    uint32_t item;
    struct cof_slice id;
    struct cof_slice environment;
};

/* Goes through the pairs of a request in their order. Borrows from the request. */
struct pair_walk {
    struct cof_slice items;
    struct cof_slice fields; /* of the item, what is left */
    struct request_pair pair;
    uint32_t items_begun;
    bool answered; /* the item has named an environment */
};

void pair_walk_init(struct pair_walk *walk, const struct packed_request *request);
/* False behind the last pair. */
bool pair_walk_next(struct pair_walk *walk, struct request_pair *ret_pair);
