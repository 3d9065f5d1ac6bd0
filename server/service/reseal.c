#include "server/service/reseal.h"

#include "server/service/fault.h"
#include "server/service/guard.h"
#include "server/store/row.h"

enum { ROWS_AT_ONCE = 32 };

/* One row on its way. */
struct reseal_row {
    struct call *call;
    struct reseal *walk;
    const struct rows *rows;
    size_t index;
};

/* A table: the statement that gives its next rows of an older generation, how many columns are their place, and what
 * seals one and queues its update. */
struct reseal_table {
    statement page;
    unsigned place; /* 0: none, it is a single row; 1: UUID; 2: two UUIDs; 3: UUID and version */
    cof_code (*seal)(const struct reseal_row *row);
};

/* --- Pieces --------------------------------------------------------------------------------------------------- */

/* In the place of the ciphertext: what is opened lies in the call's memory and nowhere else. */
static cof_code seal_anew(struct call *call, const struct blob_address *address, struct cof_slice blob,
                          struct cof_slice *ret_blob)
{
    uint8_t *copy = cof_arena_alloc(call->arena, blob.len);
    if (copy == NULL) {
        return cof_arena_exhausted(call->err);
    }
    if (blob.len > 0) {
        memcpy(copy, blob.data, blob.len);
    }
    TRY(guard_open(call, address, cof_slice_of(copy, blob.len), copy + BLOB_HEADER));
    *ret_blob = cof_slice_of(copy, blob.len);
    return guard_seal(call, address, cof_slice_of(copy + BLOB_HEADER, blob.len - BLOB_OVERHEAD), copy);
}

/* The header has the nonce: whoever sealed it anew meanwhile changed it. */
static struct param header_of(struct cof_slice blob)
{
    return blob.len < BLOB_HEADER ? param_null() : param_text(cof_slice_of(blob.data, BLOB_HEADER));
}

static cof_code queue(const struct reseal_row *row, statement id, const struct param *params, size_t count)
{
    struct session *session = row->call->session;
    TRY(session_queue(session, id, params, count, row->call->err));
    return session_sync(session, row->call->err);
}

/* --- Tables --------------------------------------------------------------------------------------------------- */

static cof_code seal_secret(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct secret_row secret;
    struct cof_slice blob = {NULL, 0};
    TRY(row_read(&secret_row_type, row->rows, row->index, 0, call->arena, &secret, call->err));
    TRY(guard_check_row(call, &secret_row_type, &secret.workspace_id, &secret));
    const struct cof_slice mac = secret.mac;
    const struct cof_slice old = rows_bytes(row->rows, row->index, secret_row_type.count);
    const bool sealed = !rows_null(row->rows, row->index, secret_row_type.count);
    if (sealed) {
        const struct blob_address address = {BLOB_SECRET_VERSION, secret.workspace_id, secret.secret_id,
                                             (uint64_t) secret.version};
        TRY(seal_anew(call, &address, old, &blob));
    }
    TRY(guard_seal_row(call, &secret_row_type, &secret.workspace_id, &secret));
    const struct param params[] = {
        param_uuid(&secret.workspace_id),
        param_uuid(&secret.secret_id),
        param_i32(secret.mac_generation),
        param_text(secret.mac),
        sealed ? param_text(blob) : param_null(),
        param_text(mac),
        header_of(old),
    };
    return queue(row, STATEMENT_RESEAL_SECRET, params, COF_COUNT(params));
}

static cof_code seal_version(const struct reseal_row *row)
{
    struct cof_slice blob = {NULL, 0};
    const struct cof_uuid secret = rows_uuid(row->rows, row->index, 0);
    const int64_t version = rows_i64(row->rows, row->index, 1);
    const struct cof_slice old = rows_bytes(row->rows, row->index, 2);
    const struct blob_address address = {BLOB_SECRET_VERSION, row->walk->workspace, secret, (uint64_t) version};
    TRY(seal_anew(row->call, &address, old, &blob));
    const struct param params[] = {
        param_uuid(&row->walk->workspace),
        param_uuid(&secret),
        param_i64(version),
        param_text(blob),
        header_of(old),
    };
    return queue(row, STATEMENT_RESEAL_VERSION, params, COF_COUNT(params));
}

