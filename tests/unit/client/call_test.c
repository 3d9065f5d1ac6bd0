#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>

#include <coffer/rpc.h>

#include "client/libcoffer/call_state.h"
#include "client/libcoffer/channel.h"
#include "client/libcoffer/client.h"
#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"

#define METHOD "test.v1.TestService/Echo"
#define NOBODY "ipc:///nonexistent/coffer.sock"

enum { SEEN = 4 };

/* A request as the server saw it. */
struct seen {
    uint8_t id[COF_FRAME_REQUEST_ID];
    uint32_t attempt;
    uint32_t timeout_ms;
    char method[64];
    char authorization[64];
    char user_agent[64];
    char traceparent[64];
    char own[64];
};

/* What a server does, `answers` in turn and the last one for ever, and what it saw. */
struct play {
    const struct script_reply *answers;
    size_t count;
    pthread_mutex_t lock;
    struct seen seen[SEEN];
    unsigned noted;
};

static void copy(struct cof_slice text, char to[64])
{
    const size_t len = text.len < 63 ? text.len : 63;
    if (len > 0) {
        memcpy(to, text.data, len);
    }
    to[len] = '\0';
}

static void copy_metadata(const struct cof_request_frame *request, const char *key, char to[64])
{
    struct cof_slice value = cof_slice_of(NULL, 0);
    (void) cof_metadata_find(&request->metadata, key, &value);
    copy(value, to);
}

static void note(struct seen *seen, const struct cof_request_frame *request)
{
    memcpy(seen->id, request->request_id.data, request->request_id.len);
    seen->attempt = request->attempt;
    seen->timeout_ms = request->timeout_ms;
    copy(request->method, seen->method);
    copy_metadata(request, "authorization", seen->authorization);
    copy_metadata(request, "user-agent", seen->user_agent);
    copy_metadata(request, "traceparent", seen->traceparent);
    copy_metadata(request, "own", seen->own);
}

/* The first request, as soon as the server has seen it: no answer to it need have come. */
static struct seen first_seen(struct play *play)
{
    for (;;) {
        (void) pthread_mutex_lock(&play->lock);
        const bool noted = play->noted > 0;
        const struct seen seen = play->seen[0];
        (void) pthread_mutex_unlock(&play->lock);
        if (noted) {
            return seen;
        }
        nng_msleep(1);
    }
}

/* Success sends the request's payload back. */
static void answer(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                   void *context)
{
    struct play *play = context;
    if (number < SEEN) {
        (void) pthread_mutex_lock(&play->lock);
        note(&play->seen[number], request);
        play->noted++;
        (void) pthread_mutex_unlock(&play->lock);
    }
    if (play->count > 0) {
        *reply = play->answers[number < play->count ? number : play->count - 1];
    }
    reply->payload = malloc(request->payload.len + 1);
    if (reply->payload == NULL) {
        abort();
    }
    reply->payload_len = request->payload.len;
    if (request->payload.len > 0) {
        memcpy(reply->payload, request->payload.data, request->payload.len);
    }
}

/* The fixture: one server that plays, one client of it. */
struct stage {
    struct play *play;
    struct scripted_server *server;
    coffer_client *client;
};

static void stage_open(struct stage *stage, const struct script_reply *answers, size_t count, const char *more)
{
    stage->play = calloc(1, sizeof *stage->play);
    if (stage->play == NULL) {
        abort();
    }
    *stage->play = (struct play){.answers = answers, .count = count, .lock = PTHREAD_MUTEX_INITIALIZER};
    stage->server = scripted_server_new(NULL, 1, answer, stage->play);
    stage->client = scripted_client(scripted_server_address(stage->server), more);
}

static void stage_done(struct stage *stage)
{
    coffer_client_close(stage->client);
    scripted_server_free(stage->server);
    free(stage->play);
}

static void error_done(coffer_error **error)
{
    coffer_error_free(*error);
}

static void reply_done(coffer_reply **reply)
{
    coffer_reply_free(*reply);
}

#define STAGE(answers, count, more)                 \
    AUTO(stage_done) struct stage stage = {0};      \
    AUTO(error_done) coffer_error *error = NULL;    \
    AUTO(reply_done) coffer_reply *reply = NULL;    \
    stage_open(&stage, (answers), (count), (more)); \
    (void) reply

static coffer_status call(struct stage *stage, coffer_reply **ret_reply, coffer_error **ret_error)
{
    return coffer_call(stage->client, METHOD, "hello", 5, NULL, ret_reply, ret_error);
}

