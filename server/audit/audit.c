#include <stdlib.h>

#include "common/condition.h"
#include "server/audit/audit_state.h"

enum { RETRY_MS = 200 };

void audit_lock(struct audit *audit)
{
    (void) pthread_mutex_lock(&audit->lock);
}

void audit_unlock(struct audit *audit)
{
    (void) pthread_mutex_unlock(&audit->lock);
}

void audit_sleep(struct audit *audit, pthread_cond_t *wake, int64_t ms)
{
    const struct timespec until = cof_condition_in(ms * 1000);
    (void) pthread_cond_timedwait(wake, &audit->lock, &until);
}

cof_code audit_unavailable(struct cof_error *err)
{
    cof_ignore(cof_fail(err, COF_REASON_AUDIT_UNAVAILABLE, "%s; %s",
                        cof_reason_meaning(COF_REASON_AUDIT_UNAVAILABLE),
                        cof_reason_next_step(COF_REASON_AUDIT_UNAVAILABLE)));
    return cof_error_retry_after(err, RETRY_MS);
}

bool audit_writable(const struct audit *audit)
{
    return atomic_load_explicit(&audit->writable, memory_order_relaxed);
}

/* --- Segments ------------------------------------------------------------------------------------------------- */

static void retire(struct audit *audit, struct segment_file *file)
{
    file->next = audit->retired;
    audit->retired = file;
    (void) pthread_cond_signal(&audit->committer_wake);
}

static void close_current(struct audit *audit)
{
    struct segment_file *file = TAKE(audit->current);
    struct cof_error err;
    if (file == NULL) {
        return;
    }
    const struct cof_slice nothing = {NULL, 0};
    if (segment_put(file->map + file->offset, audit->sequence + 1, nothing, file->key, audit->chain, &err) ==
        COF_OK) {
        file->offset += SEGMENT_CLOSING;
        file->closed = true;
        audit->sequence++;
    }
    retire(audit, file);
}

bool audit_begin_next(struct audit *audit)
{
    struct cof_error err;
    if (audit->next == NULL) {
        return false;
    }
    close_current(audit);
    struct segment_file *file = TAKE(audit->next);
    struct segment_start start = {
        .server = audit->options.server,
        .number = file->number,
        .first = audit->sequence + 1,
        .time_us = cof_clock_wall(audit->options.clock),
    };
    memcpy(start.before, audit->chain, sizeof start.before);
    (void) pthread_cond_signal(&audit->keeper_wake);
    if (segment_put_start(file->map, &start, file->wrapped, file->key, audit->chain, &err) != COF_OK) {
        retire(audit, file);
        return false;
    }
    file->offset = SEGMENT_HEADER;
    audit->number = file->number;
    audit->current = file;
    return true;
}

void audit_fail(struct audit *audit, const struct cof_error *err)
{
    COF_LOG(audit->options.log, COF_LOG_ERROR, "audit", "the audit log cannot be written; nothing is released",
            cof_log_text("native", err->native), cof_log_text("trail", err->trail));
    if (audit->current != NULL) {
        retire(audit, TAKE(audit->current));
    }
    if (audit->next != NULL) {
        retire(audit, TAKE(audit->next));
    }
    for (struct segment_file *file = audit->retired; file != NULL; file = file->next) {
        file->lost = true;
    }
    audit->lost = audit->sequence;
    atomic_store(&audit->writable, false);
    (void) pthread_cond_signal(&audit->keeper_wake);
}

/* --- Records -------------------------------------------------------------------------------------------------- */

static bool has_room(const struct audit *audit, size_t size)
{
    return audit->current != NULL && audit->current->size - audit->current->offset >= size + SEGMENT_CLOSING;
}

static bool append(struct audit *audit, struct cof_slice text, struct cof_error *err)
{
    const size_t size = segment_record_size(text.len);
    if (!has_room(audit, size) && !audit_begin_next(audit)) {
        return false;
    }
    struct segment_file *file = audit->current;
    if (segment_put(file->map + file->offset, audit->sequence + 1, text, file->key, audit->chain, err) != COF_OK) {
        /* What it wrote must stay alone: the number was used as a nonce. */
        audit_fail(audit, err);
        return false;
    }
    file->offset += size;
    audit->sequence++;
    return true;
}

COF_CODE audit_append(struct audit *audit, struct cof_slice text, uint64_t *ret_sequence, struct cof_error *err)
{
    if (text.len == 0 || text.len > SEGMENT_TEXT_MAX) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, NULL, "an audit record of %zu bytes", text.len);
    }
    audit_lock(audit);
    const bool appended = append(audit, text, err);
    *ret_sequence = audit->sequence;
    if (!appended) {
        atomic_store(&audit->writable, false);
        (void) pthread_cond_signal(&audit->keeper_wake);
    }
    audit_unlock(audit);
    return appended ? COF_OK : audit_unavailable(err);
}

void audit_wait(struct audit *audit, struct audit_waiter *waiter)
{
    waiter->next = NULL;
    audit_lock(audit);
    *audit->last_waiter = waiter;
    audit->last_waiter = &waiter->next;
    (void) pthread_cond_signal(&audit->committer_wake);
    audit_unlock(audit);
}

void audit_head(struct audit *audit, uint64_t *ret_sequence, uint8_t ret_chain[CRYPTO_DIGEST])
{
    audit_lock(audit);
    *ret_sequence = audit->sequence;
    memcpy(ret_chain, audit->chain, CRYPTO_DIGEST);
    audit_unlock(audit);
}

