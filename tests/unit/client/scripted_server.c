#include "tests/unit/client/scripted_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>

#include <coffer/coffer.h>

#include "tests/unit/client/sp_socket.h"

enum {
    THREADS_MAX = 16,
    OVERSIZE = (4 << 20) + 4096,
    SEND_SECONDS = 5,
};

/* A client's, with the thread that reads from it. */
struct connection {
    STAILQ_ENTRY(connection) link;
    struct scripted_server *server;
    pthread_t thread;
    pthread_mutex_t writing;
    int fd;
};

/* A request that waits for its turn. */
struct job {
    STAILQ_ENTRY(job) link;
    struct connection *connection;
    uint8_t id[SP_ID];
    size_t size;
    uint8_t frame[];
};

STAILQ_HEAD(connections, connection);
STAILQ_HEAD(jobs, job);

struct scripted_server {
    int listener;
    char address[SP_ADDRESS];
    bool ipc;
    script_answer answer;
    void *context;
    unsigned thread_count;
    pthread_t threads[THREADS_MAX];
    pthread_t acceptor;
    atomic_uint requests;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping;
    struct jobs jobs;
    struct connections connections;
};

struct answer {
    size_t size;
    uint8_t *frame;
};

static void give_up(const char *what)
{
    fprintf(stderr, "scripted server: %s\n", what);
    exit(2);
}

static void *memory(size_t size)
{
    void *bytes = calloc(1, size);
    if (bytes == NULL) {
        give_up("no memory");
    }
    return bytes;
}

static struct answer answer_of(const uint8_t *bytes, size_t size)
{
    struct answer answer = {size, memory(size + 1)};
    if (bytes != NULL) {
        memcpy(answer.frame, bytes, size);
    }
    return answer;
}

static void put_error(const struct script_reply *reply, struct cof_response_frame *frame, uint8_t *details)
{
    static _Thread_local struct cof_error err;
    cof_ignore(
        cof_fail_field(&err, reply->reason, reply->field == NULL ? "" : reply->field, "it failed; do something"));
    cof_ignore(cof_error_fact(&err, "version", "7"));
    cof_ignore(cof_error_retry_after(&err, reply->retry_after_ms));
    frame->code = reply->code == 0 ? (int32_t) err.code : reply->code;
    frame->message = cof_slice_text(err.message);
    (void) cof_error_details(&err, frame, details, COF_ERROR_DETAILS_SIZE);
}

static struct answer frame_answer(const struct cof_request_frame *request, const struct script_reply *reply)
{
    static const uint8_t other_id[COF_FRAME_REQUEST_ID] = {1, 2, 3};
    static _Thread_local uint8_t details[COF_ERROR_DETAILS_SIZE];
    struct cof_response_frame frame = {.revision = COF_FRAME_REVISION,
                                       .server_time_us = 42,
                                       .request_id = request->request_id,
                                       .payload = cof_slice_of(reply->payload, reply->payload_len)};
    if (reply->reason != COF_REASON_NONE) {
        put_error(reply, &frame, details);
    }
    if (reply->action == SCRIPT_OTHER_ID) {
        frame.request_id = cof_slice_of(other_id, sizeof other_id);
    }
    if (reply->action == SCRIPT_WITHOUT_ID) {
        frame.request_id.len = 0;
    }
    const struct answer answer = answer_of(NULL, cof_response_frame_size(&frame));
    (void) cof_response_frame_encode(&frame, answer.frame);
    return answer;
}

/* The answer; without a frame there is none. */
static struct answer make_answer(const struct job *job, const struct cof_request_frame *request,
                                 const struct script_reply *reply)
{
    static const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff, 0xff};
    const struct answer none = {0};
    switch (reply->action) {
    case SCRIPT_ANSWER:
    case SCRIPT_OTHER_ID:
    case SCRIPT_WITHOUT_ID:
        return frame_answer(request, reply);
    case SCRIPT_DROP:
        (void) shutdown(job->connection->fd, SHUT_RDWR);
        return none;
    case SCRIPT_SILENT:
        return none;
    case SCRIPT_GARBAGE:
        return answer_of(garbage, sizeof garbage);
    case SCRIPT_OVERSIZE:
        return answer_of(NULL, OVERSIZE);
    }
    return none;
}

