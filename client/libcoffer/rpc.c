#include <stdlib.h>
#include <string.h>

#include <coffer/rpc.h>

#include "client/libcoffer/client.h"
#include "client/libcoffer/failure.h"

/* Room is kept for the entries of the library itself. */
enum { OWN_METADATA = 4 };

struct coffer_reply {
    struct memory *memory;
    struct cof_arena arena;
    struct cof_response_frame frame; /* borrows from the arena */
    char request_id[COF_UUID_TEXT];
    uint32_t attempts;
};

/* A call whose end is told to a callback. */
struct started {
    struct memory *memory;
    coffer_call_done done;
    void *context;
};

static void reply_cleanup(coffer_reply **reply)
{
    coffer_reply_free(*reply);
}

static cof_code copy_reply(const struct call *call, coffer_reply *reply, struct cof_error *err)
{
    const struct cof_slice bytes = call_reply_bytes(call);
    uint8_t *copy = cof_arena_alloc(&reply->arena, bytes.len);
    if (copy == NULL) {
        return memory_exhausted(err);
    }
    memcpy(copy, bytes.data, bytes.len);
    return cof_response_frame_decode(cof_slice_of(copy, bytes.len), &reply->frame, err);
}

/* Moves the answer of a call that succeeded into locked memory. */
static cof_code reply_new(const struct call *call, struct memory *memory, coffer_reply **ret_reply,
                          struct cof_error *err)
{
    AUTO(reply_cleanup) coffer_reply *reply = calloc(1, sizeof *reply);
    if (reply == NULL) {
        return memory_exhausted(err);
    }
    reply->memory = memory_hold(memory);
    cof_arena_init(&reply->arena, memory_pool(memory), SIZE_MAX);
    TRY(copy_reply(call, reply, err));
    cof_uuid_format(call_request_id(call), reply->request_id);
    reply->attempts = call_attempts(call);
    *ret_reply = TAKE(reply);
    return COF_OK;
}

static cof_code metadata_of(const coffer_call_options *options, struct cof_metadata *metadata,
                            struct cof_error *err)
{
    if (options->metadata_count > COF_FRAME_METADATA_MAX - OWN_METADATA) {
        return cof_fail_field(err, COF_REASON_METADATA_INVALID, "metadata",
                              "%zu metadata entries, more than %d; %s", options->metadata_count,
                              COF_FRAME_METADATA_MAX - OWN_METADATA,
                              cof_reason_next_step(COF_REASON_METADATA_INVALID));
    }
    for (size_t i = 0; i < options->metadata_count; i++) {
        const coffer_metadata *given = &options->metadata[i];
        struct cof_metadata_entry *entry = &metadata->entries[metadata->count++];
        entry->key = cof_slice_text(given->key);
        entry->value = cof_slice_of(given->value, given->length);
    }
    return COF_OK;
}

static cof_code request_id_of(const coffer_call_options *options, struct cof_uuid *id, struct cof_error *err)
{
    memcpy(id->bytes, options->request_id, sizeof id->bytes);
    if (cof_uuid_version(id) != 7) {
        return cof_fail_field(err, COF_REASON_REQUEST_ID_INVALID, "request_id", "%s; %s",
                              cof_reason_meaning(COF_REASON_REQUEST_ID_INVALID),
                              cof_reason_next_step(COF_REASON_REQUEST_ID_INVALID));
    }
    return COF_OK;
}

static cof_code apply_options(const coffer_call_options *options, struct client_call *plan,
                              struct cof_metadata *metadata, struct cof_uuid *request_id, struct cof_error *err)
{
    TRY(metadata_of(options, metadata, err));
    plan->metadata = metadata;
    plan->timeout_ms = options->timeout_ms;
    plan->traceparent = options->traceparent;
    if (options->request_id != NULL) {
        TRY(request_id_of(options, request_id, err));
        plan->request_id = request_id;
    }
    if (plan->timeout_ms > SETTINGS_TIMEOUT_MAX_MS) {
        return cof_fail_field(err, COF_REASON_FIELD_INVALID, "timeout_ms", "the time for a call is at most %d ms",
                              SETTINGS_TIMEOUT_MAX_MS);
    }
    return COF_OK;
}

