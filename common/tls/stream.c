#include "common/tls/stream.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <nng/supplemental/util/platform.h>

#include "common/secret.h"
#include "common/tls/session.h"

enum {
    INPUT = 16384,
    OUTPUT = COF_TLS_RECORD + 512, /* a record of the largest size, with what TLS adds to it */
    /* Answers that a peer makes TLS give (KeyUpdate), and does not take: nothing more of it is read with so many. */
    OUTPUT_MOST = 65536,
    GOODBYE_MS = 1000, /* for an alert to reach the peer */
    ANSWER_MS = 10000, /* for what TLS itself has to say */
};

#define NEVER UINT64_MAX

typedef enum stream_state {
    STREAM_SHAKING,
    STREAM_OPEN,
    STREAM_PARTING, /* it has failed; the peer gets its alert, then the operations end */
    STREAM_OVER,    /* the connection below is closed */
} stream_state;

/*
 * Plain: only `below` and the two for what is not waited for are used. With TLS the owner's operations are ours to
 * complete (`recv`, `send`), and the connection below has at most one of each kind, reader's and writer's. It is freed
 * when nobody holds it: its owner, and each operation below.
 */
struct cof_stream {
    nng_stream *below;
    nng_aio *recv_prompt; /* of what is not waited for; NULL with TLS */
    nng_aio *send_prompt;
    struct cof_tls_session *session; /* NULL: plain */

    pthread_mutex_t lock;
    unsigned holds;
    stream_state state;
    int failure;     /* why it is parting or over */
    nng_time end_by; /* of the handshake, or of the parting */

    nng_aio *recv;
    nng_iov recv_to;
    nng_time recv_by; /* NEVER: no limit */
    nng_aio *send;
    nng_iov parts[COF_STREAM_PARTS];
    unsigned part_count;
    nng_duration send_ms;
    size_t send_count; /* bytes of the owner that are in what is being sent; 0: none yet */

    nng_aio *reader;
    nng_aio *writer;
    bool reading;
    bool writing;
    size_t output_size;
    size_t output_sent;
    uint8_t *output; /* behind the input */
    uint8_t input[]; /* INPUT and OUTPUT bytes with TLS, none without */
};

/* --- Life ----------------------------------------------------------------------------------------------------- */

static void release(struct cof_stream *stream)
{
    if (stream->session != NULL) {
        /* Also from inside of a callback of these. */
        nng_aio_reap(stream->reader);
        nng_aio_reap(stream->writer);
        cof_tls_session_free(stream->session);
        (void) pthread_mutex_destroy(&stream->lock);
    }
    nng_aio_free(stream->recv_prompt);
    nng_aio_free(stream->send_prompt);
    nng_stream_free(stream->below);
    free(stream);
}

/* Gives back the lock and a hold. */
static void let_go(struct cof_stream *stream)
{
    const bool gone = --stream->holds == 0;
    (void) pthread_mutex_unlock(&stream->lock);
    if (gone) {
        release(stream);
    }
}

static void complete(nng_aio **aio, int result, size_t count)
{
    nng_aio *done = TAKE(*aio);
    if (done != NULL) {
        (void) nng_aio_set_output(done, 0, (void *) (uintptr_t) count);
        nng_aio_finish(done, result);
    }
}

/* --- The connection below ------------------------------------------------------------------------------------- */

static nng_time after(nng_duration ms)
{
    return ms < 0 ? NEVER : nng_clock() + (nng_time) ms;
}

static nng_duration until(nng_time moment)
{
    const nng_time now = nng_clock();
    if (moment == NEVER) {
        return NNG_DURATION_INFINITE;
    }
    return moment <= now ? 1 : (nng_duration) (moment - now);
}

/* Ends the operations below, and with them the owner's. */
static void close_below(struct cof_stream *stream, int failure)
{
    if (stream->state == STREAM_OVER) {
        return;
    }
    if (stream->state != STREAM_PARTING) {
        stream->failure = failure;
    }
    stream->state = STREAM_OVER;
    nng_stream_close(stream->below);
    complete(&stream->recv, stream->failure, 0);
    complete(&stream->send, stream->failure, 0);
}

static nng_duration write_timeout(const struct cof_stream *stream)
{
    if (stream->state == STREAM_OPEN && stream->send != NULL) {
        return stream->send_ms;
    }
    return stream->state == STREAM_OPEN ? ANSWER_MS : until(stream->end_by);
}

static void write_on(struct cof_stream *stream)
{
    nng_iov part = {.iov_buf = stream->output + stream->output_sent,
                    .iov_len = stream->output_size - stream->output_sent};
    const int failed = nng_aio_set_iov(stream->writer, 1, &part);
    assert(failed == 0);
    nng_aio_set_timeout(stream->writer, write_timeout(stream));
    stream->writing = true;
    stream->holds++;
    nng_stream_send(stream->below, stream->writer);
}

