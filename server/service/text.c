#include "server/service/text.h"

#include "server/store/row.h"

enum { US_PER_S = 1000000, NS_PER_US = 1000, NS_PER_S = 1000000000 };

/* The range of google.protobuf.Timestamp: from 0001-01-01 to 9999-12-31. */
static const int64_t first_second = -62135596800;
static const int64_t last_second = 253402300799;

char *text_of(struct cof_arena *arena, struct cof_slice bytes)
{
    return cof_arena_text(arena, bytes);
}

char *text_borrow(const char *text)
{
    char *borrowed = NULL;
    memcpy(&borrowed, &text, sizeof borrowed);
    return borrowed;
}

cof_code text_keep(struct cof_arena *arena, struct cof_slice bytes, struct cof_slice *ret_text,
                   struct cof_error *err)
{
    const char *text = cof_arena_text(arena, bytes);
    if (text == NULL) {
        return cof_arena_exhausted(err);
    }
    *ret_text = cof_slice_of(text, bytes.len);
    return COF_OK;
}

char *text_of_uuid(struct cof_arena *arena, const struct cof_uuid *uuid)
{
    char *text = cof_arena_alloc(arena, COF_UUID_TEXT);
    if (text != NULL) {
        cof_uuid_format(uuid, text);
    }
    return text;
}

Google__Protobuf__Timestamp *time_of(struct cof_arena *arena, int64_t unix_us)
{
    if (unix_us == ROW_NO_TIME) {
        return NULL;
    }
    Google__Protobuf__Timestamp *time = cof_arena_alloc(arena, sizeof *time);
    if (time == NULL) {
        return NULL;
    }
    google__protobuf__timestamp__init(time);
    int64_t rest = unix_us % US_PER_S;
    rest += rest < 0 ? US_PER_S : 0;
    time->seconds = (unix_us - rest) / US_PER_S;
    time->nanos = (int32_t) (rest * NS_PER_US);
    return time;
}

bool time_read(const Google__Protobuf__Timestamp *time, int64_t *ret_unix_us)
{
    if (time == NULL) {
        *ret_unix_us = ROW_NO_TIME;
        return true;
    }
    if (time->seconds < first_second || time->seconds > last_second || time->nanos < 0 || time->nanos >= NS_PER_S) {
        return false;
    }
    *ret_unix_us = time->seconds * US_PER_S + time->nanos / NS_PER_US;
    return true;
}
