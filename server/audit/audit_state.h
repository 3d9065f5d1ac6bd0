#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "server/audit/audit.h"
#include "server/audit/segment_file.h"

/* What the files of this folder share of the log. Everything but the options is under the lock, or atomic. */

enum { AUDIT_REASONS = 128, AUDIT_TICK_MS = 100 };

struct audit {
    struct audit_options options;
    pthread_mutex_t lock;
    pthread_cond_t keeper_wake;
    pthread_cond_t committer_wake;
    pthread_t keeper;
    pthread_t committer;
    bool keeper_runs;
    bool committer_runs;
    bool keeper_stops;
    bool committer_stops;
    bool stopped; /* audit_stop is done; of the thread that calls it */
    _Atomic bool writable;
    struct segment_file *current; /* NULL: none could be had */
    struct segment_file *next;    /* prepared; NULL: the keeper makes one */
    struct segment_file *retired; /* to be synced and freed by the committer */
    uint64_t number;              /* of the newest segment that was begun */
    uint64_t sequence;            /* of the last record */
    uint64_t opened;              /* the sequence when the log was opened */
    uint64_t durable;             /* records up to this one are on the disk */
    int64_t durable_us;           /* since when */
    uint64_t lost;                /* records up to this one may not be on the disk: it failed */
    uint8_t chain[CRYPTO_DIGEST]; /* behind it */
    struct audit_waiter *first_waiter;
    struct audit_waiter **last_waiter;
    /* Refusals of this second. */
    int64_t sample_second;
    uint32_t sampled;
    uint64_t counted[AUDIT_REASONS];
};

/* recovery.c: finds the end of the log that is there. */
COF_CODE audit_recover(struct audit *audit, struct cof_error *err);

/* keeper.c: makes segments, writes counts and heads, removes what is too old. */
void *audit_keeper(void *context);
COF_CODE audit_prepare(struct audit *audit, struct cof_error *err);
/* Writes a record for each reason that was counted. */
void audit_write_counts(struct audit *audit);
void audit_log_head(struct audit *audit, const char *message);

/* committer.c: brings records to the disk and calls those who wait for it. */
void *audit_committer(void *context);

/* audit.c: with the lock held. */
bool audit_begin_next(struct audit *audit);
/* Lets go of the current segment because the disk failed; nothing is written until a new one was made. */
void audit_fail(struct audit *audit, const struct cof_error *err);
void audit_lock(struct audit *audit);
void audit_unlock(struct audit *audit);
/* Waits for a signal, at most `ms`. */
void audit_sleep(struct audit *audit, pthread_cond_t *wake, int64_t ms);
