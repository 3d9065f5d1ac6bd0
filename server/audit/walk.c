#include "server/audit/walk.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/audit/segment_file.h"

enum { TEXT_SIZE = 1024 };

struct walker {
    const struct audit_walk *walk;
    struct audit_summary *summary;
    uint8_t *scratch;
    bool linked;   /* the segment before was read, so this one must fit to it */
    uint64_t last; /* number of the folder's last segment */
    bool head_seen;
};

static void tell(const struct walker *walker, bool damage, const char *format, ...) COF_PRINTF(3, 4);

static void tell(const struct walker *walker, bool damage, const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void) vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    walker->summary->damages += damage;
    walker->walk->tell(damage, text, walker->walk->context);
}

/* --- How segments follow one another -------------------------------------------------------------------------- */

static void check_link(struct walker *walker, uint64_t number, const struct segment_start *start)
{
    const struct audit_summary *summary = walker->summary;
    if (start->number != number) {
        tell(walker, true, "segment %" PRIu64 ": its header says that it is segment %" PRIu64, number,
             start->number);
    }
    if (summary->segments > 0 && !cof_uuid_equal(&start->server, &summary->server)) {
        tell(walker, true, "segment %" PRIu64 ": it belongs to another server", number);
    }
    const bool follows =
        start->first == summary->sequence + 1 && memcmp(start->before, summary->chain, sizeof start->before) == 0;
    if (walker->linked && !follows) {
        tell(walker, true,
             "segment %" PRIu64 ": it does not go on where the segment before it ends (record %" PRIu64
             "): records were cut or changed there",
             number, summary->sequence);
    }
}

/* The number of the segment that must come next is known from the one before. */
static void check_number(struct walker *walker, uint64_t number, uint64_t before)
{
    if (before == 0 && number != 1) {
        tell(walker, walker->walk->from_first,
             "segment %" PRIu64 ": it is the first one here; those before it were removed", number);
    } else if (before != 0 && number != before + 1) {
        tell(walker, true, "segment %" PRIu64 ": those from %" PRIu64 " on before it are missing", number,
             before + 1);
        walker->linked = false;
    }
}

/* --- Records -------------------------------------------------------------------------------------------------- */

static void check_head(struct walker *walker, const struct segment_reader *reader)
{
    const struct audit_walk *walk = walker->walk;
    if (!walk->has_head || reader->sequence != walk->head) {
        return;
    }
    walker->head_seen = true;
    if (memcmp(reader->chain, walk->head_chain, sizeof reader->chain) != 0) {
        tell(walker, true, "record %" PRIu64 ": the log up to it is another than the one whose end was kept",
             walk->head);
    }
}

static void tell_end(const struct walker *walker, uint64_t number, segment_found found, const struct cof_error *err)
{
    const bool last = number == walker->last;
    switch (found) {
    case SEGMENT_RECORD:
    case SEGMENT_CLOSED:
        return;
    case SEGMENT_END:
        tell(walker, false, "segment %" PRIu64 ": it was not closed%s", number,
             last ? ": the server runs, or it was ended by force" : ", the server was ended by force");
        return;
    case SEGMENT_UNDER_WAY:
        tell(walker, false, "segment %" PRIu64 ": it ends in a record that was not finished", number);
        return;
    case SEGMENT_DAMAGED:
        tell(walker, true, "segment %" PRIu64 ": %s", number, err->message);
        return;
    }
}

static COF_CODE walk_records(struct walker *walker, struct segment_reader *reader, struct cof_error *err)
{
    const struct audit_walk *walk = walker->walk;
    struct cof_error fault;
    struct cof_slice text;
    segment_found found;
    while ((found = segment_next(reader, walker->scratch, &text, &fault)) == SEGMENT_RECORD) {
        check_head(walker, reader);
        walker->summary->records++;
        if (walk->record != NULL) {
            TRY(walk->record(reader->start.number, reader->sequence, text, walk->context, err));
        }
    }
    check_head(walker, reader); /* the closing record */
    tell_end(walker, reader->start.number, found, &fault);
    return COF_OK;
}

static COF_CODE walk_segment(struct walker *walker, uint64_t number, struct cof_error *err)
{
    AUTO(segment_map_cleanup) struct segment_map map;
    AUTO(segment_reader_cleanup) struct segment_reader reader = {.key = NULL};
    struct cof_error fault;
    TRY(segment_map_init(&map, walker->walk->folder, number, false, err));
    if (number == walker->last && segment_used(map.bytes) == 0) {
        return COF_OK; /* prepared for later */
    }
    if (segment_reader_init(&reader, map.bytes, walker->walk->keyring, &fault) != COF_OK) {
        tell(walker, true, "segment %" PRIu64 ": its header does not hold: %s", number, fault.message);
        walker->linked = false;
        return COF_OK;
    }
    check_link(walker, number, &reader.start);
    walker->summary->server = reader.start.server;
    walker->summary->segments++;
    TRY(walk_records(walker, &reader, err));
    walker->summary->sequence = reader.sequence;
    memcpy(walker->summary->chain, reader.chain, sizeof reader.chain);
    walker->linked = true;
    return COF_OK;
}

/* The last segment that was begun: a prepared one behind it is no segment yet. */
static uint64_t last_of(const struct audit_walk *walk, const uint64_t *numbers, size_t count)
{
    AUTO(segment_map_cleanup) struct segment_map map = {.fd = -1};
    struct cof_error err;
    const bool prepared = count > 1 &&
                          segment_map_init(&map, walk->folder, numbers[count - 1], false, &err) == COF_OK &&
                          segment_used(map.bytes) == 0;
    return numbers[count - (prepared ? 2 : 1)];
}

static COF_CODE walk_all(struct walker *walker, const uint64_t *numbers, size_t count, struct cof_error *err)
{
    uint64_t before = 0;
    walker->last = count == 0 ? 0 : last_of(walker->walk, numbers, count);
    for (size_t i = 0; i < count && numbers[i] <= walker->last; i++) {
        check_number(walker, numbers[i], before);
        TRY(walk_segment(walker, numbers[i], err));
        before = numbers[i];
    }
    if (walker->walk->has_head && !walker->head_seen) {
        tell(walker, true, "record %" PRIu64 ", whose hash was kept, is not in the log", walker->walk->head);
    }
    return COF_OK;
}

COF_CODE audit_walk(const struct audit_walk *walk, struct audit_summary *ret_summary, struct cof_error *err)
{
    struct walker walker = {.walk = walk, .summary = ret_summary};
    uint64_t *numbers = NULL;
    size_t count = 0;
    *ret_summary = (struct audit_summary){.segments = 0};
    TRY(segment_list(walk->folder, &numbers, &count, err));
    walker.scratch = malloc(SEGMENT_TEXT_MAX);
    const cof_code code = walker.scratch == NULL
                              ? cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left")
                              : walk_all(&walker, numbers, count, err);
    free(walker.scratch);
    free(numbers);
    return code;
}
