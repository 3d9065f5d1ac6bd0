#include "server/service/caller.h"

#include "common/secret.h"
#include "server/service/guard.h"
#include "server/service/token_use.h"

static cof_code refuse(struct call *call, cof_reason reason)
{
    return cof_fail(call->err, reason, "%s; %s", cof_reason_meaning(reason), cof_reason_next_step(reason));
}

/* Compares with the row's hash, or with nothing in the same time where there is no row. */
static bool hash_fits(struct call *call, const struct cof_token *token, const struct rows *rows,
                      const struct token_row *row, cof_code *ret_code)
{
    static const uint8_t nothing[CRYPTO_DIGEST];
    uint8_t digest[CRYPTO_DIGEST];
    const struct cof_slice stored = rows_count(rows) == 1 ? row->hash : cof_slice_of(nothing, sizeof nothing);
    *ret_code = crypto_sha256(cof_slice_of(token->secret, sizeof token->secret), digest, call->err);
    return cof_secret_equal(cof_slice_of(digest, sizeof digest), stored) && rows_count(rows) == 1;
}

/* Reads a narrowed token once more, to keep it: admission has looked at its form, and the text is a part of the frame. */
static cof_code narrowed_fits(struct call *call, const struct cof_token *token, const struct token_row *row,
                              const struct cof_narrowed **ret_narrowed, bool *ret_fits)
{
    struct cof_narrowed *narrowed = cof_arena_alloc(call->arena, sizeof *narrowed);
    if (narrowed == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(cof_narrowed_parse(token->narrowed, narrowed, call->err));
    *ret_narrowed = narrowed;
    return narrowed_check(call, narrowed, row, ret_fits);
}

/* Whether the token is what it says: that of the row, or made from it. */
static cof_code proof_fits(struct call *call, const struct cof_token *token, const struct rows *rows,
                           struct caller *caller, bool *ret_fits)
{
    cof_code code = COF_OK;
    if (token->narrowed.len > 0) {
        const struct token_row *row = rows_count(rows) == 1 ? &caller->token : NULL;
        return narrowed_fits(call, token, row, &caller->narrowed, ret_fits);
    }
    *ret_fits = hash_fits(call, token, rows, &caller->token, &code);
    return code;
}

cof_code caller_check_account(struct call *call, const struct principal_row *account)
{
    if (account->delete_time != ROW_NO_TIME) {
        return refuse(call, COF_REASON_TOKEN_INVALID);
    }
    if (account->disabled || (account->expire_time != ROW_NO_TIME && account->expire_time <= call_now(call))) {
        return refuse(call, COF_REASON_ACCOUNT_DISABLED);
    }
    return networks_permit(&account->networks, &call->from) ? COF_OK : refuse(call, COF_REASON_NETWORK_DENIED);
}

static cof_code check_state(struct call *call, const struct caller *caller)
{
    if (caller->token.revoke_time != ROW_NO_TIME) {
        return refuse(call, COF_REASON_TOKEN_INVALID);
    }
    if (caller->token.expire_time != ROW_NO_TIME && caller->token.expire_time <= call_now(call)) {
        return refuse(call, COF_REASON_TOKEN_EXPIRED);
    }
    if (caller->narrowed != NULL) {
        TRY(narrowed_check_expiry(call, caller->narrowed));
    }
    return caller_check_account(call, &caller->account);
}

/* Dispatch has told nobody yet that the rows exist; a wrong MAC authorises nothing. */
static cof_code check_rows(struct call *call, struct caller *caller)
{
    TRY(guard_load_keys(call, &caller->workspace));
    TRY(guard_check_row(call, &token_row_type, &caller->workspace, &caller->token));
    TRY(guard_check_row(call, &principal_row_type, &caller->workspace, &caller->account));
    if (!cof_uuid_equal(&caller->token.principal_id, &caller->account.principal_id)) {
        return refuse(call, COF_REASON_CORRUPTED);
    }
    return COF_OK;
}

static cof_code read_rights(struct call *call, struct caller *caller)
{
    TRY(rights_unpack(caller->account.grants, caller->kind, call->arena, &caller->grants, call->err));
    TRY(rights_unpack(caller->token.restrictions, caller->kind, call->arena, &caller->restrictions, call->err));
    return caller->narrowed == NULL ? COF_OK : narrowed_rules(call, caller->narrowed, &caller->caveats);
}

cof_code caller_queue(struct session *session, const struct cof_token *token, struct cof_error *err)
{
    const struct param params[] = {param_uuid(&token->workspace), param_uuid(&token->id)};
    return session_queue(session, STATEMENT_TOKEN_AUTHENTICATE, params, COF_COUNT(params), err);
}

cof_code caller_read(struct call *call, const struct cof_token *token, const struct rows *rows,
                     struct caller *ret_caller)
{
    bool fits = false;
    const size_t columns = token_row_type.count;
    if (rows_count(rows) == 1) {
        TRY(row_read(&token_row_type, rows, 0, 0, call->arena, &ret_caller->token, call->err));
        TRY(row_read(&principal_row_type, rows, 0, columns, call->arena, &ret_caller->account, call->err));
    }
    TRY(proof_fits(call, token, rows, ret_caller, &fits));
    if (!fits || ret_caller->account.token_kind != (int32_t) token->kind) {
        return refuse(call, COF_REASON_TOKEN_INVALID);
    }
    ret_caller->workspace = token->workspace;
    ret_caller->principal = ret_caller->account.principal_id;
    ret_caller->kind = token->kind;
    caller_set_home(ret_caller, &token->home);
    TRY(check_rows(call, ret_caller));
    TRY(check_state(call, ret_caller));
    TRY(read_rights(call, ret_caller));
    token_use_note(call->service->token_use, &token->workspace, &token->id, call_now(call));
    return COF_OK;
}

void caller_set_home(struct caller *caller, const struct cof_uuid *home)
{
    caller->home = *home;
    caller->has_home = caller->kind == COF_TOKEN_WORKSPACE || !cof_uuid_equal(home, &caller->workspace);
}

bool caller_permits(const struct caller *caller, const struct right *right)
{
    return rights_permit(&caller->grants, right) &&
           (caller->restrictions.count == 0 || rights_permit(&caller->restrictions, right)) &&
           rights_all_permit(&caller->caveats, right);
}

bool caller_permits_run(const struct caller *caller, struct cof_slice workflow_id, struct cof_slice run_id)
{
    return caller->narrowed == NULL || narrowed_permits_run(caller->narrowed, workflow_id, run_id);
}

bool caller_permits_somewhere(const struct caller *caller, cof_permission permission,
                              const struct cof_uuid *workspace)
{
    return rights_permit_somewhere(&caller->grants, permission, workspace) &&
           (caller->restrictions.count == 0 ||
            rights_permit_somewhere(&caller->restrictions, permission, workspace)) &&
           rights_all_permit_somewhere(&caller->caveats, permission, workspace);
}
