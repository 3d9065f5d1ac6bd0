#pragma once

#include "common/token.h"
#include "server/crypto/root_key.h"
#include "server/service/call.h"

/*
 * The instance: one database with its root key, its epoch and the system workspace.
 */

/* Reads the instance's row. `ret_exists` is false on a fresh database. Fails with CONFIG_INVALID if none of the
 * root keys opens the database. */
COF_CODE instance_check_keys(struct session *session, struct root_key *const *roots, size_t count, bool *ret_exists,
                             struct cof_error *err);

/*
 * Makes the instance on a fresh, migrated database, in one transaction: its row, the system workspace with its key,
 * the account "admin" with every permission that system accounts can have, and its token, whose text is returned in
 * the call's arena. The call needs service, session, arena and err only.
 */
COF_CODE instance_create(struct call *call, const struct root_key *root, struct cof_slice *ret_token);

/* Writes the instance's row, as JSON, into a database that was restored and has none: with a new epoch, and bound to this
 * PostgreSQL. */
COF_CODE instance_restore(struct session *session, struct cof_slice row, struct cof_error *err);

/* For session_options.on_connect, with the service as context: compares the database's identity with the instance's
 * and replaces the epoch first if it has changed (docs/decisions/0003-revisions-and-freshness.md). A database
 * without an instance passes. */
cof_code instance_on_connect(struct session *session, void *service, struct cof_error *err);
