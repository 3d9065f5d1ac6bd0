#pragma once

#include <stdbool.h>

#include "common/web/head.h"

/* How a connection of HTTP becomes one of WebSocket (RFC 6455, section 4). */

/* SP's name for the role of the server; a client must ask for exactly this one. */
#define COF_WEB_PROTOCOL "rep.sp.nanomsg.org"

enum {
    COF_WEB_KEY = 25,    /* 16 bytes in base64, with the NUL */
    COF_WEB_ACCEPT = 29, /* 20 bytes in base64, with the NUL */
};

/* Whether the text is base64 of 16 bytes. */
bool cof_web_key_valid(struct cof_slice key);

/* What a server answers to the key: it has understood what the client wants. False if OpenSSL fails. */
bool cof_web_accept(struct cof_slice key, char accept[COF_WEB_ACCEPT]);

/* Whether the response opens the WebSocket that was asked for with `key`. */
bool cof_web_accepted(const struct cof_head *response, const char *key);
