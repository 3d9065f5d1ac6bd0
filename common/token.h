#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "common/slice.h"
#include "common/uuid.h"

/*
 * The text form of a token (docs/decisions/0001-workspaces-and-tokens.md):
 *
 *   cof_<kind>_<payload><check>
 *
 * payload = workspace UUID, token UUID, 32 random bytes as one big-endian number in base 62 (0-9A-Za-z),
 * left-padded to 86 characters; check = CRC-32 (IEEE) over everything before it, in base 62, left-padded to 6
 * characters.
 */

typedef enum cof_token_kind {
    COF_TOKEN_WORKSPACE = 1, /* cof_ws_ */
    COF_TOKEN_FLEET = 2,     /* cof_fleet_ */
    COF_TOKEN_SYSTEM = 3,    /* cof_sys_ */
} cof_token_kind;

enum {
    COF_TOKEN_SECRET = 32,
    COF_TOKEN_PAYLOAD_TEXT = 86,
    COF_TOKEN_CHECK_TEXT = 6,
    COF_TOKEN_TEXT = 10 + COF_TOKEN_PAYLOAD_TEXT + COF_TOKEN_CHECK_TEXT + 1, /* longest, with the NUL */
};

struct cof_token {
    cof_token_kind kind;
    struct cof_uuid workspace; /* that its account belongs to */
    struct cof_uuid id;
    struct cof_uuid home; /* the workspace that a request without one means, where it may come without one */
    uint8_t secret[COF_TOKEN_SECRET];
    /* The text of a narrowed token (common/narrowed.h), whose secret nobody but its owner knows; kind, workspace and ID
     * are those of the token that it was made from. Borrowed; empty: a whole token. */
    struct cof_slice narrowed;
};

/* Reads a whole token; fails with TOKEN_MALFORMED and says whether it is cut, mistyped or no token at all. */
COF_CODE cof_token_parse(struct cof_slice text, struct cof_token *ret_token, struct cof_error *err);

/* The check of everything before it, without a NUL. */
void cof_token_check(struct cof_slice text, char check[COF_TOKEN_CHECK_TEXT]);

/* Writes the text and a NUL. */
void cof_token_format(const struct cof_token *token, char text[COF_TOKEN_TEXT]);
