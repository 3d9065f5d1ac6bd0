#pragma once

#include <coffer/v1/provider.pb-c.h>

#include "server/providers/provider.h"
#include "server/service/call.h"

/* coffer.v1.ProviderService (docs/decisions/0024-providers.md), and what others need of providers. */

struct provider_found {
    struct provider provider; /* its texts are the catalogue's or in the call's arena */
    uint64_t generation;      /* of its configuration; 0: a built-in one */
};

/*
 * The provider of a workspace: its own, or the built-in one. PROVIDER_NOT_FOUND, or CORRUPTED. The workspace's keys must be
 * loaded, and no pipeline may be open.
 */
COF_CODE provider_get(struct call *call, const struct cof_uuid *workspace, const char *id,
                      struct provider_found *ret_found);

/* The same for whoever has read the row himself, in a pipeline with others (STATEMENT_PROVIDER_GET or _LOCK), or from some
 * column on beside others; it is not there if there is no such row, or nothing in it. */
struct provider_stored {
    const struct rows *rows;
    size_t index;
    size_t column;
};
COF_CODE provider_take(struct call *call, const struct cof_uuid *workspace, const struct provider_stored *stored,
                       const char *id, struct provider_found *ret_found);

COF_CODE provider_create(struct call *call, const Coffer__V1__CreateProviderRequest *request,
                         Coffer__V1__CreateProviderResponse *response);
COF_CODE provider_show(struct call *call, const Coffer__V1__GetProviderRequest *request,
                       Coffer__V1__GetProviderResponse *response);
COF_CODE provider_list(struct call *call, const Coffer__V1__ListProvidersRequest *request,
                       Coffer__V1__ListProvidersResponse *response);
COF_CODE provider_update(struct call *call, const Coffer__V1__UpdateProviderRequest *request,
                         Coffer__V1__UpdateProviderResponse *response);
COF_CODE provider_delete(struct call *call, const Coffer__V1__DeleteProviderRequest *request,
                         Coffer__V1__DeleteProviderResponse *response);
COF_CODE provider_discover(struct call *call, const Coffer__V1__DiscoverProviderRequest *request,
                           Coffer__V1__DiscoverProviderResponse *response);
