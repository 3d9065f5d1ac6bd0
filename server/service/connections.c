#include "server/service/connections.h"

#include <stdio.h>

#include "common/name.h"
#include "server/service/authorizations.h"
#include "server/service/connection_change.h"
#include "server/service/connection_revoke.h"
#include "server/service/expected_uid.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/providers.h"
#include "server/service/secret_change.h"
#include "server/service/text.h"

/* --- Get ------------------------------------------------------------------------------------------------------ */

static cof_code show(struct call *call, const struct rows *rows, size_t index, Coffer__V1__Connection **ret_message)
{
    struct connection connection;
    cof_code code = connection_read(call, rows, index, &connection);
    if (code == COF_OK) {
        code = connection_message(call, &connection, ret_message);
    }
    if (code == COF_DATA_LOSS) {
        cof_error_clear(call->err);
        return connection_damaged(call, &connection.row, ret_message);
    }
    return code;
}

/* With what was started for it. */
static cof_code show_one(struct call *call, const struct rows *rows, Coffer__V1__GetConnectionResponse *response)
{
    struct connection_row row;
    TRY(show(call, rows, 0, &response->connection));
    TRY(row_read(&connection_row_type, rows, 0, 0, call->arena, &row, call->err));
    return authorization_list(call, &row.workspace_id, &row.connection_id, &response->authorizations,
                              &response->n_authorizations);
}

/* One that was never configured is a place with a status. */
static cof_code show_nothing(struct call *call, const struct connection_place *place,
                             Coffer__V1__Connection **ret_message)
{
    const struct connection_row row = {
        .workspace_id = *address_workspace(place->address),
        .environment = place->environment,
        .provider = place->provider,
        .class = place->token_class,
    };
    TRY(connection_damaged(call, &row, ret_message));
    (*ret_message)->corrupted = false;
    (*ret_message)->uid = text_of(call->arena, cof_slice_text(""));
    (*ret_message)->status = COFFER__V1__CONNECTION_STATUS__CONNECTION_STATUS_NOT_CONFIGURED;
    (*ret_message)->status_message = text_of(
        call->arena, cof_slice_text("it was never configured; configure it with the client's ID and credential"));
    return (*ret_message)->uid == NULL || (*ret_message)->status_message == NULL ? cof_arena_exhausted(call->err)
                                                                                 : COF_OK;
}

cof_code connection_get(struct call *call, const Coffer__V1__GetConnectionRequest *request,
                        Coffer__V1__GetConnectionResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, request->connection_class);
    struct connection_place place;
    struct provider_found provider;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_READ, &place));
    TRY(authorization_tell_page(call, &response->redirect_uri));
    TRY(connection_look(call, &place, &rows));
    if (rows_count(rows) > 0) {
        return show_one(call, rows, response);
    }
    const cof_code code = provider_get(call, address_workspace(place.address), request->provider, &provider);
    if (code == COF_NOT_FOUND) {
        return connection_provider_not_found(call, &place);
    }
    TRY(code);
    return show_nothing(call, &place, &response->connection);
}

/* --- List ----------------------------------------------------------------------------------------------------- */

static bool in_sight(const struct call *call, const struct cof_uuid *workspace,
                     const Coffer__V1__Connection *message)
{
    const char *name = cof_arena_format(call->arena, "%s_oauth", message->provider);
    const bool all = message->scope_case == COFFER__V1__CONNECTION__SCOPE_ALL_ENVIRONMENTS;
    const struct cof_slice where = cof_slice_text(all ? "" : message->environment);
    return name != NULL &&
           authorize_sees(call, workspace, where, cof_slice_text(name), COF_PERMISSION_CONNECTION_READ);
}

static cof_code read_environments(struct call *call, const Coffer__V1__ListConnectionsRequest *request,
                                  struct param *ret_param)
{
    const size_t count = request->n_environments;
    struct cof_slice *items = cof_arena_array(call->arena, count, sizeof *items);
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        const bool all = strcmp(request->environments[i], "*") == 0;
        char field[COF_ERROR_FIELD_SIZE];
        (void) snprintf(field, sizeof field, "environments[%zu]", i);
        items[i] = cof_slice_text(all ? "" : request->environments[i]);
        TRY(all ? COF_OK : cof_name_check(COF_NAME_ENVIRONMENT, items[i], field, call->err));
    }
    *ret_param = param_null();
    return count == 0 ? COF_OK : secret_texts(call, items, count, ret_param);
}

