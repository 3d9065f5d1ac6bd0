#pragma once

#include <coffer/v1/identity.pb-c.h>

#include "server/service/call.h"
#include "server/store/row.h"

/* coffer.v1.ServiceAccountService, as its proto file describes it. */

COF_CODE account_create(struct call *call, const Coffer__V1__CreateServiceAccountRequest *request,
                        Coffer__V1__CreateServiceAccountResponse *response);
COF_CODE account_get(struct call *call, const Coffer__V1__GetServiceAccountRequest *request,
                     Coffer__V1__GetServiceAccountResponse *response);
COF_CODE account_list(struct call *call, const Coffer__V1__ListServiceAccountsRequest *request,
                      Coffer__V1__ListServiceAccountsResponse *response);

COF_CODE account_update(struct call *call, const Coffer__V1__UpdateServiceAccountRequest *request,
                        Coffer__V1__UpdateServiceAccountResponse *response);
COF_CODE account_delete(struct call *call, const Coffer__V1__DeleteServiceAccountRequest *request,
                        Coffer__V1__DeleteServiceAccountResponse *response);

/* The message of an account's row. */
COF_CODE account_message(struct call *call, const struct principal_row *row,
                         Coffer__V1__ServiceAccount **ret_message);

COF_CODE account_not_found(struct call *call, struct cof_slice name);
