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

/* The same, whatever the keyring has: it may lack a newer generation. */
COF_CODE guard_load_keys_anew(struct keyring *keyring, struct session *session, const struct cof_uuid *workspace,
                              struct cof_error *err);

/* Reads them over a connection of their own, so also within a transaction; nothing in commands, which have none. */
COF_CODE guard_reload_keys(struct call *call, const struct cof_uuid *workspace);

/* keyring_seal and keyring_open for a call. A key generation that is not loaded yet is; CORRUPTED if there is none. */
COF_CODE guard_seal(struct call *call, const struct blob_address *address, struct cof_slice plaintext, uint8_t *to);
COF_CODE guard_open(struct call *call, const struct blob_address *address, struct cof_slice blob, uint8_t *to);

/* The lowest generation under which the call has sealed or made a MAC in this workspace since call->sealed was cleared;
 * 0: it has not. A call seals in two workspaces at most, of which one is the system's. */
uint32_t guard_sealed_generation(const struct call *call, const struct cof_uuid *workspace);

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
