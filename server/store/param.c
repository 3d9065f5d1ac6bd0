/* PostgreSQL's binary form of parameters: big-endian numbers, times counted from 2000-01-01. */
#include <assert.h>

#include "common/encode.h"
#include "server/store/postgres_type.h"
#include "server/store/session.h"

struct param param_text(struct cof_slice value)
{
    return (struct param){.bytes = value};
}

struct param param_uuid(const struct cof_uuid *value)
{
    return param_text(cof_slice_of(value->bytes, sizeof value->bytes));
}

struct param param_i64(int64_t value)
{
    struct param param = {.number_len = 8};
    cof_put_u64(param.number, (uint64_t) value);
    return param;
}

struct param param_i32(int32_t value)
{
    struct param param = {.number_len = 4};
    cof_put_u32(param.number, (uint32_t) value);
    return param;
}

struct param param_bool(bool value)
{
    return (struct param){.number = {value}, .number_len = 1};
}

struct param param_time(int64_t unix_us)
{
    assert(unix_us >= INT64_MIN + POSTGRES_EPOCH_US);
    return param_i64(unix_us - POSTGRES_EPOCH_US);
}

struct param param_null(void)
{
    return (struct param){.null = true};
}

struct param param_text_or_null(struct cof_slice value)
{
    return value.len == 0 ? param_null() : param_text(value);
}

size_t array_text_size(const struct cof_slice *items, size_t count)
{
    size_t size = count == 0 ? POSTGRES_ARRAY_EMPTY_SIZE : POSTGRES_ARRAY_HEADER_SIZE;
    for (size_t i = 0; i < count; i++) {
        size += 4 + items[i].len;
    }
    return size;
}

static uint8_t *put_number(uint8_t *to, size_t value)
{
    assert(value <= INT32_MAX);
    cof_put_u32(to, (uint32_t) value);
    return to + 4;
}

/* Dimensions, whether there are NULLs, the items' type; for the one dimension its length and its first index. */
static uint8_t *put_array_header(uint8_t *to, size_t count)
{
    to = put_number(to, count == 0 ? 0 : 1);
    to = put_number(to, 0);
    to = put_number(to, POSTGRES_TEXT);
    if (count == 0) {
        return to;
    }
    to = put_number(to, count);
    return put_number(to, 1);
}

struct param param_text_array(const struct cof_slice *items, size_t count, uint8_t *to)
{
    uint8_t *at = put_array_header(to, count);
    for (size_t i = 0; i < count; i++) {
        at = put_number(at, items[i].len);
        if (items[i].len > 0) {
            memcpy(at, items[i].data, items[i].len);
            at += items[i].len;
        }
    }
    return param_text(cof_slice_of(to, (size_t) (at - to)));
}
