#include "server/dispatch/ticket.h"

/* What a server would be that left no record of its answers, to see what the records cost (bound by --wrap). */

cof_code __wrap_record_answer(struct dispatch *dispatch, struct ticket *ticket, const ProtobufCMessage *response,
                              bool *ret_durable);
void __wrap_record_refusal(struct dispatch *dispatch, struct ticket *ticket);
bool __wrap_record_is_durable(const struct dispatch *dispatch, const struct ticket *ticket);

cof_code __wrap_record_answer(struct dispatch *dispatch, struct ticket *ticket, const ProtobufCMessage *response,
                              bool *ret_durable)
{
    (void) dispatch;
    (void) ticket;
    (void) response;
    *ret_durable = false;
    return COF_OK;
}

void __wrap_record_refusal(struct dispatch *dispatch, struct ticket *ticket)
{
    (void) dispatch;
    (void) ticket;
}

bool __wrap_record_is_durable(const struct dispatch *dispatch, const struct ticket *ticket)
{
    (void) dispatch;
    (void) ticket;
    return false;
}
