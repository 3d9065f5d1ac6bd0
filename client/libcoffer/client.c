#include "client/libcoffer/client.h"

#include <stdio.h>
#include <stdlib.h>

#include <coffer/version.h>

#include "client/libcoffer/address.h"
#include "client/libcoffer/failure.h"

const char *coffer_version(void)
{
    return COFFER_VERSION;
}

static const char *environment_variable(const char *name)
{
    return secure_getenv(name);
}

static cof_code open_credential(coffer_client *client, struct cof_error *err)
{
    const struct settings *settings = &client->settings;
    if (settings->token_file != NULL) {
        return credential_read(client->memory, settings->token_file, &client->credential, err);
    }
    if (settings->token != NULL) {
        return credential_new(client->memory, cof_slice_text(settings->token), &client->credential, err);
    }
    return COF_OK;
}

static bool needs_tls(const struct settings *settings)
{
    for (size_t i = 0; i < settings->address_count; i++) {
        if (address_is_tls(settings->addresses[i])) {
            return true;
        }
    }
    return false;
}

static cof_code open_tls(coffer_client *client, struct cof_error *err)
{
    const struct settings *settings = &client->settings;
    const struct cof_tls_options options = {
        .role = COF_TLS_CLIENT,
        .certificate = {settings->client_cert, "client_cert"},
        .key = {settings->client_key, "client_key"},
        .ca = {settings->cacert, "cacert"},
    };
    return needs_tls(settings) ? cof_tls_new(&options, &client->tls, err) : COF_OK;
}

static void name_user_agent(coffer_client *client)
{
    const char *application = client->settings.application_name;
    const bool named = application[0] != '\0';
    (void) snprintf(client->user_agent, sizeof client->user_agent, "libcoffer/%s%s%s%s", COFFER_VERSION,
                    named ? " (" : "", application, named ? ")" : "");
}

static cof_code open_client(const char *text, coffer_client *client, struct cof_error *err)
{
    TRY(settings_read(text, environment_variable, &client->settings, err));
    TRY(memory_new(client->settings.memory, &client->memory, err));
    TRY(open_credential(client, err));
    TRY(open_tls(client, err));
    name_user_agent(client);
    const struct channel_options options = {
        .addresses = client->settings.addresses,
        .address_count = client->settings.address_count,
        .tls = client->tls,
        .tls_server_name = client->settings.tls_server_name,
        .connect_timeout_ms = client->settings.connect_timeout_ms,
        .clock = &cof_system_clock,
    };
    TRY(channel_new(&options, &client->channel, err));
    return client->settings.coalesce ? batches_new(client, &client->batches, err) : COF_OK;
}

coffer_status client_missing(const char *what, coffer_error **ret_error)
{
    struct cof_error err;
    cof_ignore(cof_fail(&err, COF_REASON_FIELD_REQUIRED, "%s is NULL; give it", what));
    return failure_tell(&err, NULL, ret_error);
}

coffer_status coffer_client_open(const char *settings, coffer_client **ret_client, coffer_error **ret_error)
{
    struct cof_error err;
    if (ret_client == NULL) {
        return client_missing("the place for the client", ret_error);
    }
    *ret_client = NULL;
    cof_error_clear(&err);
    coffer_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        cof_ignore(memory_exhausted(&err));
        return failure_tell(&err, NULL, ret_error);
    }
    (void) pthread_mutex_init(&client->lock, NULL);
    if (open_client(settings, client, &err) != COF_OK) {
        coffer_client_close(client);
        return failure_tell(&err, NULL, ret_error);
    }
    *ret_client = client;
    return failure_tell(&err, NULL, ret_error);
}

void coffer_client_close(coffer_client *client)
{
    if (client == NULL) {
        return;
    }
    /* Calls that travel together use the channel, and whoever waits for them may do so a little longer. */
    batches_end(client->batches);
    channel_end(client->channel);
    batches_free(client->batches);
    channel_free(client->channel);
    cof_tls_drop(client->tls);
    credential_drop(client->credential);
    memory_drop(client->memory);
    settings_done(&client->settings);
    (void) pthread_mutex_destroy(&client->lock);
    free(client);
}

static void replace_credential(coffer_client *client, struct credential *credential)
{
    (void) pthread_mutex_lock(&client->lock);
    struct credential *former = client->credential;
    client->credential = credential;
    (void) pthread_mutex_unlock(&client->lock);
    credential_drop(former);
}

coffer_status coffer_client_set_token(coffer_client *client, const void *token, size_t length,
                                      coffer_error **ret_error)
{
    struct cof_error err;
    struct credential *credential = NULL;
    if (client == NULL || (token == NULL && length > 0)) {
        return client_missing(client == NULL ? "the client" : "the token", ret_error);
    }
    cof_error_clear(&err);
    if (length == 0 || credential_new(client->memory, cof_slice_of(token, length), &credential, &err) == COF_OK) {
        replace_credential(client, credential);
    }
    return failure_tell(&err, NULL, ret_error);
}

bool coffer_client_memory_locked(const coffer_client *client)
{
    return client != NULL && memory_locked(client->memory);
}

struct credential *client_credential(coffer_client *client)
{
    (void) pthread_mutex_lock(&client->lock);
    struct credential *credential = credential_hold(client->credential);
    (void) pthread_mutex_unlock(&client->lock);
    return credential;
}

static void add_text(struct cof_metadata *metadata, const char *key, const char *value)
{
    struct cof_metadata_entry *entry = &metadata->entries[metadata->count++];
    entry->key = cof_slice_text(key);
    entry->value = cof_slice_text(value);
}

cof_code client_call_new(coffer_client *client, const struct client_call *call, struct call **ret_call,
                         struct cof_error *err)
{
    struct cof_metadata metadata = {0};
    if (call->metadata != NULL) {
        metadata = *call->metadata;
    }
    add_text(&metadata, "user-agent", client->user_agent);
    if (call->traceparent != NULL && call->traceparent[0] != '\0') {
        add_text(&metadata, "traceparent", call->traceparent);
    }
    const struct call_request request = {
        .method = cof_slice_text(call->method),
        .payload = call->payload,
        .metadata = &metadata,
        .credential = call->credential,
        .request_id = call->request_id,
        .timeout_ms = call->timeout_ms == 0 ? client->settings.timeout_ms : call->timeout_ms,
        .patience_ms = call->patience_ms,
        .delay_ms = call->delay_ms,
    };
    return call_new(client->channel, &request, ret_call, err);
}

cof_code client_call_new_now(coffer_client *client, const struct client_call *call, struct call **ret_call,
                             struct cof_error *err)
{
    struct client_call with_token = *call;
    with_token.credential = client_credential(client);
    const cof_code code = client_call_new(client, &with_token, ret_call, err);
    credential_drop(with_token.credential);
    return code;
}
