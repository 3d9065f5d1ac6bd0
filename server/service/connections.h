#pragma once

#include <coffer/v1/connection.pb-c.h>

#include "server/service/call.h"

/* coffer.v1.ConnectionService (docs/decisions/0023-connections.md). */

COF_CODE connection_configure(struct call *call, const Coffer__V1__ConfigureConnectionRequest *request,
                              Coffer__V1__ConfigureConnectionResponse *response);
COF_CODE connection_get(struct call *call, const Coffer__V1__GetConnectionRequest *request,
                        Coffer__V1__GetConnectionResponse *response);
COF_CODE connection_list(struct call *call, const Coffer__V1__ListConnectionsRequest *request,
                         Coffer__V1__ListConnectionsResponse *response);
COF_CODE connection_delete(struct call *call, const Coffer__V1__DeleteConnectionRequest *request,
                           Coffer__V1__DeleteConnectionResponse *response);
COF_CODE connection_rotate_credential(struct call *call, const Coffer__V1__RotateClientCredentialRequest *request,
                                      Coffer__V1__RotateClientCredentialResponse *response);
COF_CODE connection_set_tokens(struct call *call, const Coffer__V1__SetConnectionTokensRequest *request,
                               Coffer__V1__SetConnectionTokensResponse *response);
COF_CODE connection_register(struct call *call, const Coffer__V1__RegisterClientRequest *request,
                             Coffer__V1__RegisterClientResponse *response);
COF_CODE connection_disconnect(struct call *call, const Coffer__V1__DisconnectConnectionRequest *request,
                               Coffer__V1__DisconnectConnectionResponse *response);
COF_CODE connection_refresh(struct call *call, const Coffer__V1__RefreshConnectionRequest *request,
                            Coffer__V1__RefreshConnectionResponse *response);
COF_CODE connection_test(struct call *call, const Coffer__V1__TestConnectionRequest *request,
                         Coffer__V1__TestConnectionResponse *response);
