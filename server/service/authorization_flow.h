#pragma once

#include "server/service/authorizations.h"
#include "server/service/connection_change.h"

/* What the methods of all flows have in common: a start that is written, one that is found again, its exchange. */

/* --- Starting ------------------------------------------------------------------------------------------------- */

/* The first member of what a flow's method keeps besides; the flow makes the authorization in its `decide`. */
struct authorization_start {
    struct connection_change change;
    struct authorization authorization;
};

/* `decide` begins with authorization_start_take and ends with authorization_start_record. */
void authorization_start_init(struct authorization_start *start,
                              cof_code (*decide)(struct call *call, void *context), const ProtobufCMessage *answer);

/* The connection as it is configured now; LIMIT_EXCEEDED if too many authorizations are pending in the workspace. */
COF_CODE authorization_start_take(struct call *call, struct authorization_start *start);
COF_CODE authorization_start_record(struct call *call, struct authorization_start *start);

/* --- Finding -------------------------------------------------------------------------------------------------- */

COF_CODE authorization_not_found(struct call *call);

/* By the text of its UUID, with the rows of its connection; says nothing of rights. FIELD_INVALID, AUTHORIZATION_NOT_FOUND. */
COF_CODE authorization_open(struct call *call, const struct cof_uuid *workspace, const char *uid,
                            struct authorization *ret_authorization, struct refresh_rows *ret_rows);

/* Whether the caller may write the connection: one of all environments takes more than the sight of it. */
COF_CODE authorization_may_write(struct call *call, const char *workspace, const struct connection_row *row);

/*
 * Whether whoever started it may still do so: the token is good, the account is there, and it may write the connection. A
 * start lives for minutes, and that is when somebody finds out that a token was stolen. AUTHORIZATION_REFUSED if not. The
 * start has to be one that is still sealed. No pipeline may be open.
 */
COF_CODE authorization_check_starter(struct call *call, const struct authorization *authorization,
                                     const struct connection_row *row, struct caller *ret_starter);

/* --- Exchanging ----------------------------------------------------------------------------------------------- */

/* That calls wait for. `provider` may be NULL where nobody will be asked. */
COF_CODE authorization_flight(struct call *call, const struct connection_authorization_row *row,
                              const struct provider *provider, struct flight *ret_flight);

/* Hands the code of a start that was consumed to whoever exchanges it; the flight lands when that has ended. */
COF_CODE authorization_exchange(struct call *call, const struct connection_authorization_row *row,
                                struct cof_slice code, const struct flight *flight);
