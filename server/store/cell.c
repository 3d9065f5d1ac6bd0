#include "server/store/cell.h"

#include <assert.h>

#include "common/encode.h"
#include "server/store/postgres_type.h"

static const uint8_t *fixed_bytes(const struct rows *rows, size_t row, size_t column, uint32_t type, size_t size)
{
    const struct cell cell = rows_cell(rows, row, column);
    assert(cell.type == type && !cell.null && cell.bytes.len == size);
    return cell.bytes.data;
}

bool rows_null(const struct rows *rows, size_t row, size_t column)
{
    return rows_cell(rows, row, column).null;
}

struct cof_slice rows_bytes(const struct rows *rows, size_t row, size_t column)
{
    const struct cell cell = rows_cell(rows, row, column);
    assert(cell.type == POSTGRES_TEXT || cell.type == POSTGRES_BYTEA || cell.type == POSTGRES_NAME);
    return cell.bytes;
}

int64_t rows_i64(const struct rows *rows, size_t row, size_t column)
{
    return (int64_t) cof_get_u64(fixed_bytes(rows, row, column, POSTGRES_INT8, 8));
}

int32_t rows_i32(const struct rows *rows, size_t row, size_t column)
{
    return (int32_t) cof_get_u32(fixed_bytes(rows, row, column, POSTGRES_INT4, 4));
}

bool rows_bool(const struct rows *rows, size_t row, size_t column)
{
    return fixed_bytes(rows, row, column, POSTGRES_BOOL, 1)[0] != 0;
}

/* PostgreSQL's infinity, which Coffer never writes, stays the largest number. */
int64_t rows_time(const struct rows *rows, size_t row, size_t column)
{
    const int64_t time = (int64_t) cof_get_u64(fixed_bytes(rows, row, column, POSTGRES_TIMESTAMPTZ, 8));
    return time > INT64_MAX - POSTGRES_EPOCH_US ? INT64_MAX : time + POSTGRES_EPOCH_US;
}

struct cof_uuid rows_uuid(const struct rows *rows, size_t row, size_t column)
{
    struct cof_uuid uuid;
    memcpy(uuid.bytes, fixed_bytes(rows, row, column, POSTGRES_UUID, sizeof uuid.bytes), sizeof uuid.bytes);
    return uuid;
}

/* Reads a length and as many bytes; false for a NULL or where the array is cut. */
static bool take_item(struct cof_slice *rest, struct cof_slice *ret_item)
{
    if (rest->len < 4) {
        return false;
    }
    const uint32_t len = cof_get_u32(rest->data);
    if (len > rest->len - 4) {
        return false;
    }
    *ret_item = cof_slice_of(rest->data + 4, len);
    *rest = cof_slice_of(rest->data + 4 + len, rest->len - 4 - len);
    return true;
}

static size_t read_items(struct cof_slice rest, size_t count, struct cof_slice *items, size_t max)
{
    for (size_t i = 0; i < count; i++) {
        struct cof_slice item;
        if (!take_item(&rest, &item)) {
            return SIZE_MAX;
        }
        if (i < max) {
            items[i] = item;
        }
    }
    return count;
}

size_t rows_text_array(const struct rows *rows, size_t row, size_t column, struct cof_slice *items, size_t max)
{
    const struct cell cell = rows_cell(rows, row, column);
    assert(cell.type == POSTGRES_TEXT_ARRAY);
    if (cell.null) {
        return 0;
    }
    if (cell.bytes.len == POSTGRES_ARRAY_EMPTY_SIZE && cof_get_u32(cell.bytes.data) == 0) {
        return 0;
    }
    if (cell.bytes.len < POSTGRES_ARRAY_HEADER_SIZE || cof_get_u32(cell.bytes.data) != 1) {
        return SIZE_MAX;
    }
    const struct cof_slice rest = {cell.bytes.data + POSTGRES_ARRAY_HEADER_SIZE,
                                   cell.bytes.len - POSTGRES_ARRAY_HEADER_SIZE};
    return read_items(rest, cof_get_u32(cell.bytes.data + POSTGRES_ARRAY_EMPTY_SIZE), items, max);
}
