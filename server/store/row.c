#include "server/store/row.h"

#include <assert.h>
#include <stddef.h>

#include "common/encode.h"

#define COLUMN_ENTRY(table, type, name) {#name, COLUMN_##type, offsetof(struct table##_row, name)},

static const struct column workspace_columns[] = {WORKSPACE_COLUMNS(COLUMN_ENTRY)};
static const struct column workspace_state_columns[] = {WORKSPACE_STATE_COLUMNS(COLUMN_ENTRY)};
static const struct column environment_columns[] = {ENVIRONMENT_COLUMNS(COLUMN_ENTRY)};
static const struct column secret_columns[] = {SECRET_COLUMNS(COLUMN_ENTRY)};
static const struct column principal_columns[] = {PRINCIPAL_COLUMNS(COLUMN_ENTRY)};
static const struct column token_columns[] = {TOKEN_COLUMNS(COLUMN_ENTRY)};
static const struct column action_columns[] = {ACTION_COLUMNS(COLUMN_ENTRY)};
static const struct column provider_columns[] = {PROVIDER_COLUMNS(COLUMN_ENTRY)};
static const struct column connection_columns[] = {CONNECTION_COLUMNS(COLUMN_ENTRY)};
static const struct column connection_token_columns[] = {CONNECTION_TOKEN_COLUMNS(COLUMN_ENTRY)};
static const struct column connection_lease_columns[] = {CONNECTION_LEASE_COLUMNS(COLUMN_ENTRY)};
static const struct column connection_authorization_columns[] = {CONNECTION_AUTHORIZATION_COLUMNS(COLUMN_ENTRY)};

const struct row_type workspace_row_type = {"workspace", workspace_columns, COF_COUNT(workspace_columns)};
const struct row_type workspace_state_row_type = {"workspace_state", workspace_state_columns,
                                                  COF_COUNT(workspace_state_columns)};
const struct row_type environment_row_type = {"environment", environment_columns, COF_COUNT(environment_columns)};
const struct row_type secret_row_type = {"secret", secret_columns, COF_COUNT(secret_columns)};
const struct row_type principal_row_type = {"principal", principal_columns, COF_COUNT(principal_columns)};
const struct row_type token_row_type = {"token", token_columns, COF_COUNT(token_columns)};
const struct row_type action_row_type = {"action", action_columns, COF_COUNT(action_columns)};
const struct row_type provider_row_type = {"provider", provider_columns, COF_COUNT(provider_columns)};
const struct row_type connection_row_type = {"connection", connection_columns, COF_COUNT(connection_columns)};
const struct row_type connection_token_row_type = {"connection_token", connection_token_columns,
                                                   COF_COUNT(connection_token_columns)};
const struct row_type connection_lease_row_type = {"connection_lease", connection_lease_columns,
                                                   COF_COUNT(connection_lease_columns)};
const struct row_type connection_authorization_row_type = {
    "connection_authorization", connection_authorization_columns, COF_COUNT(connection_authorization_columns)};

_Static_assert(COF_COUNT(secret_columns) <= ROW_COLUMNS_MAX, "ROW_COLUMNS_MAX is too small");
_Static_assert(COF_COUNT(connection_columns) <= ROW_COLUMNS_MAX, "ROW_COLUMNS_MAX is too small");
_Static_assert(COF_COUNT(principal_columns) <= ROW_COLUMNS_MAX, "ROW_COLUMNS_MAX is too small");

/* The bytes of a NULL in a MAC: no real length has this value. */
#define NULL_LENGTH UINT32_MAX

static const void *field_of(const void *row, const struct column *column)
{
    return (const uint8_t *) row + column->offset;
}

static cof_code read_texts(const struct rows *rows, size_t index, size_t column, struct cof_arena *arena,
                           struct row_texts *ret_texts, struct cof_error *err)
{
    struct cof_slice items[ROW_TEXTS_MAX];
    const size_t count = rows_text_array(rows, index, column, items, COF_COUNT(items));
    if (count > COF_COUNT(items)) {
        return cof_fail_internal(err, COF_ORIGIN_OWN, NULL, "a list in a row has %zu items", count);
    }
    ret_texts->count = count;
    ret_texts->items = cof_arena_array(arena, count, sizeof *items);
    if (ret_texts->items == NULL) {
        return cof_arena_exhausted(err);
    }
    memcpy(ret_texts->items, items, count * sizeof *items);
    return COF_OK;
}

