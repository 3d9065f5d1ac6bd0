#include "server/service/accounts.h"

#include <inttypes.h>

#include "common/name.h"
#include "server/service/account_fields.h"
#include "server/service/authorize.h"
#include "server/service/guard.h"
#include "server/service/issuer.h"
#include "server/service/page.h"
#include "server/service/text.h"
#include "server/service/write.h"

cof_code account_not_found(struct call *call, struct cof_slice name)
{
    return cof_fail(call->err, COF_REASON_ACCOUNT_NOT_FOUND, "there is no service account \"%.*s\"; %s",
                    (int) name.len, (const char *) name.data, cof_reason_next_step(COF_REASON_ACCOUNT_NOT_FOUND));
}

static cof_code network_texts(struct call *call, const struct row_texts *networks,
                              Coffer__V1__ServiceAccount *message)
{
    message->networks = cof_arena_array(call->arena, networks->count, sizeof *message->networks);
    if (message->networks == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < networks->count; i++) {
        message->networks[i] = text_of(call->arena, networks->items[i]);
        if (message->networks[i] == NULL) {
            return cof_arena_exhausted(call->err);
        }
        message->n_networks++;
    }
    return COF_OK;
}

cof_code account_message(struct call *call, const struct principal_row *row,
                         Coffer__V1__ServiceAccount **ret_message)
{
    Coffer__V1__ServiceAccount *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__service_account__init(message);
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->name = text_of(call->arena, row->name);
    message->uid = text_of_uuid(call->arena, &row->principal_id);
    message->kind = (Coffer__V1__TokenKind) row->token_kind;
    message->description = text_of(call->arena, row->description);
    message->disabled = row->disabled;
    message->expire_time = time_of(call->arena, row->expire_time);
    message->create_time = time_of(call->arena, row->create_time);
    message->delete_time = time_of(call->arena, row->delete_time);
    message->etag = cof_arena_format(call->arena, "%" PRId64, row->metadata_version);
    if (message->workspace == NULL || message->name == NULL || message->uid == NULL ||
        message->description == NULL || message->create_time == NULL || message->etag == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_message = message;
    TRY(network_texts(call, &row->networks, message));
    return rights_messages(row->grants, call->arena, &message->grants, &message->n_grants, call->err);
}

/* What a damaged row still says: which one it is. */
static cof_code damaged_message(struct call *call, const struct principal_row *row,
                                Coffer__V1__ServiceAccount **ret_message)
{
    Coffer__V1__ServiceAccount *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__service_account__init(message);
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->name = text_of(call->arena, row->name);
    message->uid = text_of_uuid(call->arena, &row->principal_id);
    message->corrupted = true;
    *ret_message = message;
    return message->workspace == NULL || message->name == NULL || message->uid == NULL
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

/* --- Create --------------------------------------------------------------------------------------------------- */

struct creation {
    struct write write;
    const Coffer__V1__CreateServiceAccountRequest *request;
    Coffer__V1__CreateServiceAccountResponse *response;
    struct principal_row row;
};

static cof_code exists(struct call *call, const struct creation *creation)
{
    return cof_fail(call->err, COF_REASON_ACCOUNT_EXISTS,
                    "a service account \"%s\" exists in the workspace; choose another name",
                    creation->request->name);
}

static cof_code look_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    const struct param params[] = {
        param_uuid(&creation->row.workspace_id),
        param_text(creation->row.name),
    };
    TRY(session_queue(call->session, STATEMENT_PRINCIPAL_BY_NAME, params, COF_COUNT(params), call->err));
    return session_queue(call->session, STATEMENT_PRINCIPAL_COUNT, params, 1, call->err);
}

static cof_code check_first(struct call *call, struct creation *creation)
{
    AUTO(rows_cleanup) struct rows *count = NULL;
    TRY(session_next(call->session, &count, call->err));
    if (creation->row.bootstrap && rows_i64(count, 0, 0) > 0) {
        return cof_fail(
            call->err, COF_REASON_PERMISSION_DENIED,
            "a system token makes only the first account of a workspace, and this one has accounts; use a "
            "token of the workspace with account:write");
    }
    return COF_OK;
}

static cof_code decide_create(struct call *call, void *context)
{
    struct creation *creation = context;
    struct principal_row *row = &creation->row;
    Coffer__Audit__V1__Object *object;
    AUTO(rows_cleanup) struct rows *existing = NULL;
    const struct cof_slice none = {NULL, 0};
    TRY(session_next(call->session, &existing, call->err));
    if (rows_count(existing) > 0) {
        return exists(call, creation);
    }
    TRY(check_first(call, creation));
    row->principal_id = cof_uuid_random();
    row->create_time = call_now(call);
    TRY(guard_seal_row(call, &principal_row_type, &row->workspace_id, row));
    TRY(account_message(call, row, &creation->response->service_account));
    TRY(write_object(call, &creation->write, "service_account", &row->principal_id, none, row->name, &object));
    object->metadata_version = (uint64_t) row->metadata_version;
    return COF_OK;
}

static cof_code apply_create(struct call *call, void *context)
{
    struct creation *creation = context;
    return write_queue_row(call, &creation->write, STATEMENT_PRINCIPAL_INSERT, &principal_row_type, &creation->row);
}

static cof_code conflict_create(struct call *call, void *context)
{
    const struct creation *creation = context;
    return session_unique_violation(call->session, "principal_name") ? exists(call, creation) : call->err->code;
}

static cof_code wrong_kind(struct call *call, const char *text)
{
    return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "kind", "%s", text);
}

