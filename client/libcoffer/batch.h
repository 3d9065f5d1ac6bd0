#pragma once

#include <coffer/coffer.h>

#include "client/libcoffer/request.h"
#include "client/libcoffer/result.h"
#include "common/error.h"
#include "common/uuid.h"

/*
 * Resolves that threads make at the same time travel together, as items of one request (docs/decisions/0008-coalescing.md).
 *
 * A call that finds fewer requests on their way than are allowed is sent at once. Those that come while so many are on
 * their way join the next request, which is sent as soon as the answer to one of them has been read by all of its
 * callers, and after `coalesce_wait` at the latest. So an idle client waits for nothing, a busy one pays for one frame in
 * which many calls travel, and a slow answer holds nobody up for long.
 *
 * Each call keeps what is its own: a deadline, which ends it whatever becomes of the request; the time, trace context
 * and run of its items; a result in memory of its own. Calls with different tokens never travel together. Where a
 * request failed and one of its calls may be the reason, each of them is to be sent by itself (BATCH_ALONE).
 *
 * Memory: a batch_call belongs to its caller and stays where it is from batch_join until batch_leave. The answer is
 * wiped when the last call that travelled in the request has left. Thread-safe; functions of one call are called by one
 * thread at a time.
 */

struct batches; /* all of a client */
struct batch;   /* one request, and the calls in it */

enum {
    BATCH_CALLS_MAX = 4096, /* calls of a client that wait or travel */
    /* Of one request: the limits of the contract (docs/protocol.md, section 7). */
    BATCH_ITEMS_MAX = 1000,
    BATCH_VALUES_MAX = 10000,
    BATCH_BYTES_MAX = (1 << 20) - (32 << 10), /* with room for the frame and its metadata */
    /* Of one call; a larger one gains nothing by company and travels by itself. */
    BATCH_CALL_VALUES_MAX = 500,
    BATCH_CALL_BYTES_MAX = 32 << 10,
    BATCH_TRACEPARENT_MAX = 64, /* of an item; the frame's may be longer */
};

typedef enum batch_verdict {
    BATCH_ON_ITS_WAY,
    BATCH_ANSWERED,
    BATCH_FAILED, /* for a reason that concerns all calls of the request alike */
    BATCH_ALONE,  /* perhaps because of another call of the request: send this one by itself */
    BATCH_LATE,   /* the call's time is over */
} batch_verdict;

struct batch_call {
    /* The caller's. */
    const struct packed_request *request;
    const char *traceparent; /* empty: none */
    int64_t deadline_us;
    /* Called once, on a thread of the library or in batch_join; NULL: somebody calls batch_wait. It has to leave. */
    void (*ended)(struct batch_call *call);
    /* The module's. */
    struct batch *batch;
    size_t seat;
    batch_verdict verdict;
    struct batch_call *next_late;
};

/*
 * With the client's settings. Its channel must outlast batches_end, and end before batches_free. Fails with
 * OUT_OF_MEMORY.
 */
COF_CODE batches_new(coffer_client *client, struct batches **ret_batches, struct cof_error *err);

/* Ends calls that wait to be sent with CLIENT_CLOSED; no call can join any more. NULL is allowed. */
void batches_end(struct batches *batches);
/* Waits until all calls have left, and frees. NULL is allowed. */
void batches_free(struct batches *batches);

/*
 * Whether a request may travel with others: it asks for values, not for a preflight, is small, and has nothing in it
 * for which a server could refuse a whole frame.
 */
bool batch_takes(const struct packed_request *request, const char *traceparent);

/* Sends the call, or lets it wait for others. Fails with CLIENT_CLOSED, TOO_MANY_IN_FLIGHT or OUT_OF_MEMORY. */
COF_CODE batch_join(struct batches *batches, struct batch_call *call, struct cof_error *err);

/* Waits for the end of a call without `ended`. */
void batch_wait(struct batch_call *call);

/* Of a call that has ended with BATCH_ANSWERED: its results, valid until it leaves. */
struct result_parts batch_parts(const struct batch_call *call);
/* Of one that has ended with BATCH_FAILED. */
const struct cof_error *batch_error(const struct batch_call *call);
/* The ID of the request that the call travelled in; false if there was none, or the call was late. */
bool batch_request_id(const struct batch_call *call, struct cof_uuid *ret_id);

/* The end of a call. It may be joined again. */
void batch_leave(struct batch_call *call);