static void answer_has_payload_and_facts(void)
{
    STAGE(NULL, 0, "application_name='my executor'");
    CHECK_INT(coffer_client_set_token(stage.client, "cof_ws_abc", 10, NULL), COFFER_OK);
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    const coffer_metadata own = {"own", "mine", 4};
    options.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    options.metadata = &own;
    options.metadata_count = 1;
    CHECK_INT(coffer_call(stage.client, METHOD, "hello", 5, &options, &reply, &error), COFFER_OK);
    CHECK(error == NULL);
    CHECK_INT(coffer_reply_payload(reply).length, 5);
    CHECK_BYTES(coffer_reply_payload(reply).data, "hello", 5);
    CHECK_INT(coffer_reply_attempts(reply), 1);
    CHECK_INT(coffer_reply_server_time_us(reply), 42);
    CHECK_INT(strlen(coffer_reply_request_id(reply)), 36);
    CHECK_INT(coffer_reply_request_id(reply)[14], '7');
    CHECK(coffer_reply_metadata(reply, "x").data == NULL);
    CHECK_TEXT(stage.play->seen[0].method, METHOD);
    CHECK_TEXT(stage.play->seen[0].authorization, "Bearer cof_ws_abc");
    CHECK_CONTAINS(stage.play->seen[0].user_agent, "libcoffer/");
    CHECK_CONTAINS(stage.play->seen[0].user_agent, " (my executor)");
    CHECK_TEXT(stage.play->seen[0].traceparent, options.traceparent);
    CHECK_TEXT(stage.play->seen[0].own, "mine");
    CHECK_INT(stage.play->seen[0].attempt, 0);
    CHECK(stage.play->seen[0].timeout_ms > 0 && stage.play->seen[0].timeout_ms <= 10000);
}

static void empty_request_and_answer_are_fine(void)
{
    STAGE(NULL, 0, "");
    CHECK_INT(coffer_call(stage.client, METHOD, NULL, 0, NULL, &reply, &error), COFFER_OK);
    CHECK_INT(coffer_reply_payload(reply).length, 0);
    CHECK_TEXT(stage.play->seen[0].authorization, "");
}

static void every_error_is_told_with_its_details(void)
{
    static const cof_reason reasons[] = {
        COF_REASON_FIELD_INVALID,   COF_REASON_DEADLINE_EXCEEDED, COF_REASON_SECRET_NOT_FOUND,
        COF_REASON_SECRET_EXISTS,   COF_REASON_PERMISSION_DENIED, COF_REASON_LIMIT_EXCEEDED,
        COF_REASON_KEY_EMPTY,       COF_REASON_VERSION_MISMATCH,  COF_REASON_METHOD_UNKNOWN,
        COF_REASON_INTERNAL,        COF_REASON_CORRUPTED,         COF_REASON_TOKEN_INVALID,
        COF_REASON_SERVER_DRAINING, COF_REASON_CLIENT_CLOSED,
    };
    for (size_t i = 0; i < COF_COUNT(reasons); i++) {
        const struct script_reply failure = {.reason = reasons[i], .field = "items[1].name"};
        /* What passes by itself is asked for again until the time is over. */
        STAGE(&failure, 1, cof_reason_code(reasons[i]) == COF_UNAVAILABLE ? "timeout=1s" : "timeout=1min");
        CHECK_INT(call(&stage, &reply, &error), cof_reason_code(reasons[i]));
        CHECK(reply == NULL);
        CHECK_INT(coffer_error_status(error), cof_reason_code(reasons[i]));
        CHECK_INT(coffer_error_reason(error), reasons[i]);
        CHECK_TEXT(coffer_error_message(error), "it failed; do something");
        CHECK_TEXT(coffer_error_field(error), "items[1].name");
        CHECK_TEXT(coffer_error_fact(error, "version"), "7");
        CHECK(coffer_error_fact(error, "other") == NULL);
        CHECK_INT(strlen(coffer_error_request_id(error)), 36);
    }
}

static void code_outside_the_table_is_unknown(void)
{
    const struct script_reply failure = {.reason = COF_REASON_INTERNAL, .code = 77};
    STAGE(&failure, 1, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_UNKNOWN);
    CHECK_INT(coffer_error_status(error), COFFER_UNKNOWN);
}

static void only_unavailable_is_repeated_with_the_same_id(void)
{
    const struct script_reply answers[] = {{.reason = COF_REASON_SERVER_DRAINING},
                                           {.reason = COF_REASON_DATABASE_UNAVAILABLE, .retry_after_ms = 1},
                                           {0}};
    STAGE(answers, 3, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_OK);
    CHECK_INT(coffer_reply_attempts(reply), 3);
    CHECK_INT(scripted_server_requests(stage.server), 3);
    for (uint32_t i = 1; i < 3; i++) {
        CHECK_INT(stage.play->seen[i].attempt, i);
        CHECK_BYTES(stage.play->seen[i].id, stage.play->seen[0].id, COF_FRAME_REQUEST_ID);
        CHECK(stage.play->seen[i].timeout_ms <= stage.play->seen[i - 1].timeout_ms);
    }
}

static void other_codes_are_not_repeated(void)
{
    const struct script_reply failure = {.reason = COF_REASON_VERSION_MISMATCH, .retry_after_ms = 5};
    STAGE(&failure, 1, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_ABORTED);
    CHECK_INT(coffer_error_retry_after_ms(error), 5);
    CHECK_INT(scripted_server_requests(stage.server), 1);
}

static void busy_server_is_asked_again_if_it_advises_so(void)
{
    const struct script_reply answers[] = {{.reason = COF_REASON_SERVER_BUSY, .retry_after_ms = 5},
                                           {.reason = COF_REASON_TOO_MANY_IN_FLIGHT, .retry_after_ms = 5},
                                           {0}};
    STAGE(answers, 3, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_OK);
    CHECK_INT(coffer_reply_attempts(reply), 3);
}

