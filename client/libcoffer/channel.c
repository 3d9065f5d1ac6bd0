#include "client/libcoffer/channel.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/libcoffer/call_state.h"
#include "common/tls/session.h"

/* Wakes the calls that wait for a connection. Called with a lock of the endpoint, which comes before the channel's. */
static void on_connected(void *context)
{
    struct channel *channel = context;
    channel_lock(channel);
    for (size_t i = 0; i < channel->call_count; i++) {
        if (channel->calls[i]->state == CALL_WAITING) {
            nng_aio_cancel(channel->calls[i]->timer);
        }
    }
    channel_unlock(channel);
}

static cof_code add_endpoint(struct channel *channel, const char *address, struct cof_error *err)
{
    const struct endpoint_options options = {
        .address = address,
        .tls = channel->options.tls,
        .tls_server_name = channel->options.tls_server_name,
        .max_reply = CHANNEL_REPLY_MAX,
        .connected = on_connected,
        .context = channel,
    };
    TRY(endpoint_new(&options, &channel->endpoints[channel->endpoint_count], err));
    channel->endpoint_count++;
    return COF_OK;
}

static void close_cleanup(struct channel **channel)
{
    channel_end(*channel);
    channel_free(*channel);
}

static cof_code out_of_memory(struct cof_error *err)
{
    return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "the process has no memory left for a call");
}

/*
 * nng makes itself ready at its first use, and whether it is, it looks at without a lock: threads that open their first
 * clients at once must not meet there. If there is no memory now, whatever needs nng next finds out.
 */
static void start_nng(void)
{
    nng_aio *any = NULL;
    if (nng_aio_alloc(&any, NULL, NULL) == 0) {
        nng_aio_free(any);
    }
}

cof_code channel_new(const struct channel_options *options, struct channel **ret_channel, struct cof_error *err)
{
    static pthread_once_t started = PTHREAD_ONCE_INIT;
    AUTO(close_cleanup) struct channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL) {
        return out_of_memory(err);
    }
    (void) pthread_once(&started, start_nng);
    channel->options = *options;
    (void) pthread_mutex_init(&channel->lock, NULL);
    (void) pthread_cond_init(&channel->all_free, NULL);
    /* Each client begins at an address of its own choice, so that many of them spread over the servers. */
    atomic_init(&channel->preferred, cof_uuid_random().bytes[15] % (unsigned) options->address_count);
    for (size_t i = 0; i < options->address_count; i++) {
        TRY(add_endpoint(channel, options->addresses[i], err));
    }
    *ret_channel = TAKE(channel);
    return COF_OK;
}

static void free_call(struct call *call)
{
    nng_aio_free(call->timer);
    nng_aio_free(call->io);
    (void) pthread_cond_destroy(&call->over);
    free(call);
}

/* Calls that sleep are woken; what else runs ends because its endpoint is closed. */
static void end_calls(struct channel *channel)
{
    channel_lock(channel);
    channel->closing = true;
    for (size_t i = 0; i < channel->call_count; i++) {
        nng_aio_cancel(channel->calls[i]->timer);
    }
    channel_unlock(channel);
    for (size_t i = 0; i < channel->endpoint_count; i++) {
        endpoint_close(channel->endpoints[i]);
    }
}

void channel_end(struct channel *channel)
{
    if (channel == NULL) {
        return;
    }
    end_calls(channel);
    channel_lock(channel);
    while (channel->busy > 0) {
        (void) pthread_cond_wait(&channel->all_free, &channel->lock);
    }
    channel_unlock(channel);
}

void channel_free(struct channel *channel)
{
    if (channel == NULL) {
        return;
    }
    for (size_t i = 0; i < channel->call_count; i++) {
        free_call(channel->calls[i]);
    }
    for (size_t i = 0; i < channel->endpoint_count; i++) {
        endpoint_free(channel->endpoints[i]);
    }
    (void) pthread_cond_destroy(&channel->all_free);
    (void) pthread_mutex_destroy(&channel->lock);
    free(channel);
}

