#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include <coffer/coffer.h>

#include "client/libcoffer/batch.h"
#include "client/libcoffer/client.h"
#include "client/libcoffer/failure.h"
#include "client/libcoffer/request.h"
#include "client/libcoffer/result.h"
#include "client/libcoffer/retry.h"

/*
 * A resolve: one call, alone or in a batch, and further ones for what was not in the answers. The next call is made
 * before the former one is freed, so that the client, which waits for its calls when it is closed, outlives the whole.
 */
struct resolving {
    coffer_client *client;
    struct packed_request request;
    struct batch_call batched;
    uint32_t timeout_ms;
    int64_t deadline_us;
    char traceparent[REQUEST_TRACEPARENT_MAX + 1];
    coffer_result *result;
    bool *marked; /* what the call that runs asks for; NULL: for all */
    struct result_missing missing;
    uint32_t polls;
    struct cof_uuid request_id;
    bool called;
    struct cof_error err;
    coffer_resolve_done done;
    void *context;
};

static void resolving_free(struct resolving *resolving)
{
    if (resolving != NULL) {
        packed_request_done(&resolving->request);
        coffer_result_free(resolving->result);
        free(resolving->marked);
        free(resolving);
    }
}

static void resolving_free_cleanup(struct resolving **resolving)
{
    resolving_free(*resolving);
}

static cof_code resolving_new(coffer_client *client, const coffer_request *request,
                              struct resolving **ret_resolving, struct cof_error *err)
{
    AUTO(resolving_free_cleanup) struct resolving *resolving = calloc(1, sizeof *resolving);
    if (resolving == NULL) {
        return memory_exhausted(err);
    }
    resolving->client = client;
    resolving->timeout_ms = request->timeout_ms == 0 ? client->settings.timeout_ms : request->timeout_ms;
    resolving->deadline_us = cof_clock_monotonic(&cof_system_clock) + (int64_t) resolving->timeout_ms * 1000;
    memcpy(resolving->traceparent, request->traceparent, sizeof resolving->traceparent);
    TRY(request_pack(request, client->settings.workspace, client->settings.environment, &resolving->request, err));
    TRY(result_new(client->memory, &resolving->result, err));
    *ret_resolving = TAKE(resolving);
    return COF_OK;
}

static cof_code make_call(struct resolving *resolving, const struct packed_request *request, uint32_t timeout_ms,
                          uint32_t delay_ms, struct call **ret_call)
{
    const struct client_call plan = {
        .method = RESOLVE_METHOD,
        .payload = cof_slice_of(request->bytes, request->len),
        .timeout_ms = timeout_ms,
        .delay_ms = delay_ms,
        .traceparent = resolving->traceparent,
    };
    TRY(client_call_new_now(resolving->client, &plan, ret_call, &resolving->err));
    resolving->request_id = *call_request_id(*ret_call);
    resolving->called = true;
    return COF_OK;
}

static cof_code late(struct resolving *resolving)
{
    return cof_fail(&resolving->err, COF_REASON_DEADLINE_EXCEEDED, "%s; give the request a longer timeout",
                    cof_reason_meaning(COF_REASON_DEADLINE_EXCEEDED));
}

static uint32_t left_ms(const struct resolving *resolving)
{
    const int64_t left_us = resolving->deadline_us - cof_clock_monotonic(&cof_system_clock);
    return left_us < 1000 ? 0 : (uint32_t) (left_us / 1000);
}

/* A call in the time that is left. */
static cof_code make_further_call(struct resolving *resolving, const struct packed_request *request,
                                  uint32_t delay_ms, struct call **ret_call)
{
    const uint32_t left = left_ms(resolving);
    return left == 0 ? late(resolving) : make_call(resolving, request, left, delay_ms, ret_call);
}

/* Nothing is waited for as long as there is something that only had no room. */
static uint32_t pause_ms(struct resolving *resolving)
{
    const struct result_missing *missing = &resolving->missing;
    if (missing->count == 0 || missing->pending < missing->count ||
        resolving->request.pending != COFFER_PENDING_POLL) {
        return 0;
    }
    const uint64_t random = retry_random(resolving->request_id.bytes, resolving->polls);
    return retry_delay_ms(resolving->polls++, missing->advice_ms, random);
}

/* A call for the results that are missing; none if there are none, or if they would come too late. */
static cof_code ask_again(struct resolving *resolving, struct call **ret_call)
{
    AUTO(packed_request_done) struct packed_request part = {0};
    const uint32_t pause = pause_ms(resolving);
    if (resolving->missing.count == 0 || (pause > 0 && pause >= left_ms(resolving))) {
        return COF_OK;
    }
    TRY(request_pack_part(&resolving->request, resolving->marked, &part, &resolving->err));
    return make_further_call(resolving, &part, pause, ret_call);
}

