#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "common/slice.h"

enum { ADDRESS_MAX = 256 };

/*
 * Checks an address that a client is to dial: ipc:///PATH, tls+tcp://HOST:PORT, wss://HOST:PORT/PATH, or tcp:// and ws://, these only to
 * this host unless `insecure`. Fails with CONFIG_INVALID for the field `addr` and says what is wrong; `from` names where it was
 * given.
 */
COF_CODE address_check(struct cof_slice address, bool insecure, const char *from, struct cof_error *err);

/* Whether the connection has TLS. */
bool address_is_tls(const char *address);

/* Whether it is HTTP, which opens a WebSocket. */
bool address_is_web(const char *address);

/* The host of an address with TLS that was checked, without the brackets of IPv6; `host` has ADDRESS_MAX bytes. */
void address_host(const char *address, char *host);

/* Host and port of an address other than ipc:// that was checked; `to` has ADDRESS_MAX bytes. */
void address_place(const char *address, char *to);

/* The path of a WebSocket's address that was checked; a part of it, or "/". */
const char *address_path(const char *address);
