#include "server/transport/transport.h"

#include <stdlib.h>

#include "server/transport/connection.h"
#include "server/transport/listener.h"

enum { ADDRESSES_MAX = 16 };

struct transport {
    struct transport_options options;
    struct connections *connections;
    struct webs *webs;
    struct certificate *certificate; /* NULL: no address needs one */
    struct listener *listeners[ADDRESSES_MAX];
    size_t listener_count;
};

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

cof_code transport_reload(struct transport *transport, struct cof_error *err)
{
    return transport->certificate == NULL ? COF_OK : certificate_reload(transport->certificate, err);
}

void transport_drain(struct transport *transport)
{
    for (size_t i = 0; i < transport->listener_count; i++) {
        listener_close(transport->listeners[i]);
    }
}

uint32_t transport_in_flight(const struct transport *transport)
{
    return connections_in_flight(transport->connections);
}

void transport_free(struct transport *transport)
{
    if (transport == NULL) {
        return;
    }
    for (size_t i = 0; i < transport->listener_count; i++) {
        listener_free(transport->listeners[i]);
    }
    webs_free(transport->webs);
    connections_free(transport->connections);
    certificate_free(transport->certificate);
    free(transport);
}