static cof_code seal_principal(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct principal_row principal;
    TRY(row_read(&principal_row_type, row->rows, row->index, 0, call->arena, &principal, call->err));
    TRY(guard_check_row(call, &principal_row_type, &principal.workspace_id, &principal));
    const struct cof_slice mac = principal.mac;
    TRY(guard_seal_row(call, &principal_row_type, &principal.workspace_id, &principal));
    const struct param params[] = {
        param_uuid(&principal.workspace_id),
        param_uuid(&principal.principal_id),
        param_i32(principal.mac_generation),
        param_text(principal.mac),
        param_text(mac),
    };
    return queue(row, STATEMENT_RESEAL_PRINCIPAL, params, COF_COUNT(params));
}

static cof_code seal_token(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct token_row token;
    struct cof_slice blob = {NULL, 0};
    TRY(row_read(&token_row_type, row->rows, row->index, 0, call->arena, &token, call->err));
    TRY(guard_check_row(call, &token_row_type, &token.workspace_id, &token));
    const struct blob_address address = {BLOB_NARROWING_KEY, token.workspace_id, token.token_id, 0};
    const struct cof_slice mac = token.mac;
    TRY(seal_anew(call, &address, token.narrowing_key, &blob));
    token.narrowing_key = blob;
    TRY(guard_seal_row(call, &token_row_type, &token.workspace_id, &token));
    const struct param params[] = {
        param_uuid(&token.workspace_id), param_uuid(&token.token_id), param_text(blob),
        param_i32(token.mac_generation), param_text(token.mac),       param_text(mac),
    };
    return queue(row, STATEMENT_RESEAL_TOKEN, params, COF_COUNT(params));
}

static cof_code seal_request(const struct reseal_row *row)
{
    struct cof_slice blob = {NULL, 0};
    const struct cof_uuid principal = rows_uuid(row->rows, row->index, 0);
    const struct cof_uuid request = rows_uuid(row->rows, row->index, 1);
    const struct cof_slice old = rows_bytes(row->rows, row->index, 2);
    const struct blob_address address = {BLOB_ANSWER, row->walk->workspace, request, 0};
    TRY(seal_anew(row->call, &address, old, &blob));
    const struct param params[] = {
        param_uuid(&row->walk->workspace),
        param_uuid(&principal),
        param_uuid(&request),
        param_text(blob),
        header_of(old),
    };
    return queue(row, STATEMENT_RESEAL_REQUEST, params, COF_COUNT(params));
}

static cof_code seal_action(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct action_row action;
    TRY(row_read(&action_row_type, row->rows, row->index, 0, call->arena, &action, call->err));
    TRY(guard_check_row(call, &action_row_type, &action.workspace_id, &action));
    const struct cof_slice mac = action.mac;
    TRY(guard_seal_row(call, &action_row_type, &action.workspace_id, &action));
    const struct param params[] = {param_uuid(&action.workspace_id), param_text(action.name),
                                   param_i32(action.mac_generation), param_text(action.mac), param_text(mac)};
    return queue(row, STATEMENT_RESEAL_ACTION, params, COF_COUNT(params));
}

static cof_code seal_provider(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct provider_row provider;
    TRY(row_read(&provider_row_type, row->rows, row->index, 0, call->arena, &provider, call->err));
    TRY(guard_check_row(call, &provider_row_type, &provider.workspace_id, &provider));
    const struct cof_slice mac = provider.mac;
    TRY(guard_seal_row(call, &provider_row_type, &provider.workspace_id, &provider));
    const struct param params[] = {param_uuid(&provider.workspace_id), param_text(provider.provider),
                                   param_i32(provider.mac_generation), param_text(provider.mac), param_text(mac)};
    return queue(row, STATEMENT_RESEAL_PROVIDER, params, COF_COUNT(params));
}

/* What is sealed in a column that may be empty. */
static cof_code seal_if_any(struct call *call, const struct blob_address *address, struct cof_slice *blob)
{
    return blob->len == 0 ? COF_OK : seal_anew(call, address, *blob, blob);
}

static cof_code seal_connection(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct connection_row connection;
    TRY(row_read(&connection_row_type, row->rows, row->index, 0, call->arena, &connection, call->err));
    TRY(guard_check_row(call, &connection_row_type, &connection.workspace_id, &connection));
    const struct cof_slice mac = connection.mac;
    const struct blob_address address = {BLOB_CONNECTION_CREDENTIALS, connection.workspace_id,
                                         connection.connection_id, (uint64_t) connection.credential_generation};
    TRY(seal_if_any(call, &address, &connection.credentials));
    TRY(guard_seal_row(call, &connection_row_type, &connection.workspace_id, &connection));
    const struct param params[] = {
        param_uuid(&connection.workspace_id), param_uuid(&connection.connection_id),
        param_text(connection.credentials),   param_i32(connection.mac_generation),
        param_text(connection.mac),           param_text(mac),
    };
    return queue(row, STATEMENT_RESEAL_CONNECTION, params, COF_COUNT(params));
}

