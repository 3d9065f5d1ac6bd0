#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/slice.h"

/*
 * Private keys that people store: read, checked, described. Failures are FIELD_INVALID with `field`, which begins the
 * message; nothing of the key stands in it.
 */

struct private_key;

typedef enum private_key_use {
    PRIVATE_KEY_FOR_SSH, /* PEM, or OpenSSH's own format; types that SSH has */
    PRIVATE_KEY_FOR_TLS, /* PEM; RSA, ECDSA on a named curve, Ed25519, Ed448 */
    PRIVATE_KEY_FOR_RSA, /* PEM; RSA */
} private_key_use;

enum {
    PRIVATE_KEY_FINGERPRINT = 7 + 43 + 1, /* "SHA256:", 43 digits, NUL */
    PRIVATE_KEY_RSA_MIN = 1024,           /* bits */
    PRIVATE_KEY_RSA_MAX = 16384,
};

/*
 * Reads the one private key of a normalised text (pem.h). That its parts fit together is checked: an RSA key's primes
 * and exponents, a public part that stands beside a private one. What is decoded lies in the arena.
 */
COF_CODE private_key_read(struct cof_slice text, private_key_use use, const char *field, struct cof_arena *arena,
                          struct private_key **ret_key, struct cof_error *err);
void private_key_free(struct private_key *key);
void private_key_cleanup(struct private_key **key);

/* "rsa", "ecdsa", "ed25519", "ed448". Static. */
const char *private_key_type(const struct private_key *key);
/* Bits of an RSA key's modulus, of an ECDSA key's curve; 256 for Ed25519, 456 for Ed448. */
uint32_t private_key_bits(const struct private_key *key);

/* "SHA256:..." of the public part, as ssh-keygen -l shows it. The key must be one that SSH has. */
COF_CODE private_key_fingerprint(const struct private_key *key, char to[PRIVATE_KEY_FINGERPRINT],
                                 struct cof_error *err);
