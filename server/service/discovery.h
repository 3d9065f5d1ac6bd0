#pragma once

#include "server/providers/metadata.h"
#include "server/service/call.h"

/*
 * Discovery over HTTP (docs/decisions/0025-authorization.md, 0028-discovery.md): asks an issuer or a protected resource for
 * its metadata. Where it is asked for, and what of the answers is believed, is server/providers/metadata.h's.
 */

typedef enum discovery_kind {
    DISCOVERY_EITHER, /* a resource if it tells of itself as one, else an issuer */
    DISCOVERY_ISSUER,
    DISCOVERY_RESOURCE,
} discovery_kind;

struct discovery_wish {
    const struct cof_uuid *workspace;
    discovery_kind kind;
    const char *url;
    const char *issuer; /* which of a resource's servers; empty: the first */
};

struct discovered {
    struct metadata_server server;
    const char *server_url; /* where it was found */
    bool is_resource;
    struct metadata_resource resource;
    const char *resource_url;
};

/*
 * What was found, in the call's memory. Fails as asks_ask does until all answers are there; then with DISCOVERY_FAILED if
 * nothing can be believed, ADDRESS_REFUSED or PROVIDER_UNAVAILABLE if nothing came, FIELD_INVALID of `url` or `issuer`.
 */
COF_CODE discovery_run(struct call *call, const struct discovery_wish *wish, struct discovered *ret_discovered);
