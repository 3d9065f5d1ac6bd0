#pragma once

#include "common/arena.h"
#include "server/crypto/private_key.h"

/*
 * Signed assertions (RFC 7523): of a client about itself, and as a grant. Pure: time and randomness come from the caller.
 */

enum {
    ASSERTION_NONCE = 16,    /* bytes of the jti */
    ASSERTION_LIFE_S = 300,  /* from the time it is made */
    ASSERTION_LEEWAY_S = 10, /* before which it counts as made: clocks differ, and some servers refuse the future */
};

struct assertion {
    struct cof_slice key;    /* PEM, normalised; RS256 or ES256 by its type */
    struct cof_slice key_id; /* `kid`; empty: none */
    struct cof_slice issuer;
    struct cof_slice subject; /* empty: none */
    struct cof_slice audience;
    struct cof_slice scope; /* empty: none */
    int64_t now_s;          /* since 1970 */
    const uint8_t *nonce; /* ASSERTION_NONCE random bytes, new for each try: providers refuse one that they know */
};

/* Signs it; the text lies in the arena. Fails with FIELD_INVALID, of `field`, if the key cannot be used. */
COF_CODE assertion_sign(const struct assertion *assertion, const char *field, struct cof_arena *arena,
                        struct cof_slice *ret_text, struct cof_error *err);

/* Checks that a key can sign assertions. */
COF_CODE assertion_check_key(struct cof_slice key, const char *field, struct cof_arena *arena,
                             struct cof_error *err);
