#include "server/dispatch/ticket.h"

/*
 * Calls whose token, rights and secrets are all in the cache are answered on the thread that received them. The handler
 * is the one that workers run, without a session: what it does not find in memory it marks (call_needs_database), and
 * then all that it did is thrown away and the call is queued.
 *
 * Others wait for this thread, so what is tried is small, and only a success is answered here: whatever goes wrong is
 * found again, and told, by a worker.
 */

enum { QUICK_REQUEST = 16 * 1024 };

static bool worth_trying(const struct dispatch *dispatch, const struct ticket *ticket)
{
    const struct dispatch_options *options = dispatch_options_of(dispatch);
    return options->service->cache != NULL && ticket->method->from_memory &&
           ticket->frame.payload.len <= QUICK_REQUEST && !record_is_durable(dispatch, ticket);
}

static bool run(struct dispatch *dispatch, struct ticket *ticket, ProtobufCMessage **ret_response)
{
    const struct service *service = dispatch_options_of(dispatch)->service;
    return caller_recall(service, &ticket->token, &ticket->source) && ticket_authenticate(ticket) == COF_OK &&
           ticket_handle(dispatch, ticket, ret_response) == COF_OK && !ticket->call.needs_database;
}

static bool answer(struct dispatch *dispatch, struct ticket *ticket)
{
    const struct call before = ticket->call;
    ProtobufCMessage *response = NULL;
    if (run(dispatch, ticket, &response)) {
        ticket_set_state(ticket, TICKET_RUNNING);
        cof_error_clear(&ticket->err);
        answer_message(dispatch, ticket, response);
        return true;
    }
    caller_source_done(&ticket->source);
    cof_arena_reset(&ticket->arena);
    cof_error_clear(&ticket->err);
    ticket->request = NULL;
    ticket->call = before;
    return false;
}

bool ticket_answer_from_memory(struct dispatch *dispatch, struct ticket *ticket)
{
    return worth_trying(dispatch, ticket) && answer(dispatch, ticket);
}
