#pragma once

#include "server/service/secret_change.h"

/* Former versions of a secret. */

/* What VERSION_GET returns. */
enum { VERSION_KEYS, VERSION_BLOB };

/* A version that is named must be a number of one. */
COF_CODE secret_version_check(struct call *call, uint64_t version);

/* Queues the read of a former version of the secret with this address. */
COF_CODE secret_version_queue(struct call *call, const struct address *address, uint64_t version);

/* Fails with VERSION_NOT_FOUND or VERSION_DESTROYED unless the version is there with its values. */
COF_CODE secret_version_present(struct call *call, uint64_t version, const struct rows *former);

/* Opens the values of a former version. */
COF_CODE secret_version_open(struct call *call, const struct secret_row *secret, uint64_t version,
                             const struct rows *former, struct values *ret_values);

/* Reads a secret by its address, whole, with the workspace's keys loaded. The rows hold its current version. */
COF_CODE secret_read_whole(struct call *call, const struct address *address, struct secret_row *row,
                           struct rows **ret_rows);
