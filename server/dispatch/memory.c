#include "server/dispatch/ticket.h"

/*
 * Calls whose token, rights and secrets are all in the cache are answered on the thread that received them. The handler
 * is the one that workers run, without a session: what it does not find in memory it marks (call_needs_database), and
 * then all that it did is thrown away and the call is queued.
 *
 * Others wait for this thread, so what is tried is small, and only a success is answered here: whatever goes wrong is
 * found again, and told, by a worker.
 *
 * While the database is lost (server/cache/cache.h), older states do as well, where their workspaces permit it. Then
 * workers try what was too large for here, or whose record has to be on the disk; and what they cannot answer whole, if
 * the database does not take their connections either, they answer in part.
 */

enum { QUICK_REQUEST = 16 * 1024 };

static struct cache *cache_of(const struct ticket *ticket)
{
    return ticket->method->from_memory ? ticket->call.service->cache : NULL;
}

static bool worth_trying(const struct dispatch *dispatch, const struct ticket *ticket)
{
    return cache_of(ticket) != NULL && ticket->frame.payload.len <= QUICK_REQUEST &&
           !record_is_durable(dispatch, ticket);
}

static bool recall(struct ticket *ticket)
{
    struct call *call = &ticket->call;
    call->lost = cache_database_lost(cache_of(ticket));
    return caller_recall(call->service, &ticket->token, &ticket->source) ||
           (call->lost && caller_recall_older(call->service, &ticket->token, &ticket->source, &call->older_us));
}

static bool run(struct dispatch *dispatch, struct ticket *ticket, ProtobufCMessage **ret_response)
{
    return recall(ticket) && ticket_authenticate(ticket) == COF_OK &&
           ticket_handle(dispatch, ticket, ret_response) == COF_OK && !ticket->call.needs_database;
}

/* Answers the call, or leaves it as it was. */
static bool answer(struct dispatch *dispatch, struct ticket *ticket, bool hurried)
{
    const struct call before = ticket->call;
    ProtobufCMessage *response = NULL;
    ticket->call.session = NULL;
    ticket->call.hurried = hurried;
    if (run(dispatch, ticket, &response)) {
        if (hurried) {
            ticket_set_state(ticket, TICKET_RUNNING);
        }
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
    return worth_trying(dispatch, ticket) && answer(dispatch, ticket, true);
}

bool ticket_answer_from_older(struct dispatch *dispatch, struct ticket *ticket)
{
    struct cache *cache = ticket->err.code == COF_OK ? cache_of(ticket) : NULL;
    return cache != NULL && cache_database_lost(cache) && answer(dispatch, ticket, false);
}

bool ticket_run_without_database(struct dispatch *dispatch, struct ticket *ticket)
{
    ticket->call.session = NULL;
    if (ticket->err.code != COF_OK || cache_of(ticket) == NULL || !recall(ticket)) {
        return false;
    }
    cof_ignore(ticket_authenticate(ticket));
    ticket_run(dispatch, ticket);
    return true;
}
