#include "client/bench/remote.h"

#include <stdio.h>
#include <string.h>

#include "common/frame.h"
#include "common/token.h"

#define USER_AGENT "libcoffer/0.1.0 coffer-bench"

static void add_setting(char *settings, size_t size, const char *key, const char *value)
{
    size_t used = strlen(settings);
    used += (size_t) snprintf(settings + used, size - used, "%s='", key);
    for (; *value != '\0' && used + 4 < size; value++) {
        if (*value == '\'' || *value == '\\') {
            settings[used++] = '\\';
        }
        settings[used++] = *value;
    }
    (void) snprintf(settings + used, size - used, "' ");
}

static void complain(const char *what, coffer_error *error)
{
    (void) fprintf(stderr, "coffer-bench: %s: %s\n", what, coffer_error_message(error));
    coffer_error_free(error);
}

coffer_client *remote_open(const char *address, const char *token_file, uint32_t timeout_ms)
{
    char settings[2048];
    coffer_client *client = NULL;
    coffer_error *error = NULL;
    (void) snprintf(settings, sizeof settings, "application_name=coffer-bench timeout=%ums ",
                    (unsigned) timeout_ms);
    if (address != NULL) {
        add_setting(settings, sizeof settings, "addr", address);
    }
    if (token_file != NULL) {
        add_setting(settings, sizeof settings, "token_file", token_file);
    }
    if (coffer_client_open(settings, &client, &error) != COFFER_OK) {
        complain("the client cannot be made", error);
        return NULL;
    }
    return client;
}

static void done(coffer_reply *reply, coffer_error *error, void *context)
{
    struct load_slot *slot = context;
    const char *reason = NULL;
    if (error != NULL) {
        reason = coffer_reason_name(coffer_error_reason(error));
    } else if (coffer_reply_payload(reply).length < slot->expected) {
        reason = "ANSWER_INCOMPLETE";
    }
    coffer_reply_free(reply);
    coffer_error_free(error);
    load_done(slot, reason);
}

void remote_begin(coffer_client *client, const struct remote_call *call, struct load_slot *slot)
{
    coffer_error *error = NULL;
    slot->expected = call->least;
    if (coffer_call_start(client, call->method, call->payload.data, call->payload.len, NULL, done, slot, &error) !=
        COFFER_OK) {
        const char *reason = coffer_reason_name(coffer_error_reason(error));
        coffer_error_free(error);
        load_done(slot, reason);
    }
}

coffer_reply *remote_wait(coffer_client *client, const struct remote_call *call)
{
    coffer_reply *reply = NULL;
    coffer_error *error = NULL;
    if (coffer_call(client, call->method, call->payload.data, call->payload.len, NULL, &reply, &error) !=
        COFFER_OK) {
        complain(call->method, error);
        return NULL;
    }
    return reply;
}

size_t remote_request_size(const struct remote_call *call, bool token)
{
    static const uint8_t id[COF_FRAME_REQUEST_ID];
    static const char bearer[sizeof "Bearer " + COF_TOKEN_TEXT];
    struct cof_request_frame frame = {
        .revision = COF_FRAME_REVISION,
        .timeout_ms = 30000,
        .method = cof_slice_text(call->method),
        .payload = call->payload,
        .request_id = cof_slice_of(id, sizeof id),
        .metadata = {.count = token ? 2 : 1},
    };
    frame.metadata.entries[0] =
        (struct cof_metadata_entry){cof_slice_text("user-agent"), cof_slice_text(USER_AGENT)};
    frame.metadata.entries[1] =
        (struct cof_metadata_entry){cof_slice_text("authorization"), cof_slice_of(bearer, sizeof bearer - 2)};
    return cof_request_frame_size(&frame);
}

size_t remote_reply_size(size_t payload)
{
    static const uint8_t id[COF_FRAME_REQUEST_ID];
    const struct cof_response_frame frame = {
        .revision = COF_FRAME_REVISION,
        .server_time_us = 200,
        .request_id = cof_slice_of(id, sizeof id),
        .payload = cof_slice_of(NULL, payload),
    };
    return cof_response_frame_size(&frame);
}
