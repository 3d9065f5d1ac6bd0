#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "common/slice.h"

enum { ADDRESS_MAX = 256 };

/*
 * Checks an address that a client is to dial: ipc:///PATH or tcp://HOST:PORT, the latter only to this host unless
 * `insecure`. Fails with CONFIG_INVALID for the field `addr` and says what is wrong; `from` names where it was
 * given.
 */
COF_CODE address_check(struct cof_slice address, bool insecure, const char *from, struct cof_error *err);