static void read_on(struct cof_stream *stream, nng_time by)
{
    nng_iov part = {.iov_buf = stream->input, .iov_len = INPUT};
    const int failed = nng_aio_set_iov(stream->reader, 1, &part);
    assert(failed == 0);
    nng_aio_set_timeout(stream->reader, until(by));
    stream->reading = true;
    stream->holds++;
    nng_stream_recv(stream->below, stream->reader);
}

/* --- TLS ------------------------------------------------------------------------------------------------------ */

/*
 * A socket that is closed with bytes in it that nobody read throws away what it had sent. So the peer gets the time to
 * read the alert, while we read what it still has to say.
 */
static void part(struct cof_stream *stream)
{
    if (stream->reading || cof_tls_session_waiting(stream->session) == 0) {
        close_below(stream, NNG_EPEERAUTH);
        return;
    }
    stream->state = STREAM_PARTING;
    stream->failure = NNG_EPEERAUTH;
    stream->end_by = after(GOODBYE_MS);
}

static void take_step(struct cof_stream *stream, cof_tls_step step)
{
    if (step == COF_TLS_FAILED) {
        part(stream);
    } else if (step == COF_TLS_ENDED) {
        close_below(stream, NNG_ECONNSHUT);
    }
}

static void shake(struct cof_stream *stream)
{
    const cof_tls_step step = cof_tls_session_handshake(stream->session);
    take_step(stream, step);
    if (step == COF_TLS_DONE) {
        stream->state = STREAM_OPEN;
    }
}

/* Small parts travel together, in one record. */
static size_t gather(const struct cof_stream *stream, uint8_t *record)
{
    size_t filled = 0;
    for (unsigned i = 0; i < stream->part_count && filled < COF_TLS_RECORD; i++) {
        const size_t room = COF_TLS_RECORD - filled;
        const size_t size = stream->parts[i].iov_len < room ? stream->parts[i].iov_len : room;
        memcpy(record + filled, stream->parts[i].iov_buf, size);
        filled += size;
    }
    return filled;
}

/* The room for what goes out is free while nothing is being written. */
static void encrypt(struct cof_stream *stream)
{
    uint8_t *record = stream->output;
    if (stream->send == NULL || stream->send_count > 0 || stream->writing) {
        return;
    }
    stream->send_count = gather(stream, record);
    take_step(stream, cof_tls_session_write(stream->session, cof_slice_of(record, stream->send_count)));
    cof_wipe(record, stream->send_count);
}

/* Whether TLS wants more bytes of the peer. */
static bool decrypt(struct cof_stream *stream)
{
    size_t size = 0;
    if (stream->recv == NULL || cof_tls_session_waiting(stream->session) > OUTPUT_MOST) {
        return false;
    }
    const cof_tls_step step =
        cof_tls_session_read(stream->session, stream->recv_to.iov_buf, stream->recv_to.iov_len, &size);
    take_step(stream, step);
    if (step == COF_TLS_DONE) {
        complete(&stream->recv, 0, size);
    }
    return step == COF_TLS_WANTS;
}

/* Everything that was to go out is out. */
static void sent_all(struct cof_stream *stream)
{
    if (stream->state == STREAM_OPEN && stream->send_count > 0) {
        const size_t count = stream->send_count;
        stream->send_count = 0;
        complete(&stream->send, 0, count);
    }
}

static void flush(struct cof_stream *stream)
{
    if (stream->writing || stream->state == STREAM_OVER) {
        return;
    }
    stream->output_sent = 0;
    stream->output_size = cof_tls_session_take(stream->session, stream->output, OUTPUT);
    if (stream->output_size > 0) {
        write_on(stream);
    } else {
        sent_all(stream);
    }
}

static nng_time read_by(const struct cof_stream *stream)
{
    if (stream->state != STREAM_OPEN && stream->end_by < stream->recv_by) {
        return stream->end_by;
    }
    return stream->recv == NULL ? stream->end_by : stream->recv_by;
}

/* Does whatever can be done now. */
static void advance(struct cof_stream *stream)
{
    bool wants = true;
    if (stream->state == STREAM_SHAKING) {
        shake(stream);
    }
    if (stream->state == STREAM_OPEN) {
        encrypt(stream);
    }
    if (stream->state == STREAM_OPEN) {
        wants = decrypt(stream);
    }
    flush(stream);
    if (wants && !stream->reading && stream->state != STREAM_OVER) {
        read_on(stream, read_by(stream));
    }
}