static void server_that_stays_busy_is_asked_no_more_often_than_the_budget_allows(void)
{
    const struct script_reply failure = {.reason = COF_REASON_SERVER_BUSY, .retry_after_ms = 1};
    STAGE(&failure, 1, "timeout=60s");
    for (unsigned i = 0; i < RETRY_BUDGET - 2; i++) {
        CHECK(retry_take(&stage.client->channel->retries));
    }
    CHECK_INT(call(&stage, &reply, &error), COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_SERVER_BUSY);
    CHECK_INT(scripted_server_requests(stage.server), 3);
    coffer_error_free(error);
    error = NULL;
    CHECK_INT(call(&stage, &reply, &error), COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(scripted_server_requests(stage.server), 4);
}

static void busy_server_without_advice_is_not_asked_again(void)
{
    const struct script_reply failure = {.reason = COF_REASON_SERVER_BUSY};
    STAGE(&failure, 1, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(scripted_server_requests(stage.server), 1);
}

static void advice_beyond_the_deadline_ends_the_call_at_once(void)
{
    const struct script_reply failure = {.reason = COF_REASON_SERVER_BUSY, .retry_after_ms = 3600000};
    STAGE(&failure, 1, "timeout=1h");
    CHECK_INT(call(&stage, &reply, &error), COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(coffer_error_retry_after_ms(error), 3600000);
    CHECK_INT(scripted_server_requests(stage.server), 1);
}

static void unavailable_until_the_deadline_tells_the_last_failure(void)
{
    const struct script_reply failure = {.reason = COF_REASON_DATABASE_UNAVAILABLE};
    STAGE(&failure, 1, "timeout=2s");
    CHECK_INT(call(&stage, &reply, &error), COFFER_UNAVAILABLE);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_DATABASE_UNAVAILABLE);
    CHECK(scripted_server_requests(stage.server) > 1);
}

static void lost_connection_gives_exactly_one_more_attempt_with_the_same_id(void)
{
    const struct script_reply answers[] = {{.action = SCRIPT_DROP}, {0}};
    STAGE(answers, 2, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_OK);
    CHECK_INT(scripted_server_requests(stage.server), 2);
    CHECK_INT(stage.play->seen[0].attempt, 0);
    CHECK_INT(stage.play->seen[1].attempt, 1);
    CHECK_BYTES(stage.play->seen[1].id, stage.play->seen[0].id, COF_FRAME_REQUEST_ID);
}

static void connection_lost_again_and_again_ends_the_call(void)
{
    const struct script_reply drop = {.action = SCRIPT_DROP};
    STAGE(&drop, 1, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_UNAVAILABLE);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_NOT_CONNECTED);
    CHECK_CONTAINS(coffer_error_message(error), "was lost before " METHOD " was answered, 4 times");
    CHECK_INT(scripted_server_requests(stage.server), 4);
}

static void answer_to_another_request_is_dropped(void)
{
    const struct script_reply answers[] = {{.action = SCRIPT_OTHER_ID}, {0}};
    STAGE(answers, 2, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_OK);
    CHECK_INT(coffer_reply_attempts(reply), 2);
    CHECK_BYTES(coffer_reply_payload(reply).data, "hello", 5);
}

static void success_without_an_id_is_dropped_but_an_error_is_told(void)
{
    const struct script_reply answers[] = {{.action = SCRIPT_WITHOUT_ID},
                                           {.action = SCRIPT_WITHOUT_ID, .reason = COF_REASON_FRAME_INVALID}};
    STAGE(answers, 2, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_INVALID_ARGUMENT);
    CHECK_INT(scripted_server_requests(stage.server), 2);
}

static void garbage_is_no_answer_and_not_repeated(void)
{
    const struct script_reply garbage = {.action = SCRIPT_GARBAGE};
    STAGE(&garbage, 1, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_INTERNAL);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_REPLY_INVALID);
    CHECK_INT(scripted_server_requests(stage.server), 1);
}

static void silence_ends_at_the_deadline(void)
{
    const struct script_reply silent = {.action = SCRIPT_SILENT};
    STAGE(&silent, 1, "timeout=1h");
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    options.timeout_ms = 1500;
    CHECK_INT(coffer_call(stage.client, METHOD, "x", 1, &options, &reply, &error), COFFER_DEADLINE_EXCEEDED);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_DEADLINE_EXCEEDED);
    CHECK_CONTAINS(coffer_error_message(error), "did not answer " METHOD " within 1500 ms");
    CHECK_INT(strlen(coffer_error_request_id(error)), 36);
    CHECK_INT(scripted_server_requests(stage.server), 1);
    CHECK(first_seen(stage.play).timeout_ms <= 1500);
}

