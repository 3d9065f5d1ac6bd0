#pragma once

#include "server/jobs/authorizer.h"
#include "server/jobs/refresher.h"
#include "server/outbound/http.h"
#include "server/service/token_source.h"

/* Tokens of OAuth connections are refreshed (docs/decisions/0022-refresh.md): the refresher with this server's journal,
 * requests and flights. */

struct refreshing;

struct refreshing_options {
    const struct cof_log *log;
    struct session_options session;
    struct service *service;
    struct cof_pool *pool; /* locked */
    struct outbound *outbound;
    struct cof_uuid server;
    const char *folder; /* of the journal */
};

/* What the journal has kept is stored before anything else. */
COF_CODE refreshing_start(const struct refreshing_options *options, struct refreshing **ret_refreshing,
                          struct cof_error *err);

/* For the calls that complete authorizations. */
const struct authorization_source *refreshing_authorizations(const struct refreshing *refreshing);

/* For the pages of authorizations; see authorizer_visit. */
void refreshing_visit(struct refreshing *refreshing, const struct authorizer_visit *visit);

/* For the calls that need tokens. */
const struct token_source *refreshing_source(const struct refreshing *refreshing);

/* How refreshes have ended so far, by their outcomes, and what those are called: "FRESH". Thread-safe. */
enum { REFRESHING_OUTCOMES = REFRESH_TOO_OFTEN + 1 };
void refreshing_counts(const struct refreshing *refreshing, uint64_t counts[REFRESHING_OUTCOMES]);
const char *refreshing_outcome_name(refresh_outcome outcome);

/* Whether no answer of a provider is awaited, and all that came are in the database. NULL is settled. */
bool refreshing_settled(struct refreshing *refreshing);

/* When outbound has stopped and before it is freed. NULL is allowed. */
void refreshing_stop(struct refreshing *refreshing);