static void send_answer(const struct job *job, const struct answer *answer)
{
    struct connection *connection = job->connection;
    uint8_t header[SP_HEADER_MOST];
    const size_t len = sp_put_header(header, connection->server->ipc, job->id, answer->size);
    (void) pthread_mutex_lock(&connection->writing);
    /* A client that does not take it, or not in time, gets no more of what would have no beginning. */
    if (!sp_write(connection->fd, header, len) || !sp_write(connection->fd, answer->frame, answer->size)) {
        (void) shutdown(connection->fd, SHUT_RDWR);
    }
    (void) pthread_mutex_unlock(&connection->writing);
}

static void handle(struct scripted_server *server, const struct job *job)
{
    static _Thread_local struct cof_error err;
    struct cof_request_frame request = {0};
    struct script_reply reply = {0};
    if (cof_request_frame_decode(cof_slice_of(job->frame, job->size), &request, &err) != COF_OK) {
        give_up(err.message);
    }
    server->answer(&request, atomic_fetch_add(&server->requests, 1), &reply, server->context);
    nng_msleep((nng_duration) reply.delay_ms);
    const struct answer answer = make_answer(job, &request, &reply);
    free(reply.payload);
    if (answer.frame != NULL) {
        send_answer(job, &answer);
    }
    free(answer.frame);
}

/* The next request; NULL: the server stops. */
static struct job *take_job(struct scripted_server *server)
{
    (void) pthread_mutex_lock(&server->lock);
    while (STAILQ_EMPTY(&server->jobs) && !server->stopping) {
        (void) pthread_cond_wait(&server->changed, &server->lock);
    }
    struct job *job = server->stopping ? NULL : STAILQ_FIRST(&server->jobs);
    if (job != NULL) {
        STAILQ_REMOVE_HEAD(&server->jobs, link);
    }
    (void) pthread_mutex_unlock(&server->lock);
    return job;
}

static void *serve(void *argument)
{
    struct scripted_server *server = argument;
    struct job *job = NULL;
    while ((job = take_job(server)) != NULL) {
        handle(server, job);
        free(job);
    }
    return NULL;
}

static struct job *read_job(struct connection *connection)
{
    uint8_t id[SP_ID];
    size_t size = 0;
    if (!sp_read_header(connection->fd, connection->server->ipc, id, &size)) {
        return NULL;
    }
    struct job *job = memory(sizeof *job + size);
    job->connection = connection;
    job->size = size;
    memcpy(job->id, id, sizeof id);
    if (!sp_read(connection->fd, job->frame, size)) {
        free(job);
        return NULL;
    }
    return job;
}

static void *read_requests(void *argument)
{
    struct connection *connection = argument;
    struct scripted_server *server = connection->server;
    struct job *job = sp_greet(connection->fd) ? read_job(connection) : NULL;
    while (job != NULL) {
        (void) pthread_mutex_lock(&server->lock);
        STAILQ_INSERT_TAIL(&server->jobs, job, link);
        (void) pthread_cond_signal(&server->changed);
        (void) pthread_mutex_unlock(&server->lock);
        job = read_job(connection);
    }
    (void) shutdown(connection->fd, SHUT_RDWR);
    return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    if (pthread_create(thread, NULL, run, argument) != 0) {
        give_up("no thread");
    }
}

