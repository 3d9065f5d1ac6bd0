#include "server/service/connection_place.h"

#include "common/name.h"
#include "common/wire.h"
#include "server/providers/provider_catalogue.h"
#include "server/service/expected_uid.h"
#include "server/service/guard.h"
#include "server/service/provider_row.h"
#include "server/service/providers.h"

static cof_code check_name(struct call *call, const struct connection_name *name)
{
    if (!name->all) {
        return cof_fail_field(
            call->err, COF_REASON_FIELD_INVALID, "all_environments",
            "all_environments is false; name an environment, or leave the scope out for all of them");
    }
    if (name->token_class != CONNECTION_USER && name->token_class != CONNECTION_SERVICE) {
        return cof_fail_field(call->err, COF_REASON_FIELD_REQUIRED, name->class_field,
                              "%s says whose token it is; give one that this server knows", name->class_field);
    }
    return COF_OK;
}

cof_code connection_place_of(struct call *call, const struct connection_name *name, cof_permission permission,
                             struct connection_place *ret_place)
{
    const struct address *address;
    TRY(authorize_connection(call, name->workspace, name->environment, name->provider, permission, &address));
    TRY(check_name(call, name));
    *ret_place = (struct connection_place){
        .address = address,
        .environment = name->environment == NULL ? cof_slice_text("") : address_environment(address),
        .provider = cof_slice_text(name->provider),
        .token_class = name->token_class,
    };
    return COF_OK;
}

cof_code connection_queue(struct call *call, const struct connection_place *place, statement id)
{
    const struct param params[] = {
        param_uuid(address_workspace(place->address)),
        param_text(place->provider),
        param_text(place->environment),
        param_i32(place->token_class),
    };
    return session_queue(call->session, id, params, COF_COUNT(params), call->err);
}

static cof_code corrupted(struct call *call, const char *what)
{
    return cof_fail(call->err, COF_REASON_CORRUPTED, "%s; %s", what, cof_reason_next_step(COF_REASON_CORRUPTED));
}

static cof_code set_usual_scopes(struct call *call, const struct provider *provider, struct connection *connection)
{
    const provider_class side = connection->row.class == CONNECTION_USER ? PROVIDER_USER : PROVIDER_SERVICE;
    const struct provider_texts *scopes = &provider->sides[side].scopes;
    struct row_texts *usual = &connection->usual_scopes;
    usual->items = cof_arena_array(call->arena, scopes->count, sizeof *usual->items);
    for (usual->count = 0; usual->items != NULL && usual->count < scopes->count; usual->count++) {
        usual->items[usual->count] = cof_slice_text(scopes->items[usual->count]);
    }
    return usual->items == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code read_own_provider(struct call *call, const struct provider_row *row, struct connection *connection)
{
    struct provider provider;
    TRY(guard_check_row(call, &provider_row_type, &row->workspace_id, row));
    TRY(provider_of_row(call, row, &provider));
    return set_usual_scopes(call, &provider, connection);
}

/* Its configuration's generation is all that a connection depends on. */
static cof_code read_provider(struct call *call, const struct rows *rows, size_t index, size_t column,
                              struct connection *connection)
{
    struct provider_row row;
    const char *id = (const char *) connection->row.provider.data;
    const struct provider *builtin = provider_catalogue_find(call->service->providers, id);
    connection->provider_generation = 0;
    connection->usual_scopes = (struct row_texts){NULL, 0};
    connection->has_provider = builtin != NULL;
    if (rows_null(rows, index, column)) {
        return builtin == NULL ? COF_OK : set_usual_scopes(call, builtin, connection);
    }
    TRY(row_read(&provider_row_type, rows, index, column, call->arena, &row, call->err));
    const cof_code code = read_own_provider(call, &row, connection);
    connection->has_provider = code == COF_OK;
    connection->provider_generation = row.generation;
    if (code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        return COF_OK;
    }
    return code;
}

cof_code connection_read(struct call *call, const struct rows *rows, size_t index,
                         struct connection *ret_connection)
{
    const size_t token = connection_row_type.count;
    const size_t lease = token + connection_token_row_type.count;
    const size_t provider = lease + connection_lease_row_type.count;
    struct connection *found = ret_connection;
    TRY(row_read(&connection_row_type, rows, index, 0, call->arena, &found->row, call->err));
    if (rows_null(rows, index, token) || rows_null(rows, index, lease)) {
        return corrupted(call, "a stored connection has lost a part");
    }
    TRY(row_read(&connection_token_row_type, rows, index, token, call->arena, &found->token, call->err));
    TRY(row_read(&connection_lease_row_type, rows, index, lease, call->arena, &found->lease, call->err));
    TRY(guard_check_row(call, &connection_row_type, &found->row.workspace_id, &found->row));
    TRY(guard_check_row(call, &connection_token_row_type, &found->row.workspace_id, &found->token));
    TRY(read_provider(call, rows, index, provider, found));
    return found->token.config_generation == found->row.config_generation
               ? COF_OK
               : corrupted(call, "the stored tokens of a connection are of another configuration");
}

cof_code connection_look(struct call *call, const struct connection_place *place, struct rows **ret_rows)
{
    TRY(guard_load_keys(call, address_workspace(place->address)));
    TRY(connection_queue(call, place, STATEMENT_CONNECTION_GET));
    TRY(session_sync(call->session, call->err));
    return session_next(call->session, ret_rows, call->err);
}

cof_code connection_find(struct call *call, const struct connection_place *place, const char *expected_uid,
                         struct connection_row *ret_row)
{
    struct connection found;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(connection_look(call, place, &rows));
    if (rows_count(rows) == 0) {
        return connection_not_found(call, place);
    }
    TRY(connection_read(call, rows, 0, &found));
    TRY(expected_uid_check(call, expected_uid, &found.row.connection_id));
    *ret_row = found.row;
    return row_keep(&connection_row_type, call->arena, ret_row, call->err);
}

cof_code connection_not_found(struct call *call, const struct connection_place *place)
{
    const struct cof_slice where = address_environment(place->address);
    cof_ignore(cof_fail(
        call->err, COF_REASON_CONNECTION_NOT_FOUND,
        "there is no connection of %.*s for %s%.*s; configure one there, or name the environment of one that is",
        (int) place->provider.len, (const char *) place->provider.data,
        place->environment.len == 0 ? "all environments" : "the environment ", (int) place->environment.len,
        (const char *) place->environment.data));
    return cof_error_fact(call->err, "environment", "%.*s", (int) where.len, (const char *) where.data);
}

cof_code connection_provider_not_found(struct call *call, const struct connection_place *place)
{
    return cof_fail_field(call->err, COF_REASON_PROVIDER_NOT_FOUND, "provider",
                          "there is no OAuth provider \"%.*s\"; %s", (int) place->provider.len,
                          (const char *) place->provider.data, cof_reason_next_step(COF_REASON_PROVIDER_NOT_FOUND));
}

cof_code connection_settings(struct call *call, const struct connection_row *row,
                             Coffer__V1__ConnectionSettings **ret_settings)
{
    ProtobufCMessage *message = NULL;
    if (cof_wire_unpack(&coffer__v1__connection_settings__descriptor, row->settings, call->arena, &message,
                        call->err) == COF_OK) {
        *ret_settings = (Coffer__V1__ConnectionSettings *) (void *) message;
        return COF_OK;
    }
    /* That memory ran out is no fault of the row's. */
    return call->err->reason == COF_REASON_OUT_OF_MEMORY
               ? call->err->code
               : corrupted(call, "the stored settings of a connection cannot be read");
}
