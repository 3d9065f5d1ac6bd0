#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <coffer/audit/v1/record.pb-c.h>

#include "common/encode.h"
#include "server/audit/audit_state.h"

/*
 * The keeper prepares the next segment while the current one is filled, writes what was only counted, tells the
 * ordinary log where the audit log ends, and removes segments that are kept long enough.
 */

enum { AHEAD = 2 << 20, SECOND_US = 1000000, HEAD_US = 60 * SECOND_US, RECORD_REVISION = 1 };

struct keeper {
    struct audit *audit;
    bool failing;
    int64_t counted_us;
    int64_t head_us;
    uint64_t told;  /* number of the segment whose beginning was told */
    uint64_t kept;  /* number of the segment at which old ones were looked for */
    uint64_t ended; /* sequence number that was told last */
};

/* --- Segments ------------------------------------------------------------------------------------------------- */

COF_CODE audit_prepare(struct audit *audit, struct cof_error *err)
{
    const struct audit_options *options = &audit->options;
    AUTO(segment_file_cleanup) struct segment_file *file = NULL;
    audit_lock(audit);
    const uint64_t number = audit->number + 1;
    audit_unlock(audit);
    TRY(segment_file_new(options->folder, number, options->segment_bytes, options->keyring, &options->server, &file,
                         err));
    TRY(segment_file_check(file, 0, AHEAD, err));
    audit_lock(audit);
    audit->next = TAKE(file);
    atomic_store(&audit->writable, true);
    audit_unlock(audit);
    return COF_OK;
}

static bool needs_segment(struct audit *audit)
{
    audit_lock(audit);
    const bool needs = audit->next == NULL;
    audit_unlock(audit);
    return needs;
}

/* Tells once that it fails, and once that it works again. */
static void prepare(struct keeper *keeper)
{
    const struct cof_log *log = keeper->audit->options.log;
    struct cof_error err;
    const bool failed = audit_prepare(keeper->audit, &err) != COF_OK;
    if (failed && !keeper->failing) {
        COF_LOG(log, COF_LOG_ERROR, "audit", "no further segment of the audit log can be made",
                cof_log_text("native", err.native), cof_log_text("trail", err.trail));
    } else if (!failed && keeper->failing) {
        COF_LOG(log, COF_LOG_INFO, "audit", "the audit log can be written again", cof_log_number("ready", 1));
    }
    keeper->failing = failed;
}

/* --- Counts and heads ----------------------------------------------------------------------------------------- */

static cof_code append_count(struct audit *audit, cof_reason reason, uint64_t count)
{
    uint8_t packed[256];
    uint64_t sequence;
    struct cof_error err;
    const int64_t now = cof_clock_wall(audit->options.clock);
    Google__Protobuf__Timestamp time;
    Coffer__Audit__V1__Record record;
    char name[64];
    google__protobuf__timestamp__init(&time);
    coffer__audit__v1__record__init(&record);
    time.seconds = now / SECOND_US;
    time.nanos = (int32_t) (now % SECOND_US * 1000);
    record.revision = RECORD_REVISION;
    record.time = &time;
    const cof_code code = cof_reason_code(reason);
    record.code = (int32_t) code;
    record.count = count;
    (void) snprintf(name, sizeof name, "%s", cof_reason_name(reason));
    record.reason = name;
    if (coffer__audit__v1__record__get_packed_size(&record) > sizeof packed) {
        return COF_INTERNAL;
    }
    const size_t size = coffer__audit__v1__record__pack(&record, packed);
    return audit_append(audit, cof_slice_of(packed, size), &sequence, &err);
}

void audit_write_counts(struct audit *audit)
{
    for (unsigned i = 0; i < AUDIT_REASONS; i++) {
        audit_lock(audit);
        const uint64_t count = audit->counted[i];
        audit_unlock(audit);
        if (count == 0 || append_count(audit, (cof_reason) i, count) != COF_OK) {
            continue;
        }
        audit_lock(audit);
        audit->counted[i] -= count;
        audit_unlock(audit);
    }
}