struct pending {
    Coffer__V1__Authorization **items;
    size_t count;
};

/* Part of a position. */
static const char *class_text(int token_class)
{
    return token_class == CONNECTION_SERVICE ? "2" : "1";
}

static int class_of_text(struct cof_slice text)
{
    return text.len == 0                                                           ? 0
           : cof_slice_equal(text, cof_slice_text(class_text(CONNECTION_SERVICE))) ? CONNECTION_SERVICE
                                                                                   : CONNECTION_USER;
}

static cof_code queue_listing(struct call *call, const struct cof_uuid *workspace,
                              const struct page_position *position,
                              const Coffer__V1__ListConnectionsRequest *request)
{
    struct param environments = param_null();
    const int token_class = class_of_text(position->parts[2]);
    TRY(read_environments(call, request, &environments));
    const struct param params[] = {
        param_uuid(workspace),
        param_text(position->parts[0]),
        param_text(position->parts[1]),
        param_i32(token_class),
        param_text(cof_slice_text(request->provider)),
        environments,
        param_i64(page_size(call, request->page_size)),
    };
    TRY(session_queue(call->session, STATEMENT_CONNECTION_LIST, params, COF_COUNT(params), call->err));
    TRY(authorization_queue_pending(call, workspace));
    return session_sync(call->session, call->err);
}

static cof_code fill_page(struct call *call, const struct cof_uuid *workspace, const struct rows *rows,
                          Coffer__V1__ListConnectionsResponse *response)
{
    const size_t count = rows_count(rows);
    response->connections = cof_arena_array(call->arena, count, sizeof *response->connections);
    if (response->connections == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        Coffer__V1__Connection *message = NULL;
        TRY(show(call, rows, i, &message));
        if (in_sight(call, workspace, message)) {
            response->connections[response->n_connections++] = message;
        }
    }
    return COF_OK;
}

/* Those of the workspace that are of this connection. */
static cof_code add_pending(struct call *call, const struct pending *pending, Coffer__V1__Connection *message)
{
    message->pending_authorizations = cof_arena_array(call->arena, AUTHORIZATION_SHOWN, sizeof *pending->items);
    if (message->pending_authorizations == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < pending->count && message->n_pending_authorizations < AUTHORIZATION_SHOWN; i++) {
        if (strcmp(pending->items[i]->connection_uid, message->uid) == 0) {
            message->pending_authorizations[message->n_pending_authorizations++] = pending->items[i];
        }
    }
    return COF_OK;
}

static cof_code fill_pending(struct call *call, Coffer__V1__ListConnectionsResponse *response)
{
    struct pending pending = {NULL, 0};
    TRY(authorization_list_next(call, &pending.items, &pending.count));
    for (size_t i = 0; i < response->n_connections && pending.count > 0; i++) {
        TRY(add_pending(call, &pending, response->connections[i]));
    }
    return COF_OK;
}

static cof_code next_page(struct call *call, const struct rows *rows, Coffer__V1__ListConnectionsResponse *response)
{
    struct connection_row last;
    TRY(row_read(&connection_row_type, rows, rows_count(rows) - 1, 0, call->arena, &last, call->err));
    const struct page_position position = {
        .parts = {last.provider, last.environment, cof_slice_text(class_text(last.class))}};
    return page_make(call, PAGE_CONNECTIONS, &position, &response->next_page_token);
}