static void request_over_the_limit_is_not_sent(void)
{
    STAGE(NULL, 0, "");
    uint8_t *large = calloc(1, CHANNEL_REQUEST_MAX);
    CHECK(large != NULL);
    const coffer_status over = coffer_call(stage.client, METHOD, large, CHANNEL_REQUEST_MAX, NULL, &reply, &error);
    const coffer_status below =
        coffer_call(stage.client, METHOD, large, CHANNEL_REQUEST_MAX - 512, NULL, &reply, NULL);
    free(large);
    CHECK_INT(over, COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_MESSAGE_TOO_LARGE);
    CHECK_INT(below, COFFER_OK);
    CHECK_INT(coffer_reply_payload(reply).length, CHANNEL_REQUEST_MAX - 512);
    CHECK_INT(scripted_server_requests(stage.server), 1);
}

static void answer_larger_than_the_memory_is_refused(void)
{
    STAGE(NULL, 0, "memory=64KiB");
    uint8_t *large = calloc(1, 100000);
    CHECK(large != NULL);
    const coffer_status status = coffer_call(stage.client, METHOD, large, 100000, NULL, &reply, &error);
    free(large);
    CHECK_INT(status, COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_OUT_OF_MEMORY);
    CHECK_CONTAINS(coffer_error_message(error), "raise the setting memory");
    CHECK_INT(call(&stage, &reply, NULL), COFFER_OK);
}

