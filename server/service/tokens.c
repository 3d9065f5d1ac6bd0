#include "server/service/tokens.h"

#include "common/name.h"
#include "common/secret.h"
#include "server/service/accounts.h"
#include "server/service/authorize.h"
#include "server/service/guard.h"
#include "server/service/page.h"
#include "server/service/text.h"
#include "server/service/token_new.h"
#include "server/service/write.h"

enum { DESCRIPTION_MAX = 255 };

cof_code token_message(struct call *call, const struct token_row *row, const struct principal_row *account,
                       int64_t use_time, Coffer__V1__Token **ret_message)
{
    Coffer__V1__Token *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__token__init(message);
    message->uid = text_of_uuid(call->arena, &row->token_id);
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->service_account = text_of(call->arena, account->name);
    message->kind = (Coffer__V1__TokenKind) account->token_kind;
    message->description = text_of(call->arena, row->description);
    message->create_time = time_of(call->arena, row->create_time);
    message->expire_time = time_of(call->arena, row->expire_time);
    message->revoke_time = time_of(call->arena, row->revoke_time);
    message->issuer_uid = text_of_uuid(call->arena, &row->issuer_id);
    message->last_use_time = time_of(call->arena, use_time);
    message->successor_uid = cof_uuid_equal(&row->successor_id, &cof_uuid_zero)
                                 ? text_of(call->arena, (struct cof_slice){NULL, 0})
                                 : text_of_uuid(call->arena, &row->successor_id);
    if (message->uid == NULL || message->workspace == NULL || message->service_account == NULL ||
        message->description == NULL || message->create_time == NULL || message->issuer_uid == NULL ||
        message->successor_uid == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_message = message;
    return rights_messages(row->restrictions, call->arena, &message->restrictions, &message->n_restrictions,
                           call->err);
}

cof_code token_record(struct call *call, struct write *write, const struct token_row *row,
                      const struct principal_row *account)
{
    Coffer__Audit__V1__Object *object;
    const struct cof_slice none = {NULL, 0};
    TRY(write_object(call, write, "token", &row->token_id, none, account->name, &object));
    if (row->revoke_time != ROW_NO_TIME) {
        object->effect = COFFER__AUDIT__V1__EFFECT__EFFECT_DELETED;
    } else if (!cof_uuid_equal(&row->successor_id, &cof_uuid_zero)) {
        object->effect = COFFER__AUDIT__V1__EFFECT__EFFECT_METADATA_CHANGED;
    } else {
        object->effect = COFFER__AUDIT__V1__EFFECT__EFFECT_CREATED;
    }
    return COF_OK;
}

cof_code token_not_found(struct call *call)
{
    return cof_fail(call->err, COF_REASON_TOKEN_NOT_FOUND, "there is no such token; %s",
                    cof_reason_next_step(COF_REASON_TOKEN_NOT_FOUND));
}

/* --- Issue ---------------------------------------------------------------------------------------------------- */

struct issue {
    struct write write;
    const struct address *address;
    const Coffer__V1__IssueTokenRequest *request;
    Coffer__V1__IssueTokenResponse *response;
    struct principal_row account;
    struct rule_set restrictions;
    struct token_row row;
};

static cof_code look_issue(struct call *call, void *context)
{
    const struct issue *issue = context;
    const struct param params[] = {
        param_uuid(address_workspace(issue->address)),
        param_text(cof_slice_text(issue->request->service_account)),
    };
    return session_queue(call->session, STATEMENT_PRINCIPAL_KEEP, params, COF_COUNT(params), call->err);
}

static cof_code take_account(struct call *call, struct issue *issue, const struct rows *rows)
{
    const Coffer__V1__IssueTokenRequest *request = issue->request;
    if (rows_count(rows) == 0) {
        return account_not_found(call, cof_slice_text(request->service_account));
    }
    TRY(row_read(&principal_row_type, rows, 0, 0, call->arena, &issue->account, call->err));
    TRY(guard_check_row(call, &principal_row_type, address_workspace(issue->address), &issue->account));
    TRY(rights_read(request->restrictions, request->n_restrictions, (cof_token_kind) issue->account.token_kind,
                    "restrictions", call->arena, &issue->restrictions, call->err));
    return token_check_issuer(call, &issue->account, &issue->restrictions, issue->row.expire_time);
}

static cof_code build_token(struct call *call, struct issue *issue)
{
    const Coffer__V1__IssueTokenRequest *request = issue->request;
    struct token_row *row = &issue->row;
    struct cof_slice text;
    row->workspace_id = *address_workspace(issue->address);
    row->principal_id = issue->account.principal_id;
    row->issuer_id = call->caller->principal;
    row->description = cof_slice_text(request->description);
    row->create_time = call_now(call);
    row->revoke_time = ROW_NO_TIME;
    row->successor_id = cof_uuid_zero;
    TRY(rights_pack(request->restrictions, request->n_restrictions, call->arena, &row->restrictions, call->err));
    TRY(token_new(call, (cof_token_kind) issue->account.token_kind, row, &text));
    TRY(guard_seal_row(call, &token_row_type, &row->workspace_id, row));
    TRY(token_show(call, text, &issue->response->secret_text));
    return token_message(call, row, &issue->account, ROW_NO_TIME, &issue->response->token);
}

static cof_code decide_issue(struct call *call, void *context)
{
    struct issue *issue = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    TRY(take_account(call, issue, rows));
    TRY(build_token(call, issue));
    return token_record(call, &issue->write, &issue->row, &issue->account);
}

/* A token that was issued once is not shown again to a caller who could not issue it. */
static cof_code recheck_issue(struct call *call, void *context)
{
    struct issue *issue = context;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    return take_account(call, issue, rows);
}

static cof_code apply_issue(struct call *call, void *context)
{
    struct issue *issue = context;
    return write_queue_row(call, &issue->write, STATEMENT_TOKEN_INSERT, &token_row_type, &issue->row);
}

static cof_code read_issue(struct call *call, struct issue *issue)
{
    const Coffer__V1__IssueTokenRequest *request = issue->request;
    TRY(cof_name_check(COF_NAME_ACCOUNT, cof_slice_text(request->service_account), "service_account", call->err));
    if (strlen(request->description) > DESCRIPTION_MAX) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "description",
                              "description has more than %d bytes", DESCRIPTION_MAX);
    }
    if (!time_read(request->expire_time, &issue->row.expire_time) ||
        (issue->row.expire_time != ROW_NO_TIME && issue->row.expire_time <= call_now(call))) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "expire_time",
                              "expire_time is past, or outside the years 1 to 9999");
    }
    return COF_OK;
}

