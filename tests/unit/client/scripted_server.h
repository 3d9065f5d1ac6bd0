#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include <coffer/v1/resolve.pb-c.h>

#include "common/error.h"
#include "common/frame.h"

/*
 * A server in threads of its own that does with each request what a script says. It speaks on plain sockets, since nng's
 * can be stopped for ever by a connection that ends (docs/decisions/0009-connections.md), and such ends are scripted.
 */

struct scripted_server;

typedef enum script_action {
    SCRIPT_ANSWER,     /* the answer below */
    SCRIPT_DROP,       /* closes the connection that the request came from */
    SCRIPT_SILENT,     /* never answers */
    SCRIPT_OTHER_ID,   /* the answer below, with another request's ID */
    SCRIPT_WITHOUT_ID, /* the answer below, without an ID */
    SCRIPT_GARBAGE,    /* bytes that are no frame */
    SCRIPT_OVERSIZE,   /* more bytes than a client takes */
} script_action;

struct script_reply {
    script_action action;
    uint32_t delay_ms;
    cof_reason reason;       /* NONE: success with the payload. Else the message is "it failed; do something" */
    int32_t code;            /* instead of the reason's; 0: the reason's */
    uint32_t retry_after_ms; /* 0: no advice */
    const char *field;       /* the wrong one; NULL: none */
    uint8_t *payload;        /* from malloc; taken over */
    size_t payload_len;
};

/* `number` counts the server's requests from 0. Called on several threads if the server has them. */
typedef void (*script_answer)(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                              void *context);

/* Listens on a free port of 127.0.0.1, or on `address`. Ends the process where that fails. */
struct scripted_server *scripted_server_new(const char *address, unsigned threads, script_answer answer,
                                            void *context);
void scripted_server_free(struct scripted_server *server);
void scripted_server_cleanup(struct scripted_server **server);

/* "tcp://127.0.0.1:12345" */
const char *scripted_server_address(const struct scripted_server *server);
/* Requests so far. */
unsigned scripted_server_requests(const struct scripted_server *server);

/* Puts a message into the reply. */
void script_reply_message(struct script_reply *reply, const ProtobufCMessage *message);

/* The value that script_resolve gives to a key: "<environment>/<name>/<key>". `to` has 400 bytes. */
void script_value(const char *environment, const char *name, const char *key, char *to);

/* What script_resolve lets a test see and change before the answer is packed. */
struct resolve_script {
    void (*edit)(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                 Coffer__V1__ResolveResponse *answer);
    void *context;
};

/*
 * A script: resolves everything, at most 16 references in an item, but secrets whose names begin with `missing`, which
 * are not found, with `absent`, which are absent, and `denied`. `context` is a struct resolve_script or NULL.
 */
void script_resolve(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                    void *context);

/* A client of these addresses (separated by commas) with more settings; ends the process where that fails. */
struct coffer_client *scripted_client(const char *addresses, const char *more);
void scripted_client_cleanup(struct coffer_client **client);
