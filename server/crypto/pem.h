#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/slice.h"

/*
 * PEM (RFC 7468, and RFC 1421 where old tools still write its headers): blocks of base64 between armour lines.
 *
 * `field` is the path of the value in the request; it begins every message. Failures are FIELD_INVALID. No message has
 * anything of the text but names of blocks.
 */

enum { PEM_LABEL_MAX = 64 };

struct pem_block {
    struct cof_slice label; /* "CERTIFICATE"; borrowed from the text */
    bool encrypted;         /* a header says so */
    struct cof_slice bytes; /* what the base64 stands for, in the arena */
};

/* A copy with LF as line ends and exactly one at the end, in the arena. Fails with OUT_OF_MEMORY only. */
COF_CODE pem_normalize(struct cof_slice text, struct cof_arena *arena, struct cof_slice *ret_text,
                       struct cof_error *err);

/*
 * Reads the first block of a normalised text and takes it off its front, with what stands before it, which is
 * returned as *ret_before if that is not NULL. *ret_found is false if there is no block, and
 * the text is left as it is.
 */
COF_CODE pem_next(struct cof_slice *text, const char *field, struct cof_arena *arena, struct pem_block *ret_block,
                  struct cof_slice *ret_before, bool *ret_found, struct cof_error *err);

/* The failure of a text without the block wanted ("a private key"); tells common mistakes. */
COF_CODE pem_missing(struct cof_slice text, const char *field, const char *wanted, struct cof_error *err);
