#include "server/audit/audit_state.h"

/*
 * The committer brings records to the disk, for all that wait at once, and calls them. It alone lets go of segments,
 * so a segment that it syncs stays mapped. Five times a second it looks whether the current one can still be written.
 */

enum { AHEAD = 2 << 20, SYNC_US = 1000000 };

/* What one turn works on. */
struct round {
    struct audit_waiter *waiters;
    struct segment_file *retired;
    struct segment_file *current;
    size_t offset;
    uint64_t sequence;
};

struct committer {
    struct audit *audit;
    int64_t synced_us;
    uint64_t synced; /* the last record that was synced */
    int64_t checked_us;
};

static void take_round(struct audit *audit, struct round *round)
{
    round->waiters = TAKE(audit->first_waiter);
    audit->last_waiter = &audit->first_waiter;
    round->retired = TAKE(audit->retired);
    round->current = audit->current;
    round->offset = audit->current == NULL ? 0 : audit->current->offset;
    round->sequence = audit->sequence;
}

/* What is lost is synced as well as it goes: it must not take the segment with it that is written by now. */
static COF_CODE sync_retired(struct segment_file *file, struct cof_error *err)
{
    cof_code code = COF_OK;
    while (file != NULL) {
        struct segment_file *next = file->next;
        if (file->offset > 0 && code == COF_OK) {
            const cof_code synced = segment_file_sync(file, err);
            code = file->lost ? COF_OK : synced;
        }
        segment_file_free(file);
        file = next;
    }
    return code;
}

static COF_CODE sync_current(struct committer *committer, const struct round *round, struct cof_error *err)
{
    const int64_t now = cof_clock_monotonic(committer->audit->options.clock);
    if (round->current == NULL) {
        return COF_OK;
    }
    if (now - committer->checked_us >= (int64_t) AUDIT_TICK_MS * 1000) {
        committer->checked_us = now;
        TRY(segment_file_check(round->current, round->offset, AHEAD, err));
    }
    const bool due = round->sequence != committer->synced && now - committer->synced_us >= SYNC_US;
    if (round->waiters == NULL && !due) {
        return COF_OK;
    }
    TRY(segment_file_sync(round->current, err));
    committer->synced = round->sequence;
    committer->synced_us = now;
    return COF_OK;
}

static void call_waiters(struct audit_waiter *waiter, uint64_t lost)
{
    while (waiter != NULL) {
        struct audit_waiter *next = waiter->next;
        waiter->done(waiter, waiter->sequence > lost);
        waiter = next;
    }
}

static void run_round(struct committer *committer, const struct round *round)
{
    struct audit *audit = committer->audit;
    struct cof_error err;
    cof_code code = sync_retired(round->retired, &err);
    if (code == COF_OK) {
        code = sync_current(committer, round, &err);
    }
    audit_lock(audit);
    if (code != COF_OK) {
        audit_fail(audit, &err);
    } else if (committer->synced > audit->durable) {
        audit->durable = committer->synced;
        audit->durable_us = committer->synced_us;
    }
    const uint64_t lost = audit->lost;
    audit_unlock(audit);
    call_waiters(round->waiters, lost);
}

void *audit_committer(void *context)
{
    struct audit *audit = context;
    struct committer committer = {.audit = audit};
    struct round round;
    audit_lock(audit);
    for (;;) {
        const bool idle = audit->first_waiter == NULL && audit->retired == NULL;
        if (idle && audit->committer_stops) {
            audit_unlock(audit);
            return NULL;
        }
        if (idle) {
            audit_sleep(audit, &audit->committer_wake, AUDIT_TICK_MS);
        }
        take_round(audit, &round);
        audit_unlock(audit);
        run_round(&committer, &round);
        audit_lock(audit);
    }
}
