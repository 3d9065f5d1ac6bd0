#pragma once

#include "server/service/values.h"

/* A secret as answers show it: metadata and names of keys. */

/* The message of a row and the clear list of keys of its version. */
COF_CODE secret_message(struct call *call, const struct secret_row *row, struct cof_slice keys,
                        Coffer__V1__Secret **ret_message);

/* The message of a row that failed its integrity check: address, UID, and the state CORRUPTED. */
COF_CODE secret_message_corrupted(struct call *call, const struct secret_row *row,
                                  Coffer__V1__Secret **ret_message);

/* The etag of a row: its version and its metadata's version. */
COF_CODE secret_etag(struct call *call, const struct secret_row *row, char **ret_etag);
