#pragma once

#include <coffer/stored/v1/authorization.pb-c.h>
#include <coffer/v1/connection.pb-c.h>

#include "server/providers/flow.h"
#include "server/service/call.h"
#include "server/service/flights.h"
#include "server/service/refresh_rows.h"
#include "server/store/row.h"

/*
 * Starts of authorizations (docs/decisions/0025-authorization.md): their rows, what is sealed in them, and how they go from
 * state to state. The authorization code's methods stand at the end; other flows make rows in the same way.
 */

enum {
    AUTHORIZATION_LIFE_S = 10 * 60,
    AUTHORIZATION_LOST_S = 2 * 60, /* one that is being exchanged for so long is told as failed */
    AUTHORIZATION_HASH = 32,
    AUTHORIZATION_CHALLENGE = 44, /* with its NUL */
    AUTHORIZATION_SHOWN = 10,
};

/* Who exchanges what came back, and stores what is granted (server/jobs/authorizer.h). */
struct authorization_source {
    /* The start was consumed, and this is its code. The flight of authorization_flight_key lands when it has ended. False if
     * there is no memory. Thread-safe, does not block. */
    bool (*exchange)(void *context, const struct cof_uuid *workspace, const struct cof_uuid *authorization,
                     struct cof_slice code);
    void *context;
};

struct authorization {
    struct connection_authorization_row row;
    Coffer__Stored__V1__Authorization *sealed; /* NULL once it has ended */
    struct cof_slice account; /* the name of whoever started it; empty: of none of the workspace's */
};

/* Where people are sent back to by this server's own pages, in the arena; empty: it has none. */
COF_CODE authorization_own_page(struct call *call, const char **ret_uri);
/* The same for an answer. */
COF_CODE authorization_tell_page(struct call *call, char **ret_uri);

/*
 * A new start of `flow` for a connection, by the call's caller: it may be used for ten minutes. What is particular to a flow
 * is the caller's to put into `sealed`, before authorization_seal. `state_hash` is SHA-256 of the random bytes of the state.
 */
COF_CODE authorization_new(struct call *call, const struct connection_row *connection, int32_t flow,
                           const uint8_t state_hash[AUTHORIZATION_HASH], struct authorization *ret_authorization);
/* Puts what is sealed into the row. The workspace's keys must be loaded. */
COF_CODE authorization_seal(struct call *call, struct authorization *authorization);

/*
 * Reads row `index`, and opens it if it has not ended; with texts that are the call's. CORRUPTED if what is sealed does not
 * open, or says something else than the row. The workspace's keys must be loaded.
 */
COF_CODE authorization_read(struct call *call, const struct rows *rows, size_t index,
                            struct authorization *ret_authorization);

/* By its UUID, or by the hash of its state. AUTHORIZATION_NOT_FOUND. No pipeline may be open; loads the keys. */
COF_CODE authorization_get(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *id,
                           struct authorization *ret_authorization);
COF_CODE authorization_find(struct call *call, const struct cof_uuid *workspace,
                            const uint8_t state_hash[AUTHORIZATION_HASH], struct authorization *ret_authorization);

/* AUTHORIZATION_OVER if it is not pending any more, or its time is over. */
COF_CODE authorization_check_pending(struct call *call, const struct authorization *authorization);

/* The one update that makes a start worth something once, in a transaction of its own: false if somebody else was first. */
COF_CODE authorization_consume(struct call *call, const struct authorization *authorization, bool *ret_consumed);

/* It has failed, in a transaction of its own; nothing if it has ended already. */
COF_CODE authorization_fail(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *id,
                            cof_reason reason, struct cof_slice text);

/* As it is shown. */
COF_CODE authorization_message(struct call *call, const struct authorization *authorization,
                               Coffer__V1__Authorization **ret_message);

/* The latest ones of a connection. */
COF_CODE authorization_list(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *connection,
                            Coffer__V1__Authorization ***ret_list, size_t *ret_count);

/* Queues those of the workspace that are pending; authorization_list_next reads them, the newest first. */
COF_CODE authorization_queue_pending(struct call *call, const struct cof_uuid *workspace);
COF_CODE authorization_list_next(struct call *call, Coffer__V1__Authorization ***ret_list, size_t *ret_count);

COF_CODE authorization_flight_key(const struct cof_uuid *authorization, struct flight_key *ret_key,
                                  struct cof_error *err);

/* --- The authorization code ----------------------------------------------------------------------------------- */

/* The connection of a start, of the configuration that it was started for; AUTHORIZATION_REFUSED if that has changed. */
COF_CODE authorization_rows(struct call *call, const struct authorization *authorization,
                            struct refresh_rows *ret_rows, const struct provider **ret_provider);

/* S256 of a PKCE verifier (RFC 7636). */
COF_CODE authorization_challenge(const char *verifier, char challenge[AUTHORIZATION_CHALLENGE],
                                 struct cof_error *err);

/* The URL of the provider's authorization endpoint. */
COF_CODE authorization_url(struct call *call, const struct connection_row *connection,
                           const struct provider *provider, const struct authorization *authorization,
                           const char *state, const char **ret_url);

/* SHA-256 of the random bytes of a state; false if it is none. */
bool authorization_state(struct cof_slice text, struct cof_uuid *ret_workspace,
                         uint8_t ret_hash[AUTHORIZATION_HASH]);

/* What came back means. The text of a refusal is the call's. */
COF_CODE authorization_judge(struct call *call, const struct refresh_rows *rows, const struct provider *provider,
                             const struct flow_return *back, flow_verdict *ret_verdict, struct cof_slice *ret_text);

COF_CODE connection_start_authorization(struct call *call, const Coffer__V1__StartAuthorizationRequest *request,
                                        Coffer__V1__StartAuthorizationResponse *response);
COF_CODE connection_complete_authorization(struct call *call,
                                           const Coffer__V1__CompleteAuthorizationRequest *request,
                                           Coffer__V1__CompleteAuthorizationResponse *response);
COF_CODE connection_get_authorization(struct call *call, const Coffer__V1__GetAuthorizationRequest *request,
                                      Coffer__V1__GetAuthorizationResponse *response);
