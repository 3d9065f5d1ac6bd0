#pragma once

#include "common/token.h"
#include "server/service/call.h"
#include "server/store/row.h"

/* Makes a new token: fills token_id, hash and the sealed narrowing key of the row, whose workspace is set, and
 * returns the token's text in the arena. The workspace's keys must be loaded. */
COF_CODE token_new(struct call *call, cof_token_kind kind, struct token_row *row, struct cof_slice *ret_text);
