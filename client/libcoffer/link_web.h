#pragma once

#include "client/libcoffer/link.h"
#include "common/web/frame.h"
#include "common/web/handshake.h"

/* The WebSocket of a link (docs/decisions/0017-http-and-websocket.md): opens it, makes replies of what comes. */

struct link_web {
    char key[COF_WEB_KEY];
    unsigned status; /* that the server answered in place of opening it; 0: none */
    struct cof_web_reader reader;
    struct parcel *reply; /* that is being received; it may have more room than is filled */
    uint8_t id[PARCEL_ID];
    size_t filled; /* bytes of the message, with its SP request ID */
    bool has_pong;
    uint8_t pong_size;
    uint8_t pong[COF_WEB_CONTROL_MOST];
};

/* Writes the request that opens it. False if there is no randomness, or no room. */
bool link_web_init(struct link_web *web, const struct link_options *options, uint8_t *request, size_t room,
                   size_t *ret_size);
void link_web_done(struct link_web *web);

/* Reads the answer to it; DONE: it is open, and `ret_taken` are the bytes that it had. */
cof_head_step link_web_open(struct link_web *web, struct cof_slice bytes, size_t *ret_taken);

/* Reads on from `bytes + *at`; NULL, or a reply that is whole. False: the connection must end. */
bool link_web_take(struct link_web *web, uint8_t *bytes, size_t size, size_t *at, struct parcel **ret_reply);

/* Writes the pong that is due; returns its size. */
size_t link_web_take_pong(struct link_web *web, uint8_t *to);
