#pragma once

#include "server/jobs/job.h"
#include "server/service/call.h"

/*
 * The rotation of keys, on a server (docs/decisions/0016-key-rotation.md). Every second it follows what others have
 * decided: which root key wraps, which generations of workspace keys are new or destroyed. And it goes on with rotations
 * of workspace keys that somebody began, a bounded number of rows in each round. Every server does it; each workspace is
 * worked on by one at a time.
 */

struct rotate_options {
    const struct cof_log *log;
    struct session_options session;
    struct service *service;
    struct cof_pool *pool;
    uint32_t kept_ms; /* how long a key is kept that nothing is sealed under any more */
};

struct rotate;

COF_CODE rotate_start(const struct rotate_options *options, struct rotate **ret_rotate, struct cof_error *err);

/* NULL is allowed. */
void rotate_stop(struct rotate *rotate);
