#include "server/transport/transport.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "server/transport/connection.h"
#include "server/transport/listener.h"

enum {
    ADDRESSES_MAX = 16,
    PROBE_MS = 1, /* through the threads for times and for callbacks */
};

struct transport {
    struct transport_options options;
    struct connections *connections;
    struct webs *webs;
    struct certificate *certificate; /* NULL: no address needs one */
    struct listener *listeners[ADDRESSES_MAX];
    size_t listener_count;
    nng_aio *probe; /* of nng's threads */
    atomic_bool answered;
};

static void on_probed(void *context)
{
    struct transport *transport = context;
    atomic_store(&transport->answered, true);
}

static bool needs_certificate(const struct transport_options *options)
{
    for (size_t i = 0; i < options->address_count; i++) {
        if (listener_is_tls(options->addresses[i])) {
            return true;
        }
    }
    return false;
}

static cof_code listen_everywhere(struct transport *transport, struct cof_error *err)
{
    const struct listener_options options = {&transport->options, transport->connections, transport->webs,
                                             transport->certificate};
    for (size_t i = 0; i < transport->options.address_count; i++) {
        TRY(listener_new(&options, transport->options.addresses[i], &transport->listeners[i], err));
        transport->listener_count++;
    }
    return COF_OK;
}

static cof_code start(struct transport *transport, struct cof_error *err)
{
    const struct transport_options *options = &transport->options;
    transport->connections = connections_new(options);
    if (transport->connections != NULL) {
        transport->webs = webs_new(options, transport->connections);
    }
    if (transport->webs == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the listeners");
    }
    if (options->address_count == 0 || options->address_count > ADDRESSES_MAX) {
        return cof_fail(err, COF_REASON_CONFIG_INVALID, "transport.listen must have 1 to %d addresses",
                        ADDRESSES_MAX);
    }
    if (needs_certificate(options)) {
        TRY(certificate_new(&options->certificate, &transport->certificate, err));
    }
    atomic_init(&transport->answered, true);
    if (nng_aio_alloc(&transport->probe, on_probed, transport) != 0) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the listeners");
    }
    return listen_everywhere(transport, err);
}

cof_code transport_start(const struct transport_options *options, struct transport **ret_transport,
                         struct cof_error *err)
{
    struct transport *transport = calloc(1, sizeof *transport);
    if (transport == NULL) {
        return cof_fail(err, COF_REASON_OUT_OF_MEMORY, "there is no memory left for the listeners");
    }
    transport->options = *options;
    const cof_code code = start(transport, err);
    if (code != COF_OK) {
        transport_free(transport);
        return code;
    }
    *ret_transport = transport;
    return COF_OK;
}

const char *transport_address(const struct transport *transport, size_t index)
{
    return listener_address(transport->listeners[index]);
}

cof_code transport_reload(struct transport *transport, const struct certificate_options *options,
                          struct cof_error *err)
{
    return transport->certificate == NULL ? COF_OK : certificate_reload(transport->certificate, options, err);
}

void transport_limit(struct transport *transport, const struct transport_limits *limits)
{
    struct transport_limits *own = &transport->options.limits;
    __atomic_store_n(&own->max_peers, limits->max_peers, __ATOMIC_RELAXED);
    __atomic_store_n(&own->max_strangers, limits->max_strangers, __ATOMIC_RELAXED);
    __atomic_store_n(&own->max_malformed, limits->max_malformed, __ATOMIC_RELAXED);
    __atomic_store_n(&own->receive_timeout_ms, limits->receive_timeout_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&own->handshake_timeout_ms, limits->handshake_timeout_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&own->http_timeout_ms, limits->http_timeout_ms, __ATOMIC_RELAXED);
}

bool transport_alive(struct transport *transport)
{
    if (!atomic_exchange(&transport->answered, false)) {
        return false;
    }
    nng_sleep_aio(PROBE_MS, transport->probe);
    return true;
}

void transport_drain(struct transport *transport)
{
    for (size_t i = 0; i < transport->listener_count; i++) {
        listener_close(transport->listeners[i]);
    }
}

void transport_part(struct transport *transport)
{
    connections_part(transport->connections);
}

bool transport_parted(const struct transport *transport)
{
    struct transport_count counts[TRANSPORT_COUNTS];
    uint64_t open = 0;
    connections_counts(transport->connections, counts);
    for (size_t i = 0; i < TRANSPORT_COUNTS; i++) {
        open += counts[i].web ? counts[i].open : 0;
    }
    return open == 0;
}

uint32_t transport_in_flight(const struct transport *transport)
{
    return connections_in_flight(transport->connections);
}

void transport_counts(const struct transport *transport, struct transport_count counts[TRANSPORT_COUNTS])
{
    connections_counts(transport->connections, counts);
}

void transport_free(struct transport *transport)
{
    if (transport == NULL) {
        return;
    }
    for (size_t i = 0; i < transport->listener_count; i++) {
        listener_free(transport->listeners[i]);
    }
    nng_aio_free(transport->probe);
    webs_free(transport->webs);
    connections_free(transport->connections);
    certificate_free(transport->certificate);
    free(transport);
}
