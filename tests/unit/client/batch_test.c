#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>

#include <coffer/coffer.h>

#include "client/libcoffer/batch.h"
#include "client/libcoffer/call_state.h"
#include "client/libcoffer/client.h"
#include "tests/support/test.h"
#include "tests/unit/client/scripted_server.h"

#define TRACE "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define POISON "poison"

/* Enough for whatever is not to happen by itself. */
#define PATIENT "timeout=1h coalesce_requests=1 coalesce_wait=1h "

enum { SEEN_MAX = 256, ENDS_MAX = 1200, SERVERS = 8 };

/* A request as the server saw it. */
struct seen {
    size_t items;
    uint32_t timeout_ms;
    char authorization[64];
    char traceparent[64];
};

/*
 * What the server does: it keeps the first `held` requests until the door is open, does `to_poison` with those that
 * have an item with that name in them, and lets the test edit the other answers.
 */
struct rules {
    unsigned held;
    struct script_reply to_poison; /* SCRIPT_ANSWER without a reason: nothing */
    struct resolve_script script;
};

struct play {
    struct rules rules;
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool open;
    unsigned poisoned;
    unsigned count;
    struct seen seen[SEEN_MAX];
};

static void copy_metadata(const struct cof_request_frame *request, const char *key, char to[64])
{
    struct cof_slice value = cof_slice_of(NULL, 0);
    (void) cof_metadata_find(&request->metadata, key, &value);
    const size_t len = value.len < 63 ? value.len : 63;
    if (len > 0) {
        memcpy(to, value.data, len);
    }
    to[len] = '\0';
}

static bool has_poison(const Coffer__V1__ResolveRequest *asked)
{
    for (size_t i = 0; i < asked->n_items; i++) {
        if (strcmp(asked->items[i]->references[0]->name, POISON) == 0) {
            return true;
        }
    }
    return false;
}

/* Notes the request; whether it is a poisoned one. */
static bool note(struct play *play, const struct cof_request_frame *request)
{
    Coffer__V1__ResolveRequest *asked =
        coffer__v1__resolve_request__unpack(NULL, request->payload.len, request->payload.data);
    if (asked == NULL) {
        abort();
    }
    const bool poison = has_poison(asked);
    (void) pthread_mutex_lock(&play->lock);
    if (play->count < SEEN_MAX) {
        struct seen *seen = &play->seen[play->count];
        seen->items = asked->n_items;
        seen->timeout_ms = request->timeout_ms;
        copy_metadata(request, "authorization", seen->authorization);
        copy_metadata(request, "traceparent", seen->traceparent);
    }
    play->count++;
    play->poisoned += poison;
    (void) pthread_mutex_unlock(&play->lock);
    coffer__v1__resolve_request__free_unpacked(asked, NULL);
    return poison;
}

static void wait_at_the_door(struct play *play, unsigned number)
{
    (void) pthread_mutex_lock(&play->lock);
    while (number < play->rules.held && !play->open) {
        (void) pthread_cond_wait(&play->opened, &play->lock);
    }
    (void) pthread_mutex_unlock(&play->lock);
}

static void open_door(struct play *play)
{
    (void) pthread_mutex_lock(&play->lock);
    play->open = true;
    (void) pthread_cond_broadcast(&play->opened);
    (void) pthread_mutex_unlock(&play->lock);
}

static void answer(const struct cof_request_frame *request, unsigned number, struct script_reply *reply,
                   void *context)
{
    struct play *play = context;
    const bool poison = note(play, request);
    wait_at_the_door(play, number);
    if (poison &&
        (play->rules.to_poison.action != SCRIPT_ANSWER || play->rules.to_poison.reason != COF_REASON_NONE)) {
        *reply = play->rules.to_poison;
        return;
    }
    script_resolve(request, number, reply, play->rules.script.edit == NULL ? NULL : &play->rules.script);
}

/* The end of one call that was started. */
struct end {
    struct ends *ends;
    unsigned calls;
    coffer_result *result;
    coffer_error *error;
};

struct ends {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned over;
    struct end each[ENDS_MAX];
};

/* The fixture: a server that plays, a client of it, and the ends of its calls. */
struct stage {
    struct play *play;
    struct scripted_server *server;
    coffer_client *client;
    struct ends *ends;
    unsigned started;
};

static void stage_open(struct stage *stage, const struct rules *rules, const char *settings)
{
    stage->play = calloc(1, sizeof *stage->play);
    stage->ends = calloc(1, sizeof *stage->ends);
    if (stage->play == NULL || stage->ends == NULL) {
        abort();
    }
    stage->play->rules = *rules;
    (void) pthread_mutex_init(&stage->play->lock, NULL);
    (void) pthread_cond_init(&stage->play->opened, NULL);
    (void) pthread_mutex_init(&stage->ends->lock, NULL);
    (void) pthread_cond_init(&stage->ends->changed, NULL);
    stage->server = scripted_server_new(NULL, SERVERS, answer, stage->play);
    stage->client = scripted_client(scripted_server_address(stage->server), settings);
    /* The time of some calls is short. */
    while (channel_connected(stage->client->channel) == 0) {
        nng_msleep(1);
    }
}

