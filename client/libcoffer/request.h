#pragma once

#include <coffer/coffer.h>
#include <coffer/v1/resolve.pb-c.h>

#include "common/error.h"
#include "common/slice.h"

/* What coffer_request builds. */

#define RESOLVE_METHOD "coffer.v1.ResolveService/Resolve"

enum {
    REQUEST_ID_MAX = 128,
    REQUEST_RUN_MAX = 256,
    REQUEST_TOKEN_MAX = 4096,
    REQUEST_TRACEPARENT_MAX = 128,
};

/* A reference of a `||`, which may be missing or not be needed at all. */
struct fallback {
    size_t item;
    Coffer__V1__SecretReference *reference;
};

struct coffer_request {
    Coffer__V1__ResolveRequest *message; /* all of it from malloc, as protobuf-c frees it */
    struct fallback *fallbacks;
    size_t fallback_count;
    uint32_t timeout_ms; /* 0: the client's */
    char traceparent[REQUEST_TRACEPARENT_MAX + 1];
    struct cof_error err; /* the first failure */
};

/*
 * Where an item of a serialized request comes from. A reference of a `||` is an item of its own, behind those of the
 * caller: a server answers an item all or nothing.
 */
struct packed_item {
    size_t owner;  /* index of the caller's item */
    bool may_fail; /* what it asks for may be missing */
};

/* A serialized request. */
struct packed_request {
    uint8_t *bytes; /* from malloc */
    size_t len;
    size_t items;
    struct packed_item *origins; /* of the items, from malloc; NULL in a part of another request */
    size_t pairs;                /* items x environments: so many results come back */
    size_t values;               /* references x environments of all items */
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

/* Adds a reference of a `||` to the last item. */
void request_add_fallback(coffer_request *request, const char *secret, const char *key);

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
