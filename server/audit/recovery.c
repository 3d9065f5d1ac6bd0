#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/audit/audit_state.h"

/* Finds the end of the log that is there. Nothing that was written is changed; zeros at the end are cut off. */

static void number_cleanup(uint64_t **numbers)
{
    free(*numbers);
}

static cof_code refuse(const struct audit *audit, uint64_t number, const char *why, struct cof_error *err)
{
    return cof_fail(err, COF_REASON_CONFIG_INVALID,
                    "server.state_dir: segment %" PRIu64
                    " in \"%s\": %s; look at it with cofferd audit verify, and "
                    "move the state directory away to begin a new log",
                    number, audit->options.folder, why);
}

static COF_CODE check_start(const struct audit *audit, uint64_t number, const struct segment_start *start,
                            struct cof_error *err)
{
    if (start->number != number) {
        return refuse(audit, number, "it is another segment than its name says", err);
    }
    if (!cof_uuid_equal(&start->server, &audit->options.server)) {
        return refuse(audit, number, "it belongs to another server", err);
    }
    return COF_OK;
}

static segment_found walk(struct segment_reader *reader, uint8_t *scratch, struct cof_error *err)
{
    struct cof_slice text;
    segment_found found = SEGMENT_RECORD;
    while (found == SEGMENT_RECORD) {
        found = segment_next(reader, scratch, &text, err);
    }
    return found;
}

static void tell(const struct audit *audit, uint64_t number, segment_found found, const struct cof_error *err)
{
    if (found == SEGMENT_DAMAGED) {
        COF_LOG(audit->options.log, COF_LOG_WARN, "audit", "the end of the audit log's last segment does not hold",
                cof_log_number("segment", (int64_t) number), cof_log_text("trail", err->message));
    } else if (found != SEGMENT_CLOSED) {
        COF_LOG(audit->options.log, COF_LOG_INFO, "audit", "the audit log was not closed; it goes on",
                cof_log_number("segment", (int64_t) number),
                cof_log_number("under_way", found == SEGMENT_UNDER_WAY));
    }
}

/* For the disk's sake only: a file that keeps its zeros reads the same. */
static void cut(const struct audit *audit, uint64_t number, const struct segment_map *map, size_t offset)
{
    const size_t used = segment_used(map->bytes);
    if (ftruncate(map->fd, (off_t) (used > offset ? used : offset)) != 0) {
        COF_LOG(audit->options.log, COF_LOG_WARN, "audit", "a segment of the audit log cannot be cut to its length",
                cof_log_number("segment", (int64_t) number));
    }
}

/* Not inlined: errors are large, and each function here has its own. */
__attribute__((noinline)) static COF_CODE take_end(struct audit *audit, uint64_t number,
                                                   const struct segment_map *map, struct segment_reader *reader,
                                                   struct cof_error *err)
{
    struct cof_error fault;
    if (segment_reader_init(reader, map->bytes, audit->options.keyring, &fault) != COF_OK) {
        return refuse(audit, number, fault.message, err);
    }
    TRY(check_start(audit, number, &reader->start, err));
    uint8_t *scratch = malloc(SEGMENT_TEXT_MAX);
    if (scratch == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left");
    }
    tell(audit, number, walk(reader, scratch, &fault), &fault);
    free(scratch);
    audit->number = number;
    audit->sequence = reader->sequence;
    memcpy(audit->chain, reader->chain, sizeof audit->chain);
    cut(audit, number, map, reader->offset);
    return COF_OK;
}

/* False for a segment that was prepared and never begun: it goes. */
static COF_CODE recover_segment(struct audit *audit, uint64_t number, bool *ret_taken, struct cof_error *err)
{
    AUTO(segment_map_cleanup) struct segment_map map;
    AUTO(segment_reader_cleanup) struct segment_reader reader = {.key = NULL};
    struct cof_error cause;
    if (segment_map_init(&map, audit->options.folder, number, true, &cause) != COF_OK) {
        return refuse(audit, number, cause.native, err);
    }
    *ret_taken = !segment_is_prepared(map.bytes);
    if (!*ret_taken) {
        return segment_used(map.bytes) == 0 ? segment_remove(audit->options.folder, number, err)
                                            : refuse(audit, number, "its header is gone", err);
    }
    return take_end(audit, number, &map, &reader, err);
}

COF_CODE audit_recover(struct audit *audit, struct cof_error *err)
{
    AUTO(number_cleanup) uint64_t *numbers = NULL;
    size_t count = 0;
    struct cof_error cause;
    if (segment_list(audit->options.folder, &numbers, &count, &cause) != COF_OK) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "server.state_dir: \"%s\" cannot be read: %s",
                        audit->options.folder, cause.native);
    }
    bool taken = false;
    while (count > 0 && !taken) {
        TRY(recover_segment(audit, numbers[--count], &taken, err));
    }
    return COF_OK;
}
