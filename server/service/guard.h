#pragma once

#include "common/error.h"
#include "server/service/call.h"
#include "server/store/row.h"

/*
 * The one place between store and service where row MACs are made and checked, and where workspace keys are loaded.
 */

/* Makes sure that the workspace's keys are in the keyring; reads them in a pipeline of its own if they are not.
 * WORKSPACE_NOT_FOUND if the workspace has none. No other pipeline may be open. */
COF_CODE guard_load_keys(struct call *call, const struct cof_uuid *workspace);

/* The same without a call. */
COF_CODE guard_load_keys_of(struct keyring *keyring, struct session *session, const struct cof_uuid *workspace,
                            struct cof_error *err);

/* Fills mac_generation and mac; the MAC's bytes are in the arena. The workspace's keys must be loaded. */
COF_CODE guard_seal_row(struct call *call, const struct row_type *type, const struct cof_uuid *workspace,
                        void *row);

/* Fails with CORRUPTED if the MAC does not fit, or the key generation that it names does not exist; with CONFLICT if
 * the workspace's keys are not loaded, or not any more. */
COF_CODE guard_check_row(struct call *call, const struct row_type *type, const struct cof_uuid *workspace,
                         const void *row);

/* Fails with CORRUPTED if a read of the database saw an older revision of its workspace than this server had seen before it:
 * the database was put back under running servers. */
COF_CODE guard_check_revision(struct call *call, const struct cache_read *read, uint64_t revision);
