#pragma once

#include <coffer/v1/secret.pb-c.h>

#include "server/service/call.h"

/* coffer.v1.SecretService, as its proto file describes it. Requests and answers live in the call's arena. */

COF_CODE secret_create(struct call *call, const Coffer__V1__CreateSecretRequest *request,
                       Coffer__V1__CreateSecretResponse *response);
COF_CODE secret_get(struct call *call, const Coffer__V1__GetSecretRequest *request,
                    Coffer__V1__GetSecretResponse *response);
COF_CODE secret_list(struct call *call, const Coffer__V1__ListSecretsRequest *request,
                     Coffer__V1__ListSecretsResponse *response);
COF_CODE secret_update_values(struct call *call, const Coffer__V1__UpdateSecretValuesRequest *request,
                              Coffer__V1__UpdateSecretValuesResponse *response);
COF_CODE secret_delete(struct call *call, const Coffer__V1__DeleteSecretRequest *request,
                       Coffer__V1__DeleteSecretResponse *response);