/* Descriptors stay until the server ends: an answer that comes late must not go to somebody else. */
static void *accept_all(void *argument)
{
    struct scripted_server *server = argument;
    const struct timeval patience = {.tv_sec = SEND_SECONDS};
    int fd = -1;
    while ((fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = memory(sizeof *connection);
        connection->server = server;
        connection->fd = fd;
        (void) pthread_mutex_init(&connection->writing, NULL);
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        STAILQ_INSERT_TAIL(&server->connections, connection, link);
        start(&connection->thread, read_requests, connection);
    }
    return NULL;
}

struct scripted_server *scripted_server_new(const char *address, unsigned threads, script_answer answer,
                                            void *context)
{
    struct scripted_server *server = memory(sizeof *server);
    if (threads > THREADS_MAX) {
        give_up("too many threads");
    }
    server->answer = answer;
    server->context = context;
    server->thread_count = threads;
    (void) pthread_mutex_init(&server->lock, NULL);
    (void) pthread_cond_init(&server->changed, NULL);
    STAILQ_INIT(&server->jobs);
    STAILQ_INIT(&server->connections);
    server->listener = sp_listen(address, server->address);
    server->ipc = sp_is_ipc(server->address);
    for (unsigned i = 0; i < threads; i++) {
        start(&server->threads[i], serve, server);
    }
    start(&server->acceptor, accept_all, server);
    return server;
}

/* Requests that are being answered get their answer; the others get none. */
static void stop(struct scripted_server *server)
{
    struct connection *connection = NULL;
    (void) pthread_mutex_lock(&server->lock);
    server->stopping = true;
    (void) pthread_cond_broadcast(&server->changed);
    (void) pthread_mutex_unlock(&server->lock);
    for (unsigned i = 0; i < server->thread_count; i++) {
        (void) pthread_join(server->threads[i], NULL);
    }
    (void) shutdown(server->listener, SHUT_RDWR);
    (void) pthread_join(server->acceptor, NULL);
    (void) close(server->listener);
    STAILQ_FOREACH(connection, &server->connections, link)
    {
        (void) shutdown(connection->fd, SHUT_RDWR);
        (void) pthread_join(connection->thread, NULL);
    }
}

void scripted_server_free(struct scripted_server *server)
{
    struct connection *connection = NULL;
    struct job *job = NULL;
    if (server == NULL) {
        return;
    }
    stop(server);
    while ((job = STAILQ_FIRST(&server->jobs)) != NULL) {
        STAILQ_REMOVE_HEAD(&server->jobs, link);
        free(job);
    }
    while ((connection = STAILQ_FIRST(&server->connections)) != NULL) {
        STAILQ_REMOVE_HEAD(&server->connections, link);
        (void) close(connection->fd);
        (void) pthread_mutex_destroy(&connection->writing);
        free(connection);
    }
    (void) pthread_cond_destroy(&server->changed);
    (void) pthread_mutex_destroy(&server->lock);
    free(server);
}

void scripted_server_cleanup(struct scripted_server **server)
{
    scripted_server_free(*server);
}

const char *scripted_server_address(const struct scripted_server *server)
{
    return server->address;
}

unsigned scripted_server_requests(const struct scripted_server *server)
{
    return atomic_load(&server->requests);
}

void script_reply_message(struct script_reply *reply, const ProtobufCMessage *message)
{
    reply->payload_len = protobuf_c_message_get_packed_size(message);
    reply->payload = malloc(reply->payload_len + 1);
    if (reply->payload == NULL) {
        give_up("no memory");
    }
    (void) protobuf_c_message_pack(message, reply->payload);
}

struct coffer_client *scripted_client(const char *addresses, const char *more)
{
    char settings[1024];
    coffer_client *client = NULL;
    coffer_error *error = NULL;
    (void) snprintf(settings, sizeof settings, "addr=%s %s", addresses, more);
    if (coffer_client_open(settings, &client, &error) != COFFER_OK) {
        fprintf(stderr, "client: %s\n", coffer_error_message(error));
        exit(2);
    }
    return client;
}

void scripted_client_cleanup(struct coffer_client **client)
{
    coffer_client_close(*client);
}