cof_code token_issue(struct call *call, const Coffer__V1__IssueTokenRequest *request,
                     Coffer__V1__IssueTokenResponse *response)
{
    struct issue issue = {.request = request, .response = response};
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_TOKEN_WRITE, &issue.address));
    TRY(read_issue(call, &issue));
    issue.write.workspace = *address_workspace(issue.address);
    issue.write.look = look_issue;
    issue.write.decide = decide_issue;
    issue.write.apply = apply_issue;
    issue.write.recheck = recheck_issue;
    issue.write.context = &issue;
    issue.write.answer = &response->base;
    return write_run(call, &issue.write);
}

/* --- List ----------------------------------------------------------------------------------------------------- */

static cof_code read_account(struct call *call, const struct address *address, const char *name,
                             struct principal_row *ret_row)
{
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const struct param params[] = {param_uuid(address_workspace(address)), param_text(cof_slice_text(name))};
    TRY(session_queue(call->session, STATEMENT_PRINCIPAL_BY_NAME, params, COF_COUNT(params), call->err));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return account_not_found(call, cof_slice_text(name));
    }
    TRY(row_read(&principal_row_type, rows, 0, 0, call->arena, ret_row, call->err));
    TRY(guard_check_row(call, &principal_row_type, address_workspace(address), ret_row));
    return row_keep(&principal_row_type, call->arena, ret_row, call->err);
}

