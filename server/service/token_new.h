#pragma once

#include "common/token.h"
#include "server/service/call.h"
#include "server/service/rights.h"
#include "server/store/row.h"

/* What issuing and rotating have in common. */

/* Makes a new token: fills token_id, hash and the sealed narrowing key of the row, whose workspace is set, and
 * returns the token's text in the arena. The workspace's keys must be loaded. */
COF_CODE token_new(struct call *call, cof_token_kind kind, struct token_row *row, struct cof_slice *ret_text);

/* Whether the caller may hand out such a token: within what he may do, and not for longer than his own token lives.
 * TOKEN_EXCEEDS_ISSUER. */
COF_CODE token_check_issuer(struct call *call, const struct principal_row *account,
                            const struct rule_set *restrictions, int64_t expire_time);

/* The end of the caller's own token, behind which no token may live that it hands out; ROW_NO_TIME: none. */
int64_t token_issuer_end(const struct call *call, const struct principal_row *account);

/* Puts the token's text into an answer. */
COF_CODE token_show(struct call *call, struct cof_slice text, ProtobufCBinaryData *ret_text);
