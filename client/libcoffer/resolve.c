#include <assert.h>
#include <stdlib.h>

#include <coffer/coffer.h>

#include "client/libcoffer/client.h"
#include "client/libcoffer/failure.h"
#include "client/libcoffer/request.h"
#include "client/libcoffer/result.h"

#define METHOD "coffer.v1.ResolveService/Resolve"

/*
 * A resolve: one call, and further ones for what had no room in the answers. The next call is made before the
 * former one is freed, so that the client, which waits for its calls when it is closed, outlives the whole.
 */
struct resolving {
    coffer_client *client;
    struct packed_request request;
    uint32_t timeout_ms;
    int64_t deadline_us;
    char traceparent[REQUEST_TRACEPARENT_MAX + 1];
    coffer_result *result;
    bool *deferred; /* what the call that runs asks for; NULL: for all */
    size_t deferred_count;
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
        free(resolving->deferred);
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
                          struct call **ret_call)
{
    const struct client_call plan = {
        .method = METHOD,
        .payload = cof_slice_of(request->bytes, request->len),
        .timeout_ms = timeout_ms,
        .traceparent = resolving->traceparent,
    };
    TRY(client_call_new(resolving->client, &plan, ret_call, &resolving->err));
    resolving->request_id = *call_request_id(*ret_call);
    resolving->called = true;
    return COF_OK;
}

/* A call for the results that are deferred; none if there are none, or if no time is left. */
static cof_code ask_again(struct resolving *resolving, struct call **ret_call)
{
    AUTO(packed_request_done) struct packed_request part = {0};
    const int64_t left_us = resolving->deadline_us - cof_clock_monotonic(&cof_system_clock);
    if (resolving->deferred_count == 0) {
        return COF_OK;
    }
    if (left_us < 1000) {
        return cof_fail(&resolving->err, COF_REASON_DEADLINE_EXCEEDED, "%s; give the request a longer timeout",
                        cof_reason_meaning(COF_REASON_DEADLINE_EXCEEDED));
    }
    TRY(request_pack_part(&resolving->request, resolving->deferred, &part, &resolving->err));
    return make_call(resolving, &part, (uint32_t) (left_us / 1000), ret_call);
}

static cof_code take_first(struct resolving *resolving, struct cof_slice payload)
{
    const struct packed_request *request = &resolving->request;
    TRY(result_take(resolving->result, payload, request->validate_only ? 0 : request->pairs, &resolving->err));
    if (request->validate_only) {
        return COF_OK;
    }
    resolving->deferred = calloc(resolving->result->count, sizeof *resolving->deferred);
    if (resolving->deferred == NULL) {
        return memory_exhausted(&resolving->err);
    }
    resolving->deferred_count = result_mark_deferred(resolving->result, resolving->deferred);
    return COF_OK;
}

/* Each further answer must bring something; otherwise it would be asked for ever. */
static cof_code take_further(struct resolving *resolving, struct cof_slice payload)
{
    const size_t before = resolving->deferred_count;
    TRY(result_replace(resolving->result, payload, resolving->deferred, before, &resolving->err));
    resolving->deferred_count = result_mark_deferred(resolving->result, resolving->deferred);
    if (resolving->deferred_count == before) {
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
    if (resolving->deferred == NULL) {
        TRY(take_first(resolving, call_reply(call)->payload));
    } else {
        TRY(take_further(resolving, call_reply(call)->payload));
    }
    return ask_again(resolving, ret_next);
}

static cof_code finish_result(struct resolving *resolving)
{
    struct cof_error cause = resolving->err;
    cof_error_clear(&resolving->err);
    TRY(result_finish(resolving->result, &resolving->err));
    if (cause.code != COF_OK) {
        result_fail_deferred(resolving->result, &cause);
    }
    cof_uuid_format(&resolving->request_id, resolving->result->request_id);
    return COF_OK;
}

/* The end: what was resolved is handed out even if asking for the rest failed. NULL: `err` says why. */
static coffer_result *end(struct resolving *resolving)
{
    if (resolving->err.code != COF_OK && resolving->deferred == NULL) {
        return NULL;
    }
    return finish_result(resolving) == COF_OK ? TAKE(resolving->result) : NULL;
}

static const struct cof_uuid *request_id(const struct resolving *resolving)
{
    return resolving->called ? &resolving->request_id : NULL;
}

static coffer_status resolve(coffer_client *client, const coffer_request *request, coffer_result **ret_result,
                             coffer_error **ret_error)
{
    struct cof_error err;
    AUTO(resolving_free_cleanup) struct resolving *resolving = NULL;
    AUTO(call_free_cleanup) struct call *call = NULL;
    cof_error_clear(&err);
    if (resolving_new(client, request, &resolving, &err) != COF_OK) {
        return failure_tell(&err, NULL, ret_error);
    }
    assert(resolving != NULL);
    cof_ignore(make_call(resolving, &resolving->request, resolving->timeout_ms, &call));
    while (call != NULL) {
        struct call *next = NULL;
        cof_ignore(call_run(call));
        cof_ignore(proceed(resolving, call, &next));
        if (next == NULL) {
            break;
        }
        call_free(call);
        call = next;
    }
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
    coffer_result *result = end(resolving);
    coffer_error *error = result == NULL ? failure_new(&resolving->err, request_id(resolving)) : NULL;
    const coffer_resolve_done done = resolving->done;
    void *done_context = resolving->context;
    resolving_free(resolving);
    done(result, error, done_context);
    call_free(call);
}

coffer_status coffer_resolve_start(coffer_client *client, const coffer_request *request, coffer_resolve_done done,
                                   void *context, coffer_error **ret_error)
{
    const char *what = done == NULL ? "the callback" : missing(client, request);
    struct cof_error err;
    struct resolving *resolving = NULL;
    struct call *call = NULL;
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
    if (make_call(resolving, &resolving->request, resolving->timeout_ms, &call) != COF_OK) {
        const coffer_status status = failure_tell(&resolving->err, NULL, ret_error);
        resolving_free(resolving);
        return status;
    }
    call_start(call, on_over, resolving);
    return failure_tell(&err, NULL, ret_error);
}
