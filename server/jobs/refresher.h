#pragma once

#include "server/jobs/job.h"
#include "server/service/refresh_rows.h"
#include "server/service/token_clock.h"

/*
 * The runtime of refreshes (docs/decisions/0022-refresh.md): drives a machine for each connection that is being refreshed,
 * on one thread with a session of its own, which the exchanges with providers do not block. It looks for what is due in all
 * workspaces; each connection is claimed by itself.
 *
 * How a grant becomes a request, and where answers are kept until they are stored, is its owner's business.
 */

struct refresher;

/* A grant that is to be sent; all of it is borrowed until the function returns. */
struct refresher_request {
    struct call *call; /* one of the server's own, with memory that is given back then */
    const struct refresh_rows *rows;
    const struct provider *provider;
    struct cof_slice refresh_token; /* empty: the connection has credentials of its own */
    int64_t not_after;              /* monotonic: what would leave later does not */
    uint64_t ticket;                /* for refresher_answered */
};

/* What became of it. The texts are copied. */
struct refresher_answer {
    struct refresh_answer meaning;
    struct refresh_tokens tokens;
    struct refresh_failure failure;
};

/* An answer on its way into the database, for the journal. */
struct refresher_entry {
    struct cof_uuid workspace;
    struct cof_uuid connection;
    struct refresh_action store;
    struct refresh_tokens tokens;
    bool connects; /* what an authorization brought; of `store` only the times are told */
    struct refresh_connect connect;
};

struct refresher_options {
    const struct cof_log *log;
    struct session_options session;
    struct service *service;
    struct token_clock *clock; /* that it looks at */
    struct cof_pool *pool;     /* locked: tokens lie in it */
    struct cof_uuid server;
    const struct refresh_rules *rules;
    uint32_t interval_ms; /* between two looks for what is due */
    uint32_t at_once;     /* connections that are refreshed at the same time */
    uint32_t memory;      /* bytes for each of them */
    /* All of these are called on the refresher's thread. */
    /* NULL: it is not there, or not the one that the connection was configured for. The session is idle. */
    cof_code (*provider)(struct call *call, const struct refresh_rows *rows, const struct provider **ret_provider);
    /* Does not block; refresher_answered is called for it once, also on this thread before it returns. */
    void (*send)(void *context, const struct refresher_request *request);
    bool (*journal_put)(void *context, const struct refresher_entry *entry);
    void (*journal_forget)(void *context, const struct cof_uuid *connection);
    /* Who waits for the connection may look again. */
    void (*landed)(void *context, const struct cof_uuid *connection, refresh_outcome outcome);
    void *context;
};

COF_CODE refresher_new(const struct refresher_options *options, struct refresher **ret_refresher,
                       struct cof_error *err);

/* Once; nothing is done before. */
COF_CODE refresher_start(struct refresher *refresher, struct cof_error *err);

/* Somebody needs a token, and waits until then (monotonic). False if too many are under way: ask again later. Thread-safe,
 * does not block. */
bool refresher_want(struct refresher *refresher, const struct cof_uuid *workspace,
                    const struct cof_uuid *connection, const struct refresh_wish *wish, int64_t until_us);

/* Thread-safe, does not block. */
void refresher_answered(struct refresher *refresher, uint64_t ticket, const struct refresher_answer *answer);

/* What a journal has kept, before the refresher is started: it is stored if the rows are still where they were, and before
 * anybody else gets to that connection. False if there is no memory. */
bool refresher_recover(struct refresher *refresher, const struct refresher_entry *entry);

/* How many answers of providers are awaited. Thread-safe. */
size_t refresher_awaited(struct refresher *refresher);

/* What is under way ends where it is; what is in the journal is stored after the next start. No answer may come afterwards.
 * NULL is allowed. */
void refresher_stop(struct refresher *refresher);
