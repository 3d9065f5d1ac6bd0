#pragma once

#include <coffer/v1/identity.pb-c.h>

#include "server/service/call.h"

/* coffer.v1.TokenService, as its proto file describes it. */

COF_CODE token_issue(struct call *call, const Coffer__V1__IssueTokenRequest *request,
                     Coffer__V1__IssueTokenResponse *response);
COF_CODE token_list(struct call *call, const Coffer__V1__ListTokensRequest *request,
                    Coffer__V1__ListTokensResponse *response);
COF_CODE token_revoke(struct call *call, const Coffer__V1__RevokeTokenRequest *request,
                      Coffer__V1__RevokeTokenResponse *response);
COF_CODE token_get_caller(struct call *call, const Coffer__V1__GetCallerRequest *request,
                          Coffer__V1__GetCallerResponse *response);
