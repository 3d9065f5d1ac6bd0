#pragma once

#include "server/jobs/job.h"
#include "server/service/token_use.h"

/*
 * Writes down when tokens were used last: once in an interval, for each token that was used since, in a transaction of
 * its own. A server that ends loses what it has not written yet.
 */

struct write_use_options {
    const struct cof_log *log;
    struct session_options session;
    struct token_use *use;
    uint32_t interval_ms;
};

struct write_use;

COF_CODE write_use_start(const struct write_use_options *options, struct write_use **ret_write_use,
                         struct cof_error *err);

/* NULL is allowed. */
void write_use_stop(struct write_use *write_use);
