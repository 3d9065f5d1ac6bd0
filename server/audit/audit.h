#pragma once

#include "common/clock.h"
#include "common/log.h"
#include "server/audit/state.h"
#include "server/crypto/keyring.h"

/*
 * The audit stream: a server's own log of what was read and refused (docs/decisions/0007-audit-stream.md).
 *
 * A record that was appended is in the map of its segment and survives the end of the process. Whoever needs it on
 * the disk waits for it with a waiter, which a thread of the log's own calls. Everything here may be called by any
 * thread; nothing but audit_open, audit_stop and audit_free blocks.
 */

struct audit;

struct audit_options {
    const char *folder;
    struct cof_uuid server;
    const struct keyring *keyring;
    const struct cof_clock *clock;
    const struct cof_log *log;
    size_t segment_bytes;
    uint32_t keep_segments;       /* closed ones; 0: all */
    uint32_t keep_days;           /* 0: for ever */
    uint32_t refusals_per_second; /* of unknown callers, in full; the others are counted */
};

/* Goes on behind the log that is there. Fails with CONFIG_INVALID if the folder cannot be written, if the last segment
 * is not of this server and root key, or is damaged where a crash does not explain it. */
COF_CODE audit_open(const struct audit_options *options, struct audit **ret_audit, struct cof_error *err);

/* Calls the waiters that are left, closes the segment and ends the threads. Records that come later find no place.
 * Nobody may begin to wait any more. NULL is allowed. */
void audit_stop(struct audit *audit);

/* Stops it if need be; nobody may use it any more. NULL is allowed. */
void audit_free(struct audit *audit);

/* Whether records can be written now, as far as is known. */
bool audit_writable(const struct audit *audit);

/* Appends a record of at most SEGMENT_TEXT_MAX bytes. AUDIT_UNAVAILABLE if there is no place for it. */
COF_CODE audit_append(struct audit *audit, struct cof_slice text, uint64_t *ret_sequence, struct cof_error *err);

/* The failure of whatever cannot be answered because it cannot be recorded. */
cof_code audit_unavailable(struct cof_error *err);

/* Somebody who waits for a record to be on the disk; lives until `done` is called, once. */
struct audit_waiter {
    struct audit_waiter *next;
    uint64_t sequence;
    void (*done)(struct audit_waiter *waiter, bool durable);
};

/* `sequence` is that of an audit_append. */
void audit_wait(struct audit *audit, struct audit_waiter *waiter);

/* Whether a refusal of a caller who is not known is written in full; if not it was counted by its reason, and a
 * record with the count follows within a second or two. */
bool audit_sample(struct audit *audit, cof_reason reason);

/* Counts an event that has no record. */
void audit_count(struct audit *audit, cof_reason reason);

/* How far the log has got since it was opened. */
struct audit_progress {
    uint64_t written;  /* records */
    uint64_t behind;   /* of them, not known to be on the disk */
    int64_t behind_us; /* since the last time that all were, at most */
};
struct audit_progress audit_progress_now(struct audit *audit);

/* The end of the log: what `cofferd audit verify --head` takes. */
void audit_head(struct audit *audit, uint64_t *ret_sequence, uint8_t ret_chain[CRYPTO_DIGEST]);
