#include "server/dispatch/ticket.h"

static cof_code read_caller(struct ticket *ticket)
{
    struct call *call = &ticket->call;
    ticket->caller = (struct caller){.kind = ticket->token.kind};
    const cof_code code = caller_read(call, &ticket->token, &ticket->source, &ticket->caller);
    metrics_count_token(dispatch_options_of(ticket->dispatch)->metrics, ticket->token.narrowed.len > 0,
                        code == COF_OK ? COF_REASON_NONE : call->err->reason);
    TRY(code);
    call->caller = &ticket->caller;
    return COF_OK;
}

/* Whether a grant would help at all, which is not asked for otherwise. */
static cof_code deny(struct call *call, cof_permission permission)
{
    const char *name = cof_permission_name(permission);
    const cof_token_kind kind = call->caller->kind;
    if ((cof_permission_usable(kind) & COF_PERMISSION_BIT(permission)) != 0) {
        cof_ignore(cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                            "the token does not have the permission %s anywhere; ask for a grant of it", name));
    } else if (kind == COF_TOKEN_SYSTEM) {
        cof_ignore(
            cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                     "system accounts never have the permission %s; call with a token of a workspace's account, or "
                     "of a fleet account",
                     name));
    } else {
        cof_ignore(cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                            "only system accounts have the permission %s; call with a token of one", name));
    }
    return cof_error_fact(call->err, "permission", "%s", name);
}

cof_code ticket_authenticate(struct ticket *ticket)
{
    struct call *call = &ticket->call;
    const struct method *method = ticket->method;
    TRY(read_caller(ticket));
    if (ticket->caller.narrowed != NULL && !method_takes_narrowed(method)) {
        return cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                        "a narrowed token can resolve and nothing else; call with the token that it was made from");
    }
    if (method->access == COF_METHOD_PERMITTED &&
        !caller_permits_somewhere(&ticket->caller, method->permission, NULL)) {
        return deny(call, method->permission);
    }
    return COF_OK;
}
