#include "server/service/call.h"

cof_code secret_addresses_new(struct cof_arena *arena, size_t capacity, struct secret_addresses *ret_addresses,
                              struct cof_error *err)
{
    struct cof_slice *items = cof_arena_array(arena, 2 * capacity, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(err);
    }
    *ret_addresses = (struct secret_addresses){items, items + capacity, 0};
    return COF_OK;
}

void secret_addresses_add(struct secret_addresses *addresses, struct cof_slice environment, struct cof_slice name)
{
    addresses->environments[addresses->count] = environment;
    addresses->names[addresses->count] = name;
    addresses->count++;
}

struct cache_read secret_read_begin(const struct service *service, const struct cof_uuid *workspace)
{
    if (service->cache == NULL || !service->keeps_secrets) {
        return (struct cache_read){.place = 0};
    }
    return cache_read_begin(service->cache, workspace);
}

static cof_code array_param(struct cof_arena *arena, const struct cof_slice *items, size_t count,
                            struct param *ret_param, struct cof_error *err)
{
    uint8_t *place = cof_arena_alloc(arena, array_text_size(items, count));
    if (place == NULL) {
        return cof_arena_exhausted(err);
    }
    *ret_param = param_text_array(items, count, place);
    return COF_OK;
}

cof_code secret_read_queue(struct session *session, const struct cof_uuid *workspace,
                           const struct secret_addresses *addresses, struct cof_arena *arena, struct cof_error *err)
{
    struct param params[] = {param_uuid(workspace), param_null(), param_null()};
    TRY(array_param(arena, addresses->environments, addresses->count, &params[1], err));
    TRY(array_param(arena, addresses->names, addresses->count, &params[2], err));
    return session_queue(session, STATEMENT_LOOKUP, params, COF_COUNT(params), err);
}

/* PostgreSQL counts from one. */
static size_t place_of(const struct secret_read *read, size_t row)
{
    return (size_t) rows_i64(read->rows, row, SECRET_READ_PLACE) - 1;
}

static bool stand_in_order(const struct secret_read *read, size_t end)
{
    size_t row = read->first;
    while (row < end && place_of(read, row) == row) {
        row++;
    }
    return row == end;
}

struct secret_read_range secret_read_range(const struct secret_read *read)
{
    const size_t rows = rows_count(read->rows);
    const size_t end = read->first + read->count;
    return end <= rows && stand_in_order(read, end) ? (struct secret_read_range){read->first, end}
                                                    : (struct secret_read_range){0, rows};
}

bool secret_read_has(const struct secret_read *read, size_t row)
{
    const size_t place = place_of(read, row);
    return place >= read->first && place - read->first < read->count &&
           !rows_null(read->rows, row, SECRET_READ_SECRET);
}
