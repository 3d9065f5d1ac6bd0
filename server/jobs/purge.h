#pragma once

#include "server/jobs/job.h"

/*
 * What nobody can ask for any more goes: records of requests that are too old to be repeated, and secrets that were
 * deleted too long ago to be restored, with all their versions. Every server does it, a few rows at a time; servers that
 * do it at once take different rows.
 */

struct purge_options {
    const struct cof_log *log;
    struct session_options session;
    uint32_t interval_ms;
};

struct purge;

COF_CODE purge_start(const struct purge_options *options, struct purge **ret_purge, struct cof_error *err);

/* NULL is allowed. */
void purge_stop(struct purge *purge);
