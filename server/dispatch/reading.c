#include "server/dispatch/reading.h"

#include <assert.h>

#include "common/wire.h"

enum { ADDRESSES_MAX = 1024 }; /* of one statement that several calls share */

struct group {
    struct session *session;
    struct ticket *const *tickets;
    size_t count;
    bool queued; /* any statement */
};

/* --- Tokens --------------------------------------------------------------------------------------------------- */

static struct ticket *reads_same_token(const struct group *group, size_t index)
{
    const struct cof_token *token = &group->tickets[index]->token;
    for (size_t i = 0; i < index; i++) {
        struct ticket *other = group->tickets[i];
        if (other->token_from == other && cof_uuid_equal(&other->token.id, &token->id) &&
            cof_uuid_equal(&other->token.workspace, &token->workspace)) {
            return other;
        }
    }
    return NULL;
}

/* A prefetch that fails is no failure of the call: its handler reads for itself. */
static cof_code prefetch(struct ticket *ticket)
{
    const struct method *method = ticket->method;
    if (method->prefetch == NULL) {
        return COF_OK;
    }
    if (ticket->request == NULL) {
        TRY(cof_wire_unpack(method->request, ticket->frame.payload, &ticket->arena, &ticket->request,
                            &ticket->err));
    }
    return method->prefetch(&ticket->call, ticket->request, &ticket->token.home);
}

/* Whose read of the token is this ticket's; NULL: it failed. */
static struct ticket *token_from(struct group *group, size_t index)
{
    struct ticket *ticket = group->tickets[index];
    struct ticket *from = reads_same_token(group, index);
    if (from == NULL && caller_queue(&ticket->call, &ticket->token, &ticket->source) == COF_OK) {
        group->queued = true;
        return ticket;
    }
    return from;
}

static void queue_token(struct group *group, size_t index)
{
    struct ticket *ticket = group->tickets[index];
    ticket->call.session = group->session;
    ticket->call.prefetch = (struct call_prefetch){0};
    ticket->source = (struct caller_source){0};
    ticket->token_failed = false;
    ticket->token_from = NULL;
    ticket->prefetch_from = NULL;
    if (ticket->err.code != COF_OK) {
        return;
    }
    const bool kept = caller_recall(ticket->call.service, &ticket->token, &ticket->source);
    ticket->token_from = kept ? NULL : token_from(group, index);
    if ((kept || ticket->token_from != NULL) && prefetch(ticket) != COF_OK) {
        ticket->call.prefetch.addresses.count = 0;
    }
}

static void share_token(struct ticket *from, struct ticket *ticket, const struct cof_error *err)
{
    ticket->token_failed = from->token_failed;
    if (!from->token_failed) {
        ticket->source = (struct caller_source){rows_share(from->source.rows), from->source.begun, NULL, false};
    } else if (ticket->err.code == COF_OK) {
        ticket->err = *err;
    }
}

static void collect_token(struct group *group, struct ticket *from)
{
    struct cof_error err;
    from->token_failed = session_next(group->session, &from->source.rows, &err) != COF_OK;
    if (from->token_failed && from->err.code == COF_OK) {
        from->err = err;
    }
    for (size_t i = 0; i < group->count; i++) {
        if (group->tickets[i] != from && group->tickets[i]->token_from == from) {
            share_token(from, group->tickets[i], &err);
        }
    }
}

/* --- Secrets -------------------------------------------------------------------------------------------------- */

/* Whether the ticket's secrets are read by the statement that begins with those of `first`. */
static bool joins(const struct ticket *first, const struct ticket *ticket, size_t addresses)
{
    const struct call_prefetch *wanted = &ticket->call.prefetch;
    return wanted->addresses.count > 0 && ticket->prefetch_from == NULL &&
           cof_uuid_equal(&wanted->workspace, &first->call.prefetch.workspace) &&
           (ticket == first || addresses + wanted->addresses.count <= ADDRESSES_MAX);
}

