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
COF_CODE secret_update(struct call *call, const Coffer__V1__UpdateSecretRequest *request,
                       Coffer__V1__UpdateSecretResponse *response);
COF_CODE secret_rename(struct call *call, const Coffer__V1__RenameSecretRequest *request,
                       Coffer__V1__RenameSecretResponse *response);
COF_CODE secret_restore(struct call *call, const Coffer__V1__RestoreSecretRequest *request,
                        Coffer__V1__RestoreSecretResponse *response);
COF_CODE secret_list_versions(struct call *call, const Coffer__V1__ListSecretVersionsRequest *request,
                              Coffer__V1__ListSecretVersionsResponse *response);
COF_CODE secret_roll_back(struct call *call, const Coffer__V1__RollBackSecretRequest *request,
                          Coffer__V1__RollBackSecretResponse *response);
COF_CODE secret_destroy_version(struct call *call, const Coffer__V1__DestroySecretVersionRequest *request,
                                Coffer__V1__DestroySecretVersionResponse *response);
COF_CODE secret_copy(struct call *call, const Coffer__V1__CopySecretRequest *request,
                     Coffer__V1__CopySecretResponse *response);
COF_CODE secret_compare(struct call *call, const Coffer__V1__CompareEnvironmentsRequest *request,
                        Coffer__V1__CompareEnvironmentsResponse *response);
COF_CODE secret_watch(struct call *call, const Coffer__V1__WatchSecretsRequest *request,
                      Coffer__V1__WatchSecretsResponse *response);
COF_CODE secret_compare_versions(struct call *call, const Coffer__V1__CompareVersionsRequest *request,
                                 Coffer__V1__CompareVersionsResponse *response);
COF_CODE secret_reveal(struct call *call, const Coffer__V1__RevealSecretRequest *request,
                       Coffer__V1__RevealSecretResponse *response);
COF_CODE secret_import(struct call *call, const Coffer__V1__ImportSecretsRequest *request,
                       Coffer__V1__ImportSecretsResponse *response);
COF_CODE secret_export(struct call *call, const Coffer__V1__ExportSecretsRequest *request,
                       Coffer__V1__ExportSecretsResponse *response);
