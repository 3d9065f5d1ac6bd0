#pragma once

#include "common/log.h"
#include "server/jobs/refresher.h"
#include "server/refresh/journal.h"

/*
 * Answers of providers in this server's journal until they are in the database (docs/decisions/0022-refresh.md,
 * 0025-authorization.md). Thread-safe.
 */

struct refresh_keep;

struct refresh_keep_options {
    struct journal_options journal;
    const struct cof_log *log;
    struct cof_pool *pool; /* locked: tokens lie in it */
    uint32_t memory;       /* bytes for one entry */
};

COF_CODE refresh_keep_open(const struct refresh_keep_options *options, struct refresh_keep **ret_keep,
                           struct cof_error *err);
/* NULL is allowed. */
void refresh_keep_close(struct refresh_keep *keep);

/* False if the entry is not on the disk. */
bool refresh_keep_put(struct refresh_keep *keep, const struct refresher_entry *entry);
/* `authorization`: all zero for that of a refresh. */
void refresh_keep_forget(struct refresh_keep *keep, const struct cof_uuid *connection,
                         const struct cof_uuid *authorization);

/* Hands over what was kept before, entry by entry, before anybody has started; `take` is false if it has no memory. */
COF_CODE refresh_keep_recover(struct refresh_keep *keep,
                              bool (*take)(void *context, const struct refresher_entry *entry), void *context,
                              struct cof_error *err);

/* Answers that are not in the database yet. NULL is allowed. */
uint32_t refresh_keep_count(struct refresh_keep *keep);
