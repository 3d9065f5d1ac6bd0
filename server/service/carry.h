#pragma once

#include <coffer/audit/v1/record.pb-c.h>

#include "server/service/call.h"
#include "server/store/session.h"

/*
 * What the cache keeps of a workspace is carried over those writes that touched certain secrets and nothing else
 * (docs/decisions/0003-revisions-and-freshness.md, While the database is lost). Their methods are named in carry.c; of
 * every other write, and of one whose record says anything else, nobody claims to know what it touched.
 */

/* A write of this server, before it is answered. */
void carry_written(const struct service *service, const struct cof_uuid *workspace, uint64_t revision,
                   const Coffer__Audit__V1__Record *record);

/* Queues and takes what is to be told of a workspace's writes (cache_changes_untold). */
COF_CODE carry_queue(struct session *session, const struct cof_uuid *workspace, const struct cache_untold *untold,
                     struct cof_error *err);
COF_CODE carry_take(const struct service *service, struct session *session, const struct cof_uuid *workspace,
                    const struct cache_untold *untold, struct cof_error *err);
