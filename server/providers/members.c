#include "server/providers/members.h"

#include <string.h>

#include "common/json.h"
#include "common/name.h"

enum { LIST_MAX = 256, DECIMAL = 10, NUMBER_DIGITS = 15 };

struct reader {
    const char *what;
    struct cof_json_scan scan;
    struct cof_json_event event;
    struct cof_arena *arena;
    struct cof_error *err;
};

static cof_code refuse(const struct reader *reader, const char *problem)
{
    return cof_fail(reader->err, COF_REASON_FILE_INVALID, "%s %s", reader->what, problem);
}

static cof_code next(struct reader *reader)
{
    struct cof_error problem = {0};
    return cof_json_next(&reader->scan, &reader->event, &problem) == COF_OK ? COF_OK : refuse(reader, "is no JSON");
}

static cof_code read_text(struct reader *reader, const char **ret_text)
{
    size_t length = 0;
    uint8_t *text = cof_arena_alloc(reader->arena, reader->event.raw.len + 1);
    if (text == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    if (!cof_json_decode(reader->event.raw, text, &length) || !cof_text_valid(cof_slice_of(text, length))) {
        return refuse(reader, "has a text that is none");
    }
    text[length] = '\0';
    *ret_text = (const char *) text;
    return COF_OK;
}

/* Past what the value that has just begun holds. */
static cof_code skip(struct reader *reader)
{
    size_t depth = 0;
    do {
        const cof_json_kind kind = reader->event.kind;
        depth += kind == COF_JSON_OBJECT || kind == COF_JSON_ARRAY;
        depth -= kind == COF_JSON_OBJECT_END || kind == COF_JSON_ARRAY_END;
        if (depth > 0) {
            TRY(next(reader));
        }
    } while (depth > 0);
    return COF_OK;
}

/* Of a list of texts; whatever else it has is passed over. */
static cof_code read_list(struct reader *reader, struct provider_texts *ret_list)
{
    const char **items = cof_arena_array(reader->arena, LIST_MAX, sizeof *items);
    size_t count = 0;
    if (items == NULL) {
        return cof_arena_exhausted(reader->err);
    }
    TRY(next(reader));
    while (reader->event.kind != COF_JSON_ARRAY_END) {
        if (reader->event.kind == COF_JSON_STRING && count < LIST_MAX) {
            TRY(read_text(reader, &items[count]));
            count++;
        } else {
            TRY(skip(reader));
        }
        TRY(next(reader));
    }
    *ret_list = (struct provider_texts){items, count};
    return COF_OK;
}

/* A whole number; one with a fraction or an exponent is none that anybody means here. */
static cof_code read_number(const struct reader *reader, struct member *member)
{
    int64_t number = 0;
    const struct cof_slice raw = reader->event.raw;
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.data[i] < '0' || raw.data[i] > '9' || i >= NUMBER_DIGITS) {
            return cof_slice_equal(raw, cof_slice_text("null"))
                       ? COF_OK
                       : refuse(reader, "has a number that is no whole one");
        }
        number = number * DECIMAL + (raw.data[i] - '0');
    }
    member->number = number;
    return COF_OK;
}

static cof_code read_value(struct reader *reader, struct member *member)
{
    if (member == NULL) {
        return skip(reader);
    }
    if (member->seen) {
        return refuse(reader, "says the same thing twice");
    }
    member->seen = true;
    if (member->kind == MEMBER_TEXT && reader->event.kind == COF_JSON_STRING) {
        return read_text(reader, &member->text);
    }
    if (member->kind == MEMBER_LIST && reader->event.kind == COF_JSON_ARRAY) {
        return read_list(reader, &member->list);
    }
    if (member->kind == MEMBER_NUMBER && reader->event.kind == COF_JSON_WORD) {
        return read_number(reader, member);
    }
    member->flag =
        reader->event.kind == COF_JSON_WORD && cof_slice_equal(reader->event.raw, cof_slice_text("true"));
    return skip(reader);
}

static struct member *find(struct member *members, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(members[i].name, name) == 0) {
            return &members[i];
        }
    }
    return NULL;
}

cof_code members_read(const char *what, struct cof_slice answer, struct member *members, size_t count,
                      struct cof_arena *arena, struct cof_error *err)
{
    struct reader reader = {.what = what, .arena = arena, .err = err};
    if (answer.len > MEMBERS_ANSWER_MAX) {
        return refuse(&reader, "is larger than it may be");
    }
    cof_json_scan_init(&reader.scan, answer);
    TRY(next(&reader));
    if (reader.event.kind != COF_JSON_OBJECT) {
        return refuse(&reader, "is no object");
    }
    TRY(next(&reader));
    while (reader.event.kind == COF_JSON_KEY) {
        const char *name = "";
        TRY(read_text(&reader, &name));
        TRY(next(&reader));
        TRY(read_value(&reader, find(members, count, name)));
        TRY(next(&reader));
    }
    return next(&reader);
}

bool members_list_has(struct provider_texts list, const char *text)
{
    for (size_t i = 0; i < list.count; i++) {
        if (strcmp(list.items[i], text) == 0) {
            return true;
        }
    }
    return false;
}
