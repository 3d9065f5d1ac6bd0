#pragma once

#include <coffer/v1/connection.pb-c.h>

#include "server/service/connection_place.h"

/*
 * Tokens are revoked at their provider before they are dropped (RFC 7009): the refresh token first, which ends the grant
 * with most providers, then the access token. It is tried once, in the time that the call has, and whatever comes of it the
 * tokens are dropped here.
 */

struct revocation {
    Coffer__V1__Revocation result;
    const char *message; /* with the provider's words */
    int64_t generation;  /* of the tokens that it is about */
};

/*
 * Fails with IN_PROGRESS, or as asks_ask does, if the call waits for the provider; the handler passes that on, and runs anew.
 * A connection that is not there, or is another one than expected, has nothing to revoke: the write tells that. No pipeline
 * may be open.
 */
COF_CODE connection_revoke(struct call *call, const struct connection_place *place, const char *expected_uid,
                           struct revocation *ret_revocation);

/* As it is answered, once the tokens that are dropped are known for certain. */
COF_CODE revocation_told(struct call *call, const struct revocation *revocation,
                         const struct connection_token_row *dropped, Coffer__V1__Revocation *ret_result,
                         char **ret_message);
