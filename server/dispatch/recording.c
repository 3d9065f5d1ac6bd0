#include "server/dispatch/ticket.h"
#include "server/service/trail.h"

/* Which calls leave what in the audit stream (docs/decisions/0007-audit-stream.md). */

static struct audit *audit_of(const struct dispatch *dispatch)
{
    return dispatch_options_of(dispatch)->service->audit;
}

/* A frame without a method is a refusal like any other. */
static method_audit policy_of(const struct ticket *ticket)
{
    return ticket->method == NULL ? METHOD_AUDIT_WRITTEN : ticket->method->audit;
}

static struct trail_event event_of(const struct ticket *ticket, const ProtobufCMessage *response)
{
    return (struct trail_event){
        .call = &ticket->call,
        .token = ticket->has_token ? &ticket->token : NULL,
        .request = ticket->request,
        .response = response,
        .code = response == NULL ? ticket->err.code : COF_OK,
        .reason = response == NULL ? ticket->err.reason : COF_REASON_NONE,
    };
}

static bool is_durable(const struct dispatch *dispatch, method_audit policy)
{
    return policy == METHOD_AUDIT_DURABLE ||
           (policy == METHOD_AUDIT_SETTING && dispatch_options_of(dispatch)->resolve_durable);
}

bool record_is_durable(const struct dispatch *dispatch, const struct ticket *ticket)
{
    return is_durable(dispatch, policy_of(ticket));
}

cof_code record_check(struct dispatch *dispatch, struct ticket *ticket)
{
    const method_audit policy = policy_of(ticket);
    if (policy == METHOD_AUDIT_NONE || policy == METHOD_AUDIT_COMMITTED || audit_writable(audit_of(dispatch))) {
        return COF_OK;
    }
    return audit_unavailable(&ticket->err);
}

/* What was committed has its record. A repeat that shows a first answer once more is a read, and so is a write that
 * found nothing to write, or only told what it would. */
cof_code record_answer(struct dispatch *dispatch, struct ticket *ticket, const ProtobufCMessage *response,
                       bool *ret_durable)
{
    const method_audit policy = policy_of(ticket);
    const struct trail_event event = event_of(ticket, response);
    *ret_durable = false;
    if (policy == METHOD_AUDIT_NONE || (policy == METHOD_AUDIT_COMMITTED && ticket->call.written_revision != 0)) {
        return COF_OK;
    }
    TRY(trail_write(audit_of(dispatch), &event, &ticket->waiter.sequence, &ticket->err));
    *ret_durable = is_durable(dispatch, policy);
    return COF_OK;
}

/* Whoever is not known could fill the disk with refusals, so most of theirs are counted only; but they too are told
 * nothing while nothing can be recorded. */
static bool is_counted(struct audit *audit, const struct ticket *ticket)
{
    return ticket->call.caller == NULL && audit_writable(audit) && !audit_sample(audit, ticket->err.reason);
}

void record_refusal(struct dispatch *dispatch, struct ticket *ticket)
{
    struct audit *audit = audit_of(dispatch);
    struct cof_error err;
    uint64_t sequence;
    if (policy_of(ticket) == METHOD_AUDIT_NONE) {
        return;
    }
    if (ticket->err.reason == COF_REASON_AUDIT_UNAVAILABLE) {
        audit_count(audit, ticket->err.reason);
        return;
    }
    const struct trail_event event = event_of(ticket, NULL);
    if (is_counted(audit, ticket) || trail_write(audit, &event, &sequence, &err) == COF_OK) {
        return;
    }
    cof_ignore(audit_unavailable(&ticket->err));
    audit_count(audit, COF_REASON_AUDIT_UNAVAILABLE);
}
