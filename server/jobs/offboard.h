#pragma once

#include "server/jobs/job.h"
#include "server/service/call.h"

/*
 * What happens to workspaces that were deleted. Every second the server closes the keys of those that any server has
 * deleted or purged: that takes an index and nearly always finds nothing. Now and then it purges those that can be
 * restored no longer (server/service/workspace_purge.h), a bounded number of rows in each round. Every server does it;
 * they may do it at once.
 */

struct offboard_options {
    const struct cof_log *log;
    struct session_options session;
    struct service *service;
    struct cof_pool *pool;
    uint32_t purge_interval_ms;
};

struct offboard;

COF_CODE offboard_start(const struct offboard_options *options, struct offboard **ret_offboard,
                        struct cof_error *err);

/* NULL is allowed. */
void offboard_stop(struct offboard *offboard);
