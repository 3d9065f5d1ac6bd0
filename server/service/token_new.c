#include "server/service/token_new.h"

#include "common/secret.h"
#include "server/service/caller.h"
#include "server/service/guard.h"
#include "server/service/issuer.h"

static const char narrowing_info[] = "coffer v1 narrowing";

static cof_code seal_narrowing_key(struct call *call, const struct cof_token *token, uint8_t *to)
{
    const struct blob_address address = {BLOB_NARROWING_KEY, token->workspace, token->id, 0};
    uint8_t key[CRYPTO_KEY];
    TRY(crypto_hkdf(cof_slice_of(token->secret, sizeof token->secret), cof_slice_text(narrowing_info), key,
                    sizeof key, call->err));
    const cof_code code = guard_seal(call, &address, cof_slice_of(key, sizeof key), to);
    cof_wipe(key, sizeof key);
    return code;
}

static cof_code fill(struct call *call, const struct cof_token *token, struct token_row *row,
                     struct cof_slice *ret_text)
{
    uint8_t *hash = cof_arena_alloc(call->arena, CRYPTO_DIGEST);
    uint8_t *narrowing = cof_arena_alloc(call->arena, CRYPTO_KEY + BLOB_OVERHEAD);
    char *text = cof_arena_alloc(call->arena, COF_TOKEN_TEXT);
    if (hash == NULL || narrowing == NULL || text == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(crypto_sha256(cof_slice_of(token->secret, sizeof token->secret), hash, call->err));
    TRY(seal_narrowing_key(call, token, narrowing));
    cof_token_format(token, text);
    row->token_id = token->id;
    row->hash = cof_slice_of(hash, CRYPTO_DIGEST);
    row->narrowing_key = cof_slice_of(narrowing, CRYPTO_KEY + BLOB_OVERHEAD);
    *ret_text = cof_slice_text(text);
    return COF_OK;
}

cof_code token_new(struct call *call, cof_token_kind kind, struct token_row *row, struct cof_slice *ret_text)
{
    struct cof_token token = {.kind = kind, .workspace = row->workspace_id, .id = cof_uuid_random()};
    cof_code code = crypto_random(token.secret, sizeof token.secret, call->err);
    if (code == COF_OK) {
        code = fill(call, &token, row, ret_text);
    }
    cof_wipe(&token, sizeof token);
    return code;
}

/* A system token hands out what it cannot use itself, so its own end does not matter there. */
int64_t token_issuer_end(const struct call *call, const struct principal_row *account)
{
    const bool gives_away =
        call->caller->kind == COF_TOKEN_SYSTEM && account->token_kind != (int32_t) COF_TOKEN_SYSTEM;
    return gives_away ? ROW_NO_TIME : call->caller->token.expire_time;
}

cof_code token_check_issuer(struct call *call, const struct principal_row *account,
                            const struct rule_set *restrictions, int64_t expire_time)
{
    const int64_t end = token_issuer_end(call, account);
    TRY(issuer_check(call, account, restrictions, NULL));
    if (end == ROW_NO_TIME || (expire_time != ROW_NO_TIME && expire_time <= end)) {
        return COF_OK;
    }
    return cof_fail(call->err, COF_REASON_TOKEN_EXCEEDS_ISSUER,
                    "the token would live longer than the one that it is issued with; set its expire_time");
}

cof_code token_show(struct call *call, struct cof_slice text, ProtobufCBinaryData *ret_text)
{
    char *copy = cof_arena_text(call->arena, text);
    if (copy == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_text = (ProtobufCBinaryData){text.len, (uint8_t *) copy};
    return COF_OK;
}