/* Gives every ticket that joins its range; returns the number of all addresses. */
static size_t gather(struct group *group, size_t index)
{
    struct ticket *first = group->tickets[index];
    size_t addresses = 0;
    for (size_t i = index; i < group->count; i++) {
        struct ticket *ticket = group->tickets[i];
        struct call_prefetch *wanted = &ticket->call.prefetch;
        if (joins(first, ticket, addresses)) {
            wanted->read = (struct secret_read){
                .first = addresses,
                .count = wanted->addresses.count,
                .begun = secret_read_begin(ticket->call.service, &wanted->workspace),
            };
            ticket->prefetch_from = first;
            addresses += wanted->addresses.count;
        }
    }
    return addresses;
}

static cof_code queue_gathered(struct group *group, size_t index, size_t count)
{
    struct ticket *first = group->tickets[index];
    struct secret_addresses all;
    struct cof_error err; /* not the call's: its handler reads for itself */
    TRY(secret_addresses_new(&first->arena, count, &all, &err));
    for (size_t i = index; i < group->count; i++) {
        const struct secret_addresses *own = &group->tickets[i]->call.prefetch.addresses;
        for (size_t k = 0; group->tickets[i]->prefetch_from == first && k < own->count; k++) {
            secret_addresses_add(&all, own->environments[k], own->names[k]);
        }
    }
    assert(all.count == count);
    return secret_read_queue(group->session, &first->call.prefetch.workspace, &all, &first->arena, &err);
}

static void queue_secrets(struct group *group, size_t index)
{
    struct ticket *first = group->tickets[index];
    if (first->call.prefetch.addresses.count == 0 || first->prefetch_from != NULL) {
        return;
    }
    const size_t count = gather(group, index);
    if (queue_gathered(group, index, count) == COF_OK) {
        group->queued = true;
        return;
    }
    for (size_t i = index; i < group->count; i++) {
        if (group->tickets[i]->prefetch_from == first) {
            group->tickets[i]->prefetch_from = NULL;
            group->tickets[i]->call.prefetch.addresses.count = 0;
        }
    }
}

static void collect_secrets(struct group *group, struct ticket *first)
{
    struct cof_error err;
    AUTO(rows_cleanup) struct rows *rows = NULL;
    if (session_next(group->session, &rows, &err) != COF_OK) {
        return;
    }
    for (size_t i = 0; i < group->count; i++) {
        struct ticket *ticket = group->tickets[i];
        if (ticket->prefetch_from == first) {
            ticket->call.prefetch.read.rows = rows_share(rows);
        }
    }
}

/* --- The group ------------------------------------------------------------------------------------------------ */

static void run_group(struct group *group)
{
    struct cof_error err;
    for (size_t i = 0; i < group->count; i++) {
        queue_token(group, i);
    }
    for (size_t i = 0; i < group->count; i++) {
        queue_secrets(group, i);
    }
    if (!group->queued) {
        return;
    }
    /* Where this fails, so do the results. */
    cof_ignore(session_sync(group->session, &err));
    for (size_t i = 0; i < group->count; i++) {
        if (group->tickets[i]->token_from == group->tickets[i]) {
            collect_token(group, group->tickets[i]);
        }
    }
    for (size_t i = 0; i < group->count; i++) {
        if (group->tickets[i]->prefetch_from == group->tickets[i]) {
            collect_secrets(group, group->tickets[i]);
        }
    }
    session_reset(group->session);
}

/* Whether the failure can be somebody else's: no connection and no time are everybody's. */
static bool worth_reading_alone(const struct ticket *ticket)
{
    return ticket->token_failed && ticket->err.reason != COF_REASON_DATABASE_UNAVAILABLE &&
           ticket->err.reason != COF_REASON_DEADLINE_EXCEEDED;
}

void reading_run(struct session *session, struct ticket *const *tickets, size_t count)
{
    assert(count <= READING_CALLS_MAX);
    run_group(&(struct group){session, tickets, count, false});
    for (size_t i = 0; count > 1 && i < count; i++) {
        if (worth_reading_alone(tickets[i])) {
            cof_error_clear(&tickets[i]->err);
            run_group(&(struct group){session, &tickets[i], 1, false});
        }
    }
}
