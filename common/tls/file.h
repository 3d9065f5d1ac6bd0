#pragma once

#include <stddef.h>

#include "common/tls/context.h"

/* Files with certificates and keys, as text that is wiped when it is freed. */

struct cof_tls_text {
    char *bytes;
    size_t size;
};

/* Reads a file of certificates, which anybody may read. CONFIG_INVALID. */
COF_CODE cof_tls_file_read(const struct cof_tls_file *file, struct cof_tls_text *ret_text, struct cof_error *err);

/* Reads a key; refused if anybody but its owner may use it, or it belongs to another user. CONFIG_INVALID. */
COF_CODE cof_tls_file_read_key(const struct cof_tls_file *file, struct cof_tls_text *ret_text,
                               struct cof_error *err);

void cof_tls_text_done(struct cof_tls_text *text);
