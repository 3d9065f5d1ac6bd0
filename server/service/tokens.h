#pragma once

#include <coffer/v1/identity.pb-c.h>

#include "server/service/call.h"
#include "server/service/write.h"
#include "server/store/row.h"

/* coffer.v1.TokenService, as its proto file describes it. */

COF_CODE token_issue(struct call *call, const Coffer__V1__IssueTokenRequest *request,
                     Coffer__V1__IssueTokenResponse *response);
COF_CODE token_rotate(struct call *call, const Coffer__V1__RotateTokenRequest *request,
                      Coffer__V1__RotateTokenResponse *response);
COF_CODE token_list(struct call *call, const Coffer__V1__ListTokensRequest *request,
                    Coffer__V1__ListTokensResponse *response);
COF_CODE token_revoke(struct call *call, const Coffer__V1__RevokeTokenRequest *request,
                      Coffer__V1__RevokeTokenResponse *response);
COF_CODE token_get_caller(struct call *call, const Coffer__V1__GetCallerRequest *request,
                          Coffer__V1__GetCallerResponse *response);

/* The message of a token's row; `use_time` is that of its last use, ROW_NO_TIME if it is not known. */
COF_CODE token_message(struct call *call, const struct token_row *row, const struct principal_row *account,
                       int64_t use_time, Coffer__V1__Token **ret_message);

/* Adds the token to the audit record of the write. */
COF_CODE token_record(struct call *call, struct write *write, const struct token_row *row,
                      const struct principal_row *account);

COF_CODE token_not_found(struct call *call);
