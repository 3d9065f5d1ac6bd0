#pragma once

#include "server/service/authorizations.h"

/*
 * The device flow (RFC 8628; docs/decisions/0028-discovery.md): starts of authorizations that somebody completes on another
 * device. Their rows are those of all starts; the device code and the interval are sealed in them.
 *
 * Nobody asks the provider but for whoever asks how it goes. The row is claimed before, so that two servers do not ask at the
 * same time or too often, and a claim that nobody ends runs out.
 */

COF_CODE connection_start_device(struct call *call, const Coffer__V1__StartDeviceAuthorizationRequest *request,
                                 Coffer__V1__StartDeviceAuthorizationResponse *response);
COF_CODE connection_poll_device(struct call *call, const Coffer__V1__PollDeviceAuthorizationRequest *request,
                                Coffer__V1__PollDeviceAuthorizationResponse *response);

/* Nothing has come of asking: the start is pending again, and the interval longer if the provider wants that. In a
 * transaction of its own. */
COF_CODE device_authorization_wait(struct call *call, const struct cof_uuid *workspace, const struct cof_uuid *id,
                                   bool slower);
