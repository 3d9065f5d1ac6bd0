#pragma once

#include "common/frame.h"
#include "common/token.h"
#include "server/audit/audit.h"
#include "server/dispatch/dispatch.h"
#include "server/dispatch/fair.h"
#include "server/dispatch/line_limit.h"
#include "server/dispatch/method.h"
#include "server/dispatch/outbox.h"
#include "server/dispatch/parking.h"
#include "server/service/caller.h"

/*
 * One call inside dispatch. Tickets are made at start and reused; a ticket is free, or it belongs to the thread
 * that submitted it, then to the queue, then to a worker. A call that is parked gives its ticket back, and gets another
 * one from the worker that goes on with it.
 */

typedef enum ticket_state {
    TICKET_FREE,
    TICKET_ADMITTING, /* decoded and checked on transport's thread */
    TICKET_QUEUED,    /* in the queue */
    TICKET_RUNNING,   /* on a worker, or inline; before that a call may have been tried from memory */
    TICKET_KEPT,      /* the answer is ready and waits for its audit record to be on the disk */
    TICKET_PARKED,    /* the call waits in parking, without the ticket; on its way to TICKET_FREE */
    TICKET_ANSWERED,  /* the reply is out, or in an outbox; on its way to TICKET_FREE */
} ticket_state;

struct ticket {
    struct ticket *next;   /* in the free list */
    struct fair_item item; /* in the queue */
    ticket_state state;
    struct exchange *exchange;
    struct parked *parked; /* the call as it was parked, until the worker has taken over its exchange */
    const struct method *method;
    struct cof_request_frame frame;
    struct cof_token token;
    bool has_token;
    bool counted; /* against the token's limit */
    bool malformed;
    int64_t queued_us; /* for how long it waited for a worker; -1: it needed none, or was parked since */
    struct cof_arena arena;
    struct cof_error err;
    struct call call;
    struct caller caller;
    ProtobufCMessage *request;
    /* While a worker has it. */
    struct outbox *outbox;        /* with which its answer leaves; NULL: at once */
    bool token_failed;            /* perhaps for another call's sake */
    struct ticket *token_from;    /* whose read of the token is this one's too; itself: its own */
    struct ticket *prefetch_from; /* the same of the secrets; NULL: they were not read */
    struct caller_source source;
    /* While the answer is kept. */
    struct audit_waiter waiter;
    struct dispatch *dispatch;
};

struct dispatch;

/* admission.c: decodes the frame and checks what can be checked without the database. */
COF_CODE admission_check(struct dispatch *dispatch, struct ticket *ticket);

/* The same for a call that was parked: it was admitted once and is refused nothing now. */
COF_CODE admission_again(struct dispatch *dispatch, struct ticket *ticket);

/* Fails the call with SERVER_DRAINING. */
COF_CODE admission_draining(struct ticket *ticket);

/* answer.c: sends the handler's response, or the ticket's error, and nothing else ever. */
void answer_message(struct dispatch *dispatch, struct ticket *ticket, const ProtobufCMessage *response);
void answer_error(struct dispatch *dispatch, struct ticket *ticket);

/*
 * recording.c: what the call leaves in the audit stream. Fails if it cannot be recorded; then nothing but that failure
 * may be answered. `ret_durable`: the answer must wait for record ticket->waiter.sequence to be on the disk.
 */
COF_CODE record_answer(struct dispatch *dispatch, struct ticket *ticket, const ProtobufCMessage *response,
                       bool *ret_durable);
void record_refusal(struct dispatch *dispatch, struct ticket *ticket);
/* Whether the answer of such a call waits for the disk. */
bool record_is_durable(const struct dispatch *dispatch, const struct ticket *ticket);
/* Whether the call may run: fails with AUDIT_UNAVAILABLE if its answer could not be recorded now. */
COF_CODE record_check(struct dispatch *dispatch, struct ticket *ticket);

/* request_log.c: the one line of a request, unless nobody knows the caller and his peer has had enough of them. */
void request_log(struct dispatch *dispatch, const struct ticket *ticket, cof_code code);
/* The same for one that got no ticket. */
void request_log_refused(struct dispatch *dispatch, const struct exchange *exchange, struct cof_slice request_id,
                         const struct cof_error *err);
/* The lines about those that had none, where it is time for them; `now_us` as in line_limit_rest. */
void request_log_rest(struct dispatch *dispatch, int64_t now_us);

/* dispatch.c: runs the handler of an admitted, authenticated call, and answers or parks it. */
void ticket_run(struct dispatch *dispatch, struct ticket *ticket);
/* Only the first half of that: the response, in the ticket's arena. */
COF_CODE ticket_handle(struct dispatch *dispatch, struct ticket *ticket, ProtobufCMessage **ret_response);
/* memory.c: answers the call if all that it needs is in memory; else it is as it was. Never blocks. */
bool ticket_answer_from_memory(struct dispatch *dispatch, struct ticket *ticket);
/* For workers, while the database is lost: answers the call if all that it needs is kept; else it is as it was. */
bool ticket_answer_from_older(struct dispatch *dispatch, struct ticket *ticket);
/* The same, but what is not kept fails alone; false if nothing is known of the caller: then the call is not answered. */
bool ticket_run_without_database(struct dispatch *dispatch, struct ticket *ticket);
/* Gives the ticket back, now or when the answer that it keeps has left; its exchange is over, or belongs to parking. */
void ticket_free(struct dispatch *dispatch, struct ticket *ticket);
void ticket_set_state(struct ticket *ticket, ticket_state state);
/* The calls that a worker has at once. */
struct batch {
    struct ticket *tickets[FAIR_BATCH];
    size_t count;
    struct fair_batch share;
};
/* The next calls for one worker, which has done with those in the batch; waits. None: nothing came for a while. False: the
 * worker must stop. */
bool dispatch_take(struct dispatch *dispatch, struct batch *batch);
const struct dispatch_options *dispatch_options_of(const struct dispatch *dispatch);

/* How many lines there are of peers whom nobody knows. */
struct line_limit *dispatch_line_limit(struct dispatch *dispatch);

/* fair_key.c: whose share of the queue the call takes, and how much of it. */
struct fair_key fair_key_of(const struct dispatch *dispatch, const struct ticket *ticket);
uint32_t fair_cost(const struct ticket *ticket);

/* authenticate.c: finds out from the ticket's source who calls, and whether he may call this method. */
COF_CODE ticket_authenticate(struct ticket *ticket);

/* worker.c */
struct worker;
COF_CODE worker_start(struct dispatch *dispatch, struct worker **ret_worker, struct cof_error *err);
void worker_join(struct worker *worker);

/* token_limit.c: calls in flight for each token. */
struct token_limit;
struct token_limit *token_limit_new(uint32_t per_token, uint32_t capacity);
void token_limit_free(struct token_limit *limit);
/* False if the token has as many calls in flight as it may. */
bool token_limit_enter(struct token_limit *limit, const struct cof_uuid *token);
void token_limit_leave(struct token_limit *limit, const struct cof_uuid *token);
bool dispatch_enter_token(struct dispatch *dispatch, struct ticket *ticket);