static cof_code seal_connection_token(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct connection_token_row token;
    TRY(row_read(&connection_token_row_type, row->rows, row->index, 0, call->arena, &token, call->err));
    TRY(guard_check_row(call, &connection_token_row_type, &token.workspace_id, &token));
    const struct cof_slice mac = token.mac;
    struct blob_address address = {BLOB_ACCESS_TOKEN, token.workspace_id, token.connection_id,
                                   (uint64_t) token.generation};
    TRY(seal_if_any(call, &address, &token.access_token));
    address.kind = BLOB_REFRESH_TOKEN;
    TRY(seal_if_any(call, &address, &token.refresh_token));
    TRY(guard_seal_row(call, &connection_token_row_type, &token.workspace_id, &token));
    const struct param params[] = {
        param_uuid(&token.workspace_id),
        param_uuid(&token.connection_id),
        param_text(token.access_token),
        param_text(token.refresh_token),
        param_i32(token.mac_generation),
        param_text(token.mac),
        param_text(mac),
    };
    return queue(row, STATEMENT_RESEAL_CONNECTION_TOKEN, params, COF_COUNT(params));
}

static cof_code seal_workspace(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct workspace_row workspace;
    TRY(row_read(&workspace_row_type, row->rows, row->index, 0, call->arena, &workspace, call->err));
    TRY(guard_check_row(call, &workspace_row_type, &workspace.workspace_id, &workspace));
    const struct cof_slice mac = workspace.mac;
    TRY(guard_seal_row(call, &workspace_row_type, &workspace.workspace_id, &workspace));
    const struct param params[] = {param_uuid(&workspace.workspace_id), param_i32(workspace.mac_generation),
                                   param_text(workspace.mac), param_text(mac)};
    return queue(row, STATEMENT_RESEAL_WORKSPACE, params, COF_COUNT(params));
}

/* The states of all workspaces are guarded by the key of the system workspace. */
static cof_code seal_state(const struct reseal_row *row)
{
    struct call *call = row->call;
    struct workspace_state_row state;
    TRY(row_read(&workspace_state_row_type, row->rows, row->index, 0, call->arena, &state, call->err));
    TRY(guard_check_row(call, &workspace_state_row_type, &cof_uuid_zero, &state));
    const struct cof_slice mac = state.mac;
    TRY(guard_seal_row(call, &workspace_state_row_type, &cof_uuid_zero, &state));
    const struct param params[] = {param_uuid(&state.workspace_id), param_i32(state.mac_generation),
                                   param_text(state.mac), param_text(mac)};
    return queue(row, STATEMENT_RESEAL_STATE, params, COF_COUNT(params));
}

/* Writes move what is sealed from secrets to versions and never back. */
static const struct reseal_table tables[] = {
    {STATEMENT_RESEAL_SECRETS, 1, seal_secret},
    {STATEMENT_RESEAL_VERSIONS, 3, seal_version},
    {STATEMENT_RESEAL_PRINCIPALS, 1, seal_principal},
    {STATEMENT_RESEAL_TOKENS, 1, seal_token},
    {STATEMENT_RESEAL_REQUESTS, 2, seal_request},
    {STATEMENT_RESEAL_ACTIONS, 1, seal_action},
    {STATEMENT_RESEAL_PROVIDERS, 1, seal_provider},
    {STATEMENT_RESEAL_CONNECTIONS, 1, seal_connection},
    {STATEMENT_RESEAL_CONNECTION_TOKENS, 1, seal_connection_token},
    {STATEMENT_RESEAL_WORKSPACES, 0, seal_workspace},
    {STATEMENT_RESEAL_STATES, 4, seal_state},
};

/* --- A page --------------------------------------------------------------------------------------------------- */

/* Where the UUID that a row has its place by stands. */
static unsigned place_column(const struct reseal_table *table)
{
    if (table->seal == seal_action || table->seal == seal_provider) {
        return 2;
    }
    return table->seal == seal_version || table->seal == seal_request || table->seal == seal_state ? 0 : 1;
}

