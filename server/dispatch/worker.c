#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server/dispatch/reading.h"

/*
 * A worker: one thread, one database session. It takes several waiting calls at once, reads what they need before they
 * can run as one group (reading.h), and then runs them one by one.
 */

enum { PING_TIME_US = 2000000 };

_Static_assert((int) FAIR_BATCH <= (int) READING_CALLS_MAX, "a batch is read at once");

struct worker {
    struct dispatch *dispatch;
    struct session *session;
    struct outbox outbox;
    pthread_t thread;
};

static void run(struct worker *worker, struct ticket *ticket)
{
    session_deadline(worker->session, ticket->call.deadline_us);
    if (ticket->err.code == COF_OK) {
        cof_ignore(ticket_authenticate(ticket));
    }
    ticket_run(worker->dispatch, ticket);
    session_reset(worker->session);
    ticket_free(worker->dispatch, ticket);
}

/* The pipeline may take as long as the most patient call of the batch. */
static void set_batch_deadline(struct worker *worker, struct ticket *const *tickets, size_t count)
{
    int64_t deadline = 0;
    for (size_t i = 0; i < count; i++) {
        deadline = tickets[i]->call.deadline_us > deadline ? tickets[i]->call.deadline_us : deadline;
    }
    session_deadline(worker->session, deadline);
}

/* Work whose deadline has passed before it starts is not started; false if that is so for all of it. */
static bool any_in_time(struct ticket *const *tickets, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        any = (tickets[i]->err.code == COF_OK && call_check_deadline(&tickets[i]->call) == COF_OK) || any;
    }
    return any;
}

static bool connected(struct worker *worker, struct cof_error *err)
{
    struct service *service = dispatch_options_of(worker->dispatch)->service;
    const cof_code code = session_ready(worker->session, err);
    atomic_store(&service->database_up, code == COF_OK);
    if (code == COF_UNAVAILABLE && service->cache != NULL) {
        cache_unanswered(service->cache);
    }
    return code == COF_OK;
}

/* Answers what can be answered without the database while it is lost; the rest moves up. */
static size_t answer_from_older(struct worker *worker, struct ticket **tickets, size_t count)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        if (ticket_answer_from_older(worker->dispatch, tickets[i])) {
            ticket_free(worker->dispatch, tickets[i]);
        } else {
            tickets[left++] = tickets[i];
        }
    }
    return left;
}

static void run_without_database(struct worker *worker, struct ticket *ticket, const struct cof_error *err)
{
    if (!ticket_run_without_database(worker->dispatch, ticket)) {
        ticket->err = ticket->err.code == COF_OK ? *err : ticket->err;
        ticket_run(worker->dispatch, ticket);
    }
    ticket_free(worker->dispatch, ticket);
}

static void run_all(struct worker *worker, struct ticket **tickets, size_t count)
{
    struct cof_error err;
    count = answer_from_older(worker, tickets, count);
    set_batch_deadline(worker, tickets, count);
    const bool in_time = any_in_time(tickets, count);
    const bool up = in_time && connected(worker, &err);
    if (up) {
        reading_run(worker->session, tickets, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (in_time && !up) {
            run_without_database(worker, tickets[i], &err);
        } else {
            run(worker, tickets[i]);
        }
    }
}

/* Answers of calls that were taken together leave together. */
static void run_batch(struct worker *worker, struct batch *batch)
{
    if (batch->count == 1) {
        run_all(worker, batch->tickets, 1);
        return;
    }
    outbox_open(&worker->outbox);
    for (size_t i = 0; i < batch->count; i++) {
        batch->tickets[i]->outbox = &worker->outbox;
    }
    run_all(worker, batch->tickets, batch->count);
    outbox_close(&worker->outbox);
}

static void before_waiting(void *context)
{
    outbox_let_go(context);
}

static cof_code ping(struct session *session, struct cof_error *err)
{
    TRY(session_ready(session, err));
    TRY(session_queue(session, STATEMENT_PING, NULL, 0, err));
    TRY(session_sync(session, err));
    return session_next(session, NULL, err);
}

/* Without calls nobody else would see that the database has gone, or that it is back. */
static void check_database(struct worker *worker)
{
    struct service *service = dispatch_options_of(worker->dispatch)->service;
    struct cof_error err;
    session_deadline(worker->session, cof_clock_monotonic(service->clock) + PING_TIME_US);
    atomic_store(&service->database_up, ping(worker->session, &err) == COF_OK);
    session_reset(worker->session);
}

static void *work(void *context)
{
    struct worker *worker = context;
    struct batch batch = {.count = 0};
    check_database(worker);
    while (dispatch_take(worker->dispatch, &batch)) {
        if (batch.count > 0) {
            run_batch(worker, &batch);
        } else {
            check_database(worker);
        }
    }
    return NULL;
}

cof_code worker_start(struct dispatch *dispatch, struct worker **ret_worker, struct cof_error *err)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) {
        return cof_arena_exhausted(err);
    }
    worker->dispatch = dispatch;
    cof_code code = session_new(&dispatch_options_of(dispatch)->session, &worker->session, err);
    if (code == COF_OK) {
        session_before_waiting(worker->session, before_waiting, &worker->outbox);
    }
    if (code == COF_OK && pthread_create(&worker->thread, NULL, work, worker) != 0) {
        code = cof_fail_internal(err, COF_ORIGIN_ERRNO, NULL, "a worker thread cannot be made");
    }
    if (code != COF_OK) {
        session_free(worker->session);
        free(worker);
        return code;
    }
    *ret_worker = worker;
    return COF_OK;
}

void worker_join(struct worker *worker)
{
    (void) pthread_join(worker->thread, NULL);
    session_free(worker->session);
    free(worker);
}
