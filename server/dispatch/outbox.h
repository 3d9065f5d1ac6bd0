#pragma once

#include "server/dispatch/exchange.h"
#include "server/dispatch/fair.h"

/*
 * Answers of one worker that leave together: with one write to the log, and one for each connection. Whoever holds some
 * back lets go of them before it waits for anything.
 */

struct outbox_reply {
    struct exchange *exchange;
    uint32_t connection;
    uint32_t send_timeout_ms;
    bool malformed;
};

struct outbox {
    bool open;
    size_t count;
    struct outbox_reply replies[FAIR_BATCH];
};

/* From now on, lines of this thread's log wait as well. */
void outbox_open(struct outbox *outbox);
/* Holds a reply back that is ready. As many fit as a batch has calls. */
void outbox_put(struct outbox *outbox, struct exchange *exchange, uint32_t send_timeout_ms, bool malformed);
/* Sends all of it; it stays open. Nothing if it is not. */
void outbox_let_go(struct outbox *outbox);
/* The same, and closes it. */
void outbox_close(struct outbox *outbox);
