#pragma once

#include "server/service/call.h"

/*
 * The end of a workspace that was deleted and not restored in time (docs/decisions/0014-offboarding.md). First its keys
 * go, in one transaction with all that lets anybody write into it: from then on its rows are noise. Then the rows go, a
 * bounded number at a time. What stays is the row of its state and its UUID in the directory. Every step can be
 * interrupted and repeated, by any server, and by several at once.
 *
 * The calls are the server's own: nobody is their caller. Nothing may be queued.
 */

/* A workspace that is due, or whose purge has begun, and its place in the order of such. */
struct workspace_due {
    struct cof_uuid workspace;
    int64_t delete_time;
};

/* Where the order begins. */
extern const struct workspace_due workspace_due_first;

/* The next one behind `after`, over all workspaces; false in `ret_found` if there is none. */
COF_CODE workspace_purge_next(struct call *call, const struct workspace_due *after, struct workspace_due *ret_due,
                              bool *ret_found);

/* Destroys the keys, unless that was done. `ret_begun` is false if the workspace was restored meanwhile. */
COF_CODE workspace_purge_begin(struct call *call, const struct cof_uuid *workspace, bool *ret_begun);

/* Removes some rows; `ret_done` if none was left, and the workspace is purged. */
COF_CODE workspace_purge_some(struct call *call, const struct cof_uuid *workspace, bool *ret_done);

/* Closes the keys of workspaces that were deleted or purged after `since`, on this server. */
COF_CODE workspace_close_keys(struct call *call, int64_t since);
