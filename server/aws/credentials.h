#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/slice.h"

/* Credentials of AWS, and the answers that bring them. Pure. */

enum {
    AWS_ACCESS_KEY_MAX = 128,
    AWS_SECRET_KEY_MAX = 256,
    AWS_SESSION_TOKEN_MAX = 16384,
};

#define AWS_NEVER INT64_MAX

/* Borrowed texts. */
struct aws_credentials {
    struct cof_slice access_key_id;
    struct cof_slice secret_access_key;
    struct cof_slice session_token; /* empty: long-lived keys have none */
    int64_t expire_us;              /* since 1970; AWS_NEVER */
};

/* Whether they can go into headers and the environment of a process: printable ASCII, within the limits. */
bool aws_credentials_are_usable(const struct aws_credentials *credentials);

/* A time such as 2026-11-26T05:00:00Z, with fractions of a second or without; false if it is none. */
bool aws_time_read(struct cof_slice text, int64_t *ret_us);

/*
 * Reads what the container's endpoint and that of the instance (IMDS) answer: an object with AccessKeyId, SecretAccessKey,
 * Token and Expiration. Texts lie in the arena. Returns what is wrong with it, which is static; NULL: nothing.
 */
const char *aws_credentials_read_json(struct cof_slice body, struct cof_arena *arena,
                                      struct aws_credentials *ret_credentials);
