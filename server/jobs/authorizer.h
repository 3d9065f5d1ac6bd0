#pragma once

#include "server/jobs/refresh_exchange.h"
#include "server/jobs/refresh_keep.h"
#include "server/service/authorization_visit.h"

/*
 * Authorizations on their way (docs/decisions/0025-authorization.md): one thread with a session of its own, which answers
 * this server's own pages, exchanges codes, and brings what was granted into the database. It waits for no provider.
 */

struct authorizer;

struct authorizer_options {
    const struct cof_log *log;
    struct session_options session;
    struct service *service;
    struct cof_pool *pool; /* locked: codes and tokens lie in it */
    const struct refresh_exchange_options *exchange;
    struct refresh_keep *keep;
    uint32_t visits; /* that may wait at once */
    uint32_t memory; /* bytes for each of them, and for each exchange */
};

COF_CODE authorizer_new(const struct authorizer_options *options, struct authorizer **ret_authorizer,
                        struct cof_error *err);

/* What a journal has kept, before it is started. False if there is no memory. */
bool authorizer_recover(struct authorizer *authorizer, const struct refresher_entry *entry);

COF_CODE authorizer_start(struct authorizer *authorizer, struct cof_error *err);

/* A page is asked for; what it says is told once, on the authorizer's thread or before this returns. */
struct authorizer_visit {
    struct authorization_visit visit; /* the query is copied */
    void (*answer)(void *context, const struct authorization_answer *answer);
    void *context;
};
/* Thread-safe, does not block. */
void authorizer_visit(struct authorizer *authorizer, const struct authorizer_visit *visit);

/* The code of a start that was consumed; see authorization_source. Thread-safe, does not block. */
bool authorizer_exchange(struct authorizer *authorizer, const struct cof_uuid *workspace,
                         const struct cof_uuid *authorization, struct cof_slice code);

/* Exchanges that have not ended. Thread-safe. */
size_t authorizer_awaited(struct authorizer *authorizer);

/* What is in the journal is stored after the next start; visits are told to come later. No answer of a provider may come
 * afterwards. NULL is allowed. */
void authorizer_stop(struct authorizer *authorizer);
