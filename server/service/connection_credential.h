#pragma once

#include <coffer/stored/v1/credentials.pb-c.h>
#include <coffer/v1/connection.pb-c.h>

#include "server/service/call.h"
#include "server/store/row.h"

/* Credentials of OAuth clients: as they are sent, sealed and described. */

enum {
    CREDENTIALS_MAX = 4,
    CREDENTIAL_SECRET_MAX = 4096,
    CREDENTIAL_KEY_MAX = 65536,
    CREDENTIAL_KEY_ID_MAX = 256,
    CREDENTIAL_OVERLAP_DEFAULT_S = 24 * 60 * 60,
    CREDENTIAL_OVERLAP_MAX_S = 30 * 24 * 60 * 60,
};

/* Whether a connection with this grant and client authentication needs a credential of the client. */
bool credential_needed(int grant, int client_authentication);

/*
 * Reads one that was sent and checks that it is of a kind that the grant and the client authentication use, and is good: keys
 * can sign. NULL of `ret_credential` if none was sent. FIELD_INVALID.
 */
COF_CODE credential_read(struct call *call, const Coffer__V1__ClientCredential *sent, int grant,
                         int client_authentication, Coffer__Stored__V1__Credential **ret_credential);

/* Those of a row. CORRUPTED if they do not open. */
COF_CODE credential_open(struct call *call, const struct connection_row *row,
                         Coffer__Stored__V1__Credentials **ret_credentials);

/* Seals them into the row, under its next credential generation. */
COF_CODE credential_seal(struct call *call, struct connection_row *row,
                         const Coffer__Stored__V1__Credentials *credentials);

/* The new one before those that may still be used; these until `retire_time`, if they have no earlier one. */
COF_CODE credential_put_first(struct call *call, Coffer__Stored__V1__Credentials *credentials,
                              Coffer__Stored__V1__Credential *first, int64_t retire_time);

/* What can be told of those that may be used now. */
COF_CODE credential_facts(struct call *call, const struct connection_row *row, Coffer__V1__Connection *message);