static cof_code read_kind(struct call *call, struct creation *creation)
{
    const bool system = cof_uuid_equal(&creation->row.workspace_id, &cof_uuid_zero);
    switch (creation->request->kind) {
    case COFFER__V1__TOKEN_KIND__TOKEN_KIND_UNSPECIFIED:
        creation->row.token_kind = system ? COF_TOKEN_FLEET : COF_TOKEN_WORKSPACE;
        return COF_OK;
    case COFFER__V1__TOKEN_KIND__TOKEN_KIND_WORKSPACE:
        creation->row.token_kind = COF_TOKEN_WORKSPACE;
        return system ? wrong_kind(call, "the system workspace has fleet and system accounts only") : COF_OK;
    case COFFER__V1__TOKEN_KIND__TOKEN_KIND_FLEET:
        creation->row.token_kind = COF_TOKEN_FLEET;
        return system ? COF_OK : wrong_kind(call, "fleet accounts belong to the system workspace");
    case COFFER__V1__TOKEN_KIND__TOKEN_KIND_SYSTEM:
        creation->row.token_kind = COF_TOKEN_SYSTEM;
        return system ? COF_OK : wrong_kind(call, "system accounts belong to the system workspace");
    case _COFFER__V1__TOKEN_KIND_IS_INT_SIZE:
        break;
    }
    return wrong_kind(call, "there is no such kind of account");
}

static cof_code read_creation(struct call *call, struct creation *creation)
{
    const Coffer__V1__CreateServiceAccountRequest *request = creation->request;
    struct principal_row *row = &creation->row;
    TRY(read_kind(call, creation));
    row->kind = PRINCIPAL_SERVICE_ACCOUNT;
    row->metadata_version = 1;
    row->delete_time = ROW_NO_TIME;
    /* Of a workspace's accounts a system token makes the first one, and no other. */
    row->bootstrap = call->caller->kind == COF_TOKEN_SYSTEM && row->token_kind == (int32_t) COF_TOKEN_WORKSPACE;
    TRY(account_set_grants(call, request->grants, request->n_grants, row));
    TRY(account_set_networks(call, request->networks, request->n_networks, row));
    TRY(account_set_description(call, request->description, row));
    TRY(account_set_expire_time(call, request->expire_time, row));
    return issuer_check(call, row, NULL, "grants");
}

cof_code account_create(struct call *call, const Coffer__V1__CreateServiceAccountRequest *request,
                        Coffer__V1__CreateServiceAccountResponse *response)
{
    struct creation creation = {.request = request, .response = response};
    const struct address *address;
    TRY(cof_name_check(COF_NAME_ACCOUNT, cof_slice_text(request->name), "name", call->err));
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_ACCOUNT_WRITE, &address));
    creation.row.workspace_id = *address_workspace(address);
    creation.row.name = cof_slice_text(request->name);
    TRY(read_creation(call, &creation));
    creation.write.workspace = creation.row.workspace_id;
    creation.write.look = look_create;
    creation.write.decide = decide_create;
    creation.write.apply = apply_create;
    creation.write.conflict = conflict_create;
    creation.write.context = &creation;
    creation.write.answer = &response->base;
    return write_run(call, &creation.write);
}

/* --- Get and list --------------------------------------------------------------------------------------------- */

