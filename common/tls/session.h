#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/slice.h"
#include "common/tls/context.h"

/*
 * One TLS connection without its input and output: bytes that came are fed in, bytes that are to go out are taken.
 * Not thread-safe.
 */

struct cof_tls_session;

enum {
    COF_TLS_RECORD = 16384, /* bytes of plain text in a record */
    COF_TLS_PROBLEM = 320,  /* of a text that says what went wrong, with its NUL */
};

typedef enum cof_tls_step {
    COF_TLS_DONE,
    COF_TLS_WANTS,  /* more bytes of the peer */
    COF_TLS_ENDED,  /* the peer has said that nothing more comes */
    COF_TLS_FAILED, /* for good; cof_tls_session_problem says why, and an alert for the peer may be waiting */
} cof_tls_step;

/* A client checks that the server's certificate is for `name`, a host's name or address; a server passes NULL.
 * Holds the context. NULL if there is no memory. */
struct cof_tls_session *cof_tls_session_new(struct cof_tls *tls, const char *name);
/* Before the handshake: HTTP/1.1 is spoken inside, and named in ALPN. False if there is no memory. */
bool cof_tls_session_speak_web(struct cof_tls_session *session);
/* NULL is allowed. */
void cof_tls_session_free(struct cof_tls_session *session);

/* Bytes of the peer. Give more only when a step wants them: what was fed is kept until it is needed. False if there is
 * no memory. */
bool cof_tls_session_feed(struct cof_tls_session *session, struct cof_slice bytes);

/* Bytes for the peer: how many wait, and up to `size` of them. */
size_t cof_tls_session_waiting(const struct cof_tls_session *session);
size_t cof_tls_session_take(struct cof_tls_session *session, uint8_t *to, size_t size);

/* Goes on with the handshake. After DONE bytes can be read and written. */
cof_tls_step cof_tls_session_handshake(struct cof_tls_session *session);

/* Reads 1 to `size` bytes of plain text. */
cof_tls_step cof_tls_session_read(struct cof_tls_session *session, uint8_t *to, size_t size, size_t *ret_size);
/* Writes up to COF_TLS_RECORD bytes of plain text, all of them: DONE or FAILED. */
cof_tls_step cof_tls_session_write(struct cof_tls_session *session, struct cof_slice bytes);

/* Tells the peer that nothing more comes, if there is somebody to tell it. */
void cof_tls_session_end(struct cof_tls_session *session);

/* What went wrong, and what to do; printable ASCII, empty as long as nothing did. */
const char *cof_tls_session_problem(const struct cof_tls_session *session);
/* Says that the connection ended here, if no other problem is known, and what that means. */
void cof_tls_session_cut(struct cof_tls_session *session);