void audit_log_head(struct audit *audit, const char *message)
{
    uint64_t sequence;
    uint8_t chain[CRYPTO_DIGEST];
    char head[24 + 2 * CRYPTO_DIGEST];
    char hex[2 * CRYPTO_DIGEST + 1];
    char server[COF_UUID_TEXT];
    audit_head(audit, &sequence, chain);
    cof_hex_encode(cof_slice_of(chain, sizeof chain), hex);
    cof_uuid_format(&audit->options.server, server);
    (void) snprintf(head, sizeof head, "%" PRIu64 ":%s", sequence, hex);
    COF_LOG(audit->options.log, COF_LOG_INFO, "audit_head", message, cof_log_text("server", server),
            cof_log_text("head", head));
}

static void tell_head(struct keeper *keeper, int64_t now)
{
    struct audit *audit = keeper->audit;
    audit_lock(audit);
    const uint64_t number = audit->number;
    const uint64_t sequence = audit->sequence;
    audit_unlock(audit);
    if (number != keeper->told || (sequence != keeper->ended && now - keeper->head_us >= HEAD_US)) {
        audit_log_head(audit, "the end of the audit log");
        keeper->told = number;
        keeper->ended = sequence;
        keeper->head_us = now;
    }
}

/* --- Retention ------------------------------------------------------------------------------------------------ */

/* When a segment ended is when the one behind it began. */
static bool is_old(const struct audit_options *options, uint64_t number)
{
    AUTO(segment_map_cleanup) struct segment_map map;
    AUTO(segment_reader_cleanup) struct segment_reader reader = {.key = NULL};
    struct cof_error err;
    if (segment_map_init(&map, options->folder, number + 1, false, &err) != COF_OK ||
        segment_reader_init(&reader, map.bytes, options->keyring, &err) != COF_OK) {
        return false;
    }
    const int64_t kept_us = (int64_t) options->keep_days * 86400 * SECOND_US;
    return cof_clock_wall(options->clock) - reader.start.time_us > kept_us;
}

/* `rest`: how many closed segments there would be without this one. */
static bool can_go(const struct audit_options *options, uint64_t number, size_t rest)
{
    return (options->keep_segments > 0 && rest >= options->keep_segments) ||
           (options->keep_days > 0 && is_old(options, number));
}

static void remove_old(const struct audit_options *options, uint64_t current)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    struct cof_error err;
    if (segment_list(options->folder, &numbers, &count, &err) != COF_OK) {
        return;
    }
    for (size_t i = 0; i < count && numbers[i] < current; i++) {
        if (!can_go(options, numbers[i], (size_t) (current - numbers[i] - 1)) ||
            segment_remove(options->folder, numbers[i], &err) != COF_OK) {
            break;
        }
        COF_LOG(options->log, COF_LOG_INFO, "audit", "a segment of the audit log was kept long enough",
                cof_log_number("segment", (int64_t) numbers[i]));
    }
    free(numbers);
}

static void keep(struct keeper *keeper)
{
    const struct audit_options *options = &keeper->audit->options;
    audit_lock(keeper->audit);
    const uint64_t current = keeper->audit->number;
    audit_unlock(keeper->audit);
    if (current != keeper->kept && (options->keep_segments > 0 || options->keep_days > 0)) {
        remove_old(options, current);
    }
    keeper->kept = current;
}

/* --- The thread ----------------------------------------------------------------------------------------------- */

static void work(struct keeper *keeper)
{
    const int64_t now = cof_clock_monotonic(keeper->audit->options.clock);
    if (needs_segment(keeper->audit)) {
        prepare(keeper);
    }
    if (now - keeper->counted_us >= SECOND_US) {
        keeper->counted_us = now;
        audit_write_counts(keeper->audit);
    }
    keep(keeper);
    tell_head(keeper, now);
}

void *audit_keeper(void *context)
{
    struct audit *audit = context;
    struct keeper keeper = {.audit = audit};
    keeper.head_us = cof_clock_monotonic(audit->options.clock);
    audit_lock(audit);
    while (!audit->keeper_stops) {
        audit_unlock(audit);
        work(&keeper);
        audit_lock(audit);
        if (!audit->keeper_stops && (audit->next != NULL || keeper.failing)) {
            audit_sleep(audit, &audit->keeper_wake, AUDIT_TICK_MS);
        }
    }
    audit_unlock(audit);
    audit_write_counts(audit);
    return NULL;
}
