#include "server/service/caller.h"

#include "common/secret.h"
#include "server/service/guard.h"
#include "server/service/token_use.h"
#include "server/service/workspace_state.h"

static cof_code refuse(struct call *call, cof_reason reason)
{
    return cof_fail(call->err, reason, "%s; %s", cof_reason_meaning(reason), cof_reason_next_step(reason));
}

static const struct caller *kept_caller(const struct caller_source *source)
{
    return cache_content(source->kept);
}

/* Where the hash stands in the rows of a token. */
#define COLUMN_NUMBER(table, type, name) TOKEN_COLUMN_##name,
enum { TOKEN_COLUMNS(COLUMN_NUMBER) };
#undef COLUMN_NUMBER

struct rows *caller_nobody(void)
{
    return rows_blank(token_row_type.count, CRYPTO_DIGEST);
}

/*
 * Compares with the hash that is stored, or where there is no such token with that of nobody: the same steps, so that the
 * time tells nothing. What else is in the token's row is not looked at before.
 */
static cof_code hash_fits(const struct service *service, const struct cof_token *token,
                          const struct caller_source *source, bool *ret_fits, struct cof_error *err)
{
    uint8_t digest[CRYPTO_DIGEST];
    const bool exists = source->rows != NULL && rows_count(source->rows) == 1;
    const struct rows *rows = exists ? source->rows : service->nobody;
    const struct cof_slice stored =
        source->kept != NULL ? kept_caller(source)->token.hash : rows_bytes(rows, 0, TOKEN_COLUMN_hash);
    TRY(crypto_sha256(cof_slice_of(token->secret, sizeof token->secret), digest, err));
    *ret_fits = cof_secret_equal(cof_slice_of(digest, sizeof digest), stored) && (exists || source->kept != NULL);
    return COF_OK;
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

/* Before the workspace's own keys are loaded: they stay closed if it is deleted. A caller who is kept belongs to a state
 * of the workspace in which it was active. */
static cof_code check_workspace(struct call *call, const struct cof_token *token,
                                const struct caller_source *source, bool proven)
{
    struct workspace_state_row state;
    const size_t first = token_row_type.count + principal_row_type.count + 1;
    if (source->kept != NULL) {
        return COF_OK;
    }
    TRY(workspace_state_take(call, &token->workspace, source->rows, 0, first, &state));
    return proven || state.state != WORKSPACE_ACTIVE ? workspace_state_permits(call, token->kind, &state) : COF_OK;
}

/* Whether the token was made from the one of the row. That a workspace is deleted is told before, for the proof needs its
 * key. */
static cof_code tag_fits(struct call *call, const struct cof_token *token, const struct caller_source *source,
                         struct caller *caller, bool *ret_fits)
{
    const bool exists = source->kept != NULL || rows_count(source->rows) == 1;
    TRY(check_workspace(call, token, source, false));
    return narrowed_fits(call, token, exists ? &caller->token : NULL, &caller->narrowed, ret_fits);
}

static cof_code check_life(struct call *call, const struct principal_row *account)
{
    if (account->delete_time != ROW_NO_TIME) {
        return refuse(call, COF_REASON_TOKEN_INVALID);
    }
    if (account->disabled || (account->expire_time != ROW_NO_TIME && account->expire_time <= call_now(call))) {
        return refuse(call, COF_REASON_ACCOUNT_DISABLED);
    }
    return COF_OK;
}

cof_code caller_check_account(struct call *call, const struct principal_row *account)
{
    TRY(check_life(call, account));
    return networks_permit(&account->networks, &call->from) ? COF_OK : refuse(call, COF_REASON_NETWORK_DENIED);
}

static cof_code check_token(struct call *call, const struct caller *caller)
{
    if (caller->token.revoke_time != ROW_NO_TIME) {
        return refuse(call, COF_REASON_TOKEN_INVALID);
    }
    if (caller->token.expire_time != ROW_NO_TIME && caller->token.expire_time <= call_now(call)) {
        return refuse(call, COF_REASON_TOKEN_EXPIRED);
    }
    return COF_OK;
}

static cof_code check_state(struct call *call, const struct caller *caller)
{
    TRY(check_token(call, caller));
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
    return rights_unpack(caller->token.restrictions, caller->kind, call->arena, &caller->restrictions, call->err);
}

/* --- Keeping -------------------------------------------------------------------------------------------------- */

static struct cache_key key_of(const struct cof_token *token)
{
    return (struct cache_key){
        .kind = CACHE_CALLER,
        .workspace = token->workspace,
        .parts = {cof_slice_of(token->id.bytes, sizeof token->id.bytes)},
    };
}

static void flatten(struct caller *caller, struct cof_flat *flat)
{
    struct caller *copy = cof_flat_items(flat, caller, sizeof *caller);
    row_flatten(&token_row_type, &copy->token, flat);
    row_flatten(&principal_row_type, &copy->account, flat);
    rights_flatten(&copy->grants, flat);
    rights_flatten(&copy->restrictions, flat);
}

/* What permits nobody anything is not kept, nor is what belongs to this call's narrowed token. */
static void keep(struct cache *cache, const struct cof_token *token, const struct cache_state *state,
                 const struct caller *caller)
{
    const struct cache_key key = key_of(token);
    struct caller kept = *caller;
    struct cof_flat flat = {NULL, 0};
    kept.kept_revision = state->revision;
    kept.narrowed = NULL;
    kept.caveats = (struct rule_set){NULL, 0};
    flatten(&kept, &flat);
    struct cache_entry *entry = cache_entry_new(cache, &key, state, flat.size);
    if (entry != NULL) {
        flat = (struct cof_flat){cache_content(entry), 0};
        flatten(&kept, &flat);
        cache_put(cache, entry);
    }
}

void caller_source_done(struct caller_source *source)
{
    rows_free(source->rows);
    cache_release(source->kept);
    *source = (struct caller_source){0};
}

bool caller_recall(const struct service *service, const struct cof_token *token, struct caller_source *ret_source)
{
    const struct cache_key key = key_of(token);
    struct cache_state state;
    struct cof_error err;
    *ret_source = (struct caller_source){0};
    if (service->cache != NULL && cache_fresh(service->cache, &token->workspace, &state)) {
        ret_source->kept = cache_get(service->cache, &key, &state);
    }
    if (token->narrowed.len == 0 &&
        (hash_fits(service, token, ret_source, &ret_source->proven, &err) != COF_OK || !ret_source->proven)) {
        caller_source_done(ret_source);
    }
    return ret_source->kept != NULL;
}

bool caller_was_known(const struct service *service, const struct cof_token *token)
{
    const struct cache_key key = key_of(token);
    struct caller_source source = {0};
    struct cof_error err;
    if (service->cache != NULL) {
        source.kept = cache_get_any(service->cache, &key);
    }
    bool known = source.kept != NULL;
    if (known && token->narrowed.len == 0) {
        known = hash_fits(service, token, &source, &known, &err) == COF_OK && known;
    }
    caller_source_done(&source);
    return known;
}

bool caller_recall_older(const struct service *service, const struct cof_token *token,
                         struct caller_source *ret_source, int64_t *ret_older_us)
{
    const struct cache_key key = key_of(token);
    struct cache_older older;
    *ret_source = (struct caller_source){0};
    if (service->cache != NULL && cache_older(service->cache, &token->workspace, &older)) {
        ret_source->kept = cache_get(service->cache, &key, &older.state);
        *ret_older_us = older.confirmed_us;
    }
    return ret_source->kept != NULL;
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

cof_code caller_queue(struct call *call, const struct cof_token *token, struct caller_source *ret_source)
{
    const struct param params[] = {param_uuid(&token->workspace), param_uuid(&token->id)};
    *ret_source = (struct caller_source){0};
    if (call->service->cache != NULL) {
        ret_source->begun = cache_read_begin(call->service->cache, &token->workspace);
    }
    return session_queue(call->session, STATEMENT_TOKEN_AUTHENTICATE, params, COF_COUNT(params), call->err);
}

/* Tells the cache which revision the rows are of, whatever becomes of the call. Whether the caller may be kept. */
static bool take_state(struct call *call, const struct cof_token *token, const struct caller_source *source,
                       struct cache_state *ret_state)
{
    const size_t column = token_row_type.count + principal_row_type.count;
    return call->service->cache != NULL && source->kept == NULL && rows_count(source->rows) == 1 &&
           cache_read_end(call->service->cache, &token->workspace, &source->begun,
                          (uint64_t) rows_i64(source->rows, 0, column), ret_state);
}

/* That this server has seen a later state is all that tells: the rows fit each other. */
static cof_code check_reverted(struct call *call, const struct caller_source *source)
{
    const size_t column = token_row_type.count + principal_row_type.count;
    if (source->kept != NULL || rows_count(source->rows) != 1) {
        return COF_OK;
    }
    return guard_check_revision(call, &source->begun, (uint64_t) rows_i64(source->rows, 0, column));
}

/* The rows as they are stored, checked for nothing. */
static cof_code take_source(struct call *call, const struct caller_source *source, struct caller *caller)
{
    if (source->kept != NULL) {
        *caller = *kept_caller(source);
        return COF_OK;
    }
    if (rows_count(source->rows) == 1) {
        TRY(row_read(&token_row_type, source->rows, 0, 0, call->arena, &caller->token, call->err));
        TRY(row_read(&principal_row_type, source->rows, 0, token_row_type.count, call->arena, &caller->account,
                     call->err));
    }
    return COF_OK;
}

static cof_code check_source(struct call *call, const struct caller_source *source, struct caller *caller)
{
    if (source->kept != NULL) {
        return COF_OK;
    }
    TRY(check_rows(call, caller));
    return read_rights(call, caller);
}

/* What is told of a token is told of one that is what it says; of any other it is one and the same. */
static cof_code take_proven(struct call *call, const struct cof_token *token, const struct caller_source *source,
                            struct caller *caller, bool *ret_fits)
{
    if (token->narrowed.len > 0) {
        TRY(take_source(call, source, caller));
        return tag_fits(call, token, source, caller, ret_fits);
    }
    *ret_fits = source->proven;
    if (!source->proven) {
        TRY(hash_fits(call->service, token, source, ret_fits, call->err));
    }
    return *ret_fits ? take_source(call, source, caller) : COF_OK;
}

cof_code caller_read(struct call *call, const struct cof_token *token, const struct caller_source *source,
                     struct caller *ret_caller)
{
    struct cache_state state;
    bool fits = false;
    TRY(take_proven(call, token, source, ret_caller, &fits));
    const bool keeps = take_state(call, token, source, &state);
    if (!fits || ret_caller->account.token_kind != (int32_t) token->kind) {
        return refuse(call, COF_REASON_TOKEN_INVALID);
    }
    ret_caller->workspace = token->workspace;
    ret_caller->principal = ret_caller->account.principal_id;
    ret_caller->kind = token->kind;
    caller_set_home(ret_caller, &token->home);
    TRY(check_workspace(call, token, source, true));
    TRY(check_reverted(call, source));
    TRY(check_source(call, source, ret_caller));
    TRY(check_state(call, ret_caller));
    if (ret_caller->narrowed != NULL) {
        TRY(narrowed_rules(call, ret_caller->narrowed, &ret_caller->caveats));
    }
    if (keeps) {
        keep(call->service->cache, token, &state, ret_caller);
    }
    token_use_note(call->service->token_use, &token->workspace, &token->id, call_now(call));
    return COF_OK;
}

/* The texts are copied, because nobody holds the rows for the rest of the call. */
static cof_code read_anew(struct call *call, struct caller_source *source, struct caller *ret_caller)
{
    TRY(caller_queue(call, call->token, source));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &source->rows, call->err));
    TRY(caller_read(call, call->token, source, ret_caller));
    TRY(row_keep(&token_row_type, call->arena, &ret_caller->token, call->err));
    return row_keep(&principal_row_type, call->arena, &ret_caller->account, call->err);
}

