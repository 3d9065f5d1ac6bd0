#pragma once

#include <google/protobuf/timestamp.pb-c.h>

#include "client/cli/cli.h"

/* Times that people give. */

/* A number and its unit: 90s, 30min, 24h, 7d. False for anything else. */
bool moment_span(const char *text, int64_t *ret_seconds);

/* 2027-01-31 (its first second, UTC) or 2027-01-31T12:00:00Z as seconds since 1970. False for anything else. */
bool moment_parse(const char *text, int64_t *ret_seconds);

/*
 * The value of the option `name`: 2027-01-31 (its first second, UTC), 2027-01-31T12:00:00Z, a span from now, or
 * "never", for which `ret_never` is set. CLI_USAGE for anything else.
 */
cli_exit moment_read(const char *name, const char *text, Google__Protobuf__Timestamp *ret_time, bool *ret_never);
