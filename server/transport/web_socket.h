#pragma once

#include "common/web/frame.h"
#include "server/transport/request.h"

/* The WebSocket of a connection: what comes becomes requests, and what has to be answered to it becomes frames. */

enum {
    /* One pong and one close: of several pings only the last needs an answer (RFC 6455, section 5.5.3). */
    WEB_ANSWERS_MOST = 2 * COF_WEB_HEADER_MOST + COF_WEB_CONTROL_MOST + (int) sizeof(uint16_t),
};

/* Used by the thread that receives. */
struct web_input {
    struct connection *connection;
    const struct exchange_ops *ops;
    struct cof_web_reader reader;
    struct request *request; /* that is being received; its frame may have more room than is filled */
    uint8_t id[SP_ID];
    size_t filled; /* bytes of the message, with its SP request ID */
};

/* Used with the connection's lock. */
struct web_answers {
    bool has_pong;
    uint8_t pong_size;
    uint8_t pong[COF_WEB_CONTROL_MOST];
    bool has_close;
    uint16_t code;
};

typedef enum web_step {
    WEB_SHORT,
    WEB_REQUEST, /* a request is whole */
    WEB_PING,    /* `event` has what the pong repeats */
    WEB_CLOSE,   /* the peer closes, with the event's code */
    WEB_REFUSE,  /* the peer broke the rules; to be closed with the event's code */
    WEB_FAILED,  /* no memory */
} web_step;

void web_input_init(struct web_input *input, struct connection *connection, const struct exchange_ops *ops,
                    uint32_t max_request);
void web_input_done(struct web_input *input);

/* Reads on from `bytes + *at`, which it unmasks. */
web_step web_input_take(struct web_input *input, uint8_t *bytes, size_t size, size_t *at,
                        struct cof_web_event *ret_event, struct request **ret_request);

/* Whether a message has begun and is not whole. */
bool web_input_begun(const struct web_input *input);

/* Writes the frames of what is to be answered, which then is nothing any more; returns their size. */
size_t web_answers_take(struct web_answers *answers, uint8_t to[WEB_ANSWERS_MOST]);
