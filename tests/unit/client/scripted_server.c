#include "tests/unit/client/scripted_server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/supplemental/util/platform.h>

#include <coffer/coffer.h>
#include <coffer/v1/resolve.pb-c.h>

#include "client/libcoffer/socket.h"

enum {
    THREADS_MAX = 16,
    VALUE_SIZE = 400,
    OVERSIZE = (4 << 20) + 4096,
    SEND_MS = 5000,
    LOOK_MS = 50,
};

/* One thread, with what it receives and sends by. */
struct attendant {
    struct scripted_server *server;
    pthread_t thread;
    nng_ctx context;
    nng_aio *aio;
};

struct scripted_server {
    nng_socket socket;
    char address[128];
    script_answer answer;
    void *context;
    unsigned thread_count;
    struct attendant attendants[THREADS_MAX];
    atomic_uint requests;
    atomic_bool stopping;
};

static void give_up(const char *what, int rv)
{
    fprintf(stderr, "scripted server: %s: %s\n", what, nng_strerror(rv));
    exit(2);
}

static void must(const char *what, int rv)
{
    if (rv != 0) {
        give_up(what, rv);
    }
}

static nng_msg *message_of(const uint8_t *bytes, size_t len)
{
    nng_msg *message = NULL;
    must("message", nng_msg_alloc(&message, len));
    if (bytes != NULL) {
        memcpy(nng_msg_body(message), bytes, len);
    }
    return message;
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

static nng_msg *frame_message(const struct cof_request_frame *request, const struct script_reply *reply)
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
    nng_msg *message = message_of(NULL, cof_response_frame_size(&frame));
    (void) cof_response_frame_encode(&frame, nng_msg_body(message));
    return message;
}

/* The answer; NULL: none. */
static nng_msg *make_answer(nng_msg *received, const struct cof_request_frame *request,
                            const struct script_reply *reply)
{
    static const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff, 0xff};
    switch (reply->action) {
    case SCRIPT_ANSWER:
    case SCRIPT_OTHER_ID:
    case SCRIPT_WITHOUT_ID:
        return frame_message(request, reply);
    case SCRIPT_DROP:
        (void) nng_pipe_close(nng_msg_get_pipe(received));
        return NULL;
    case SCRIPT_SILENT:
        return NULL;
    case SCRIPT_GARBAGE:
        return message_of(garbage, sizeof garbage);
    case SCRIPT_OVERSIZE:
        return message_of(NULL, OVERSIZE);
    }
    return NULL;
}

static nng_msg *handle(struct scripted_server *server, nng_msg *received)
{
    static _Thread_local struct cof_error err;
    struct cof_request_frame request = {0};
    struct script_reply reply = {0};
    const struct cof_slice bytes = cof_slice_of(nng_msg_body(received), nng_msg_len(received));
    if (cof_request_frame_decode(bytes, &request, &err) != COF_OK) {
        fprintf(stderr, "scripted server: %s\n", err.message);
        exit(2);
    }
    server->answer(&request, atomic_fetch_add(&server->requests, 1), &reply, server->context);
    nng_msleep((nng_duration) reply.delay_ms);
    nng_msg *answer = make_answer(received, &request, &reply);
    free(reply.payload);
    return answer;
}

static int serve_one(struct scripted_server *server, nng_ctx context, nng_aio *aio)
{
    nng_aio_set_timeout(aio, LOOK_MS);
    nng_ctx_recv(context, aio);
    nng_aio_wait(aio);
    if (nng_aio_result(aio) != 0) {
        return nng_aio_result(aio);
    }
    nng_msg *received = nng_aio_get_msg(aio);
    nng_msg *answer = handle(server, received);
    nng_msg_free(received);
    if (answer == NULL) {
        return 0;
    }
    nng_aio_set_msg(aio, answer);
    nng_aio_set_timeout(aio, SEND_MS);
    nng_ctx_send(context, aio);
    nng_aio_wait(aio);
    if (nng_aio_result(aio) != 0) {
        nng_msg_free(answer);
    }
    return 0;
}

static void *serve(void *argument)
{
    const struct attendant *attendant = argument;
    int rv = 0;
    while ((rv == 0 || rv == NNG_ETIMEDOUT) && !atomic_load(&attendant->server->stopping)) {
        rv = serve_one(attendant->server, attendant->context, attendant->aio);
    }
    return NULL;
}

static void attend(struct scripted_server *server, struct attendant *attendant)
{
    attendant->server = server;
    must("context", nng_ctx_open(&attendant->context, server->socket));
    must("aio", nng_aio_alloc(&attendant->aio, NULL, NULL));
    if (pthread_create(&attendant->thread, NULL, serve, attendant) != 0) {
        give_up("thread", NNG_ENOMEM);
    }
}

static void listen_on(struct scripted_server *server, const char *address)
{
    nng_listener listener;
    int port = 0;
    must("open", nng_rep0_open(&server->socket));
    must("listen", nng_listen(server->socket, address == NULL ? "tcp://127.0.0.1:0" : address, &listener, 0));
    if (address != NULL) {
        (void) snprintf(server->address, sizeof server->address, "%s", address);
        return;
    }
    must("port", nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port));
    (void) snprintf(server->address, sizeof server->address, "tcp://127.0.0.1:%d", port);
}

