#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/libcoffer/channel.h"
#include "client/libcoffer/credential.h"
#include "common/error.h"
#include "common/frame.h"
#include "common/uuid.h"

/*
 * One call: attempts on connected addresses until there is an answer that a repeat would not better, or the time is
 * over. All attempts have the same request ID.
 */

struct call;

struct call_request {
    struct cof_slice method;
    struct cof_slice payload;
    const struct cof_metadata *metadata; /* without `authorization` */
    struct credential *credential;       /* NULL: none */
    const struct cof_uuid *request_id;   /* NULL: a new one */
    uint32_t timeout_ms;
    /*
     * Longest wait for an answer while another address is connected that could give it; 0: half of the time that is
     * left. A server that hangs would otherwise cost the call.
     */
    uint32_t patience_ms;
    uint32_t delay_ms; /* before the first attempt; part of the time for the call */
};

/* On a thread of nng. The call is over and belongs to the callee, who frees it. */
typedef void (*call_done)(struct call *call, void *context);

/*
 * Copies the request. Fails with MESSAGE_TOO_LARGE, METADATA_INVALID, TOO_MANY_IN_FLIGHT, OUT_OF_MEMORY or
 * CLIENT_CLOSED.
 */
COF_CODE call_new(struct channel *channel, const struct call_request *request, struct call **ret_call,
                  struct cof_error *err);

/* Begins the call; its time runs from here. `done` is called once. */
void call_start(struct call *call, call_done done, void *context);

/* The same, and waits for the end. Returns its code; the failure is in call_error. */
COF_CODE call_run(struct call *call);

/* Wipes and gives back everything. After this the channel may be gone. NULL is allowed. */
void call_free(struct call *call);
void call_free_cleanup(struct call **call);

/* Of a call that is over; borrowed from it. The code is COF_OK on success. */
const struct cof_error *call_error(const struct call *call);
const struct cof_response_frame *call_reply(const struct call *call);
/* The answer as it was received. */
struct cof_slice call_reply_bytes(const struct call *call);
const struct cof_uuid *call_request_id(const struct call *call);
/* The call was given up because its connection was lost again and again: perhaps because of what it asks for. */
bool call_lost_connections(const struct call *call);
/* Attempts whose request was sent. */
uint32_t call_attempts(const struct call *call);
