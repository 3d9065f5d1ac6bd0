#include "common/document_walk.h"
#include "common/json.h"

/* A JSON document on its walk. */
struct reader {
    struct cof_walk *walk;
    uint8_t *decoded; /* room for any string of the document; NULL until one needs it */
};

static cof_code make_room(struct reader *reader)
{
    if (reader->decoded == NULL) {
        reader->decoded = cof_arena_alloc(reader->walk->arena, reader->walk->document->text.len);
    }
    return reader->decoded == NULL ? cof_arena_exhausted(reader->walk->err) : COF_OK;
}

/* A string with half of a surrogate pair is no text; it stays as it is. */
static cof_code read_string(struct reader *reader, const struct cof_json_event *event,
                            struct cof_walk_string *string)
{
    size_t length = 0;
    *string = (struct cof_walk_string){
        .text = cof_slice_of(event->raw.data + 1, event->raw.len - 2),
        .begin = event->place.offset,
        .end = event->place.offset + event->raw.len,
        .place = event->place,
    };
    if (cof_json_is_plain(event->raw)) {
        return COF_OK;
    }
    TRY(make_room(reader));
    if (cof_json_decode(event->raw, reader->decoded, &length)) {
        string->text = cof_slice_of(reader->decoded, length);
        return COF_OK;
    }
    string->flaw = "half of a surrogate pair stands beside a reference; remove it";
    return COF_OK;
}

static cof_code take(struct reader *reader, const struct cof_json_event *event)
{
    struct cof_walk_string string;
    switch (event->kind) {
    case COF_JSON_OBJECT:
    case COF_JSON_ARRAY:
        return cof_walk_enter(reader->walk, event->kind == COF_JSON_OBJECT, &event->place);
    case COF_JSON_OBJECT_END:
    case COF_JSON_ARRAY_END:
        cof_walk_leave(reader->walk);
        break;
    case COF_JSON_KEY:
        TRY(read_string(reader, event, &string));
        return cof_walk_take_key(reader->walk, &string);
    case COF_JSON_STRING:
        TRY(read_string(reader, event, &string));
        return cof_walk_take_string(reader->walk, &string);
    case COF_JSON_WORD:
        cof_walk_take_other(reader->walk);
        break;
    case COF_JSON_END:
        break;
    }
    return COF_OK;
}

cof_code cof_walk_json(struct cof_walk *walk)
{
    struct reader reader = {.walk = walk};
    struct cof_json_event event = {.kind = COF_JSON_WORD};
    struct cof_json_scan scan;
    cof_json_scan_init(&scan, walk->document->text);
    while (event.kind != COF_JSON_END) {
        TRY(cof_json_next(&scan, &event, walk->err));
        TRY(take(&reader, &event));
    }
    return COF_OK;
}