static cof_code queue_listing(struct call *call, const struct principal_row *account,
                              const Coffer__V1__ListTokensRequest *request, struct cof_slice after, uint32_t size)
{
    struct cof_uuid last = {{0}};
    int64_t end_before;
    if (!time_read(request->expire_before, &end_before)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "expire_before",
                              "expire_before lies outside the years 1 to 9999");
    }
    if (after.len > 0 && !cof_uuid_parse(after, &last)) {
        return cof_fail_field(call->err, COF_REASON_PAGE_TOKEN_INVALID, "page_token", "%s; %s",
                              cof_reason_meaning(COF_REASON_PAGE_TOKEN_INVALID),
                              cof_reason_next_step(COF_REASON_PAGE_TOKEN_INVALID));
    }
    const struct param params[] = {
        param_uuid(&account->workspace_id),
        param_uuid(&account->principal_id),
        param_uuid(&last),
        request->active_only ? param_time(call_now(call)) : param_null(),
        end_before == ROW_NO_TIME ? param_null() : param_time(end_before),
        param_i64(size),
    };
    TRY(session_queue(call->session, STATEMENT_TOKEN_LIST, params, COF_COUNT(params), call->err));
    return session_sync(call->session, call->err);
}

/* What a damaged row still says: which one it is. */
static cof_code damaged_message(struct call *call, const struct token_row *row, const struct principal_row *account,
                                Coffer__V1__Token **ret_message)
{
    Coffer__V1__Token *message = cof_arena_alloc(call->arena, sizeof *message);
    if (message == NULL) {
        return cof_arena_exhausted(call->err);
    }
    coffer__v1__token__init(message);
    message->uid = text_of_uuid(call->arena, &row->token_id);
    message->workspace = text_of_uuid(call->arena, &row->workspace_id);
    message->service_account = text_of(call->arena, account->name);
    message->corrupted = true;
    *ret_message = message;
    return message->uid == NULL || message->workspace == NULL || message->service_account == NULL
               ? cof_arena_exhausted(call->err)
               : COF_OK;
}

/* One that is damaged keeps no other from being shown. */
static cof_code list_one(struct call *call, const struct principal_row *account, const struct rows *rows,
                         size_t index, Coffer__V1__Token **ret_message)
{
    struct token_row row = {0};
    const size_t used = token_row_type.count;
    TRY(row_read(&token_row_type, rows, index, 0, call->arena, &row, call->err));
    const cof_code code = guard_check_row(call, &token_row_type, &account->workspace_id, &row);
    if (code == COF_DATA_LOSS) {
        return damaged_message(call, &row, account, ret_message);
    }
    TRY(code);
    return token_message(call, &row, account,
                         rows_null(rows, index, used) ? ROW_NO_TIME : rows_time(rows, index, used), ret_message);
}

static cof_code fill_list(struct call *call, const struct principal_row *account, const struct rows *rows,
                          Coffer__V1__ListTokensResponse *response)
{
    response->tokens = cof_arena_array(call->arena, rows_count(rows), sizeof *response->tokens);
    if (response->tokens == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < rows_count(rows); i++) {
        TRY(list_one(call, account, rows, i, &response->tokens[i]));
        response->n_tokens++;
    }
    return COF_OK;
}

cof_code token_list(struct call *call, const Coffer__V1__ListTokensRequest *request,
                    Coffer__V1__ListTokensResponse *response)
{
    const struct address *address;
    struct page_position position;
    struct principal_row account = {0};
    AUTO(rows_cleanup) struct rows *rows = NULL;
    const uint32_t size = page_size(call, request->page_size);
    TRY(cof_name_check(COF_NAME_ACCOUNT, cof_slice_text(request->service_account), "service_account", call->err));
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_TOKEN_READ, &address));
    TRY(page_read(call, PAGE_TOKENS, request->page_token, &position));
    TRY(guard_load_keys(call, address_workspace(address)));
    TRY(read_account(call, address, request->service_account, &account));
    TRY(queue_listing(call, &account, request, position.parts[0], size));
    TRY(session_next(call->session, &rows, call->err));
    TRY(fill_list(call, &account, rows, response));
    if (rows_count(rows) < size) {
        return COF_OK;
    }
    position.parts[0] = cof_slice_text(response->tokens[size - 1]->uid);
    return page_make(call, PAGE_TOKENS, &position, &response->next_page_token);
}

