#pragma once

#include <coffer/rpc.h>

#include "client/bench/load.h"
#include "common/slice.h"

/* Calls to a server, through libcoffer. */

struct remote_call {
    const char *method;
    struct cof_slice payload;
    size_t least; /* bytes of an answer that is whole; a shorter one is a failure */
};

/* Opens a client; says what is wrong. NULL for the address and the file means the environment's. */
coffer_client *remote_open(const char *address, const char *token_file, uint32_t timeout_ms);

/* Begins one call, for load_begin. The payload may be freed at once. */
void remote_begin(coffer_client *client, const struct remote_call *call, struct load_slot *slot);

/* Makes one call and waits; says what is wrong. */
coffer_reply *remote_wait(coffer_client *client, const struct remote_call *call);

/* Bytes of the frames of a call with an answer of so many bytes, as libcoffer and the server write them. */
size_t remote_request_size(const struct remote_call *call, bool token);
size_t remote_reply_size(size_t payload);