/* A program that was compiled with older headers has a shorter struct; what it does not have is not given. */
static cof_code new_call(coffer_client *client, struct client_call *plan, const coffer_call_options *given,
                         struct call **ret_call, struct cof_error *err)
{
    coffer_call_options options = COFFER_CALL_OPTIONS_INIT;
    struct cof_metadata metadata = {0};
    struct cof_uuid request_id;
    if (given != NULL) {
        memcpy(&options, given, given->struct_size < sizeof options ? given->struct_size : sizeof options);
    }
    cof_code code = apply_options(&options, plan, &metadata, &request_id, err);
    if (code == COF_OK) {
        code = client_call_new_now(client, plan, ret_call, err);
    }
    /* What the plan borrows ends with this function. */
    plan->metadata = NULL;
    plan->request_id = NULL;
    return code;
}

static const char *missing(const coffer_client *client, const struct client_call *plan, const void *result)
{
    if (client == NULL) {
        return "the client";
    }
    if (plan->method == NULL) {
        return "the method";
    }
    if (plan->payload.data == NULL && plan->payload.len > 0) {
        return "the request";
    }
    return result == NULL ? "the place for the answer" : NULL;
}

coffer_status coffer_call(coffer_client *client, const char *method, const void *request, size_t length,
                          const coffer_call_options *options, coffer_reply **ret_reply, coffer_error **ret_error)
{
    struct client_call plan = {.method = method, .payload = cof_slice_of(request, length)};
    struct cof_error err;
    struct call *call = NULL;
    const char *what = missing(client, &plan, ret_reply);
    if (what != NULL) {
        return client_missing(what, ret_error);
    }
    *ret_reply = NULL;
    cof_error_clear(&err);
    if (new_call(client, &plan, options, &call, &err) != COF_OK) {
        return failure_tell(&err, NULL, ret_error);
    }
    const struct cof_uuid id = *call_request_id(call);
    if (call_run(call) != COF_OK) {
        err = *call_error(call);
    } else {
        cof_ignore(reply_new(call, client->memory, ret_reply, &err));
    }
    call_free(call);
    return failure_tell(&err, &id, ret_error);
}

static void tell(struct call *call, void *context)
{
    const struct started started = *(struct started *) context;
    struct cof_error err = *call_error(call);
    coffer_reply *reply = NULL;
    free(context);
    if (err.code == COF_OK) {
        cof_ignore(reply_new(call, started.memory, &reply, &err));
    }
    started.done(reply, reply == NULL ? failure_new(&err, call_request_id(call)) : NULL, started.context);
    call_free(call);
}

coffer_status coffer_call_start(coffer_client *client, const char *method, const void *request, size_t length,
                                const coffer_call_options *options, coffer_call_done done, void *context,
                                coffer_error **ret_error)
{
    struct client_call plan = {.method = method, .payload = cof_slice_of(request, length)};
    struct cof_error err;
    struct call *call = NULL;
    const char *what = done == NULL ? "the callback" : missing(client, &plan, "");
    if (what != NULL) {
        return client_missing(what, ret_error);
    }
    struct started *started = malloc(sizeof *started);
    cof_error_clear(&err);
    if (started == NULL) {
        cof_ignore(memory_exhausted(&err));
        return failure_tell(&err, NULL, ret_error);
    }
    *started = (struct started){client->memory, done, context};
    if (new_call(client, &plan, options, &call, &err) != COF_OK) {
        free(started);
        return failure_tell(&err, NULL, ret_error);
    }
    call_start(call, tell, started);
    return failure_tell(&err, NULL, ret_error);
}

coffer_bytes coffer_reply_payload(const coffer_reply *reply)
{
    return (coffer_bytes){reply->frame.payload.data, reply->frame.payload.len};
}

const char *coffer_reply_request_id(const coffer_reply *reply)
{
    return reply->request_id;
}

uint32_t coffer_reply_server_time_us(const coffer_reply *reply)
{
    return reply->frame.server_time_us;
}

uint32_t coffer_reply_attempts(const coffer_reply *reply)
{
    return reply->attempts;
}

coffer_bytes coffer_reply_metadata(const coffer_reply *reply, const char *key)
{
    struct cof_slice value = cof_slice_of(NULL, 0);
    (void) cof_metadata_find(&reply->frame.metadata, key, &value);
    return (coffer_bytes){value.data, value.len};
}

void coffer_reply_free(coffer_reply *reply)
{
    if (reply == NULL) {
        return;
    }
    cof_arena_reset(&reply->arena);
    memory_drop(reply->memory);
    free(reply);
}
