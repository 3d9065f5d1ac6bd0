#include <string.h>

#include "common/web/frame.h"
#include "tests/fuzz/fuzz.h"

/*
 * Any bytes as the frames of a peer: read at once and in pieces they are the same messages, and what was read of them
 * can be written again and is then read as the same. The first byte says whose frames they are and how they are cut.
 */

enum { MOST = 4096 };

struct transcript {
    uint8_t bytes[MOST + 1]; /* of all messages, one behind the other, as far as they fit */
    size_t size;
    unsigned messages;
    unsigned pings;
    cof_web_kind end; /* SHORT: more may come */
    cof_web_code code;
};

static void note_part(struct transcript *transcript, const struct cof_web_event *event)
{
    const size_t room = sizeof transcript->bytes - transcript->size;
    const size_t size = event->size < room ? event->size : room;
    if (size > 0) {
        memcpy(transcript->bytes + transcript->size, event->bytes, size);
        transcript->size += size;
    }
    MUST(event->announced <= MOST && (!event->end || event->last));
    transcript->messages += event->end;
}

static void note(struct transcript *transcript, const struct cof_web_event *event)
{
    switch (event->kind) {
    case COF_WEB_SHORT:
        return;
    case COF_WEB_PART:
        note_part(transcript, event);
        return;
    case COF_WEB_PINGED:
        MUST(event->size <= COF_WEB_CONTROL_MOST);
        transcript->pings++;
        return;
    case COF_WEB_CLOSED:
    case COF_WEB_REFUSED:
        transcript->end = event->kind;
        transcript->code = event->code;
        return;
    }
}

static void read_piece(struct cof_web_reader *reader, uint8_t *bytes, size_t size, struct transcript *transcript)
{
    size_t at = 0;
    struct cof_web_event event;
    do {
        const size_t before = at;
        cof_web_read(reader, bytes, size, &at, &event);
        MUST(at >= before && at <= size);
        note(transcript, &event);
        MUST(event.kind != COF_WEB_SHORT || at == size);
    } while (transcript->end == COF_WEB_SHORT && at < size);
}

static void read_all(const uint8_t *data, size_t size, bool masked, size_t step, struct transcript *ret_transcript)
{
    struct cof_web_reader reader = {.masked = masked, .most = MOST};
    uint8_t *copy = malloc(size + 1);
    MUST(copy != NULL);
    memcpy(copy, data, size);
    memset(ret_transcript, 0, sizeof *ret_transcript);
    for (size_t at = 0; at < size && ret_transcript->end == COF_WEB_SHORT; at += step) {
        read_piece(&reader, copy + at, size - at < step ? size - at : step, ret_transcript);
    }
    free(copy);
}

static void check_same(const struct transcript *a, const struct transcript *b)
{
    MUST(a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0);
    MUST(a->messages == b->messages && a->pings == b->pings && a->end == b->end && a->code == b->code);
}

static void check_round_trip(const struct transcript *once)
{
    static const uint8_t mask[COF_WEB_MASK] = {1, 2, 3, 0xff};
    static struct transcript back;
    const size_t size = once->size < MOST ? once->size : MOST;
    uint8_t *frame = malloc(COF_WEB_HEADER_MOST + size);
    MUST(frame != NULL);
    const size_t header = cof_web_header(frame, COF_WEB_BINARY, size, mask);
    MUST(header == cof_web_header_size(size) + COF_WEB_MASK);
    memcpy(frame + header, once->bytes, size);
    cof_web_mask(mask, frame + header, size);
    read_all(frame, header + size, true, header + size, &back);
    MUST(back.messages == 1 && back.size == size && memcmp(back.bytes, once->bytes, size) == 0);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct transcript once;
    static struct transcript again;
    if (size == 0) {
        return 0;
    }
    const bool masked = (data[0] & 1) != 0;
    const size_t step = 1U + (data[0] >> 1) % 16U;
    read_all(data + 1, size - 1, masked, size, &once);
    read_all(data + 1, size - 1, masked, step, &again);
    check_same(&once, &again);
    check_round_trip(&once);
    return 0;
}