static void stage_done(struct stage *stage)
{
    open_door(stage->play);
    coffer_client_close(stage->client);
    scripted_server_free(stage->server);
    for (unsigned i = 0; i < stage->started; i++) {
        coffer_result_free(stage->ends->each[i].result);
        coffer_error_free(stage->ends->each[i].error);
    }
    free(stage->play);
    free(stage->ends);
}

#define STAGE(settings, ...)                   \
    AUTO(stage_done) struct stage stage = {0}; \
    stage_open(&stage, &(struct rules){__VA_ARGS__}, (settings))

static void keep_end(coffer_result *result, coffer_error *error, void *context)
{
    struct end *end = context;
    struct ends *ends = end->ends;
    (void) pthread_mutex_lock(&ends->lock);
    end->calls++;
    end->result = result;
    end->error = error;
    ends->over++;
    (void) pthread_cond_broadcast(&ends->changed);
    (void) pthread_mutex_unlock(&ends->lock);
}

static void wait_for_ends(struct ends *ends, unsigned count)
{
    (void) pthread_mutex_lock(&ends->lock);
    while (ends->over < count) {
        (void) pthread_cond_wait(&ends->changed, &ends->lock);
    }
    (void) pthread_mutex_unlock(&ends->lock);
}

static void wait_for_requests(const struct stage *stage, unsigned count)
{
    while (scripted_server_requests(stage->server) < count) {
        nng_msleep(1);
    }
}

/* A request for one value, which depends on the number. */
static coffer_request *request_of(const char *name, unsigned number)
{
    char text[32];
    coffer_request *request = coffer_request_new();
    (void) snprintf(text, sizeof text, "env-%u", number);
    coffer_request_add_environment(request, text);
    (void) snprintf(text, sizeof text, "id-%u", number);
    coffer_request_set_id(request, text);
    coffer_request_add_reference(request, name, "KEY");
    return request;
}

/* Starts the request and frees it; its end is the next of `ends`. */
static void start(struct stage *stage, coffer_request *request)
{
    struct end *end = &stage->ends->each[stage->started++];
    end->ends = stage->ends;
    if (coffer_resolve_start(stage->client, request, keep_end, end, NULL) != COFFER_OK) {
        abort();
    }
    coffer_request_free(request);
}

static void start_many(struct stage *stage, const char *name, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        start(stage, request_of(name, stage->started));
    }
}

static bool is_value_of(const coffer_item *item, const char *environment, const char *name, const char *key)
{
    char expected[400];
    script_value(environment, name, key, expected);
    const coffer_bytes value = coffer_item_value(item, name, key);
    return value.data != NULL && value.length == strlen(expected) &&
           memcmp(value.data, expected, value.length) == 0;
}

/* The end has exactly what request_of asked for. */
static bool is_own(const struct end *end, const char *name, unsigned number)
{
    char environment[32];
    char id[32];
    (void) snprintf(environment, sizeof environment, "env-%u", number);
    (void) snprintf(id, sizeof id, "id-%u", number);
    if (end->calls != 1 || end->result == NULL || coffer_result_count(end->result) != 1) {
        return false;
    }
    const coffer_item *item = coffer_result_item(end->result, 0);
    return coffer_item_status(item) == COFFER_OK && coffer_item_index(item) == 0 &&
           strcmp(coffer_item_id(item), id) == 0 && is_value_of(item, environment, name, "KEY") &&
           coffer_item_value_count(item) == 1 && coffer_result_mask_count(end->result) == 1;
}

static unsigned count_own(const struct stage *stage, const char *name)
{
    unsigned own = 0;
    for (unsigned i = 0; i < stage->started; i++) {
        own += is_own(&stage->ends->each[i], name, i);
    }
    return own;
}

static coffer_reason reason_of(const struct stage *stage, unsigned index)
{
    return coffer_error_reason(stage->ends->each[index].error);
}

static void calls_made_at_the_same_time_travel_in_one_request(void)
{
    STAGE(PATIENT, .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", 40);
    CHECK_INT(scripted_server_requests(stage.server), 1);
    open_door(stage.play);
    wait_for_ends(stage.ends, 41);
    CHECK_INT(scripted_server_requests(stage.server), 2);
    CHECK_INT(stage.play->seen[0].items, 1);
    CHECK_INT(stage.play->seen[1].items, 40);
    CHECK_INT(count_own(&stage, "slack"), 41);
    CHECK_TEXT(coffer_result_request_id(stage.ends->each[1].result),
               coffer_result_request_id(stage.ends->each[40].result));
}

struct caller {
    struct stage *stage;
    pthread_t thread;
    unsigned number;
    uint32_t timeout_ms;
    coffer_status status;
    coffer_reason reason;
    bool own;
};

static void *resolve_once(void *argument)
{
    struct caller *caller = argument;
    struct end end = {.calls = 1};
    coffer_request *request = request_of("slack", caller->number);
    coffer_request_set_timeout(request, caller->timeout_ms);
    caller->status = coffer_resolve(caller->stage->client, request, &end.result, &end.error);
    caller->reason = coffer_error_reason(end.error);
    caller->own = caller->status == COFFER_OK && is_own(&end, "slack", caller->number);
    coffer_request_free(request);
    coffer_result_free(end.result);
    coffer_error_free(end.error);
    return NULL;
}

static void call_from_threads(struct stage *stage, struct caller *callers, unsigned count, uint32_t timeout_ms)
{
    for (unsigned i = 0; i < count; i++) {
        callers[i] = (struct caller){.stage = stage, .number = i, .timeout_ms = timeout_ms};
        if (pthread_create(&callers[i].thread, NULL, resolve_once, &callers[i]) != 0) {
            abort();
        }
    }
}

static void join_threads(const struct caller *callers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void) pthread_join(callers[i].thread, NULL);
    }
}

