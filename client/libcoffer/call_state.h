#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <nng/nng.h>

#include "client/libcoffer/call.h"
#include "client/libcoffer/endpoint.h"
#include "client/libcoffer/retry.h"
#include "client/libcoffer/settings.h"

/* What call.c and channel.c share. Everybody else uses call.h and channel.h. */

typedef enum call_state {
    CALL_IDLE,      /* nobody's */
    CALL_CHOOSING,  /* looks for a connected address */
    CALL_WAITING,   /* sleeps until one is connected; woken by channel.c */
    CALL_SENDING,   /* the request waits for the connection's turn */
    CALL_RECEIVING, /* the request is on its way */
    CALL_PAUSING,   /* sleeps before the next attempt */
    CALL_OVER,      /* `err` and `reply` say how it ended */
} call_state;

/*
 * A call has at most one operation at a time, of `io` or of `timer`, so that the call's own fields need no
 * lock. `state` is written under the channel's lock, since others look at it to wake and to end calls.
 */
struct call {
    struct channel *channel;
    nng_aio *io;    /* sends and receives */
    nng_aio *timer; /* sleeps: one that has slept would later take a timeout for success (nng 1.5) */
    call_state state;
    pthread_cond_t over;
    call_done done; /* NULL: somebody waits for `over` */
    void *context;

    struct cof_request_frame frame; /* borrows from `block` and the credential */
    struct credential *credential;
    struct cof_uuid request_id;
    uint8_t *block;
    size_t block_size;

    uint32_t timeout_ms;
    uint32_t patience_ms;
    uint32_t delay_ms;
    int64_t deadline_us;
    int64_t give_up_us; /* end of the wait for a connection; 0: not waiting */
    uint32_t failures;
    uint32_t lost;
    uint32_t unanswered;       /* attempts that were given up while there was time left */
    bool impatient;            /* this attempt is one of those if no answer comes */
    struct endpoint *endpoint; /* of this attempt, or the last one */
    struct exchange attempt;

    struct parcel *answer;
    struct cof_response_frame reply;
    struct cof_error err;
};

struct channel {
    struct channel_options options;
    struct endpoint *endpoints[SETTINGS_ADDRESSES];
    size_t endpoint_count;
    struct retry_budget retries;
    atomic_uint preferred; /* index of the address that calls try first */

    pthread_mutex_t lock;
    bool closing;
    pthread_cond_t all_free;
    size_t busy; /* calls that are not idle */
    size_t call_count;
    size_t idle_count;
    struct call *calls[CHANNEL_CALLS_MAX]; /* all that were ever made */
    struct call *idle[CHANNEL_CALLS_MAX];
};

/* A call of its own for the caller, idle and empty. Fails with TOO_MANY_IN_FLIGHT, OUT_OF_MEMORY or CLIENT_CLOSED.
 */
COF_CODE channel_call_take(struct channel *channel, struct call **ret_call, struct cof_error *err);
void channel_call_give(struct channel *channel, struct call *call);

/* A connected address, another than `avoid` if there is one; NULL if none is connected. */
struct endpoint *channel_choose(struct channel *channel, const struct endpoint *avoid);
/* Lets calls begin with another address than this one, which did not answer. */
void channel_blame(struct channel *channel, const struct endpoint *endpoint);
/* How many addresses are connected. */
size_t channel_connected(const struct channel *channel);
bool channel_closing(struct channel *channel);
/* "ipc:///a.sock, tcp://b:7480", for messages. */
void channel_addresses(const struct channel *channel, char *to, size_t size);
/* "tls+tcp://b:7480: what is wrong there" for each address at which somebody answers without being our server; false:
 * none. Not with the channel's lock. */
bool channel_problems(const struct channel *channel, char *to, size_t size);

static inline void channel_lock(struct channel *channel)
{
    (void) pthread_mutex_lock(&channel->lock);
}

static inline void channel_unlock(struct channel *channel)
{
    (void) pthread_mutex_unlock(&channel->lock);
}

/* Called by nng when an operation of the call has ended. */
void call_on_event(void *context);
