#pragma once

#include <nng/nng.h>

#include "common/tls/context.h"

/*
 * A connection that carries bytes, in the clear or inside of TLS: what nng_stream is, for tcp, ipc and tls+tcp alike.
 * Why TLS is not nng's own: docs/decisions/0015-tls.md. Thread-safe.
 *
 * The aio of an operation completes as with nng, on one of nng's threads and never inside of a call here. Its time-out
 * is given here, not with nng_aio_set_timeout, and so are its buffers. At most one operation of each kind runs. None may begin after the
 * close. One that fails or runs out of time leaves a stream that is good for nothing but to be closed.
 */

struct cof_stream;

enum { COF_STREAM_PARTS = 8 }; /* nng takes no more */

/* Takes over a connection of nng. NULL, and the connection is closed, if there is no memory. */
struct cof_stream *cof_stream_plain(nng_stream *below);

/*
 * The same with TLS on it; holds `tls`. The handshake begins with the first operation, and the stream fails if it is
 * not done `handshake_ms` after this call. A client passes the name that the server's certificate must have.
 */
struct cof_stream *cof_stream_tls(nng_stream *below, struct cof_tls *tls, const char *name,
                                  nng_duration handshake_ms);

/* The same for a connection of HTTP. */
struct cof_stream *cof_stream_tls_web(nng_stream *below, struct cof_tls *tls, const char *name,
                                      nng_duration handshake_ms);

/* Receives at least a byte into `to`. */
void cof_stream_recv(struct cof_stream *stream, nng_aio *aio, nng_iov to, nng_duration timeout_ms);

/* Sends some of the bytes of up to COF_STREAM_PARTS parts. The time-out is that in which the peer takes no byte. */
void cof_stream_send(struct cof_stream *stream, nng_aio *aio, const nng_iov *parts, unsigned count,
                     nng_duration timeout_ms);

/*
 * The same without waiting and without an aio: how many bytes were moved. 0: the operation would wait or fail, which is
 * told by one that may; so it is always over TLS. Only one of each kind runs at a time, and none beside an operation of its
 * kind. A close meanwhile, or before, is a failure like others.
 */
size_t cof_stream_recv_now(struct cof_stream *stream, nng_iov to);
size_t cof_stream_send_now(struct cof_stream *stream, const nng_iov *parts, unsigned count);

/* Whether they ever move anything: not over TLS. */
bool cof_stream_is_prompt(const struct cof_stream *stream);

/* The bytes that an operation moved which has succeeded. */
size_t cof_stream_count(const struct cof_stream *stream, nng_aio *aio);

/* Completes what runs with NNG_ECLOSED. With TLS the peer is told that nothing more comes. Twice is once. */
void cof_stream_close(struct cof_stream *stream);

/* Closes and frees it; also from inside of a callback. */
void cof_stream_free(struct cof_stream *stream);

/* The connection below, for its addresses. */
nng_stream *cof_stream_below(const struct cof_stream *stream);

/* Copies what is wrong with the peer's TLS, and what to do; empty if nothing is. Printable ASCII. */
void cof_stream_problem(struct cof_stream *stream, char *to, size_t size);
