#pragma once

#include "common/encode.h"
#include "server/service/call.h"

/*
 * Consistency tokens: base64url of a format byte (1), the database's epoch and a workspace's revision, both
 * big-endian. Clients treat them as opaque.
 */

enum { CONSISTENCY_TOKEN_BYTES = 17, CONSISTENCY_TOKEN_TEXT = COF_BASE64URL_SIZE(CONSISTENCY_TOKEN_BYTES) };

void consistency_format(const struct service *service, uint64_t revision, char text[CONSISTENCY_TOKEN_TEXT]);

/* The revision in a token; 0 for an empty text. FIELD_INVALID or CONSISTENCY_TOKEN_UNKNOWN. */
COF_CODE consistency_parse(const struct service *service, const char *text, uint64_t *ret_revision,
                           struct cof_error *err);
