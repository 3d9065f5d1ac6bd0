#pragma once

#include "server/crypto/keyring.h"
#include "server/store/session.h"

/*
 * Reads workspace keys over a connection of its own, for whoever needs a key in the middle of a transaction. That is
 * rare, as a server keeps what it has read: once for each new generation. Thread-safe; those who come meanwhile wait.
 */

struct key_loader;

COF_CODE key_loader_new(const struct session_options *options, struct key_loader **ret_loader,
                        struct cof_error *err);
/* NULL is allowed. */
void key_loader_free(struct key_loader *loader);

/* Installs all generations of the workspace's key. Waits no longer than until `deadline_us` (monotonic) for the
 * database, once it is its turn. */
COF_CODE key_loader_load(struct key_loader *loader, struct keyring *keyring, const struct cof_uuid *workspace,
                         int64_t deadline_us, struct cof_error *err);