static void options_are_checked(void)
{
    STAGE(NULL, 0, "");
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    const uint8_t version_4[16] = {[6] = 0x40, [8] = 0x80};
    options.request_id = version_4;
    CHECK_INT(coffer_call(stage.client, METHOD, "x", 1, &options, &reply, &error), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_REQUEST_ID_INVALID);
    options = (coffer_call_options) COFFER_CALL_OPTIONS_INIT;
    options.metadata_count = 29;
    CHECK_INT(coffer_call(stage.client, METHOD, "x", 1, &options, &reply, NULL), COFFER_INVALID_ARGUMENT);
    static char long_value[9000];
    const coffer_metadata own = {"own", long_value, sizeof long_value};
    options.metadata = &own;
    options.metadata_count = 1;
    CHECK_INT(coffer_call(stage.client, METHOD, "x", 1, &options, &reply, NULL), COFFER_INVALID_ARGUMENT);
    options = (coffer_call_options) COFFER_CALL_OPTIONS_INIT;
    options.timeout_ms = 3600001;
    CHECK_INT(coffer_call(stage.client, METHOD, "x", 1, &options, &reply, NULL), COFFER_INVALID_ARGUMENT);
    char method[300];
    (void) snprintf(method, sizeof method, "%0299d", 0);
    CHECK_INT(coffer_call(stage.client, method, "x", 1, NULL, &reply, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(scripted_server_requests(stage.server), 0);
}

static void given_request_id_is_used(void)
{
    STAGE(NULL, 0, "");
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    const uint8_t id[16] = {1, 2, 3, 4, 5, 6, 0x70, 8, 0x89, 10, 11, 12, 13, 14, 15, 16};
    options.request_id = id;
    CHECK_INT(coffer_call(stage.client, METHOD, "x", 1, &options, &reply, &error), COFFER_OK);
    CHECK_BYTES(stage.play->seen[0].id, id, 16);
    CHECK_TEXT(coffer_reply_request_id(reply), "01020304-0506-7008-890a-0b0c0d0e0f10");
}

static void options_of_an_older_program_are_taken(void)
{
    STAGE(NULL, 0, "");
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    options.struct_size = offsetof(coffer_call_options, traceparent);
    options.traceparent = "behind the end";
    options.metadata_count = 99;
    CHECK_INT(coffer_call(stage.client, METHOD, "x", 1, &options, &reply, &error), COFFER_OK);
    CHECK_TEXT(stage.play->seen[0].traceparent, "");
}

static void missing_arguments_are_told(void)
{
    STAGE(NULL, 0, "");
    CHECK_INT(coffer_call(NULL, METHOD, "x", 1, NULL, &reply, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_call(stage.client, NULL, "x", 1, NULL, &reply, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_call(stage.client, METHOD, NULL, 1, NULL, &reply, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_call(stage.client, METHOD, "x", 1, NULL, NULL, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_call_start(stage.client, METHOD, "x", 1, NULL, NULL, NULL, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_client_open(NULL, NULL, &error), COFFER_INVALID_ARGUMENT);
    CHECK_CONTAINS(coffer_error_message(error), "is NULL");
    coffer_client_close(NULL);
    coffer_reply_free(NULL);
    coffer_error_free(NULL);
    CHECK_INT(coffer_error_status(NULL), COFFER_OK);
    CHECK_INT(coffer_error_reason(NULL), COFFER_REASON_NONE);
    CHECK_TEXT(coffer_error_message(NULL), "");
    CHECK_TEXT(coffer_error_field(NULL), "");
    CHECK_TEXT(coffer_error_request_id(NULL), "");
    CHECK(coffer_error_fact(NULL, "x") == NULL);
}

static void token_can_be_replaced_and_taken_away(void)
{
    STAGE(NULL, 0, "");
    CHECK_INT(coffer_client_set_token(stage.client, "one", 3, &error), COFFER_OK);
    CHECK_INT(call(&stage, &reply, NULL), COFFER_OK);
    coffer_reply_free(TAKE(reply));
    CHECK_INT(coffer_client_set_token(stage.client, "two", 3, NULL), COFFER_OK);
    CHECK_INT(call(&stage, &reply, NULL), COFFER_OK);
    coffer_reply_free(TAKE(reply));
    CHECK_INT(coffer_client_set_token(stage.client, NULL, 0, NULL), COFFER_OK);
    CHECK_INT(call(&stage, &reply, NULL), COFFER_OK);
    CHECK_TEXT(stage.play->seen[0].authorization, "Bearer one");
    CHECK_TEXT(stage.play->seen[1].authorization, "Bearer two");
    CHECK_TEXT(stage.play->seen[2].authorization, "");
    CHECK_INT(coffer_client_set_token(stage.client, "cof_ws_a b", 10, &error), COFFER_UNAUTHENTICATED);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_TOKEN_MALFORMED);
    CHECK(strstr(coffer_error_message(error), "cof_ws_a") == NULL);
    CHECK_INT(coffer_client_set_token(NULL, "one", 3, NULL), COFFER_INVALID_ARGUMENT);
    CHECK_INT(coffer_client_set_token(stage.client, NULL, 3, NULL), COFFER_INVALID_ARGUMENT);
}

static void nobody_there_is_told_with_the_addresses(void)
{
    AUTO(scripted_client_cleanup)
    coffer_client *client = scripted_client(NOBODY ",tcp://127.0.0.1:1", "connect_timeout=100ms timeout=1h");
    AUTO(error_done) coffer_error *error = NULL;
    coffer_reply *reply = NULL;
    CHECK_INT(coffer_call(client, METHOD, "x", 1, NULL, &reply, &error), COFFER_UNAVAILABLE);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_NOT_CONNECTED);
    CHECK_CONTAINS(coffer_error_message(error), "no server could be reached at " NOBODY ", tcp://127.0.0.1:1");
}

static void wait_for_a_connection_ends_at_the_deadline(void)
{
    AUTO(scripted_client_cleanup)
    coffer_client *client = scripted_client(NOBODY, "connect_timeout=1h timeout=100ms");
    AUTO(error_done) coffer_error *error = NULL;
    coffer_reply *reply = NULL;
    CHECK_INT(coffer_call(client, METHOD, "x", 1, NULL, &reply, &error), COFFER_UNAVAILABLE);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_NOT_CONNECTED);
}

static void dead_address_costs_no_call_that_another_can_answer(void)
{
    for (int i = 0; i < 8; i++) {
        STAGE(NULL, 0, "");
        char addresses[200];
        (void) snprintf(addresses, sizeof addresses, NOBODY ",%s,tcp://127.0.0.1:1",
                        scripted_server_address(stage.server));
        AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(addresses, "");
        CHECK_INT(coffer_call(client, METHOD, "x", 1, NULL, &reply, &error), COFFER_OK);
        CHECK_INT(coffer_reply_attempts(reply), 1);
    }
}

static void next_attempt_goes_to_another_address(void)
{
    const struct script_reply drop = {.action = SCRIPT_DROP};
    for (int i = 0; i < 8; i++) {
        STAGE(&drop, 1, "");
        static struct play good = {.lock = PTHREAD_MUTEX_INITIALIZER};
        AUTO(scripted_server_cleanup) struct scripted_server *server = scripted_server_new(NULL, 1, answer, &good);
        char addresses[200];
        (void) snprintf(addresses, sizeof addresses, "%s,%s", scripted_server_address(stage.server),
                        scripted_server_address(server));
        AUTO(scripted_client_cleanup) coffer_client *client = scripted_client(addresses, "");
        CHECK_INT(coffer_call(client, METHOD, "x", 1, NULL, &reply, &error), COFFER_OK);
        CHECK(scripted_server_requests(stage.server) <= 1);
        coffer_reply_free(TAKE(reply));
        CHECK_INT(coffer_call(client, METHOD, "x", 1, NULL, &reply, &error), COFFER_OK);
        CHECK_INT(scripted_server_requests(server), 2);
    }
}

/* Two servers, each with a play of its own, and a client that is connected to both. */
struct pair {
    struct play plays[2];
    struct scripted_server *servers[2];
    coffer_client *client;
};

static void pair_open(struct pair *pair, const struct script_reply *first, const struct script_reply *second,
                      const char *settings)
{
    char addresses[200];
    for (size_t i = 0; i < 2; i++) {
        const struct script_reply *reply = i == 0 ? first : second;
        pair->plays[i] =
            (struct play){.answers = reply, .count = reply == NULL ? 0 : 1, .lock = PTHREAD_MUTEX_INITIALIZER};
        pair->servers[i] = scripted_server_new(NULL, 1, answer, &pair->plays[i]);
    }
    (void) snprintf(addresses, sizeof addresses, "%s,%s", scripted_server_address(pair->servers[0]),
                    scripted_server_address(pair->servers[1]));
    pair->client = scripted_client(addresses, settings);
    while (channel_connected(pair->client->channel) < 2) {
        nng_msleep(1);
    }
}

static void pair_done(struct pair *pair)
{
    coffer_client_close(pair->client);
    scripted_server_free(pair->servers[0]);
    scripted_server_free(pair->servers[1]);
}

static coffer_status call_pair(const struct pair *pair, coffer_reason *ret_reason)
{
    coffer_reply *reply = NULL;
    coffer_error *error = NULL;
    const coffer_status status = coffer_call(pair->client, METHOD, "hello", 5, NULL, &reply, &error);
    *ret_reason = coffer_error_reason(error);
    coffer_reply_free(reply);
    coffer_error_free(error);
    return status;
}

/* Clients begin at an address of their own choice, so several are tried. */
enum { CLIENTS = 6 };

static void server_that_is_silent_costs_no_call_that_another_can_answer(void)
{
    const struct script_reply silent = {.action = SCRIPT_SILENT};
    for (int i = 0; i < CLIENTS; i++) {
        AUTO(pair_done) struct pair pair = {0};
        coffer_reason reason = COFFER_REASON_NONE;
        pair_open(&pair, &silent, NULL, "timeout=4s");
        CHECK_INT(call_pair(&pair, &reason), COFFER_OK);
        CHECK_INT(call_pair(&pair, &reason), COFFER_OK);
        CHECK(scripted_server_requests(pair.servers[0]) <= 1);
        if (scripted_server_requests(pair.servers[0]) == 1) {
            const struct seen seen = first_seen(&pair.plays[0]);
            CHECK_BYTES(seen.id, pair.plays[1].seen[0].id, COF_FRAME_REQUEST_ID);
            CHECK_INT(pair.plays[1].seen[0].attempt, 1);
        }
    }
}

static void silence_of_all_servers_ends_at_the_deadline(void)
{
    const struct script_reply silent = {.action = SCRIPT_SILENT};
    AUTO(pair_done) struct pair pair = {0};
    coffer_reason reason = COFFER_REASON_NONE;
    pair_open(&pair, &silent, &silent, "timeout=2s");
    CHECK_INT(call_pair(&pair, &reason), COFFER_DEADLINE_EXCEEDED);
    CHECK_INT(reason, COFFER_REASON_DEADLINE_EXCEEDED);
    CHECK_INT(scripted_server_requests(pair.servers[0]), 1);
    CHECK_INT(scripted_server_requests(pair.servers[1]), 1);
}

static void advice_of_a_draining_server_does_not_delay_the_call_at_another(void)
{
    const struct script_reply draining = {.reason = COF_REASON_SERVER_DRAINING, .retry_after_ms = 600000};
    for (int i = 0; i < CLIENTS; i++) {
        AUTO(pair_done) struct pair pair = {0};
        coffer_reason reason = COFFER_REASON_NONE;
        pair_open(&pair, &draining, NULL, "timeout=1min");
        CHECK_INT(call_pair(&pair, &reason), COFFER_OK);
        CHECK(scripted_server_requests(pair.servers[0]) <= 1);
    }
}

static void advice_counts_when_every_server_gave_it(void)
{
    const struct script_reply draining = {.reason = COF_REASON_SERVER_DRAINING, .retry_after_ms = 600000};
    AUTO(pair_done) struct pair pair = {0};
    coffer_reason reason = COFFER_REASON_NONE;
    pair_open(&pair, &draining, &draining, "timeout=1min");
    CHECK_INT(call_pair(&pair, &reason), COFFER_UNAVAILABLE);
    CHECK_INT(reason, COFFER_REASON_SERVER_DRAINING);
    CHECK_INT(scripted_server_requests(pair.servers[0]), 1);
    CHECK_INT(scripted_server_requests(pair.servers[1]), 1);
}

static void lost_connection_goes_on_at_the_next_address_with_the_same_id(void)
{
    const struct script_reply drop = {.action = SCRIPT_DROP};
    for (int i = 0; i < CLIENTS; i++) {
        AUTO(pair_done) struct pair pair = {0};
        coffer_reason reason = COFFER_REASON_NONE;
        pair_open(&pair, &drop, NULL, "timeout=1min");
        CHECK_INT(call_pair(&pair, &reason), COFFER_OK);
        CHECK_INT(scripted_server_requests(pair.servers[1]), 1);
        if (scripted_server_requests(pair.servers[0]) == 1) {
            const struct seen seen = first_seen(&pair.plays[0]);
            CHECK_BYTES(seen.id, pair.plays[1].seen[0].id, COF_FRAME_REQUEST_ID);
        }
    }
}

/* A socket path of its own below $TMPDIR or /tmp. */
static void socket_address(char address[96])
{
    const char *base = getenv("TMPDIR");
    (void) snprintf(address, 96, "ipc://%.60s/coffer-call-%d", base == NULL ? "/tmp" : base, (int) getpid());
}

static void *start_later(void *address)
{
    static struct play play = {.lock = PTHREAD_MUTEX_INITIALIZER};
    nng_msleep(100);
    return scripted_server_new(address, 1, answer, &play);
}

static void call_waits_for_a_server_that_comes_up(void)
{
    char address[96];
    pthread_t thread;
    void *server = NULL;
    coffer_reply *reply = NULL;
    socket_address(address);
    AUTO(scripted_client_cleanup)
    coffer_client *client = scripted_client(address, "connect_timeout=20s timeout=20s");
    CHECK_INT(pthread_create(&thread, NULL, start_later, address), 0);
    const coffer_status status = coffer_call(client, METHOD, "x", 1, NULL, &reply, NULL);
    (void) pthread_join(thread, &server);
    coffer_reply_free(reply);
    scripted_server_free(server);
    CHECK_INT(status, COFFER_OK);
}

static void client_connects_again_after_a_restart(void)
{
    char address[96];
    static struct play play = {.lock = PTHREAD_MUTEX_INITIALIZER};
    coffer_reply *reply = NULL;
    socket_address(address);
    AUTO(scripted_server_cleanup) struct scripted_server *server = scripted_server_new(address, 1, answer, &play);
    AUTO(scripted_client_cleanup)
    coffer_client *client = scripted_client(address, "connect_timeout=20s timeout=20s");
    for (int i = 0; i < 5; i++) {
        const coffer_status status = coffer_call(client, METHOD, "x", 1, NULL, &reply, NULL);
        coffer_reply_free(TAKE(reply));
        CHECK_INT(status, COFFER_OK);
        scripted_server_free(server);
        server = scripted_server_new(address, 1, answer, &play);
    }
}

enum { THREADS = 64, CALLS = 200 };

static void *call_many(void *argument)
{
    struct stage *stage = argument;
    intptr_t wrong = 0;
    for (int i = 0; i < CALLS; i++) {
        char text[64];
        coffer_reply *reply = NULL;
        const int length = snprintf(text, sizeof text, "%p %d", (void *) &reply, i);
        const coffer_status status = coffer_call(stage->client, METHOD, text, (size_t) length, NULL, &reply, NULL);
        wrong += status != COFFER_OK || coffer_reply_payload(reply).length != (size_t) length ||
                 memcmp(coffer_reply_payload(reply).data, text, (size_t) length) != 0;
        coffer_reply_free(reply);
    }
    return (void *) wrong;
}

static void many_threads_share_a_client_and_get_their_own_answers(void)
{
    static struct play play = {.lock = PTHREAD_MUTEX_INITIALIZER};
    AUTO(scripted_server_cleanup) struct scripted_server *server = scripted_server_new(NULL, 4, answer, &play);
    AUTO(scripted_client_cleanup)
    coffer_client *client = scripted_client(scripted_server_address(server), "timeout=10min");
    struct stage stage = {.client = client};
    pthread_t threads[THREADS];
    intptr_t wrong = 0;
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, call_many, &stage), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        void *result = NULL;
        (void) pthread_join(threads[i], &result);
        wrong += (intptr_t) result;
    }
    CHECK_INT(wrong, 0);
    CHECK_INT(scripted_server_requests(server), THREADS * CALLS);
}

/* Counts the ends of calls by their reason. */
struct ends {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned count;
    unsigned ok;
    unsigned closed;
    coffer_client *client;
    unsigned chained;
};

static void count_end(coffer_reply *reply, coffer_error *error, void *context)
{
    struct ends *ends = context;
    (void) pthread_mutex_lock(&ends->lock);
    const bool again = reply != NULL && ends->chained > 0;
    ends->chained -= again;
    (void) pthread_mutex_unlock(&ends->lock);
    if (again && coffer_call_start(ends->client, METHOD, "x", 1, NULL, count_end, ends, NULL) != COFFER_OK) {
        abort();
    }
    (void) pthread_mutex_lock(&ends->lock);
    ends->count++;
    ends->ok += reply != NULL;
    ends->closed += coffer_error_reason(error) == COFFER_REASON_CLIENT_CLOSED;
    (void) pthread_cond_broadcast(&ends->changed);
    (void) pthread_mutex_unlock(&ends->lock);
    coffer_reply_free(reply);
    coffer_error_free(error);
}

static void wait_for_ends(struct ends *ends, unsigned count)
{
    (void) pthread_mutex_lock(&ends->lock);
    while (ends->count < count) {
        (void) pthread_cond_wait(&ends->changed, &ends->lock);
    }
    (void) pthread_mutex_unlock(&ends->lock);
}

static void callbacks_are_called_once_and_may_start_calls(void)
{
    STAGE(NULL, 0, "");
    struct ends ends = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    ends.client = stage.client;
    ends.chained = 100;
    for (int i = 0; i < 20; i++) {
        CHECK_INT(coffer_call_start(stage.client, METHOD, "x", 1, NULL, count_end, &ends, &error), COFFER_OK);
    }
    wait_for_ends(&ends, 120);
    coffer_client_close(TAKE(stage.client));
    CHECK_INT(ends.count, 120);
    CHECK_INT(ends.ok, 120);
}

static void *call_once(void *argument)
{
    struct stage *stage = argument;
    coffer_error *error = NULL;
    coffer_reply *reply = NULL;
    intptr_t reason = 0;
    if (call(stage, &reply, &error) != COFFER_OK) {
        reason = (intptr_t) + coffer_error_reason(error);
    }
    coffer_error_free(error);
    return (void *) reason;
}

static void closing_ends_calls_that_run_and_waits_for_them(void)
{
    const struct script_reply silent = {.action = SCRIPT_SILENT};
    STAGE(&silent, 1, "timeout=1h");
    struct ends ends = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    void *reason = NULL;
    CHECK_INT(pthread_create(&thread, NULL, call_once, &stage), 0);
    for (int i = 0; i < 50; i++) {
        CHECK_INT(coffer_call_start(stage.client, METHOD, "x", 1, NULL, count_end, &ends, &error), COFFER_OK);
    }
    while (scripted_server_requests(stage.server) < 51) {
        nng_msleep(1);
    }
    coffer_client_close(stage.client);
    stage.client = NULL;
    (void) pthread_join(thread, &reason);
    CHECK_INT(ends.count, 50);
    CHECK_INT(ends.closed, 50);
    CHECK_INT((intptr_t) reason, COFFER_REASON_CLIENT_CLOSED);
}

static void closing_ends_calls_that_wait_or_pause(void)
{
    const struct script_reply failure = {.reason = COF_REASON_DATABASE_UNAVAILABLE, .retry_after_ms = 600000};
    STAGE(&failure, 1, "timeout=1h");
    struct ends ends = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    coffer_client *nobody = scripted_client(NOBODY, "connect_timeout=1h timeout=1h");
    for (int i = 0; i < 10; i++) {
        CHECK_INT(coffer_call_start(stage.client, METHOD, "x", 1, NULL, count_end, &ends, &error), COFFER_OK);
        CHECK_INT(coffer_call_start(nobody, METHOD, "x", 1, NULL, count_end, &ends, &error), COFFER_OK);
    }
    while (scripted_server_requests(stage.server) < 10) {
        nng_msleep(1);
    }
    coffer_client_close(nobody);
    coffer_client_close(TAKE(stage.client));
    CHECK_INT(ends.count, 20);
    CHECK_INT(ends.closed, 20);
}

static void calls_over_the_limit_are_refused(void)
{
    AUTO(error_done) coffer_error *error = NULL;
    struct ends ends = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    coffer_client *client = scripted_client(NOBODY, "connect_timeout=1h timeout=1h");
    for (int i = 0; i < CHANNEL_CALLS_MAX; i++) {
        CHECK_INT(coffer_call_start(client, METHOD, "x", 1, NULL, count_end, &ends, NULL), COFFER_OK);
    }
    CHECK_INT(coffer_call_start(client, METHOD, "x", 1, NULL, count_end, &ends, &error), COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(coffer_error_reason(error), COFFER_REASON_TOO_MANY_IN_FLIGHT);
    coffer_client_close(client);
    CHECK_INT(ends.closed, CHANNEL_CALLS_MAX);
}

static void answers_survive_their_client(void)
{
    STAGE(NULL, 0, "");
    CHECK_INT(call(&stage, &reply, &error), COFFER_OK);
    coffer_client_close(TAKE(stage.client));
    CHECK_BYTES(coffer_reply_payload(reply).data, "hello", 5);
}

TEST_MAIN(TEST(answer_has_payload_and_facts), TEST(empty_request_and_answer_are_fine),
          TEST(every_error_is_told_with_its_details), TEST(code_outside_the_table_is_unknown),
          TEST(only_unavailable_is_repeated_with_the_same_id), TEST(other_codes_are_not_repeated),
          TEST(busy_server_is_asked_again_if_it_advises_so),
          TEST(server_that_stays_busy_is_asked_no_more_often_than_the_budget_allows),
          TEST(busy_server_without_advice_is_not_asked_again),
          TEST(advice_beyond_the_deadline_ends_the_call_at_once),
          TEST(unavailable_until_the_deadline_tells_the_last_failure),
          TEST(lost_connection_gives_exactly_one_more_attempt_with_the_same_id),
          TEST(connection_lost_again_and_again_ends_the_call), TEST(answer_to_another_request_is_dropped),
          TEST(success_without_an_id_is_dropped_but_an_error_is_told), TEST(garbage_is_no_answer_and_not_repeated),
          TEST(silence_ends_at_the_deadline), TEST(request_over_the_limit_is_not_sent),
          TEST(answer_larger_than_the_memory_is_refused), TEST(options_are_checked), TEST(given_request_id_is_used),
          TEST(options_of_an_older_program_are_taken), TEST(missing_arguments_are_told),
          TEST(token_can_be_replaced_and_taken_away), TEST(nobody_there_is_told_with_the_addresses),
          TEST(wait_for_a_connection_ends_at_the_deadline),
          TEST(dead_address_costs_no_call_that_another_can_answer), TEST(next_attempt_goes_to_another_address),
          TEST(server_that_is_silent_costs_no_call_that_another_can_answer),
          TEST(silence_of_all_servers_ends_at_the_deadline),
          TEST(advice_of_a_draining_server_does_not_delay_the_call_at_another),
          TEST(advice_counts_when_every_server_gave_it),
          TEST(lost_connection_goes_on_at_the_next_address_with_the_same_id),
          TEST(call_waits_for_a_server_that_comes_up), TEST(client_connects_again_after_a_restart),
          TEST(many_threads_share_a_client_and_get_their_own_answers),
          TEST(callbacks_are_called_once_and_may_start_calls), TEST(closing_ends_calls_that_run_and_waits_for_them),
          TEST(closing_ends_calls_that_wait_or_pause), TEST(calls_over_the_limit_are_refused),
          TEST(answers_survive_their_client))
