#pragma once

#include "server/audit/audit.h"
#include "server/jobs/job.h"
#include "server/service/call.h"

/*
 * Chains the records of writes, which are rows of the database, in the order of their revisions
 * (docs/decisions/0007-audit-stream.md), within a second. Every server does it; of two that would make the same link
 * one succeeds. The ends of the chains that it made stand in the server's own audit log afterwards.
 */

struct chain_options {
    const struct cof_log *log;
    struct session_options session;
    const struct service *service;
};

struct chain;

COF_CODE chain_start(const struct chain_options *options, struct chain **ret_chain, struct cof_error *err);

/* NULL is allowed. */
void chain_stop(struct chain *chain);
