#pragma once

#include <coffer/audit/v1/record.pb-c.h>

#include "common/token.h"
#include "server/audit/audit.h"
#include "server/service/call.h"

/*
 * What an answered or refused call leaves in the audit stream. A Resolve leaves one record for each item, everything
 * else one in all; where a record would grow beyond about 32 KiB it goes on in another with the same request ID.
 *
 * A name stands in a record only if it can be one: what else a caller writes into a field may be anything, a value
 * that was pasted into the wrong place, too.
 */

struct trail_event {
    const struct call *call;
    const struct cof_token *token;    /* as it was presented; NULL: none */
    const ProtobufCMessage *request;  /* NULL: it was not decoded */
    const ProtobufCMessage *response; /* NULL: the call is refused */
    cof_code code;
    cof_reason reason;
};

/*
 * Writes the records, and gives the number of the last one. Fails with AUDIT_UNAVAILABLE, or with OUT_OF_MEMORY if
 * the call's arena has no room; that of a refusal needs none.
 */
COF_CODE trail_write(struct audit *audit, const struct trail_event *event, uint64_t *ret_sequence,
                     struct cof_error *err);

/* The texts of an actor; the message points into them. */
struct trail_actor {
    Coffer__Audit__V1__Actor message;
    char principal[COF_UUID_TEXT];
    char token[COF_UUID_TEXT];
    char workspace[COF_UUID_TEXT];
    char name[128];
};

/* Who made the call, as far as is known. Borrows from the call. */
void trail_fill_actor(const struct call *call, const struct cof_token *token, struct trail_actor *actor);
