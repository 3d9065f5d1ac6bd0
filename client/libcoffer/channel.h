#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/error.h"
#include "common/tls/context.h"

/* The way to one or several servers, and the calls that are on it. Thread-safe. */

struct channel;

enum {
    CHANNEL_REQUEST_MAX = 1 << 20, /* bytes of a request frame */
    CHANNEL_REPLY_MAX = 4 << 20,   /* bytes of a response frame */
    CHANNEL_CALLS_MAX = 4096,
};

struct channel_options {
    char *const *addresses;
    size_t address_count;
    struct cof_tls *tls;         /* for tls+tcp:// addresses; must outlive the channel */
    const char *tls_server_name; /* that their certificates must have; NULL: the host of the address */
    uint32_t connect_timeout_ms;
    const struct cof_clock *clock;
};

/* Connects in the background. Fails with CONFIG_INVALID or OUT_OF_MEMORY. */
COF_CODE channel_new(const struct channel_options *options, struct channel **ret_channel, struct cof_error *err);

/*
 * Ends all calls with CLIENT_CLOSED, and waits until they have been freed; no call can be made any more. NULL is
 * allowed.
 */
void channel_end(struct channel *channel);
/* Frees a channel that has ended. NULL is allowed. */
void channel_free(struct channel *channel);