/* An end that TLS did not announce: of a peer that has crashed, or by somebody on the way. */
static void cut(struct cof_stream *stream, int result)
{
    if (result == NNG_ECONNSHUT || result == NNG_ECONNRESET) {
        cof_tls_session_cut(stream->session);
    }
    close_below(stream, result);
}

/* A peer that always has one more byte must not outlive its time either. */
static bool is_late(const struct cof_stream *stream)
{
    const nng_time now = nng_clock();
    if (stream->state == STREAM_OPEN) {
        return stream->recv != NULL && now > stream->recv_by;
    }
    return now > stream->end_by;
}

static void on_read(void *context)
{
    struct cof_stream *stream = context;
    const int result = nng_aio_result(stream->reader);
    (void) pthread_mutex_lock(&stream->lock);
    stream->reading = false;
    if (stream->state != STREAM_OVER) {
        if (result != 0 || is_late(stream)) {
            cut(stream, result == 0 ? NNG_ETIMEDOUT : result);
        } else if (stream->state == STREAM_PARTING) {
            read_on(stream, stream->end_by);
        } else if (cof_tls_session_feed(stream->session,
                                        cof_slice_of(stream->input, nng_aio_count(stream->reader)))) {
            advance(stream);
        } else {
            close_below(stream, NNG_ENOMEM);
        }
    }
    let_go(stream);
}

static void on_written(void *context)
{
    struct cof_stream *stream = context;
    const int result = nng_aio_result(stream->writer);
    (void) pthread_mutex_lock(&stream->lock);
    stream->writing = false;
    if (stream->state != STREAM_OVER) {
        stream->output_sent += result == 0 ? nng_aio_count(stream->writer) : 0;
        if (result != 0) {
            close_below(stream, result);
        } else if (stream->output_sent < stream->output_size) {
            write_on(stream);
        } else {
            advance(stream);
        }
    }
    let_go(stream);
}

/* --- For owners ----------------------------------------------------------------------------------------------- */

static struct cof_stream *make(nng_stream *below, size_t buffers)
{
    struct cof_stream *stream = calloc(1, sizeof *stream + buffers);
    if (stream == NULL) {
        nng_stream_free(below);
        return NULL;
    }
    stream->below = below;
    return stream;
}

struct cof_stream *cof_stream_plain(nng_stream *below)
{
    struct cof_stream *stream = make(below, 0);
    if (stream != NULL && (nng_aio_alloc(&stream->recv_prompt, NULL, NULL) != 0 ||
                           nng_aio_alloc(&stream->send_prompt, NULL, NULL) != 0)) {
        release(stream);
        return NULL;
    }
    return stream;
}

static struct cof_stream *make_tls(nng_stream *below, struct cof_tls_session *session, nng_duration handshake_ms)
{
    struct cof_stream *stream = make(below, INPUT + OUTPUT);
    if (stream == NULL) {
        cof_tls_session_free(session);
        return NULL;
    }
    if (session == NULL || nng_aio_alloc(&stream->reader, on_read, stream) != 0 ||
        nng_aio_alloc(&stream->writer, on_written, stream) != 0) {
        nng_aio_free(stream->reader);
        cof_tls_session_free(session);
        nng_stream_free(below);
        free(stream);
        return NULL;
    }
    (void) pthread_mutex_init(&stream->lock, NULL);
    stream->session = session;
    stream->output = stream->input + INPUT;
    stream->holds = 1;
    stream->recv_by = NEVER;
    stream->end_by = after(handshake_ms);
    return stream;
}

struct cof_stream *cof_stream_tls(nng_stream *below, struct cof_tls *tls, const char *name,
                                  nng_duration handshake_ms)
{
    return make_tls(below, cof_tls_session_new(tls, name), handshake_ms);
}

struct cof_stream *cof_stream_tls_web(nng_stream *below, struct cof_tls *tls, const char *name,
                                      nng_duration handshake_ms)
{
    struct cof_tls_session *session = cof_tls_session_new(tls, name);
    if (session != NULL && !cof_tls_session_speak_web(session)) {
        cof_tls_session_free(session);
        session = NULL;
    }
    return make_tls(below, session, handshake_ms);
}

/* nng calls this when the aio is cancelled or stopped, perhaps when the operation has just completed. */
static void cancel(nng_aio *aio, void *context, int result)
{
    struct cof_stream *stream = context;
    (void) pthread_mutex_lock(&stream->lock);
    if (stream->recv == aio || stream->send == aio) {
        close_below(stream, result);
    }
    (void) pthread_mutex_unlock(&stream->lock);
}