/*
 * Where calls travel with those of others, PENDING comes to those who did not ask for it: nobody waits for a stranger
 * (batch.h). They are asked for by themselves, and then the server waits.
 */
static cof_code mark_missing(struct resolving *resolving)
{
    resolving->marked = calloc(resolving->result->count, sizeof *resolving->marked);
    if (resolving->marked == NULL) {
        return memory_exhausted(&resolving->err);
    }
    resolving->missing = result_mark_missing(resolving->result, resolving->request.pending != COFFER_PENDING_RETURN,
                                             resolving->marked);
    return COF_OK;
}

static cof_code take_first(struct resolving *resolving, struct cof_slice payload)
{
    TRY(result_take(resolving->result, payload, &resolving->request, &resolving->err));
    return resolving->request.validate_only ? COF_OK : mark_missing(resolving);
}

/* Each further answer must bring something, unless something is waited for; otherwise it would be asked for ever. */
static cof_code take_further(struct resolving *resolving, struct cof_slice payload)
{
    const bool polls = resolving->request.pending == COFFER_PENDING_POLL;
    const size_t before = resolving->missing.count;
    TRY(result_replace(resolving->result, payload, &resolving->request, resolving->marked, before,
                       &resolving->err));
    resolving->missing = result_mark_missing(resolving->result, polls, resolving->marked);
    if (resolving->missing.count == before && resolving->missing.pending == 0) {
        return cof_fail(&resolving->err, COF_REASON_ANSWER_TOO_LARGE, "%s; %s",
                        cof_reason_meaning(COF_REASON_ANSWER_TOO_LARGE),
                        cof_reason_next_step(COF_REASON_ANSWER_TOO_LARGE));
    }
    return COF_OK;
}

/* Takes the answer of a call that is over and makes the next call, if one is needed. */
static cof_code proceed(struct resolving *resolving, const struct call *call, struct call **ret_next)
{
    if (call_error(call)->code != COF_OK) {
        resolving->err = *call_error(call);
        return resolving->err.code;
    }
    if (resolving->marked == NULL) {
        TRY(take_first(resolving, call_reply(call)->payload));
    } else {
        TRY(take_further(resolving, call_reply(call)->payload));
    }
    return ask_again(resolving, ret_next);
}

static cof_code take_parts(struct resolving *resolving, struct call **ret_next)
{
    const struct result_parts parts = batch_parts(&resolving->batched);
    TRY(result_take_parts(resolving->result, &parts, &resolving->request, &resolving->err));
    TRY(mark_missing(resolving));
    return ask_again(resolving, ret_next);
}

/* The same after the request in which the resolve travelled with others. */
static cof_code proceed_from_batch(struct resolving *resolving, struct call **ret_next)
{
    resolving->called = batch_request_id(&resolving->batched, &resolving->request_id);
    switch (resolving->batched.verdict) {
    case BATCH_ANSWERED:
        return take_parts(resolving, ret_next);
    case BATCH_ALONE:
        return make_further_call(resolving, &resolving->request, 0, ret_next);
    case BATCH_FAILED:
        resolving->err = *batch_error(&resolving->batched);
        return resolving->err.code;
    case BATCH_LATE:
    case BATCH_ON_ITS_WAY:
        break;
    }
    return late(resolving);
}

static bool may_join(const struct resolving *resolving)
{
    return resolving->client->batches != NULL && batch_takes(&resolving->request, resolving->traceparent);
}

static cof_code join(struct resolving *resolving, void (*ended)(struct batch_call *call))
{
    resolving->batched = (struct batch_call){.request = &resolving->request,
                                             .traceparent = resolving->traceparent,
                                             .deadline_us = resolving->deadline_us,
                                             .ended = ended};
    return batch_join(resolving->client->batches, &resolving->batched, &resolving->err);
}

static cof_code finish_result(struct resolving *resolving)
{
    struct cof_error cause = resolving->err;
    cof_error_clear(&resolving->err);
    TRY(result_finish(resolving->result, &resolving->request, &resolving->err));
    if (cause.code != COF_OK && resolving->marked != NULL) {
        result_fail_marked(resolving->result, resolving->marked, &cause);
    }
    cof_uuid_format(&resolving->request_id, resolving->result->request_id);
    return COF_OK;
}

/* The end: what was resolved is handed out even if asking for the rest failed. NULL: `err` says why. */
static coffer_result *end(struct resolving *resolving)
{
    if (resolving->err.code != COF_OK && resolving->marked == NULL) {
        return NULL;
    }
    return finish_result(resolving) == COF_OK ? TAKE(resolving->result) : NULL;
}

