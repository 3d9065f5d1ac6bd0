#pragma once

#include <coffer/v1/workspace.pb-c.h>

#include "server/service/workspace_state.h"

/* A workspace as answers show it. */

/* Of its row and its state, both checked. */
COF_CODE workspace_message(struct call *call, const struct workspace_row *row,
                           const struct workspace_state_row *state, Coffer__V1__Workspace **ret_message);

/* What its state alone tells: UUID, name, state, times. */
COF_CODE workspace_message_of_state(struct call *call, const struct workspace_state_row *state,
                                    Coffer__V1__Workspace **ret_message);

/* One whose row failed its integrity check. */
COF_CODE workspace_message_corrupted(struct call *call, const struct cof_uuid *workspace, struct cof_slice name,
                                     Coffer__V1__Workspace **ret_message);

/* Another one for every other content of the two rows. */
COF_CODE workspace_etag(struct call *call, const struct workspace_row *row, const struct workspace_state_row *state,
                        char **ret_etag);
