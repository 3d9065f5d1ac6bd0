#pragma once

#include "common/token.h"
#include "server/crypto/keyring.h"
#include "server/service/call.h"

/*
 * The instance: one database with its root key, its epoch and the system workspace.
 */

/*
 * Reads the instance's row. `ret_exists` is false on a fresh database. The keyring wraps with the root key that the row
 * names from then on. Fails with CONFIG_INVALID if the keyring does not have it, or lacks one that was replaced and that a
 * key in the database is still wrapped with; and if it is NULL and there is an instance.
 */
COF_CODE instance_check_keys(struct session *session, struct keyring *keyring, bool *ret_exists,
                             struct cof_error *err);

/* Has the keyring wrap with the root key that the instance's row names by now, as another process may have changed it.
 * CONFIG_INVALID if the keyring does not have it. */
COF_CODE instance_follow_root(struct session *session, struct keyring *keyring, struct cof_error *err);

/* Makes the root key that stands first in the keyring the instance's: the one that wraps. Every server that starts from
 * then on must have it. */
COF_CODE instance_set_root(struct session *session, struct keyring *keyring, struct cof_error *err);

/*
 * Makes the instance on a fresh, migrated database, in one transaction: its row, which names the root key that wraps, the system workspace with its key,
 * the account "admin" with every permission that system accounts can have, and its token, whose text is returned in
 * the call's arena. The call needs service, session, arena and err only.
 */
COF_CODE instance_create(struct call *call, struct cof_slice *ret_token);

/* Writes the instance's row, as JSON, into a database that was restored and has none: with a new epoch, and bound to this
 * PostgreSQL. */
COF_CODE instance_restore(struct session *session, struct cof_slice row, struct cof_error *err);

/* For session_options.on_connect, with the service as context: compares the database's identity with the instance's
 * and replaces the epoch first if it has changed (docs/decisions/0003-revisions-and-freshness.md). A database
 * without an instance passes. */
cof_code instance_on_connect(struct session *session, void *service, struct cof_error *err);
