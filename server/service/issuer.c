#include "server/service/issuer.h"

#include "server/service/networks.h"

static cof_code exceeds(struct call *call, const char *field, const char *why)
{
    const char *next = cof_reason_next_step(COF_REASON_TOKEN_EXCEEDS_ISSUER);
    if (field == NULL) {
        return cof_fail(call->err, COF_REASON_TOKEN_EXCEEDS_ISSUER, "%s; %s", why, next);
    }
    return cof_fail_field(call->err, COF_REASON_TOKEN_EXCEEDS_ISSUER, field, "%s; %s", why, next);
}

cof_code issuer_check(struct call *call, const struct principal_row *account, const struct rule_set *restrictions,
                      const char *field)
{
    static const struct rule_set none = {NULL, 0};
    const struct caller *caller = call->caller;
    const cof_token_kind kind = (cof_token_kind) account->token_kind;
    struct rule_set grants;
    if (caller->kind == COF_TOKEN_SYSTEM && kind == COF_TOKEN_WORKSPACE && !account->bootstrap) {
        return exceeds(call, field, "a system token gives access only to the first account of a workspace");
    }
    if (caller->kind == COF_TOKEN_SYSTEM && kind != COF_TOKEN_SYSTEM) {
        return COF_OK;
    }
    TRY(rights_unpack(account->grants, kind, call->arena, &grants, call->err));
    if (kind == COF_TOKEN_WORKSPACE) {
        rights_confine(&grants, &account->workspace_id);
    }
    if (!rights_within(&grants, restrictions == NULL ? &none : restrictions, &caller->grants,
                       &caller->restrictions)) {
        return exceeds(call, field, "this would permit more than the caller may do");
    }
    if (!networks_within(&account->networks, &caller->account.networks)) {
        return exceeds(call, field, "this would permit calls from networks that the caller may not call from");
    }
    return COF_OK;
}
