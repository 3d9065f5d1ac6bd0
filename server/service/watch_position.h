#pragma once

#include "common/encode.h"
#include "server/service/call.h"

/*
 * Resume tokens of watches: base64url of a format byte (1), the database's epoch, the workspace, and the revision up to
 * which the caller has been told everything; numbers big-endian. Clients treat them as opaque.
 *
 * Nobody gains by making one himself: what a watch tells is what its caller may see.
 */

enum { WATCH_POSITION_BYTES = 33, WATCH_POSITION_TEXT = COF_BASE64URL_SIZE(WATCH_POSITION_BYTES) };

void watch_position_format(const struct service *service, const struct cof_uuid *workspace, uint64_t revision,
                           char text[WATCH_POSITION_TEXT]);

/* The revision in a token. FIELD_INVALID if it is none or of another workspace; WATCH_EXPIRED if the database is
 * another. */
COF_CODE watch_position_parse(const struct service *service, const struct cof_uuid *workspace, const char *text,
                              uint64_t *ret_revision, struct cof_error *err);

/* The failure WATCH_EXPIRED. */
COF_CODE watch_expired(struct cof_error *err);
