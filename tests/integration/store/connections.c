#include "tests/integration/store/connections.h"

#include <stdio.h>

#include "server/service/guard.h"

#define SECOND INT64_C(1000000)
#define WORKSPACE "'00000000-0000-0000-0000-000000000001'"
#define NOBODY "'00000000-0000-0000-0000-000000000000'"

const struct cof_uuid connections_workspace = {.bytes = {[15] = 1}};

struct cof_uuid connections_uuid(size_t number)
{
    return (struct cof_uuid){.bytes = {[14] = (uint8_t) (number >> 8), [15] = (uint8_t) number, [0] = 2}};
}

struct call *connections_call(struct connections *connections)
{
    cof_arena_reset(&connections->arena);
    connections->call = (struct call){
        .service = &connections->service,
        .session = connections->session,
        .arena = &connections->arena,
        .err = &connections->err,
        .method = "cofferd/RefreshConnection",
        .peer = "cofferd",
        .request_id = cof_uuid_time(&cof_system_clock),
        .received_us = cof_clock_monotonic(&cof_system_clock),
        .deadline_us = cof_clock_monotonic(&cof_system_clock) + 60 * SECOND,
    };
    return &connections->call;
}

static void insert_rows(const struct connections *connections, size_t number)
{
    char id[COF_UUID_TEXT];
    char sql[1024];
    const struct cof_uuid uuid = connections_uuid(number);
    cof_uuid_format(&uuid, id);
    (void) snprintf(sql, sizeof sql,
                    "insert into connection values (" WORKSPACE
                    ", '%s', 'prod', 'p%zu', 0, 1, 1, 1, 'client', '{}',"
                    " '', '', 1, 1, 1, 'epoch', 'epoch', 1, '');"
                    "insert into connection_token values (" WORKSPACE ", '%s', 1, 1, 2, '', '', 'bearer', '{}',"
                    " 'epoch', 'epoch', null, " NOBODY ", null, 1, '');"
                    "insert into connection_lease values (" WORKSPACE ", '%s', 0, " NOBODY
                    ", null, 1, 0, 0, null, null, null, null, 0, '')",
                    id, number, id, id);
    test_database_run(connections->database.conninfo, sql);
}

static cof_code run(struct connections *connections, statement id, const struct param *params, size_t count)
{
    TRY(session_queue(connections->session, id, params, count, &connections->err));
    TRY(session_sync(connections->session, &connections->err));
    return session_next(connections->session, NULL, &connections->err);
}

static cof_code insert_key(struct connections *connections)
{
    uint8_t wrapped[WRAPPED_KEY_SIZE];
    TRY(keyring_generate(connections->service.keyring, &connections_workspace, 1, wrapped, &connections->err));
    const struct param params[] = {param_uuid(&connections_workspace), param_i32(1),
                                   param_text(cof_slice_of(wrapped, sizeof wrapped)), param_time(0)};
    return run(connections, STATEMENT_KEY_INSERT, params, COF_COUNT(params));
}

/* The MAC of a row that was inserted by hand. */
static cof_code guard_connection(struct connections *connections, size_t number)
{
    char name[32];
    (void) snprintf(name, sizeof name, "p%zu", number);
    struct connection_row row = {
        .workspace_id = connections_workspace,
        .connection_id = connections_uuid(number),
        .environment = cof_slice_text("prod"),
        .provider = cof_slice_text(name),
        .class = CONNECTION_USER,
        .grant_kind = 1,
        .client_authentication = 1,
        .client_id = cof_slice_text("client"),
        .settings = cof_slice_text(""),
        .credentials = cof_slice_text(""),
        .credential_generation = 1,
        .config_generation = 1,
        .version = 1,
    };
    struct call *call = connections_call(connections);
    TRY(guard_load_keys(call, &connections_workspace));
    TRY(guard_seal_row(call, &connection_row_type, &connections_workspace, &row));
    const struct param params[] = {param_uuid(&row.workspace_id), param_uuid(&row.connection_id),
                                   param_text(row.credentials),   param_i32(row.mac_generation),
                                   param_text(row.mac),           param_text(cof_slice_text(""))};
    return run(connections, STATEMENT_RESEAL_CONNECTION, params, COF_COUNT(params));
}

static cof_code guard_tokens(struct connections *connections, size_t number)
{
    char refresh[32];
    uint8_t sealed[sizeof refresh + BLOB_OVERHEAD];
    (void) snprintf(refresh, sizeof refresh, "%zu-0", number);
    const struct cof_slice plain = cof_slice_text(refresh);
    struct connection_token_row row = {
        .workspace_id = connections_workspace,
        .connection_id = connections_uuid(number),
        .generation = 1,
        .config_generation = 1,
        .state = CONNECTION_CONNECTED,
        .access_token = cof_slice_text(""),
        .refresh_token = cof_slice_of(sealed, plain.len + BLOB_OVERHEAD),
        .token_type = cof_slice_text("bearer"),
        .refresh_expire_time = ROW_NO_TIME,
        .connect_time = ROW_NO_TIME,
    };
    const struct blob_address address = {BLOB_REFRESH_TOKEN, row.workspace_id, row.connection_id, 1};
    struct call *call = connections_call(connections);
    TRY(guard_seal(call, &address, plain, sealed));
    TRY(guard_seal_row(call, &connection_token_row_type, &connections_workspace, &row));
    const struct param params[] = {param_uuid(&row.workspace_id), param_uuid(&row.connection_id),
                                   param_text(row.access_token),  param_text(row.refresh_token),
                                   param_i32(row.mac_generation), param_text(row.mac),
                                   param_text(cof_slice_text(""))};
    return run(connections, STATEMENT_RESEAL_CONNECTION_TOKEN, params, COF_COUNT(params));
}

struct session_options connections_session_options(const struct connections *connections)
{
    return (struct session_options){.conninfo = connections->database.conninfo,
                                    .clock = &cof_system_clock,
                                    .connect_timeout_ms = 60000,
                                    .backoff_max_ms = 200};
}

cof_code connections_start(struct connections *connections, size_t count)
{
    static const uint8_t root[CRYPTO_KEY] = {7};
    struct root_key *key = NULL;
    struct cof_error *err = &connections->err;
    *connections = (struct connections){.service = {.clock = &cof_system_clock, .limits = service_default_limits}};
    TRY(root_key_new(root, &key, err));
    TRY(keyring_new(&key, 1, 4, &connections->service.keyring, err));
    TRY(cof_pool_new(1 << 26, COF_LOCK_BEST_EFFORT, &connections->pool, err));
    cof_arena_init(&connections->arena, connections->pool, CONNECTIONS_MEMORY);
    test_database_init(&connections->database);
    test_database_run(connections->database.conninfo,
                      "insert into workspace_revision values (" WORKSPACE ", 7, 1, 1)");
    const struct session_options options = connections_session_options(connections);
    TRY(session_new(&options, &connections->session, err));
    TRY(insert_key(connections));
    for (size_t i = 0; i < count; i++) {
        insert_rows(connections, i);
        TRY(guard_connection(connections, i));
        TRY(guard_tokens(connections, i));
    }
    return COF_OK;
}

void connections_stop(struct connections *connections)
{
    session_free(connections->session);
    cof_arena_reset(&connections->arena);
    cof_pool_free(connections->pool);
    keyring_free(connections->service.keyring);
    test_database_done(&connections->database);
}
