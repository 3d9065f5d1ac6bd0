#include "server/dispatch/outbox.h"

#include <assert.h>

#include "common/log.h"

void outbox_open(struct outbox *outbox)
{
    outbox->count = 0;
    outbox->open = true;
    cof_log_hold();
}

void outbox_put(struct outbox *outbox, struct exchange *exchange, uint32_t send_timeout_ms, bool malformed)
{
    assert(outbox->count < FAIR_BATCH);
    outbox->replies[outbox->count++] = (struct outbox_reply){
        .exchange = exchange,
        .connection = exchange->peer.connection,
        .send_timeout_ms = send_timeout_ms,
        .malformed = malformed,
    };
}

/* Whether a reply behind this one goes to the same connection. */
static bool more_behind(const struct outbox *outbox, size_t index)
{
    const uint32_t connection = outbox->replies[index].connection;
    bool more = false;
    for (size_t i = index + 1; i < outbox->count && !more; i++) {
        more = outbox->replies[i].connection == connection;
    }
    return more;
}

static void send_all(struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        const struct outbox_reply *reply = &outbox->replies[i];
        exchange_reply(reply->exchange, reply->send_timeout_ms, reply->malformed, more_behind(outbox, i));
    }
    outbox->count = 0;
}

void outbox_let_go(struct outbox *outbox)
{
    if (outbox->open) {
        cof_log_let_go();
        send_all(outbox);
        cof_log_hold();
    }
}

void outbox_close(struct outbox *outbox)
{
    outbox->open = false;
    cof_log_let_go();
    send_all(outbox);
}