static cof_code read_cell(const struct column *column, const struct rows *rows, size_t index, size_t place,
                          struct cof_arena *arena, void *field, struct cof_error *err)
{
    switch (column->type) {
    case COLUMN_UUID:
        *(struct cof_uuid *) field = rows_uuid(rows, index, place);
        return COF_OK;
    case COLUMN_TEXT:
    case COLUMN_BYTES:
        *(struct cof_slice *) field = rows_bytes(rows, index, place);
        return COF_OK;
    case COLUMN_TEXTS:
        return read_texts(rows, index, place, arena, field, err);
    case COLUMN_I32:
    case COLUMN_I32_OR_NONE:
        *(int32_t *) field = rows_i32(rows, index, place);
        return COF_OK;
    case COLUMN_I64:
        *(int64_t *) field = rows_i64(rows, index, place);
        return COF_OK;
    case COLUMN_BOOL:
        *(bool *) field = rows_bool(rows, index, place);
        return COF_OK;
    case COLUMN_TIME:
    case COLUMN_TIME_OR_NULL:
        *(int64_t *) field = rows_null(rows, index, place) ? ROW_NO_TIME : rows_time(rows, index, place);
        return COF_OK;
    }
    assert(false && "a column has a type");
    return COF_INTERNAL;
}

static struct param time_param(int64_t time)
{
    return time == ROW_NO_TIME ? param_null() : param_time(time);
}

static cof_code texts_param(const struct row_texts *texts, struct cof_arena *arena, struct param *ret_param,
                            struct cof_error *err)
{
    uint8_t *place = cof_arena_alloc(arena, array_text_size(texts->items, texts->count));
    if (place == NULL) {
        return cof_arena_exhausted(err);
    }
    *ret_param = param_text_array(texts->items, texts->count, place);
    return COF_OK;
}

static cof_code bind_cell(const struct column *column, const void *field, struct cof_arena *arena,
                          struct param *ret_param, struct cof_error *err)
{
    switch (column->type) {
    case COLUMN_UUID:
        *ret_param = param_uuid(field);
        return COF_OK;
    case COLUMN_TEXT:
    case COLUMN_BYTES:
        *ret_param = param_text(*(const struct cof_slice *) field);
        return COF_OK;
    case COLUMN_TEXTS:
        return texts_param(field, arena, ret_param, err);
    case COLUMN_I32:
    case COLUMN_I32_OR_NONE:
        *ret_param = param_i32(*(const int32_t *) field);
        return COF_OK;
    case COLUMN_I64:
        *ret_param = param_i64(*(const int64_t *) field);
        return COF_OK;
    case COLUMN_BOOL:
        *ret_param = param_bool(*(const bool *) field);
        return COF_OK;
    case COLUMN_TIME:
    case COLUMN_TIME_OR_NULL:
        *ret_param = time_param(*(const int64_t *) field);
        return COF_OK;
    }
    assert(false && "a column has a type");
    return COF_INTERNAL;
}

/* Writes length and bytes; with `to` NULL only counts. */
static size_t put_bytes(uint8_t *to, size_t at, struct cof_slice bytes)
{
    if (to != NULL) {
        cof_put_u32(to + at, (uint32_t) bytes.len);
        if (bytes.len > 0) {
            memcpy(to + at + 4, bytes.data, bytes.len);
        }
    }
    return at + 4 + bytes.len;
}

static size_t put_number(uint8_t *to, size_t at, int64_t number)
{
    uint8_t bytes[8];
    cof_put_u64(bytes, (uint64_t) number);
    return put_bytes(to, at, cof_slice_of(bytes, sizeof bytes));
}

static size_t put_texts(uint8_t *to, size_t at, const struct row_texts *texts)
{
    at = put_number(to, at, (int64_t) texts->count);
    for (size_t i = 0; i < texts->count; i++) {
        at = put_bytes(to, at, texts->items[i]);
    }
    return at;
}

static size_t put_time(uint8_t *to, size_t at, int64_t time)
{
    if (time != ROW_NO_TIME) {
        return put_number(to, at, time);
    }
    if (to != NULL) {
        cof_put_u32(to + at, NULL_LENGTH);
    }
    return at + 4;
}

/* Every field has its length, so a row with the field is never taken for one without. */
static size_t put_number_or_none(uint8_t *to, size_t at, int32_t number)
{
    return number == 0 ? at : put_number(to, at, number);
}