/* Whether an operation has begun that is ours to complete. The caller holds the lock. */
static bool begin(struct cof_stream *stream, nng_aio *aio)
{
    nng_aio_set_timeout(aio, NNG_DURATION_INFINITE);
    if (!nng_aio_begin(aio)) {
        return false;
    }
    if (stream->state == STREAM_OVER) {
        nng_aio_finish(aio, stream->failure);
        return false;
    }
    nng_aio_defer(aio, cancel, stream);
    return true;
}

static void pass_on(nng_aio *aio, const nng_iov *parts, unsigned count, nng_duration timeout_ms)
{
    const int failed = nng_aio_set_iov(aio, count, parts);
    assert(failed == 0);
    nng_aio_set_timeout(aio, timeout_ms);
}

void cof_stream_recv(struct cof_stream *stream, nng_aio *aio, nng_iov to, nng_duration timeout_ms)
{
    if (stream->session == NULL) {
        pass_on(aio, &to, 1, timeout_ms);
        nng_stream_recv(stream->below, aio);
        return;
    }
    (void) pthread_mutex_lock(&stream->lock);
    if (begin(stream, aio)) {
        stream->recv = aio;
        stream->recv_to = to;
        stream->recv_by = after(timeout_ms);
        advance(stream);
    }
    (void) pthread_mutex_unlock(&stream->lock);
}

void cof_stream_send(struct cof_stream *stream, nng_aio *aio, const nng_iov *parts, unsigned count,
                     nng_duration timeout_ms)
{
    assert(count > 0 && count <= COF_STREAM_PARTS);
    if (stream->session == NULL) {
        pass_on(aio, parts, count, timeout_ms);
        nng_stream_send(stream->below, aio);
        return;
    }
    (void) pthread_mutex_lock(&stream->lock);
    if (begin(stream, aio)) {
        stream->send = aio;
        memcpy(stream->parts, parts, count * sizeof *parts);
        stream->part_count = count;
        stream->send_ms = timeout_ms;
        advance(stream);
    }
    (void) pthread_mutex_unlock(&stream->lock);
}

/*
 * What nng can do at once it does before it returns, and it completes an aio without a callback right there. What is not
 * done by then is taken back.
 */
static size_t at_once(nng_stream *below, void (*operate)(nng_stream *, nng_aio *), nng_aio *prompt,
                      const nng_iov *parts, unsigned count)
{
    if (prompt == NULL) {
        return 0;
    }
    pass_on(prompt, parts, count, NNG_DURATION_INFINITE);
    operate(below, prompt);
    nng_aio_cancel(prompt);
    nng_aio_wait(prompt);
    return nng_aio_result(prompt) == 0 ? nng_aio_count(prompt) : 0;
}

bool cof_stream_is_prompt(const struct cof_stream *stream)
{
    return stream->send_prompt != NULL;
}

size_t cof_stream_recv_now(struct cof_stream *stream, nng_iov to)
{
    return at_once(stream->below, nng_stream_recv, stream->recv_prompt, &to, 1);
}

size_t cof_stream_send_now(struct cof_stream *stream, const nng_iov *parts, unsigned count)
{
    assert(count > 0 && count <= COF_STREAM_PARTS);
    return at_once(stream->below, nng_stream_send, stream->send_prompt, parts, count);
}

size_t cof_stream_count(const struct cof_stream *stream, nng_aio *aio)
{
    if (stream->session == NULL) {
        return nng_aio_count(aio);
    }
    const void *count = nng_aio_get_output(aio, 0);
    return (size_t) (uintptr_t) count;
}

/* A write into a socket with room is done at once, so the farewell is out before the socket is closed. */
static void say_farewell(struct cof_stream *stream)
{
    if (stream->state == STREAM_OPEN && !stream->writing) {
        cof_tls_session_end(stream->session);
        flush(stream);
    }
}

void cof_stream_close(struct cof_stream *stream)
{
    if (stream->session == NULL) {
        nng_stream_close(stream->below);
        return;
    }
    (void) pthread_mutex_lock(&stream->lock);
    say_farewell(stream);
    close_below(stream, NNG_ECLOSED);
    (void) pthread_mutex_unlock(&stream->lock);
}

void cof_stream_free(struct cof_stream *stream)
{
    if (stream->session == NULL) {
        release(stream);
        return;
    }
    cof_stream_close(stream);
    (void) pthread_mutex_lock(&stream->lock);
    let_go(stream);
}

nng_stream *cof_stream_below(const struct cof_stream *stream)
{
    return stream->below;
}

void cof_stream_problem(struct cof_stream *stream, char *to, size_t size)
{
    to[0] = '\0';
    if (stream->session != NULL) {
        (void) pthread_mutex_lock(&stream->lock);
        (void) snprintf(to, size, "%s", cof_tls_session_problem(stream->session));
        (void) pthread_mutex_unlock(&stream->lock);
    }
}