static void threads_that_wait_travel_in_one_request(void)
{
    enum { CALLERS = 32 };
    struct caller callers[CALLERS];
    unsigned own = 0;
    STAGE("timeout=1h coalesce_requests=1 coalesce_wait=500ms", .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    call_from_threads(&stage, callers, CALLERS, 0);
    wait_for_requests(&stage, 2);
    open_door(stage.play);
    join_threads(callers, CALLERS);
    wait_for_ends(stage.ends, 1);
    for (unsigned i = 0; i < CALLERS; i++) {
        own += callers[i].own;
    }
    CHECK_INT(own, CALLERS);
    CHECK(scripted_server_requests(stage.server) < CALLERS);
}

static void idle_client_waits_for_nothing(void)
{
    STAGE(PATIENT, .held = 0);
    for (unsigned i = 0; i < 20; i++) {
        struct caller caller = {.stage = &stage, .number = i};
        (void) resolve_once(&caller);
        CHECK(caller.own);
        start_many(&stage, "slack", 1);
        wait_for_ends(stage.ends, i + 1);
    }
    CHECK_INT(scripted_server_requests(stage.server), 40);
}

static void slow_answer_holds_the_next_request_up_for_a_while_only(void)
{
    STAGE("timeout=1h coalesce_requests=1 coalesce_wait=20ms", .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", 9);
    wait_for_ends(stage.ends, 9);
    CHECK_INT(stage.ends->each[0].calls, 0);
    struct caller caller = {.stage = &stage, .number = 7};
    (void) resolve_once(&caller);
    CHECK(caller.own);
    open_door(stage.play);
    wait_for_ends(stage.ends, 10);
    CHECK_INT(count_own(&stage, "slack"), 10);
}

static void switched_off_each_call_travels_by_itself(void)
{
    STAGE("timeout=1h coalesce=no", .held = 1);
    start_many(&stage, "slack", 50);
    wait_for_ends(stage.ends, 49);
    open_door(stage.play);
    wait_for_ends(stage.ends, 50);
    CHECK_INT(scripted_server_requests(stage.server), 50);
    CHECK_INT(count_own(&stage, "slack"), 50);
}

static void see_items(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                      Coffer__V1__ResolveResponse *response)
{
    char *seen = script->context;
    (void) response;
    size_t used = strlen(seen);
    for (size_t i = 0; number > 0 && i < asked->n_items; i++) {
        const Coffer__V1__ResolveItem *item = asked->items[i];
        used += (size_t) snprintf(seen + used, 1024 - used, "%s %s %s %s %d;", item->id, item->traceparent,
                                  item->run == NULL ? "" : item->run->run_id,
                                  item->timeout_ms > 3000000 ? "long" : "short", item->allow_pending);
    }
}

static void each_item_has_the_time_trace_and_run_of_its_call(void)
{
    char seen[1024] = "";
    STAGE(PATIENT, .held = 1, .script = {see_items, seen});
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    coffer_request *request = request_of("slack", 1);
    coffer_request_set_traceparent(request, TRACE);
    coffer_request_set_run(request, "wf", "run-1", "act");
    start(&stage, request);
    request = request_of("slack", 2);
    coffer_request_set_timeout(request, 600000);
    start(&stage, request);
    open_door(stage.play);
    wait_for_ends(stage.ends, 3);
    CHECK_TEXT(seen, "id-1 " TRACE " run-1 long 1;id-2   short 1;");
    CHECK_TEXT(stage.play->seen[1].traceparent, "");
    CHECK(stage.play->seen[1].timeout_ms > 3000000);
    CHECK_INT(count_own(&stage, "slack"), 3);
}

static void set_token(const struct stage *stage, const char *token)
{
    /* An empty one takes the token away. */
    if (coffer_client_set_token(stage->client, token, strlen(token), NULL) != COFFER_OK) {
        abort();
    }
}

static void calls_with_different_tokens_never_travel_together(void)
{
    STAGE(PATIENT, .held = 1);
    set_token(&stage, "first");
    start_many(&stage, "slack", 4);
    wait_for_requests(&stage, 1);
    set_token(&stage, "second");
    start_many(&stage, "slack", 5);
    set_token(&stage, "first");
    start_many(&stage, "slack", 6);
    set_token(&stage, "");
    start_many(&stage, "slack", 7);
    open_door(stage.play);
    wait_for_ends(stage.ends, 22);
    static const struct {
        size_t items;
        const char *authorization;
    } expected[] = {{1, "Bearer first"}, {3, "Bearer first"}, {5, "Bearer second"}, {6, "Bearer first"}, {7, ""}};
    CHECK_INT(scripted_server_requests(stage.server), COF_COUNT(expected));
    for (size_t i = 0; i < COF_COUNT(expected); i++) {
        CHECK_INT(stage.play->seen[i].items, expected[i].items);
        CHECK_TEXT(stage.play->seen[i].authorization, expected[i].authorization);
    }
    CHECK_INT(count_own(&stage, "slack"), 22);
}

/* One held call, then nine good ones around a poisoned one. */
static void start_around_poison(struct stage *stage)
{
    start_many(stage, "slack", 1);
    wait_for_requests(stage, 1);
    start_many(stage, "slack", 4);
    start(stage, request_of(POISON, stage->started));
    start_many(stage, "slack", 5);
    open_door(stage->play);
    wait_for_ends(stage->ends, 11);
}

static void request_refused_because_of_one_call_is_asked_one_by_one(void)
{
    STAGE(PATIENT, .held = 1, .to_poison = {.reason = COF_REASON_LIMIT_EXCEEDED, .field = "items[4].references"});
    start_around_poison(&stage);
    CHECK_INT(count_own(&stage, "slack"), 10);
    CHECK_INT(reason_of(&stage, 5), COFFER_REASON_LIMIT_EXCEEDED);
    CHECK_INT(scripted_server_requests(stage.server), 12);
    CHECK_INT(stage.play->poisoned, 2);
}

static void request_that_costs_its_connection_again_and_again_is_asked_one_by_one(void)
{
    /* Late enough for the other answers to be out: who loses the connection as often as the poisoned call ends as it does. */
    STAGE(PATIENT, .held = 1, .to_poison = {.action = SCRIPT_DROP, .delay_ms = 100});
    start_around_poison(&stage);
    CHECK_INT(reason_of(&stage, 5), COFFER_REASON_NOT_CONNECTED);
    for (unsigned i = 0; i < 11; i++) {
        /* A dropped connection takes along what else is on it; the others overcome that, the poisoned call does not. */
        CHECK(i == 5 || is_own(&stage.ends->each[i], "slack", i));
    }
}

static void failure_that_concerns_all_is_told_to_all(void)
{
    STAGE(PATIENT, .held = 1, .to_poison = {.reason = COF_REASON_TOKEN_INVALID});
    start_around_poison(&stage);
    CHECK_INT(count_own(&stage, "slack"), 1);
    for (unsigned i = 1; i < 11; i++) {
        CHECK_INT(reason_of(&stage, i), COFFER_REASON_TOKEN_INVALID);
        CHECK_INT(strlen(coffer_error_request_id(stage.ends->each[i].error)), 36);
    }
    CHECK_INT(scripted_server_requests(stage.server), 2);
}

static void bad_input_is_told_to_its_caller_before_anything_is_joined(void)
{
    STAGE(PATIENT, .held = 1);
    start_many(&stage, "slack", 3);
    coffer_request *request = request_of("no/slash", 3);
    coffer_error *error = NULL;
    const coffer_status status = coffer_resolve_start(stage.client, request, keep_end, NULL, &error);
    const coffer_reason reason = coffer_error_reason(error);
    coffer_error_free(error);
    coffer_request_free(request);
    CHECK_INT(status, COFFER_INVALID_ARGUMENT);
    CHECK_INT(reason, COFFER_REASON_FIELD_INVALID);
    open_door(stage.play);
    wait_for_ends(stage.ends, 3);
    CHECK_INT(count_own(&stage, "slack"), 3);
}

/* Each would go with the nine that are gathered, were it not for what it has of its own. */
static void what_a_server_could_refuse_or_is_large_travels_by_itself(void)
{
    STAGE(PATIENT, .held = 1);
    start_many(&stage, "slack", 10);
    wait_for_requests(&stage, 1);
    coffer_request *request = request_of("slack", 10);
    coffer_request_set_traceparent(request, "\xff\xfe");
    start(&stage, request);
    request = request_of("slack", 11);
    coffer_request_set_traceparent(request, TRACE "-01234567890");
    start(&stage, request);
    request = request_of("slack", 12);
    coffer_request_set_validate_only(request, 0, NULL);
    start(&stage, request);
    request = request_of("slack", 13);
    for (unsigned i = 0; i < BATCH_CALL_VALUES_MAX; i++) {
        coffer_request_add_environment(request, "more");
    }
    start(&stage, request);
    wait_for_ends(stage.ends, 4);
    CHECK_INT(scripted_server_requests(stage.server), 5);
    for (unsigned i = 0; i < 5; i++) {
        CHECK_INT(stage.play->seen[i].items, 1);
    }
    CHECK_INT(coffer_result_count(stage.ends->each[13].result), BATCH_CALL_VALUES_MAX + 1);
    open_door(stage.play);
    wait_for_ends(stage.ends, 14);
    CHECK_INT(stage.play->seen[5].items, 9);
}

static void time_of_one_call_ends_it_alone(void)
{
    enum { CALLERS = 4 };
    struct caller callers[CALLERS];
    STAGE(PATIENT, .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", 3);
    coffer_request *request = request_of("slack", 4);
    coffer_request_set_timeout(request, 30);
    start(&stage, request);
    call_from_threads(&stage, callers, CALLERS, 30);
    wait_for_ends(stage.ends, 1);
    join_threads(callers, CALLERS);
    CHECK_INT(reason_of(&stage, 4), COFFER_REASON_DEADLINE_EXCEEDED);
    for (unsigned i = 0; i < CALLERS; i++) {
        CHECK_INT(callers[i].reason, COFFER_REASON_DEADLINE_EXCEEDED);
    }
    CHECK_INT(scripted_server_requests(stage.server), 1);
    open_door(stage.play);
    wait_for_ends(stage.ends, 5);
    CHECK_INT(stage.play->seen[1].items, 3);
    CHECK_INT(count_own(&stage, "slack"), 4);
}

static void time_of_one_call_ends_it_while_its_request_is_on_its_way(void)
{
    enum { CALLERS = 4 };
    struct caller callers[CALLERS];
    STAGE("timeout=1h coalesce_requests=1 coalesce_wait=1ms", .held = 1000);
    start_many(&stage, "slack", 4);
    coffer_request *request = request_of("slack", 4);
    coffer_request_set_timeout(request, 60);
    start(&stage, request);
    call_from_threads(&stage, callers, CALLERS, 60);
    join_threads(callers, CALLERS);
    wait_for_ends(stage.ends, 1);
    CHECK_INT(reason_of(&stage, 4), COFFER_REASON_DEADLINE_EXCEEDED);
    for (unsigned i = 0; i < CALLERS; i++) {
        CHECK_INT(callers[i].reason, COFFER_REASON_DEADLINE_EXCEEDED);
    }
    open_door(stage.play);
    wait_for_ends(stage.ends, 5);
    CHECK_INT(count_own(&stage, "slack"), 4);
}

/* All calls of a request that was never sent are late. */
static void request_whose_calls_are_all_late_is_not_sent(void)
{
    STAGE("timeout=40ms coalesce_requests=1 coalesce_wait=1h", .held = 1);
    start_many(&stage, "slack", 5);
    struct caller caller = {.stage = &stage, .number = 9};
    (void) resolve_once(&caller);
    wait_for_ends(stage.ends, 5);
    CHECK_INT(caller.reason, COFFER_REASON_DEADLINE_EXCEEDED);
    for (unsigned i = 0; i < 5; i++) {
        CHECK_INT(reason_of(&stage, i), COFFER_REASON_DEADLINE_EXCEEDED);
    }
    open_door(stage.play);
    coffer_client_close(TAKE(stage.client));
    CHECK(scripted_server_requests(stage.server) <= 1);
}

/* Of nine results: one is left out, one comes twice, two are exchanged, one is of an item that nobody asked for. */
static void answer_oddly(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                         Coffer__V1__ResolveResponse *response)
{
    Coffer__V1__ResolveResult **results = response->results;
    (void) script;
    (void) asked;
    if (number != 1) {
        return;
    }
    results[0] = results[1];
    results[3]->item_index = 4;
    results[4]->item_index = 3;
    results[6]->item_index = 4000000;
}

static void odd_answer_is_invalid_for_those_whom_it_concerns(void)
{
    static const bool odd[] = {false, true, true, false, true, true, false, true, false, false};
    STAGE(PATIENT, .held = 1, .script = {answer_oddly, NULL});
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", 9);
    open_door(stage.play);
    wait_for_ends(stage.ends, 10);
    for (unsigned i = 0; i < COF_COUNT(odd); i++) {
        CHECK_INT(is_own(&stage.ends->each[i], "slack", i), !odd[i]);
        CHECK_INT(reason_of(&stage, i), odd[i] ? COFFER_REASON_REPLY_INVALID : COFFER_REASON_NONE);
    }
}

/* Two results stand in the places of each other, each with the number that belongs there. */
static void exchange_values(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                            Coffer__V1__ResolveResponse *response)
{
    (void) script;
    (void) asked;
    if (number == 1) {
        Coffer__V1__ResolveResult *first = response->results[0];
        response->results[0] = response->results[1];
        response->results[1] = first;
        response->results[0]->item_index = 0;
        response->results[1]->item_index = 1;
    }
}

static void result_of_a_stranger_is_not_handed_out(void)
{
    STAGE(PATIENT, .held = 1, .script = {exchange_values, NULL});
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", 3);
    open_door(stage.play);
    wait_for_ends(stage.ends, 4);
    CHECK_INT(reason_of(&stage, 1), COFFER_REASON_REPLY_INVALID);
    CHECK_INT(reason_of(&stage, 2), COFFER_REASON_REPLY_INVALID);
    CHECK(is_own(&stage.ends->each[3], "slack", 3));
}

static void put_off(Coffer__V1__ResolveResult *result, Coffer__V1__Outcome outcome)
{
    result->status->code = COFFER_RESOURCE_EXHAUSTED;
    result->status->outcome = outcome;
    result->n_secrets = 0;
}

/* In company the second is deferred and the third would have to wait for somebody. */
static void put_two_off(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked, unsigned number,
                        Coffer__V1__ResolveResponse *response)
{
    (void) script;
    (void) asked;
    if (number == 1) {
        put_off(response->results[1], COFFER__V1__OUTCOME__OUTCOME_DEFERRED);
        put_off(response->results[2], COFFER__V1__OUTCOME__OUTCOME_PENDING);
    }
}

static void deferred_and_pending_results_are_asked_for_again_by_themselves(void)
{
    STAGE(PATIENT, .held = 1, .script = {put_two_off, NULL});
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", 4);
    open_door(stage.play);
    wait_for_ends(stage.ends, 5);
    CHECK_INT(count_own(&stage, "slack"), 5);
    CHECK_INT(scripted_server_requests(stage.server), 4);
    CHECK_INT(stage.play->seen[1].items, 4);
    CHECK_INT(stage.play->seen[2].items, 1);
    CHECK_INT(stage.play->seen[3].items, 1);
}

static void request_has_at_most_a_thousand_items(void)
{
    STAGE(PATIENT "memory=64MiB", .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", BATCH_ITEMS_MAX + 100);
    open_door(stage.play);
    wait_for_ends(stage.ends, BATCH_ITEMS_MAX + 101);
    CHECK_INT(scripted_server_requests(stage.server), 3);
    CHECK_INT(stage.play->seen[1].items, BATCH_ITEMS_MAX);
    CHECK_INT(stage.play->seen[2].items, 100);
    CHECK_INT(count_own(&stage, "slack"), BATCH_ITEMS_MAX + 101);
}

static coffer_request *many_values(void)
{
    coffer_request *request = coffer_request_new();
    char text[32];
    for (unsigned i = 0; i < BATCH_CALL_VALUES_MAX / 5; i++) {
        (void) snprintf(text, sizeof text, "env-%u", i);
        coffer_request_add_environment(request, text);
    }
    for (unsigned i = 0; i < 5; i++) {
        (void) snprintf(text, sizeof text, "s%u", i);
        coffer_request_add_reference(request, text, "KEY");
    }
    return request;
}

static void request_has_at_most_ten_thousand_values(void)
{
    enum { FIT = BATCH_VALUES_MAX / BATCH_CALL_VALUES_MAX };
    STAGE(PATIENT "memory=64MiB", .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    for (unsigned i = 0; i < FIT + 2; i++) {
        start(&stage, many_values());
    }
    open_door(stage.play);
    wait_for_ends(stage.ends, FIT + 3);
    CHECK_INT(scripted_server_requests(stage.server), 3);
    CHECK_INT(stage.play->seen[1].items, FIT);
    CHECK_INT(stage.play->seen[2].items, 2);
    for (unsigned i = 1; i < FIT + 3; i++) {
        CHECK_INT(coffer_result_count(stage.ends->each[i].result), BATCH_CALL_VALUES_MAX / 5);
        CHECK_INT(coffer_result_failed(stage.ends->each[i].result), 0);
    }
}

static coffer_request *many_bytes(unsigned number)
{
    char name[96];
    coffer_request *request = request_of("slack", number);
    for (unsigned i = 0; i < 280; i++) {
        (void) snprintf(name, sizeof name, "s%080u", i);
        coffer_request_add_reference(request, name, "KEY");
    }
    return request;
}

static void request_has_at_most_a_mebibyte(void)
{
    enum { CALLS = 45 };
    size_t items = 0;
    STAGE(PATIENT "memory=64MiB", .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    for (unsigned i = 0; i < CALLS; i++) {
        start(&stage, many_bytes(i));
    }
    open_door(stage.play);
    wait_for_ends(stage.ends, CALLS + 1);
    CHECK_INT(scripted_server_requests(stage.server), 3);
    for (unsigned i = 1; i < 3; i++) {
        items += stage.play->seen[i].items;
    }
    CHECK_INT(items, CALLS);
    for (unsigned i = 0; i < CALLS + 1; i++) {
        CHECK(stage.ends->each[i].result != NULL);
    }
}

/* Each result takes a piece of 16 KiB, of which there are four. */
static void memory_that_is_used_up_fails_only_those_who_got_none(void)
{
    unsigned own = 0;
    STAGE(PATIENT "memory=64KiB", .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", 7);
    open_door(stage.play);
    wait_for_ends(stage.ends, 8);
    for (unsigned i = 0; i < 8; i++) {
        const bool mine = is_own(&stage.ends->each[i], "slack", i);
        CHECK(mine || reason_of(&stage, i) == COFFER_REASON_OUT_OF_MEMORY);
        own += mine;
    }
    CHECK_INT(own, 4);
    coffer_result_free(TAKE(stage.ends->each[0].result));
    struct caller caller = {.stage = &stage, .number = 3};
    (void) resolve_once(&caller);
    CHECK(caller.own);
}

static void closing_ends_calls_that_are_gathered(void)
{
    enum { CALLERS = 4 };
    struct caller callers[CALLERS];
    STAGE("timeout=1h coalesce_requests=1 coalesce_wait=300ms", .held = 1000);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    call_from_threads(&stage, callers, CALLERS, 0);
    /* Who has called is inside: the next request is sent with all who came in its time. */
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 2);
    for (size_t seen = 0; seen < CALLERS + 2;) {
        nng_msleep(1);
        (void) pthread_mutex_lock(&stage.play->lock);
        seen = 0;
        for (unsigned i = 0; i < stage.play->count; i++) {
            seen += stage.play->seen[i].items;
        }
        (void) pthread_mutex_unlock(&stage.play->lock);
    }
    start_many(&stage, "slack", 50);
    coffer_client_close(TAKE(stage.client));
    join_threads(callers, CALLERS);
    for (unsigned i = 0; i < CALLERS; i++) {
        CHECK_INT(callers[i].reason, COFFER_REASON_CLIENT_CLOSED);
    }
    CHECK_INT(stage.ends->over, 52);
    for (unsigned i = 0; i < 52; i++) {
        CHECK_INT(reason_of(&stage, i), COFFER_REASON_CLIENT_CLOSED);
    }
}

static void results_survive_the_others_and_their_client(void)
{
    STAGE(PATIENT, .held = 1);
    start_many(&stage, "slack", 1);
    wait_for_requests(&stage, 1);
    start_many(&stage, "slack", 20);
    open_door(stage.play);
    wait_for_ends(stage.ends, 21);
    coffer_client_close(TAKE(stage.client));
    for (unsigned i = 0; i < 20; i++) {
        coffer_result_free(TAKE(stage.ends->each[i].result));
    }
    CHECK(is_own(&stage.ends->each[20], "slack", 20));
}

/* Calls that start further calls, until `left` is used up. */
struct chain {
    coffer_client *client;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned left;
    unsigned running;
    unsigned good;
};

static void go_on(coffer_result *result, coffer_error *error, void *context)
{
    struct chain *chain = context;
    const bool good = result != NULL && coffer_result_failed(result) == 0;
    coffer_result_free(result);
    coffer_error_free(error);
    (void) pthread_mutex_lock(&chain->lock);
    const bool again = chain->left > 0;
    chain->left -= again;
    chain->good += good;
    (void) pthread_mutex_unlock(&chain->lock);
    if (again) {
        coffer_request *request = request_of("slack", 1);
        if (coffer_resolve_start(chain->client, request, go_on, chain, NULL) != COFFER_OK) {
            abort();
        }
        coffer_request_free(request);
        return;
    }
    (void) pthread_mutex_lock(&chain->lock);
    chain->running--;
    (void) pthread_cond_broadcast(&chain->changed);
    (void) pthread_mutex_unlock(&chain->lock);
}

static void callbacks_may_start_calls(void)
{
    enum { AT_ONCE = 30, MORE = 2000 };
    struct chain chain = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .left = MORE, .running = AT_ONCE};
    STAGE("timeout=1h", .held = 0);
    chain.client = stage.client;
    for (unsigned i = 0; i < AT_ONCE; i++) {
        coffer_request *request = request_of("slack", i);
        CHECK_INT(coffer_resolve_start(stage.client, request, go_on, &chain, NULL), COFFER_OK);
        coffer_request_free(request);
    }
    (void) pthread_mutex_lock(&chain.lock);
    while (chain.running > 0) {
        (void) pthread_cond_wait(&chain.changed, &chain.lock);
    }
    (void) pthread_mutex_unlock(&chain.lock);
    CHECK_INT(chain.good, AT_ONCE + MORE);
    CHECK(scripted_server_requests(stage.server) < AT_ONCE + MORE);
}

static void count_end(coffer_result *result, coffer_error *error, void *context)
{
    (void) atomic_fetch_add((atomic_uint *) context, coffer_error_reason(error) == COFFER_REASON_CLIENT_CLOSED);
    coffer_result_free(result);
    coffer_error_free(error);
}

static void calls_over_the_limit_are_refused(void)
{
    atomic_uint closed = 0;
    coffer_error *error = NULL;
    coffer_client *client = scripted_client("ipc:///nonexistent/coffer.sock", PATIENT "connect_timeout=1h");
    coffer_request *request = request_of("slack", 1);
    for (unsigned i = 0; i < BATCH_CALLS_MAX; i++) {
        CHECK_INT(coffer_resolve_start(client, request, count_end, &closed, NULL), COFFER_OK);
    }
    const coffer_status status = coffer_resolve_start(client, request, count_end, &closed, &error);
    const coffer_reason reason = coffer_error_reason(error);
    coffer_error_free(error);
    coffer_request_free(request);
    CHECK_INT(status, COFFER_RESOURCE_EXHAUSTED);
    CHECK_INT(reason, COFFER_REASON_TOO_MANY_IN_FLIGHT);
    CHECK_INT(atomic_load(&closed), 0);
    coffer_client_close(client);
    CHECK_INT(atomic_load(&closed), BATCH_CALLS_MAX);
}

/* --- Against an oracle ---------------------------------------------------------------------------------------- */

enum { THREADS = 32, ROUNDS = 60 };

/* What a random request asks for, by which its answer is checked. */
struct question {
    unsigned items;
    unsigned environments[3];
    unsigned references[3];
    uint64_t salt;
};

static void name_of(char to[64], const char *kind, const struct question *asked, unsigned item, unsigned index)
{
    (void) snprintf(to, 64, "%s-%llx-%u-%u", kind, (unsigned long long) asked->salt, item, index);
}

static coffer_request *random_request(uint64_t *state, struct question *asked)
{
    char name[64];
    coffer_request *request = coffer_request_new();
    asked->items = 1 + (unsigned) (test_random(state) % 3);
    asked->salt = test_random(state);
    for (unsigned i = 0; i < asked->items; i++) {
        if (i > 0) {
            coffer_request_next_item(request);
        }
        asked->environments[i] = 1 + (unsigned) (test_random(state) % 3);
        asked->references[i] = 1 + (unsigned) (test_random(state) % 3);
        for (unsigned k = 0; k < asked->environments[i]; k++) {
            name_of(name, "e", asked, i, k);
            coffer_request_add_environment(request, name);
        }
        for (unsigned k = 0; k < asked->references[i]; k++) {
            name_of(name, "s", asked, i, k);
            coffer_request_add_reference(request, name, "KEY");
        }
    }
    return request;
}

static bool item_as_asked(const coffer_item *item, const struct question *asked, unsigned index,
                          unsigned environment)
{
    char environment_name[64];
    char name[64];
    name_of(environment_name, "e", asked, index, environment);
    bool right = coffer_item_index(item) == index && coffer_item_status(item) == COFFER_OK &&
                 coffer_item_value_count(item) == asked->references[index];
    for (unsigned k = 0; right && k < asked->references[index]; k++) {
        name_of(name, "s", asked, index, k);
        right = is_value_of(item, environment_name, name, "KEY");
    }
    return right;
}

static bool result_as_asked(const coffer_result *result, const struct question *asked)
{
    size_t at = 0;
    for (unsigned i = 0; i < asked->items; i++) {
        for (unsigned k = 0; k < asked->environments[i]; k++) {
            const coffer_item *item = coffer_result_item(result, at++);
            if (item == NULL || !item_as_asked(item, asked, i, k)) {
                return false;
            }
        }
    }
    return at == coffer_result_count(result);
}

struct player {
    coffer_client *client;
    pthread_t thread;
    uint64_t state;
    unsigned wrong;
};

/* Some calls have hardly any time: they end late or with the right values, never with others. */
static void *play_round(void *argument)
{
    struct player *player = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct question asked;
        coffer_result *result = NULL;
        coffer_error *error = NULL;
        coffer_request *request = random_request(&player->state, &asked);
        const bool hurried = test_random(&player->state) % 10 == 0;
        if (hurried) {
            coffer_request_set_timeout(request, 1 + (uint32_t) (test_random(&player->state) % 3));
        }
        const coffer_status status = coffer_resolve(player->client, request, &result, &error);
        /* A result that was put off may have been asked for again too late: then it has failed, and has no values. */
        const bool late = hurried && (status == COFFER_DEADLINE_EXCEEDED ||
                                      (status == COFFER_OK && coffer_result_failed(result) > 0));
        if (!late && (status != COFFER_OK || !result_as_asked(result, &asked))) {
            player->wrong++;
            fprintf(stderr, "%s: %s\n", coffer_status_name(status), coffer_error_message(error));
        }
        coffer_request_free(request);
        coffer_result_free(result);
        coffer_error_free(error);
    }
    return NULL;
}

static void put_off_sometimes(struct resolve_script *script, const Coffer__V1__ResolveRequest *asked,
                              unsigned number, Coffer__V1__ResolveResponse *response)
{
    uint64_t state = test_seed() + number;
    (void) script;
    if (asked->n_items > 4 && test_random(&state) % 4 == 0) {
        put_off(response->results[test_random(&state) % response->n_results],
                COFFER__V1__OUTCOME__OUTCOME_DEFERRED);
    }
}

static void many_threads_get_exactly_their_own_values_while_tokens_change(void)
{
    struct player players[THREADS];
    unsigned wrong = 0;
    uint64_t seed = test_seed();
    STAGE("timeout=10min", .script = {put_off_sometimes, NULL});
    start_many(&stage, "slack", 1);
    wait_for_ends(stage.ends, 1);
    for (unsigned i = 0; i < THREADS; i++) {
        players[i] = (struct player){.client = stage.client, .state = test_random(&seed)};
        CHECK_INT(pthread_create(&players[i].thread, NULL, play_round, &players[i]), 0);
    }
    for (unsigned i = 0; i < 50; i++) {
        set_token(&stage, i % 2 == 0 ? "first" : "second");
        nng_msleep(2);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void) pthread_join(players[i].thread, NULL);
        wrong += players[i].wrong;
    }
    CHECK_INT(wrong, 0);
    /* Each would have been a request, and each that was put off a second one. */
    CHECK(scripted_server_requests(stage.server) < THREADS * ROUNDS);
}

TEST_MAIN(TEST(calls_made_at_the_same_time_travel_in_one_request), TEST(threads_that_wait_travel_in_one_request),
          TEST(idle_client_waits_for_nothing), TEST(slow_answer_holds_the_next_request_up_for_a_while_only),
          TEST(switched_off_each_call_travels_by_itself), TEST(each_item_has_the_time_trace_and_run_of_its_call),
          TEST(calls_with_different_tokens_never_travel_together),
          TEST(request_refused_because_of_one_call_is_asked_one_by_one),
          TEST(request_that_costs_its_connection_again_and_again_is_asked_one_by_one),
          TEST(failure_that_concerns_all_is_told_to_all),
          TEST(bad_input_is_told_to_its_caller_before_anything_is_joined),
          TEST(what_a_server_could_refuse_or_is_large_travels_by_itself), TEST(time_of_one_call_ends_it_alone),
          TEST(time_of_one_call_ends_it_while_its_request_is_on_its_way),
          TEST(request_whose_calls_are_all_late_is_not_sent),
          TEST(odd_answer_is_invalid_for_those_whom_it_concerns), TEST(result_of_a_stranger_is_not_handed_out),
          TEST(deferred_and_pending_results_are_asked_for_again_by_themselves),
          TEST(request_has_at_most_a_thousand_items), TEST(request_has_at_most_ten_thousand_values),
          TEST(request_has_at_most_a_mebibyte), TEST(memory_that_is_used_up_fails_only_those_who_got_none),
          TEST(closing_ends_calls_that_are_gathered), TEST(results_survive_the_others_and_their_client),
          TEST(callbacks_may_start_calls), TEST(calls_over_the_limit_are_refused),
          TEST(many_threads_get_exactly_their_own_values_while_tokens_change))
