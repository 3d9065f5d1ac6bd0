#pragma once

#include "server/jobs/job.h"

/*
 * Hints between the servers of one database: whoever has committed writes says so, after the commit and on a connection
 * of its own, once for all that came within a short time (NOTIFY); the others listen there, and look for changes at once
 * instead of at their next look. A hint says nothing but that, and one that is lost costs no more than that wait: the
 * looks do not depend on it (confirm.h). So a way to the database that passes no notifications on, as some proxies, does
 * no harm.
 */

struct hint_options {
    const struct cof_log *log;
    struct session_options session; /* without on_connect */
    /* Another server has written. On the thread of the hints. */
    void (*hinted)(void *context);
    void *context;
};

struct hint;

COF_CODE hint_start(const struct hint_options *options, struct hint **ret_hint, struct cof_error *err);

/* This server has committed a write. On any thread; does not block. */
void hint_written(struct hint *hint);

/* NULL is allowed. */
void hint_stop(struct hint *hint);