static const struct cof_uuid *request_id(const struct resolving *resolving)
{
    return resolving->called ? &resolving->request_id : NULL;
}

/* The first call, which may be over already if it travelled with others. NULL: there is none to run. */
static cof_code begin(struct resolving *resolving, struct call **ret_call)
{
    if (!may_join(resolving)) {
        return make_call(resolving, &resolving->request, resolving->timeout_ms, 0, ret_call);
    }
    TRY(join(resolving, NULL));
    batch_wait(&resolving->batched);
    const cof_code code = proceed_from_batch(resolving, ret_call);
    batch_leave(&resolving->batched);
    return code;
}

static void run(struct resolving *resolving)
{
    AUTO(call_free_cleanup) struct call *call = NULL;
    cof_ignore(begin(resolving, &call));
    while (call != NULL) {
        struct call *next = NULL;
        cof_ignore(call_run(call));
        cof_ignore(proceed(resolving, call, &next));
        call_free(call);
        call = next;
    }
}

static coffer_status resolve(coffer_client *client, const coffer_request *request, coffer_result **ret_result,
                             coffer_error **ret_error)
{
    struct cof_error err;
    AUTO(resolving_free_cleanup) struct resolving *resolving = NULL;
    cof_error_clear(&err);
    if (resolving_new(client, request, &resolving, &err) != COF_OK) {
        return failure_tell(&err, NULL, ret_error);
    }
    assert(resolving != NULL);
    run(resolving);
    *ret_result = end(resolving);
    return failure_tell(&resolving->err, request_id(resolving), ret_error);
}

static const char *missing(const coffer_client *client, const coffer_request *request)
{
    if (client == NULL) {
        return "the client";
    }
    return request == NULL ? "the request" : NULL;
}

coffer_status coffer_resolve(coffer_client *client, const coffer_request *request, coffer_result **ret_result,
                             coffer_error **ret_error)
{
    const char *what = ret_result == NULL ? "the place for the result" : missing(client, request);
    if (what != NULL) {
        return client_missing(what, ret_error);
    }
    *ret_result = NULL;
    return resolve(client, request, ret_result, ret_error);
}

static void tell(struct resolving *resolving)
{
    coffer_result *result = end(resolving);
    coffer_error *error = result == NULL ? failure_new(&resolving->err, request_id(resolving)) : NULL;
    const coffer_resolve_done done = resolving->done;
    void *context = resolving->context;
    resolving_free(resolving);
    done(result, error, context);
}

/* Runs at the end of each call; the last one calls back and is freed after that, so that the client waits for it.
 */
static void on_over(struct call *call, void *context)
{
    struct resolving *resolving = context;
    struct call *next = NULL;
    cof_ignore(proceed(resolving, call, &next));
    if (next != NULL) {
        call_free(call);
        call_start(next, on_over, resolving);
        return;
    }
    tell(resolving);
    call_free(call);
}

/* The same at the end of the request in which the resolve travelled; the batch is counted until this returns. */
static void on_batch_over(struct batch_call *batched)
{
    struct resolving *resolving =
        (struct resolving *) (void *) ((char *) batched - offsetof(struct resolving, batched));
    struct call *next = NULL;
    cof_ignore(proceed_from_batch(resolving, &next));
    batch_leave(batched);
    if (next != NULL) {
        call_start(next, on_over, resolving);
        return;
    }
    tell(resolving);
}

static cof_code start(struct resolving *resolving)
{
    struct call *call = NULL;
    if (may_join(resolving)) {
        return join(resolving, on_batch_over);
    }
    TRY(make_call(resolving, &resolving->request, resolving->timeout_ms, 0, &call));
    call_start(call, on_over, resolving);
    return COF_OK;
}

coffer_status coffer_resolve_start(coffer_client *client, const coffer_request *request, coffer_resolve_done done,
                                   void *context, coffer_error **ret_error)
{
    const char *what = done == NULL ? "the callback" : missing(client, request);
    struct cof_error err;
    struct resolving *resolving = NULL;
    if (what != NULL) {
        return client_missing(what, ret_error);
    }
    cof_error_clear(&err);
    if (resolving_new(client, request, &resolving, &err) != COF_OK) {
        return failure_tell(&err, NULL, ret_error);
    }
    assert(resolving != NULL);
    resolving->done = done;
    resolving->context = context;
    /* Once it has begun it belongs to its end. */
    if (start(resolving) != COF_OK) {
        const coffer_status status = failure_tell(&resolving->err, NULL, ret_error);
        resolving_free(resolving);
        return status;
    }
    return failure_tell(&err, NULL, ret_error);
}