struct scripted_server *scripted_server_new(const char *address, unsigned threads, script_answer answer,
                                            void *context)
{
    struct scripted_server *server = calloc(1, sizeof *server);
    if (server == NULL || threads > THREADS_MAX) {
        give_up("start", NNG_ENOMEM);
    }
    server->answer = answer;
    server->context = context;
    server->thread_count = threads;
    listen_on(server, address);
    for (unsigned i = 0; i < threads; i++) {
        attend(server, &server->attendants[i]);
    }
    return server;
}

void scripted_server_free(struct scripted_server *server)
{
    if (server == NULL) {
        return;
    }
    /* No thread may still be in a function of a context when the socket is closed (nng 1.5.2). */
    atomic_store(&server->stopping, true);
    for (unsigned i = 0; i < server->thread_count; i++) {
        (void) pthread_join(server->attendants[i].thread, NULL);
        nng_aio_free(server->attendants[i].aio);
    }
    (void) socket_close(server->socket);
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
        give_up("payload", NNG_ENOMEM);
    }
    (void) protobuf_c_message_pack(message, reply->payload);
}

void script_value(const char *environment, const char *name, const char *key, char *to)
{
    (void) snprintf(to, VALUE_SIZE, "%s/%s/%s", environment, name, key);
}

/* One reference in one environment, as a secret of its own; everything is on the caller's stack. */
struct resolved {
    Coffer__V1__ResolvedSecret secret;
    Coffer__V1__KeyValue value;
    Coffer__V1__KeyValue *values[1];
    char text[VALUE_SIZE];
};

enum { RESOLVED_MAX = 8 };

struct resolved_item {
    Coffer__V1__ResolveResult result;
    Coffer__V1__ResultStatus status;
    Coffer__V1__ResolvedSecret *secrets[RESOLVED_MAX];
    Coffer__V1__Outcome outcomes[RESOLVED_MAX];
    struct resolved resolved[RESOLVED_MAX];
};

static void resolve_reference(const char *environment, const Coffer__V1__SecretReference *reference,
                              struct resolved *to)
{
    coffer__v1__resolved_secret__init(&to->secret);
    coffer__v1__key_value__init(&to->value);
    script_value(environment, reference->name, reference->key, to->text);
    to->value.key = reference->key;
    to->value.value.data = (uint8_t *) to->text;
    to->value.value.len = strlen(to->text);
    to->values[0] = &to->value;
    to->secret.name = reference->name;
    to->secret.version = 7;
    to->secret.n_values = 1;
    to->secret.values = to->values;
}

static void resolve_item(const Coffer__V1__ResolveItem *item, uint32_t index, char *environment,
                         struct resolved_item *to)
{
    static char state[] = "state-1";
    coffer__v1__resolve_result__init(&to->result);
    coffer__v1__result_status__init(&to->status);
    to->status.outcome = COFFER__V1__OUTCOME__OUTCOME_RESOLVED;
    to->result.status = &to->status;
    to->result.item_index = index;
    to->result.item_id = item->id;
    to->result.workspace = item->workspace;
    to->result.environment = environment;
    to->result.consistency_token = state;
    to->result.secrets = to->secrets;
    to->result.outcomes = to->outcomes;
    for (size_t i = 0; i < item->n_references && i < RESOLVED_MAX; i++) {
        resolve_reference(environment, item->references[i], &to->resolved[i]);
        to->secrets[i] = &to->resolved[i].secret;
        to->outcomes[i] = COFFER__V1__OUTCOME__OUTCOME_RESOLVED;
        to->result.n_secrets = to->result.n_outcomes = i + 1;
    }
}

static size_t resolve_all(const Coffer__V1__ResolveRequest *request, struct resolved_item *items,
                          Coffer__V1__ResolveResult **results)
{
    static char by_default[] = "default";
    size_t count = 0;
    for (size_t i = 0; i < request->n_items; i++) {
        const Coffer__V1__ResolveItem *item = request->items[i];
        const size_t environments = item->n_environments == 0 ? 1 : item->n_environments;
        for (size_t e = 0; e < environments; e++) {
            resolve_item(item, (uint32_t) i, item->n_environments == 0 ? by_default : item->environments[e],
                         &items[count]);
            results[count] = &items[count].result;
            count++;
        }
    }
    return count;
}

static size_t count_pairs(const Coffer__V1__ResolveRequest *request)
{
    size_t count = 0;
    for (size_t i = 0; i < request->n_items; i++) {
        count += request->items[i]->n_environments == 0 ? 1 : request->items[i]->n_environments;
    }
    return count;
}

void script_resolve(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                    void *context)
{
    Coffer__V1__ResolveResponse response;
    struct resolve_script *edited = context;
    Coffer__V1__ResolveRequest *asked =
        coffer__v1__resolve_request__unpack(NULL, request->payload.len, request->payload.data);
    const size_t pairs = asked == NULL ? 0 : count_pairs(asked);
    struct resolved_item *items = calloc(pairs + 1, sizeof *items);
    Coffer__V1__ResolveResult **results = calloc(pairs + 1, sizeof *results);
    if (asked == NULL || items == NULL || results == NULL) {
        give_up("resolve", NNG_ENOMEM);
    }
    coffer__v1__resolve_response__init(&response);
    response.n_results = resolve_all(asked, items, results);
    response.results = results;
    if (edited != NULL) {
        edited->edit(edited, asked, number, &response);
    }
    script_reply_message(reply, &response.base);
    free(items);
    free(results);
    coffer__v1__resolve_request__free_unpacked(asked, NULL);
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
