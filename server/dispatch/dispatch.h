#pragma once

#include "common/arena.h"
#include "common/log.h"
#include "server/dispatch/exchange.h"
#include "server/metrics/metrics.h"
#include "server/service/call.h"
#include "server/store/session.h"

/*
 * From frames to answers: decodes, admits, routes, and writes the one log line of a request.
 *
 * dispatch_submit runs on transport's threads and never blocks: what can be answered from memory is answered there,
 * everything else goes over a bounded queue to worker threads, each with a database session of its own.
 */

struct dispatch;

typedef enum dispatch_log {
    DISPATCH_LOG_ALL,
    DISPATCH_LOG_FAILED, /* only calls that fail */
    DISPATCH_LOG_NONE,
} dispatch_log;

struct dispatch_options {
    struct service *service;
    struct cof_pool *pool;
    const struct cof_log *log;
    struct metrics *metrics; /* what calls are counted in; NULL: they are not */
    dispatch_log log_requests;
    bool resolve_durable; /* a Resolve is answered when its audit record is on the disk */
    uint32_t workers;
    uint32_t queue;       /* calls that may wait for a worker */
    uint32_t call_memory; /* bytes of arena for one call */
    uint32_t max_parked;  /* calls that may wait for something that others do */
    uint32_t max_parked_workspace;
    uint64_t max_parked_bytes; /* of their requests */
    uint32_t reply_timeout_ms; /* for the send of a reply */
    struct session_options session;
    /* A call was parked in a workspace whose revision is not confirmed; see dispatch_unconfirmed. Or it is the first
     * for which revisions have to be confirmed, or the first in a hurry. Must not block; on any thread. */
    void (*unconfirmed)(void *context);
    /* A call has committed a write and is not answered yet: whoever must know before that. dispatch_reached is to be
     * called, too. Must not block; on any thread. NULL: nobody is told. */
    void (*written)(void *context, const struct cof_uuid *workspace, uint64_t revision);
    void *context;
};

/* Starts the workers; they connect by themselves, and again whenever they have to. */
COF_CODE dispatch_start(const struct dispatch_options *options, struct dispatch **ret_dispatch,
                        struct cof_error *err);

/* For transport_options: takes a request, or answers one that transport refuses. */
void dispatch_submit(struct exchange *exchange, void *context);
void dispatch_refuse(struct exchange *exchange, cof_reason reason, void *context);

/* Changes which calls get a line in the log. Thread-safe. */
void dispatch_log_requests(struct dispatch *dispatch, dispatch_log which);

/* From now on new calls are answered SERVER_DRAINING, and those that are parked at once; those that are queued or under
 * way go on. */
void dispatch_drain(struct dispatch *dispatch);

/* Calls that were taken and not answered yet. */
uint32_t dispatch_in_flight(struct dispatch *dispatch);

/* How busy it is now. */
struct dispatch_load {
    uint32_t in_flight;
    uint32_t queued;  /* for a worker */
    uint32_t tickets; /* calls that may be worked on at once */
    uint32_t workers;
    uint32_t parked;  /* calls that wait for what others do */
    uint32_t watches; /* the same of watches */
    uint32_t outside; /* and of those that wait for a provider or a role */
};
struct dispatch_load dispatch_load_now(struct dispatch *dispatch);

/*
 * For the job that confirms revisions (docs/decisions/0003-revisions-and-freshness.md); thread-safe.
 *
 * A workspace has reached a revision; whoever waits for it goes on. Every revision that is committed after
 * dispatch_unconfirmed has returned a workspace must be told, until nobody waits there.
 */
void dispatch_reached(struct dispatch *dispatch, const struct cof_uuid *workspace, uint64_t revision);
bool dispatch_waits_for_revisions(struct dispatch *dispatch);
/* The same of watches, which are not in a hurry. */
bool dispatch_watches(struct dispatch *dispatch);
/* Workspaces whose revision has to be asked for once; at most `max`, and each once. */
size_t dispatch_unconfirmed(struct dispatch *dispatch, struct cof_uuid *ret_workspaces, size_t max);
/* Revisions may have been missed: dispatch_unconfirmed begins anew. */
void dispatch_doubt(struct dispatch *dispatch);
/* A flight has landed (server/service/flights.h): whoever waits for it goes on. Thread-safe; does not block. */
void dispatch_landed(struct dispatch *dispatch, const struct flight_key *key);
/* All calls that wait go on now: the database is another. */
void dispatch_all_go_on(struct dispatch *dispatch);

/* Ends the workers once they have answered what is queued; later calls are answered SERVER_BUSY. Answers that are kept
 * for their audit records leave until audit_stop has returned. NULL is allowed. */
void dispatch_stop(struct dispatch *dispatch);

/* After dispatch_stop and audit_stop, when transport gives no more calls. NULL is allowed. */
void dispatch_free(struct dispatch *dispatch);
