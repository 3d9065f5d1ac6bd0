#pragma once

#include "server/jobs/job.h"
#include "server/service/call.h"

/*
 * Confirming revisions (docs/decisions/0003-revisions-and-freshness.md): while somebody needs to know, a job reads the
 * changes that were committed since its last look, of all workspaces at once, and tells which workspace has reached
 * which revision.
 *
 * It begins where the snapshot of the look before had its oldest transaction, so it misses none, and may tell one
 * twice. When it begins, and after every failure, it knows nothing of what was before; then it asks once for the
 * revision of each workspace that somebody waits for. So it does, too, if its last look was longer ago than changes are
 * followed.
 *
 * Where transactions have no order over the whole database (`by_workspace`) it asks in every round, for each workspace
 * that somebody waits for and for each that is kept and used; each is as fresh as its own answer.
 */

typedef enum confirm_need {
    CONFIRM_NOTHING,
    CONFIRM_IN_USE, /* what is kept of workspaces is used as long as it is confirmed */
    CONFIRM_WAITED, /* calls wait for a revision */
} confirm_need;

struct confirm_options {
    const struct cof_log *log;
    struct session_options session;
    const struct service *service;
    uint32_t interval_ms; /* between two looks while what is kept is used; calls that wait want them sooner */
    bool by_workspace;    /* transactions have no order over all workspaces: each one is asked for */
    uint32_t followed_ms; /* how long the pause between two looks may be for what is kept to be good for anything */
    /* All of these are called on the job's thread. */
    confirm_need (*need)(void *context);
    /* The database is asked now, and has answered or not: it refused, or the time for a round was over. */
    void (*asks)(void *context);
    void (*answered)(void *context, bool answered);
    /* Workspaces to ask for; at most `max`, each once until doubt was called. */
    size_t (*unconfirmed)(void *context, struct cof_uuid *ret_workspaces, size_t max);
    void (*reached)(void *context, const struct cof_uuid *workspace, uint64_t revision);
    /* Every change that was committed before this time (monotonic) has been told, or doubt was called after it. */
    void (*confirmed)(void *context, int64_t time_us);
    /* Changes may have been missed. */
    void (*doubt)(void *context);
    /* More was missed than is followed, in this time: what is kept goes. */
    void (*behind)(void *context, int64_t time_us);
    /* The database is another: no revision that was known means anything. */
    void (*replaced)(void *context);
    void *context;
};

struct confirm;

COF_CODE confirm_start(const struct confirm_options *options, struct confirm **ret_confirm, struct cof_error *err);

/* Somebody began to wait in a workspace that has not been asked for. On any thread. */
void confirm_wake(struct confirm *confirm);

/* NULL is allowed. */
void confirm_stop(struct confirm *confirm);