cof_code connection_list(struct call *call, const Coffer__V1__ListConnectionsRequest *request,
                         Coffer__V1__ListConnectionsResponse *response)
{
    struct cof_uuid workspace;
    struct page_position position;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(authorize_workspace(call, request->workspace, COF_PERMISSION_CONNECTION_READ, &workspace));
    TRY(page_read(call, PAGE_CONNECTIONS, request->page_token, &position));
    TRY(guard_load_keys(call, &workspace));
    TRY(queue_listing(call, &workspace, &position, request));
    TRY(session_next(call->session, &rows, call->err));
    TRY(fill_page(call, &workspace, rows, response));
    TRY(fill_pending(call, response));
    return rows_count(rows) < page_size(call, request->page_size) ? COF_OK : next_page(call, rows, response);
}

/* --- Delete --------------------------------------------------------------------------------------------------- */

struct removal {
    struct connection_change change; /* first */
    struct revocation revocation;
    Coffer__V1__DeleteConnectionResponse *response;
};

static cof_code decide_delete(struct call *call, void *context)
{
    struct removal *removal = context;
    struct connection_change *change = &removal->change;
    TRY(connection_change_take(call, change));
    if (!change->found) {
        return connection_not_found(call, &change->place);
    }
    TRY(expected_uid_check(call, change->expected_uid, &change->connection.row.connection_id));
    removal->response->uid = text_of_uuid(call->arena, &change->connection.row.connection_id);
    TRY(revocation_told(call, &removal->revocation, &change->connection.token, &removal->response->revocation,
                        &removal->response->revocation_message));
    return removal->response->uid == NULL ? cof_arena_exhausted(call->err)
                                          : connection_change_record(call, change, EFFECT(DELETED));
}

static cof_code apply_delete(struct call *call, void *context)
{
    struct removal *removal = context;
    struct write *write = &removal->change.write;
    const struct param params[] = {param_uuid(&write->workspace),
                                   param_uuid(&removal->change.connection.row.connection_id)};
    TRY(write_queue(call, write, STATEMENT_CONNECTION_TOKEN_DELETE, params, COF_COUNT(params)));
    TRY(write_queue(call, write, STATEMENT_CONNECTION_LEASE_DELETE, params, COF_COUNT(params)));
    return write_queue(call, write, STATEMENT_CONNECTION_DELETE, params, COF_COUNT(params));
}

cof_code connection_delete(struct call *call, const Coffer__V1__DeleteConnectionRequest *request,
                           Coffer__V1__DeleteConnectionResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, request->connection_class);
    struct removal removal = {.change = {.expected_uid = request->expected_uid}, .response = response};
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &removal.change.place));
    TRY(connection_revoke(call, &removal.change.place, request->expected_uid, &removal.revocation));
    connection_change_init(&removal.change, decide_delete, &response->base);
    removal.change.write.apply = apply_delete;
    return write_run(call, &removal.change.write);
}

/* --- Disconnect ----------------------------------------------------------------------------------------------- */

struct disconnection {
    struct connection_change change; /* first */
    struct revocation revocation;
    Coffer__V1__DisconnectConnectionResponse *response;
};

static cof_code decide_disconnect(struct call *call, void *context)
{
    struct disconnection *disconnection = context;
    Coffer__V1__DisconnectConnectionResponse *response = disconnection->response;
    TRY(connection_change_take_whole(call, &disconnection->change));
    TRY(revocation_told(call, &disconnection->revocation, &disconnection->change.connection.token,
                        &response->revocation, &response->revocation_message));
    connection_drop_tokens(&disconnection->change);
    return connection_change_seal(call, &disconnection->change, EFFECT(VALUES_CHANGED), &response->connection);
}

cof_code connection_disconnect(struct call *call, const Coffer__V1__DisconnectConnectionRequest *request,
                               Coffer__V1__DisconnectConnectionResponse *response)
{
    const struct connection_name name = CONNECTION_NAME(request, request->connection_class);
    struct disconnection disconnection = {.change = {.expected_uid = request->expected_uid}, .response = response};
    TRY(connection_place_of(call, &name, COF_PERMISSION_CONNECTION_WRITE, &disconnection.change.place));
    TRY(connection_revoke(call, &disconnection.change.place, request->expected_uid, &disconnection.revocation));
    connection_change_init(&disconnection.change, decide_disconnect, &response->base);
    return write_run(call, &disconnection.change.write);
}
