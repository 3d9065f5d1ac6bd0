#pragma once

#include "server/outbound/http.h"
#include "server/service/call.h"

/*
 * What a handler asks the outside and reads itself (docs/decisions/0028-discovery.md). It asks; the call waits for the
 * flight without a worker and runs anew; it asks the same again, and the answer is there. One that needs several answers
 * asks for them in turn, and finds those of before each time.
 *
 * An answer belongs to one request of one token, under a name that the handler gives it. It is kept in outbound's locked
 * memory for a minute, for the attempts of that request, and for nobody else: a client that repeats its request meanwhile
 * causes nothing to be sent again, on this server. Thread-safe.
 */

struct asks;

enum { ASK_NAME_MAX = 64, ASK_SECRET = 32 };

struct asks_options {
    struct outbound *outbound;
    struct flights *flights;
    const struct cof_clock *clock;
    uint32_t most;               /* answers that are awaited or kept */
    uint32_t most_per_workspace; /* of them */
};

/* NULL if there is no memory, or there are no random numbers. */
struct asks *asks_new(const struct asks_options *options);
/* When outbound was stopped, before it is freed. NULL is allowed. */
void asks_free(struct asks *asks);

struct ask {
    const char *name; /* what tells it from others of the same request */
    const struct cof_uuid *workspace;
    const char *group; /* see connection_group */
    const char *method;
    const char *url;
    const struct outbound_header *headers;
    size_t header_count;
    struct cof_slice body;
};

/*
 * The answer, in the call's memory, whatever it says. Until it has come this fails with PROVIDER_UNAVAILABLE, and has said
 * call_wait_for_flight if the call may wait; the handler passes that on and leaves nothing behind. SERVER_BUSY if too much
 * is asked already; NOT_AVAILABLE where nothing is asked of the outside.
 */
COF_CODE asks_ask(struct call *call, const struct ask *ask, struct outbound_answer_view *ret_answer);

/* Something that nobody else knows, and that is the same whenever the request comes to this question on this server: for what
 * was put into a question and is needed with its answer. NOT_AVAILABLE as above. */
COF_CODE asks_secret(struct call *call, const struct cof_uuid *workspace, const char *name,
                     uint8_t ret_secret[ASK_SECRET]);

/* Whether the request has asked this on this server, and the answer is awaited or kept. */
bool asks_known(struct call *call, const struct ask *ask);

/* The answer is of no use any more. */
void asks_forget(struct call *call, const struct ask *ask);

/* Fails with PROVIDER_UNAVAILABLE for an answer that did not come whole, or ADDRESS_REFUSED for a host that may not be asked;
 * `what` says who was asked. Succeeds for one that came, whatever its status. */
COF_CODE asks_arrived(struct call *call, const struct outbound_answer_view *answer, const char *what);

/* A name for limits and the breaker of a host that the workspace has chosen. NULL if the memory is exhausted. */
const char *asks_group(struct call *call, const struct cof_uuid *workspace, const char *url) COF_MUST_USE;
