#include "server/dispatch/ticket.h"

cof_code ticket_authenticate(struct ticket *ticket)
{
    struct call *call = &ticket->call;
    const struct method *method = ticket->method;
    ticket->caller = (struct caller){.kind = ticket->token.kind};
    TRY(caller_read(call, &ticket->token, &ticket->source, &ticket->caller));
    call->caller = &ticket->caller;
    if (ticket->caller.narrowed != NULL && !method_takes_narrowed(method)) {
        return cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                        "a narrowed token can resolve and nothing else; call with the token that it was made from");
    }
    if (method->access == METHOD_PERMITTED &&
        !caller_permits_somewhere(&ticket->caller, method->permission, NULL)) {
        cof_ignore(cof_fail(call->err, COF_REASON_PERMISSION_DENIED,
                            "the token does not have the permission %s anywhere; ask for a grant of it",
                            cof_permission_name(method->permission)));
        return cof_error_fact(call->err, "permission", "%s", cof_permission_name(method->permission));
    }
    return COF_OK;
}