static cof_code queue_get(struct call *call, const struct address *address,
                          const Coffer__V1__GetServiceAccountRequest *request)
{
    struct cof_uuid uid;
    if (request->uid[0] != '\0' && !cof_uuid_parse(cof_slice_text(request->uid), &uid)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "uid", "uid is no UUID in lower case");
    }
    const bool by_uid = request->uid[0] != '\0';
    const struct param params[] = {
        param_uuid(address_workspace(address)),
        by_uid ? param_uuid(&uid) : param_text(cof_slice_text(request->name)),
    };
    TRY(session_queue(call->session, by_uid ? STATEMENT_PRINCIPAL_BY_ID : STATEMENT_PRINCIPAL_BY_NAME, params,
                      COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

static cof_code check_get(struct call *call, const Coffer__V1__GetServiceAccountRequest *request)
{
    if (request->uid[0] != '\0' && request->name[0] != '\0') {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "uid", "only one of name and uid can be given");
    }
    return request->uid[0] != '\0'
               ? COF_OK
               : cof_name_check(COF_NAME_ACCOUNT, cof_slice_text(request->name), "name", call->err);
}

static cof_code read_last_use(struct call *call, const struct principal_row *row,
                              Google__Protobuf__Timestamp **ret_time)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(&row->workspace_id), param_uuid(&row->principal_id)};
    TRY(session_queue(call->session, STATEMENT_TOKEN_LAST_USE, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_null(rows, 0, 0)) {
        return COF_OK;
    }
    *ret_time = time_of(call->arena, rows_time(rows, 0, 0));
    return *ret_time == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

cof_code account_get(struct call *call, const Coffer__V1__GetServiceAccountRequest *request,
                     Coffer__V1__GetServiceAccountResponse *response)
{
    const struct address *address;
    struct principal_row row = {0};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(check_get(call, request));
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_ACCOUNT_READ, &address));
    TRY(guard_load_keys(call, address_workspace(address)));
    TRY(queue_get(call, address, request));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return account_not_found(call, cof_slice_text(request->uid[0] != '\0' ? request->uid : request->name));
    }
    TRY(row_read(&principal_row_type, rows, 0, 0, call->arena, &row, call->err));
    TRY(guard_check_row(call, &principal_row_type, address_workspace(address), &row));
    TRY(account_message(call, &row, &response->service_account));
    return read_last_use(call, &row, &response->service_account->last_use_time);
}

static cof_code queue_listing(struct call *call, const struct cof_uuid *workspace,
                              const struct page_position *after, bool deleted, uint32_t size)
{
    struct cof_uuid last = {{0}};
    if (after->parts[1].len > 0 && !cof_uuid_parse(after->parts[1], &last)) {
        return cof_fail_field(call->err, COF_REASON_PAGE_TOKEN_INVALID, "page_token", "%s; %s",
                              cof_reason_meaning(COF_REASON_PAGE_TOKEN_INVALID),
                              cof_reason_next_step(COF_REASON_PAGE_TOKEN_INVALID));
    }
    const struct param params[] = {
        param_uuid(workspace), param_text(after->parts[0]), param_uuid(&last), param_bool(deleted), param_i64(size),
    };
    TRY(session_queue(call->session, STATEMENT_PRINCIPAL_LIST, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

/* One that is damaged keeps no other from being shown. */
static cof_code list_one(struct call *call, const struct principal_row *row,
                         Coffer__V1__ServiceAccount **ret_message)
{
    const cof_code code = guard_check_row(call, &principal_row_type, &row->workspace_id, row);
    if (code == COF_DATA_LOSS) {
        return damaged_message(call, row, ret_message);
    }
    TRY(code);
    return account_message(call, row, ret_message);
}

cof_code account_list(struct call *call, const Coffer__V1__ListServiceAccountsRequest *request,
                      Coffer__V1__ListServiceAccountsResponse *response)
{
    const struct address *address;
    struct page_position position;
    struct principal_row row = {0};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const uint32_t size = page_size(call, request->page_size);
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_ACCOUNT_READ, &address));
    TRY(page_read(call, PAGE_ACCOUNTS, request->page_token, &position));
    TRY(guard_load_keys(call, address_workspace(address)));
    TRY(queue_listing(call, address_workspace(address), &position, request->show_deleted, size));
    TRY(session_next(call->session, &rows, call->err));
    response->service_accounts = cof_arena_array(call->arena, rows_count(rows), sizeof *response->service_accounts);
    if (response->service_accounts == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < rows_count(rows); i++) {
        TRY(row_read(&principal_row_type, rows, i, 0, call->arena, &row, call->err));
        TRY(list_one(call, &row, &response->service_accounts[i]));
        response->n_service_accounts++;
    }
    if (rows_count(rows) < size) {
        return COF_OK;
    }
    position.parts[0] = row.name;
    position.parts[1] = cof_slice_text(response->service_accounts[size - 1]->uid);
    return page_make(call, PAGE_ACCOUNTS, &position, &response->next_page_token);
}
