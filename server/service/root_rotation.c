#include "server/service/root_rotation.h"

#include "server/service/fault.h"
#include "server/service/key_rotation.h"

enum { KEYS_AT_ONCE = 200 };

static cof_code read_page(struct session *session, const struct keyring *keyring, const struct root_rotation *walk,
                          struct rows **ret_rows, struct cof_error *err)
{
    const struct root_key *root = keyring_wrapping_root(keyring);
    const struct param params[] = {
        param_uuid(&walk->workspace),
        param_i32(walk->generation),
        param_text(cof_slice_of(root_key_id(root), ROOT_KEY_ID)),
        param_i64(KEYS_AT_ONCE),
    };
    TRY(session_queue(session, STATEMENT_KEY_OF_OTHER_ROOTS, params, COF_COUNT(params), err));
    TRY(session_sync(session, err));
    return session_next(session, ret_rows, err);
}

static cof_code rewrap(struct session *session, const struct keyring *keyring, const struct rows *rows,
                       size_t index, struct cof_error *err)
{
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    const struct cof_uuid workspace = rows_uuid(rows, index, 0);
    const int32_t generation = rows_i32(rows, index, 1);
    const struct cof_slice old = rows_bytes(rows, index, 3);
    const blob_kind kind = rows_i32(rows, index, 2) == GENERATION_RETIRED ? BLOB_ROW_KEY : BLOB_WORKSPACE_KEY;
    const struct blob_address address = workspace_key_address(kind, &workspace, (uint32_t) generation);
    TRY(keyring_rewrap(keyring, &address, old, wrapped, err));
    const struct param params[] = {param_uuid(&workspace), param_i32(generation), param_text(old),
                                   param_text(cof_slice_of(wrapped, sizeof wrapped))};
    TRY(session_queue(session, STATEMENT_KEY_REWRAP, params, COF_COUNT(params), err));
    return session_sync(session, err);
}

cof_code root_rotation_some(struct session *session, struct keyring *keyring, struct root_rotation *walk,
                            bool *ret_done, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    size_t queued = 0;
    TRY(read_page(session, keyring, walk, &rows, err));
    for (size_t i = 0; i < rows_count(rows); i++) {
        const cof_code code = rewrap(session, keyring, rows, i, err);
        walk->damaged += code == COF_DATA_LOSS;
        queued += code == COF_OK;
        if (code != COF_DATA_LOSS) {
            TRY(code);
        }
    }
    for (size_t i = 0; i < queued; i++) {
        AUTO(rows_cleanup) struct rows *updated = NULL;
        TRY(session_next(session, &updated, err));
        walk->rewrapped += rows_affected(updated);
        FAULT_POINT("root.key");
    }
    FAULT_POINT("root.page");
    *ret_done = rows_count(rows) < KEYS_AT_ONCE;
    if (!*ret_done) {
        walk->workspace = rows_uuid(rows, KEYS_AT_ONCE - 1, 0);
        walk->generation = rows_i32(rows, KEYS_AT_ONCE - 1, 1);
    }
    return COF_OK;
}

cof_code root_rotation_count(struct session *session, struct cof_slice root_id, uint64_t *ret_under,
                             uint64_t *ret_all, struct cof_error *err)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    *ret_under = 0;
    *ret_all = 0;
    TRY(session_queue(session, STATEMENT_KEY_ROOTS, NULL, 0, err));
    TRY(session_sync(session, err));
    TRY(session_next(session, &rows, err));
    for (size_t i = 0; i < rows_count(rows); i++) {
        const uint64_t count = (uint64_t) rows_i64(rows, i, 1);
        *ret_all += count;
        *ret_under += cof_slice_equal(rows_bytes(rows, i, 0), root_id) ? count : 0;
    }
    return COF_OK;
}