/* --- Revoke --------------------------------------------------------------------------------------------------- */

struct revocation {
    struct write write;
    struct cof_uuid workspace;
    struct cof_uuid token_id;
    struct token_row row;
    struct principal_row account;
    Coffer__V1__RevokeTokenResponse *response;
};

static cof_code look_revoke(struct call *call, void *context)
{
    const struct revocation *revocation = context;
    const struct param params[] = {param_uuid(&revocation->workspace), param_uuid(&revocation->token_id)};
    return session_queue(call->session, STATEMENT_TOKEN_LOCK, params, COF_COUNT(params), call->err);
}

static cof_code decide_revoke(struct call *call, void *context)
{
    struct revocation *revocation = context;
    struct token_row *row = &revocation->row;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    TRY(session_next(call->session, &rows, call->err));
    if (rows_count(rows) == 0) {
        return token_not_found(call);
    }
    TRY(row_read(&token_row_type, rows, 0, 0, call->arena, row, call->err));
    TRY(row_read(&principal_row_type, rows, 0, token_row_type.count, call->arena, &revocation->account, call->err));
    TRY(guard_check_row(call, &token_row_type, &revocation->workspace, row));
    TRY(guard_check_row(call, &principal_row_type, &revocation->workspace, &revocation->account));
    if (row->revoke_time == ROW_NO_TIME) {
        row->revoke_time = call_now(call);
    }
    TRY(guard_seal_row(call, &token_row_type, &revocation->workspace, row));
    TRY(token_message(call, row, &revocation->account, ROW_NO_TIME, &revocation->response->token));
    return token_record(call, &revocation->write, row, &revocation->account);
}

static cof_code apply_revoke(struct call *call, void *context)
{
    struct revocation *revocation = context;
    const struct token_row *row = &revocation->row;
    const struct param params[] = {
        param_uuid(&row->workspace_id), param_uuid(&row->token_id), param_time(row->revoke_time),
        param_i32(row->mac_generation), param_text(row->mac),
    };
    return write_queue(call, &revocation->write, STATEMENT_TOKEN_REVOKE, params, COF_COUNT(params));
}

/* Every token may revoke itself; another one needs the permission. */
static cof_code read_revocation(struct call *call, const Coffer__V1__RevokeTokenRequest *request,
                                struct revocation *revocation)
{
    const struct address *address;
    const struct caller *caller = call->caller;
    revocation->workspace = caller->workspace;
    revocation->token_id = caller->token.token_id;
    if (request->token_uid[0] == '\0') {
        return COF_OK;
    }
    if (!cof_uuid_parse(cof_slice_text(request->token_uid), &revocation->token_id)) {
        return cof_fail_field(call->err, COF_REASON_FIELD_INVALID, "token_uid",
                              "token_uid is no UUID in lower case; coffer token list shows the UUIDs");
    }
    if (request->workspace[0] == '\0' && cof_uuid_equal(&revocation->token_id, &caller->token.token_id)) {
        return COF_OK;
    }
    TRY(authorize_whole(call, request->workspace, COF_PERMISSION_TOKEN_WRITE, &address));
    revocation->workspace = *address_workspace(address);
    return COF_OK;
}

cof_code token_revoke(struct call *call, const Coffer__V1__RevokeTokenRequest *request,
                      Coffer__V1__RevokeTokenResponse *response)
{
    struct revocation revocation = {.response = response};
    TRY(read_revocation(call, request, &revocation));
    revocation.write.workspace = revocation.workspace;
    revocation.write.look = look_revoke;
    revocation.write.decide = decide_revoke;
    revocation.write.apply = apply_revoke;
    revocation.write.context = &revocation;
    revocation.write.answer = &response->base;
    return write_run(call, &revocation.write);
}

/* --- Caller --------------------------------------------------------------------------------------------------- */

cof_code token_get_caller(struct call *call, const Coffer__V1__GetCallerRequest *request,
                          Coffer__V1__GetCallerResponse *response)
{
    (void) request;
    TRY(account_message(call, &call->caller->account, &response->service_account));
    return token_message(call, &call->caller->token, &call->caller->account, ROW_NO_TIME, &response->token);
}