static cof_code read_page(struct call *call, const struct reseal *walk, struct rows **ret_rows)
{
    const struct reseal_table *table = &tables[walk->table];
    const struct param all[] = {param_uuid(&walk->workspace), param_i32((int32_t) walk->generation),
                                param_i64(ROWS_AT_ONCE), param_uuid(&walk->first), param_uuid(&walk->second)};
    const struct param version[] = {all[0], all[1], all[2], all[3], param_i64(walk->version)};
    const struct param states[] = {param_i32((int32_t) walk->generation), param_i64(ROWS_AT_ONCE),
                                   param_uuid(&walk->first)};
    if (table->place == 4) {
        TRY(session_queue(call->session, table->page, states, COF_COUNT(states), call->err));
    } else if (table->place == 3) {
        TRY(session_queue(call->session, table->page, version, COF_COUNT(version), call->err));
    } else {
        TRY(session_queue(call->session, table->page, all, 3 + table->place, call->err));
    }
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, ret_rows, call->err);
}

/* Seals what can be, and counts what was queued. Whoever has no memory or no key fails; damage is left alone. */
static cof_code seal_page(struct call *call, struct reseal *walk, const struct rows *rows, size_t *ret_queued)
{
    for (size_t i = 0; i < rows_count(rows); i++) {
        const struct reseal_row row = {call, walk, rows, i};
        const cof_code code = tables[walk->table].seal(&row);
        walk->damaged += code == COF_DATA_LOSS;
        *ret_queued += code == COF_OK;
        if (code != COF_DATA_LOSS) {
            TRY(code);
        }
    }
    return COF_OK;
}

static void move_on(struct reseal *walk, const struct rows *rows)
{
    const struct reseal_table *table = &tables[walk->table];
    const size_t count = rows_count(rows);
    if (count < ROWS_AT_ONCE || table->place == 0) {
        walk->table++;
        walk->first = walk->second = cof_uuid_zero;
        walk->version = 0;
        return;
    }
    walk->first = rows_uuid(rows, count - 1, place_column(table));
    if (table->place == 2) {
        walk->second = rows_uuid(rows, count - 1, 1);
    } else if (table->place == 3) {
        walk->version = rows_i64(rows, count - 1, 1);
    }
}

/* The current generation has to be the one that is sealed under, here too. */
static cof_code check_generation(struct call *call, const struct reseal *walk)
{
    struct keyring *keyring = call->service->keyring;
    if (keyring_generation(keyring, &walk->workspace) < walk->generation) {
        TRY(guard_load_keys_anew(keyring, call->session, &walk->workspace, call->err));
    }
    if (keyring_generation(keyring, &walk->workspace) >= walk->generation) {
        return COF_OK;
    }
    return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "the workspace's current key is not there");
}

static cof_code take_updates(struct call *call, struct reseal *walk, size_t queued)
{
    for (size_t i = 0; i < queued; i++) {
        AUTO(rows_cleanup) struct rows *updated = NULL;
        TRY(session_next(call->session, &updated, call->err));
        walk->resealed += rows_affected(updated);
        FAULT_POINT("reseal.row");
    }
    return COF_OK;
}

struct reseal reseal_from_start(const struct cof_uuid *workspace, uint32_t generation)
{
    return (struct reseal){.workspace = *workspace, .generation = generation};
}

/* Only the system workspace has rows of the last table. */
static bool over(const struct reseal *walk)
{
    const bool system = cof_uuid_equal(&walk->workspace, &cof_uuid_zero);
    return walk->table >= COF_COUNT(tables) - (system ? 0 : 1);
}

cof_code reseal_some(struct call *call, struct reseal *walk, bool *ret_done)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    size_t queued = 0;
    call->sealed = (struct call_sealed){0};
    *ret_done = over(walk);
    if (*ret_done) {
        return COF_OK;
    }
    TRY(check_generation(call, walk));
    TRY(read_page(call, walk, &rows));
    TRY(seal_page(call, walk, rows, &queued));
    const uint32_t sealed = guard_sealed_generation(call, &walk->workspace);
    if (sealed != 0 && sealed < walk->generation) {
        return cof_fail_internal(call->err, COF_ORIGIN_OWN, NULL, "a row was sealed under an old key");
    }
    TRY(take_updates(call, walk, queued));
    FAULT_POINT("reseal.page");
    move_on(walk, rows);
    return COF_OK;
}

cof_code reseal_count(struct call *call, const struct cof_uuid *workspace, uint32_t generation, uint64_t *ret_rows,
                      uint64_t *ret_old)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(workspace), param_i32((int32_t) generation)};
    TRY(session_queue(call->session, STATEMENT_RESEAL_COUNT, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    *ret_rows = 0;
    *ret_old = 0;
    for (size_t i = 0; i < rows_count(rows); i++) {
        *ret_rows += (uint64_t) rows_i64(rows, i, 0);
        *ret_old += (uint64_t) rows_i64(rows, i, 1);
    }
    return COF_OK;
}
