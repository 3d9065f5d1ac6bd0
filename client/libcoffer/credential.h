#pragma once

#include "client/libcoffer/memory.h"
#include "common/error.h"
#include "common/slice.h"

/* A token in locked memory, as the metadata `authorization` wants it. Calls hold on to the one they began with. */

struct credential;

enum { CREDENTIAL_MAX = 3072 };

/* Copies the token. Fails with TOKEN_MALFORMED, which says what is wrong but never shows the token, or
 * OUT_OF_MEMORY. */
COF_CODE credential_new(struct memory *memory, struct cof_slice token, struct credential **ret_credential,
                        struct cof_error *err);

/* The same from a file; white space at its end is left out. Fails also with CONFIG_INVALID. */
COF_CODE credential_read(struct memory *memory, const char *path, struct credential **ret_credential,
                         struct cof_error *err);

/* NULL is allowed in all three. */
struct credential *credential_hold(struct credential *credential);
void credential_drop(struct credential *credential);
/* "Bearer " and the token; empty for NULL. */
struct cof_slice credential_text(const struct credential *credential);