static size_t put_cell(uint8_t *to, size_t at, const struct column *column, const void *field)
{
    switch (column->type) {
    case COLUMN_UUID:
        return put_bytes(to, at, cof_slice_of(((const struct cof_uuid *) field)->bytes, 16));
    case COLUMN_TEXT:
    case COLUMN_BYTES:
        return put_bytes(to, at, *(const struct cof_slice *) field);
    case COLUMN_TEXTS:
        return put_texts(to, at, field);
    case COLUMN_I32:
        return put_number(to, at, *(const int32_t *) field);
    case COLUMN_I32_OR_NONE:
        return put_number_or_none(to, at, *(const int32_t *) field);
    case COLUMN_I64:
        return put_number(to, at, *(const int64_t *) field);
    case COLUMN_BOOL:
        return put_number(to, at, *(const bool *) field ? 1 : 0);
    case COLUMN_TIME:
    case COLUMN_TIME_OR_NULL:
        return put_time(to, at, *(const int64_t *) field);
    }
    assert(false && "a column has a type");
    return at;
}

static size_t put_row(uint8_t *to, const struct row_type *type, const void *row)
{
    size_t at = put_bytes(to, 0, cof_slice_text(type->table));
    /* The last two columns are the MAC's generation and the MAC itself. */
    for (size_t i = 0; i + 2 < type->count; i++) {
        at = put_cell(to, at, &type->columns[i], field_of(row, &type->columns[i]));
    }
    return at;
}

cof_code row_read(const struct row_type *type, const struct rows *rows, size_t index, size_t first,
                  struct cof_arena *arena, void *ret_row, struct cof_error *err)
{
    for (size_t i = 0; i < type->count; i++) {
        const struct column *column = &type->columns[i];
        TRY(read_cell(column, rows, index, first + i, arena, (uint8_t *) ret_row + column->offset, err));
    }
    return COF_OK;
}

static cof_code keep_bytes(struct cof_arena *arena, struct cof_slice *bytes, struct cof_error *err)
{
    const char *copy = cof_arena_text(arena, *bytes);
    if (copy == NULL) {
        return cof_arena_exhausted(err);
    }
    *bytes = cof_slice_of(copy, bytes->len);
    return COF_OK;
}

static cof_code keep_texts(struct cof_arena *arena, struct row_texts *texts, struct cof_error *err)
{
    for (size_t i = 0; i < texts->count; i++) {
        TRY(keep_bytes(arena, &texts->items[i], err));
    }
    return COF_OK;
}

cof_code row_keep(const struct row_type *type, struct cof_arena *arena, void *row, struct cof_error *err)
{
    for (size_t i = 0; i < type->count; i++) {
        void *field = (uint8_t *) row + type->columns[i].offset;
        if (type->columns[i].type == COLUMN_TEXT || type->columns[i].type == COLUMN_BYTES) {
            TRY(keep_bytes(arena, field, err));
        } else if (type->columns[i].type == COLUMN_TEXTS) {
            TRY(keep_texts(arena, field, err));
        }
    }
    return COF_OK;
}

static void flatten_texts(struct row_texts *texts, struct cof_flat *flat)
{
    struct cof_slice *items = cof_flat_items(flat, texts->items, texts->count * sizeof *texts->items);
    texts->items = items;
    for (size_t i = 0; i < texts->count; i++) {
        cof_flat_slice(flat, &items[i]);
    }
}

void row_flatten(const struct row_type *type, void *row, struct cof_flat *flat)
{
    for (size_t i = 0; i < type->count; i++) {
        void *field = (uint8_t *) row + type->columns[i].offset;
        if (type->columns[i].type == COLUMN_TEXT || type->columns[i].type == COLUMN_BYTES) {
            cof_flat_slice(flat, field);
        } else if (type->columns[i].type == COLUMN_TEXTS) {
            flatten_texts(field, flat);
        }
    }
}

cof_code row_queue(const struct row_type *type, const void *row, const struct row_more *more,
                   struct session *session, statement id, struct cof_arena *arena, struct cof_error *err)
{
    struct param params[ROW_COLUMNS_MAX + ROW_MORE_MAX];
    const size_t more_count = more == NULL ? 0 : more->count;
    for (size_t i = 0; i < type->count; i++) {
        TRY(bind_cell(&type->columns[i], field_of(row, &type->columns[i]), arena, &params[i], err));
    }
    for (size_t i = 0; i < more_count; i++) {
        params[type->count + i] = more->params[i];
    }
    return session_queue(session, id, params, type->count + more_count, err);
}

cof_code row_mac_input(const struct row_type *type, const void *row, struct cof_arena *arena,
                       struct cof_slice *ret_input, struct cof_error *err)
{
    const size_t size = put_row(NULL, type, row);
    uint8_t *input = cof_arena_alloc(arena, size);
    if (input == NULL) {
        return cof_arena_exhausted(err);
    }
    (void) put_row(input, type, row);
    *ret_input = cof_slice_of(input, size);
    return COF_OK;
}
