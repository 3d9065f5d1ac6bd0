#pragma once

#include "server/providers/provider.h"
#include "server/service/write.h"

/* What the writes of ProviderService have in common. */

/* Any ID could be looked for, but none of another form can be there: FIELD_REQUIRED or FIELD_INVALID of `id`. */
COF_CODE provider_check_id(struct call *call, const char *id);

/* Queues a statement whose parameters are the workspace and the ID: PROVIDER_GET, _LOCK, _CONNECTIONS. */
COF_CODE provider_queue(struct call *call, const struct cof_uuid *workspace, const char *id, statement number);

/* The ID that the name gives, which none of `ids` (PROVIDER_IDS) is. */
COF_CODE provider_new_id(struct call *call, const struct rows *ids, const char *name, const char **ret_id);

/* A sealed row of a provider that was checked and is none of `ids` yet. LIMIT_EXCEEDED of `name` if there are too many. */
COF_CODE provider_new_row(struct call *call, const struct cof_uuid *workspace, const struct rows *ids,
                          const struct provider *provider, struct provider_row *ret_row);

/* The row of what was `before` as what comes after it, sealed. */
COF_CODE provider_change_row(struct call *call, const struct provider *before, const struct provider *after,
                             struct provider_row *row);

/* Adds the provider to the audit record. */
COF_CODE provider_record(struct call *call, struct write *write, const struct provider_row *row,
                         Coffer__Audit__V1__Effect effect);
