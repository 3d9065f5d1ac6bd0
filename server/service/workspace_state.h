#pragma once

#include <google/protobuf/timestamp.pb-c.h>

#include "server/service/call.h"
#include "server/store/row.h"

/*
 * What the system's administration has decided about a workspace: whether it is disabled or deleted
 * (docs/decisions/0014-offboarding.md). Rows of workspace_state are guarded by the key of the system workspace, never
 * by the workspace's own, which a deleted workspace is not opened for.
 */

/* Queues the read of a workspace's state. */
COF_CODE workspace_state_queue(struct call *call, const struct cof_uuid *workspace);

/*
 * Takes the state from row `index`, whose columns of it begin at `first`; where they are NULL, or there is no row, the
 * workspace is active. Fails with CORRUPTED if the row's MAC does not fit. Loads the system workspace's keys, so
 * nothing may be queued. Texts borrow from the rows.
 */
COF_CODE workspace_state_take(struct call *call, const struct cof_uuid *workspace, const struct rows *rows,
                              size_t index, size_t first, struct workspace_state_row *ret_state);

/* The same with the keys loaded already, within a transaction. */
COF_CODE workspace_state_take_locked(struct call *call, const struct cof_uuid *workspace, const struct rows *rows,
                                     struct workspace_state_row *ret_state);

/* Reads it by itself. Nothing may be queued. The name is in the call's arena. */
COF_CODE workspace_state_read(struct call *call, const struct cof_uuid *workspace,
                              struct workspace_state_row *ret_state);

/*
 * Whether a token of that kind acts in a workspace of that state. A disabled one is WORKSPACE_DISABLED for all but
 * system administration, a deleted one WORKSPACE_DELETED for system administration and WORKSPACE_NOT_FOUND for others.
 */
COF_CODE workspace_state_permits(struct call *call, cof_token_kind kind, const struct workspace_state_row *state);

/* Sets the time of the change and makes the MAC. The system workspace's keys must be loaded. */
COF_CODE workspace_state_seal(struct call *call, struct workspace_state_row *state);

/* Loads the keys that states are guarded with. Nothing may be queued. */
COF_CODE workspace_state_load_keys(struct call *call);

/* How long a deleted workspace can be restored: until this time. */
int64_t workspace_purge_time(const struct call *call, const struct workspace_state_row *state);

/* Until when copies of what is destroyed at `time` may be in backups; NULL: the server does not know. */
COF_CODE copies_in_backups_until(struct call *call, int64_t time, Google__Protobuf__Timestamp **ret_until);
