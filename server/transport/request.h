#pragma once

#include "server/dispatch/exchange.h"

/*
 * One request on its connection: the frame as it came, and its reply. Both are wiped when it is freed, which is what
 * nng's own messages never are.
 */

enum {
    SP_ID = 4,
    SP_HEADER_MOST = 10, /* of a message; that of WebSocket has 2, 4 or 10 bytes */
};

/* What stands before each message. */
typedef enum sp_framing {
    FRAMING_LENGTH, /* its length in 64 bits */
    FRAMING_IPC,    /* the byte 01, then the same */
    FRAMING_WEB,    /* the header of WebSocket's frame */
} sp_framing;

struct connection;

struct request {
    struct exchange exchange; /* first: an exchange is its request */
    struct connection *connection;
    struct request *next; /* of those whose reply waits to be sent */
    uint8_t id[SP_ID];
    uint8_t *reply;    /* room for the header and the ID, then the frame; NULL: none */
    size_t reply_size; /* of all of it */
    uint32_t send_timeout_ms;
    bool last; /* the connection ends behind its reply */
    size_t frame_size;
    uint8_t frame[];
};

/* NULL if there is no memory. */
struct request *request_new(struct connection *connection, const struct exchange_ops *ops, size_t frame_size);
void request_free(struct request *request);

static inline struct request *request_of(struct exchange *exchange)
{
    return (struct request *) (void *) exchange;
}

/* For exchange_ops: room for a reply. */
uint8_t *request_make_reply(struct exchange *exchange, size_t size);

/* Writes the header before the reply, and gives what is to be sent. */
struct cof_slice request_sealed_reply(struct request *request, sp_framing framing);
