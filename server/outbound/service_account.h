#pragma once

#include "common/arena.h"

/*
 * The key of a service account as Google hands it out: a JSON object with `client_email`, `private_key` and
 * `private_key_id`. Its endpoints are not used: where an assertion is sent is what the provider's entry says.
 */

enum { SERVICE_ACCOUNT_MAX = 65536 }; /* bytes of the file */

struct service_account {
    struct cof_slice client_email;
    struct cof_slice private_key;    /* PEM, normalised */
    struct cof_slice private_key_id; /* empty: none */
};

/*
 * Reads it; what is found lies in the arena. Fails with FIELD_INVALID, of `field`: it is no such object, a member is
 * missing, stands twice or is no text, or the key cannot sign. No message has anything of the file in it.
 */
COF_CODE service_account_read(struct cof_slice json, const char *field, struct cof_arena *arena,
                              struct service_account *ret_account, struct cof_error *err);