cof_code caller_at_least(struct call *call, const struct cof_uuid *workspace, uint64_t revision)
{
    const struct caller *old = call->caller;
    if (old->kept_revision == 0 || old->kept_revision >= revision || !cof_uuid_equal(&old->workspace, workspace)) {
        return COF_OK;
    }
    TRY(call_needs_database(call));
    struct caller_source source = {0};
    struct caller *caller = cof_arena_alloc(call->arena, sizeof *caller);
    if (caller == NULL) {
        return cof_arena_exhausted(call->err);
    }
    const cof_code code = read_anew(call, &source, caller);
    caller_source_done(&source);
    TRY(code);
    call->caller = caller;
    return COF_OK;
}

/* --- Somebody who does not call ------------------------------------------------------------------------------- */

static cof_code read_absent(struct call *call, const struct cof_token *token, struct caller_source *source,
                            struct caller *ret_caller)
{
    TRY(caller_queue(call, token, source));
    TRY(session_sync(call->session, call->err));
    TRY(session_next(call->session, &source->rows, call->err));
    if (rows_count(source->rows) != 1) {
        return refuse(call, COF_REASON_TOKEN_INVALID);
    }
    TRY(take_source(call, source, ret_caller));
    ret_caller->workspace = token->workspace;
    ret_caller->principal = ret_caller->account.principal_id;
    ret_caller->kind = (cof_token_kind) ret_caller->account.token_kind;
    TRY(check_workspace(call, token, source, true));
    TRY(check_reverted(call, source));
    TRY(check_source(call, source, ret_caller));
    TRY(check_token(call, ret_caller));
    TRY(check_life(call, &ret_caller->account));
    TRY(row_keep(&token_row_type, call->arena, &ret_caller->token, call->err));
    return row_keep(&principal_row_type, call->arena, &ret_caller->account, call->err);
}

cof_code caller_of_token(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *token,
                         struct caller *ret_caller)
{
    const struct cof_token named = {.workspace = *workspace, .id = *token};
    struct caller_source source = {0};
    *ret_caller = (struct caller){0};
    const cof_code code = read_absent(call, &named, &source, ret_caller);
    caller_source_done(&source);
    return code;
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