static struct call *make_call(struct channel *channel)
{
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return NULL;
    }
    (void) pthread_cond_init(&call->over, NULL);
    call->channel = channel;
    if (nng_aio_alloc(&call->io, call_on_event, call) != 0 ||
        nng_aio_alloc(&call->timer, call_on_event, call) != 0) {
        free_call(call);
        return NULL;
    }
    channel->calls[channel->call_count++] = call;
    return call;
}

static cof_code take(struct channel *channel, struct call **ret_call, struct cof_error *err)
{
    if (channel->closing) {
        return cof_fail(err, COF_REASON_CLIENT_CLOSED, "the client is being closed; %s",
                        cof_reason_next_step(COF_REASON_CLIENT_CLOSED));
    }
    if (channel->busy == CHANNEL_CALLS_MAX) {
        return cof_fail(err, COF_REASON_TOO_MANY_IN_FLIGHT,
                        "%d calls are running on this client; wait until some have ended", CHANNEL_CALLS_MAX);
    }
    struct call *call = channel->idle_count > 0 ? channel->idle[--channel->idle_count] : make_call(channel);
    if (call == NULL) {
        return out_of_memory(err);
    }
    channel->busy++;
    *ret_call = call;
    return COF_OK;
}

cof_code channel_call_take(struct channel *channel, struct call **ret_call, struct cof_error *err)
{
    channel_lock(channel);
    const cof_code code = take(channel, ret_call, err);
    channel_unlock(channel);
    return code;
}

void channel_call_give(struct channel *channel, struct call *call)
{
    channel_lock(channel);
    channel->idle[channel->idle_count++] = call;
    channel->busy--;
    if (channel->busy == 0) {
        (void) pthread_cond_signal(&channel->all_free);
    }
    channel_unlock(channel);
}

struct endpoint *channel_choose(struct channel *channel, const struct endpoint *avoid)
{
    const size_t count = channel->endpoint_count;
    const unsigned preferred = atomic_load(&channel->preferred);
    struct endpoint *last_resort = NULL;
    for (size_t i = 0; i < count; i++) {
        const size_t index = (preferred + i) % count;
        struct endpoint *endpoint = channel->endpoints[index];
        if (!endpoint_connected(endpoint)) {
            continue;
        }
        if (endpoint != avoid) {
            atomic_store(&channel->preferred, (unsigned) index);
            return endpoint;
        }
        last_resort = endpoint;
    }
    return last_resort;
}

void channel_blame(struct channel *channel, const struct endpoint *endpoint)
{
    unsigned preferred = atomic_load(&channel->preferred);
    if (channel->endpoints[preferred] == endpoint) {
        const unsigned next = (preferred + 1) % (unsigned) channel->endpoint_count;
        (void) atomic_compare_exchange_strong(&channel->preferred, &preferred, next);
    }
}

size_t channel_connected(const struct channel *channel)
{
    size_t connected = 0;
    for (size_t i = 0; i < channel->endpoint_count; i++) {
        connected += endpoint_connected(channel->endpoints[i]);
    }
    return connected;
}

bool channel_closing(struct channel *channel)
{
    channel_lock(channel);
    const bool closing = channel->closing;
    channel_unlock(channel);
    return closing;
}

void channel_addresses(const struct channel *channel, char *to, size_t size)
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < channel->endpoint_count && used < size; i++) {
        const int written =
            snprintf(to + used, size - used, "%s%s", i == 0 ? "" : ", ", endpoint_address(channel->endpoints[i]));
        used += written < 0 ? 0 : (size_t) written;
    }
}

bool channel_problems(const struct channel *channel, char *to, size_t size)
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < channel->endpoint_count && used < size; i++) {
        char problem[COF_TLS_PROBLEM];
        endpoint_problem(channel->endpoints[i], problem, sizeof problem);
        if (problem[0] == '\0') {
            continue;
        }
        const int written = snprintf(to + used, size - used, "%s%s: %s", used == 0 ? "" : "; ",
                                     endpoint_address(channel->endpoints[i]), problem);
        used += written < 0 ? 0 : (size_t) written;
    }
    return used > 0;
}