struct audit_progress audit_progress_now(struct audit *audit)
{
    const int64_t now_us = cof_clock_monotonic(audit->options.clock);
    audit_lock(audit);
    const struct audit_progress progress = {
        .written = audit->sequence - audit->opened,
        .behind = audit->sequence - audit->durable,
        .behind_us = audit->sequence == audit->durable ? 0 : now_us - audit->durable_us,
    };
    audit_unlock(audit);
    return progress;
}

/* --- Counts --------------------------------------------------------------------------------------------------- */

static void count(struct audit *audit, cof_reason reason)
{
    const unsigned index = (unsigned) reason;
    audit->counted[index < AUDIT_REASONS ? index : 0]++;
}

bool audit_sample(struct audit *audit, cof_reason reason)
{
    const int64_t second = cof_clock_monotonic(audit->options.clock) / 1000000;
    audit_lock(audit);
    if (second != audit->sample_second) {
        audit->sample_second = second;
        audit->sampled = 0;
    }
    const bool full = audit->sampled < audit->options.refusals_per_second;
    if (full) {
        audit->sampled++;
    } else {
        count(audit, reason);
    }
    audit_unlock(audit);
    return full;
}

void audit_count(struct audit *audit, cof_reason reason)
{
    audit_lock(audit);
    count(audit, reason);
    audit_unlock(audit);
}

/* --- Life ----------------------------------------------------------------------------------------------------- */

static void make_locks(struct audit *audit)
{
    (void) pthread_mutex_init(&audit->lock, NULL);
    cof_condition_init(&audit->keeper_wake);
    cof_condition_init(&audit->committer_wake);
}

/* At start a folder that cannot be written is the operator's mistake. */
static COF_CODE begin(struct audit *audit, struct cof_error *err)
{
    struct cof_error cause;
    if (audit_prepare(audit, &cause) != COF_OK) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID,
                        "server.state_dir: no segment of %zu bytes can be made in \"%s\": %s; give it room, or set "
                        "audit.segment",
                        audit->options.segment_bytes, audit->options.folder, cause.native);
    }
    return audit_begin_next(audit) ? COF_OK
                                   : cof_fail_internal(err, COF_ORIGIN_OWN, NULL, "beginning an audit segment");
}

static COF_CODE start_threads(struct audit *audit, struct cof_error *err)
{
    audit->committer_runs = pthread_create(&audit->committer, NULL, audit_committer, audit) == 0;
    audit->keeper_runs = audit->committer_runs && pthread_create(&audit->keeper, NULL, audit_keeper, audit) == 0;
    return audit->keeper_runs ? COF_OK
                              : cof_fail_internal(err, COF_ORIGIN_ERRNO, NULL, "a thread of the audit log");
}

static void audit_cleanup(struct audit **audit)
{
    audit_free(*audit);
}

COF_CODE audit_open(const struct audit_options *options, struct audit **ret_audit, struct cof_error *err)
{
    AUTO(audit_cleanup) struct audit *audit = calloc(1, sizeof *audit);
    if (audit == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    audit->options = *options;
    audit->last_waiter = &audit->first_waiter;
    make_locks(audit);
    TRY(audit_recover(audit, err));
    audit->opened = audit->durable = audit->sequence;
    TRY(begin(audit, err));
    atomic_store(&audit->writable, true);
    TRY(start_threads(audit, err));
    audit_log_head(audit, "the audit log goes on");
    *ret_audit = TAKE(audit);
    return COF_OK;
}

static void stop(struct audit *audit, bool *stops, pthread_cond_t *wake, bool *runs, pthread_t thread)
{
    audit_lock(audit);
    *stops = true;
    (void) pthread_cond_signal(wake);
    audit_unlock(audit);
    if (*runs) {
        (void) pthread_join(thread, NULL);
        *runs = false;
    }
}

/* What the committer would have freed, had it run. */
static void free_files(struct audit *audit)
{
    while (audit->retired != NULL) {
        struct segment_file *file = audit->retired;
        audit->retired = file->next;
        segment_file_free(file);
    }
}

/* The keeper ends first, for it writes; then the last segment is closed, and the committer brings it to the disk. */
void audit_stop(struct audit *audit)
{
    if (audit == NULL || audit->stopped) {
        return;
    }
    stop(audit, &audit->keeper_stops, &audit->keeper_wake, &audit->keeper_runs, audit->keeper);
    audit_lock(audit);
    const bool was_open = audit->current != NULL;
    close_current(audit);
    if (audit->next != NULL) {
        retire(audit, TAKE(audit->next));
    }
    atomic_store(&audit->writable, false);
    audit_unlock(audit);
    if (was_open) {
        audit_log_head(audit, "the audit log is closed");
    }
    stop(audit, &audit->committer_stops, &audit->committer_wake, &audit->committer_runs, audit->committer);
    free_files(audit);
    audit->stopped = true;
}

void audit_free(struct audit *audit)
{
    if (audit == NULL) {
        return;
    }
    audit_stop(audit);
    (void) pthread_cond_destroy(&audit->committer_wake);
    (void) pthread_cond_destroy(&audit->keeper_wake);
    (void) pthread_mutex_destroy(&audit->lock);
    free(audit);
}
