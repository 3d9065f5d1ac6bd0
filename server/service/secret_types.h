#pragma once

#include <coffer/v1/secret.pb-c.h>

#include "server/service/values.h"

/*
 * Secrets with a structure (product.md, Secret types): which keys they have, and what those must hold.
 *
 *   SSH_KEY     PRIVATE_KEY                            unencrypted, OpenSSH's format or PEM
 *   MTLS        TLS_CERTIFICATE, TLS_PRIVATE_KEY       PEM; the first certificate belongs to the key, others follow
 *   CA_CERT     CA_CERTIFICATE                         PEM, one certificate or more
 *   GITHUB_APP  GITHUB_APP_ID, GITHUB_APP_PRIVATE_KEY  digits; RSA, PEM
 *               GITHUB_APP_WEBHOOK_SECRET, GITHUB_APP_CLIENT_ID   optional
 *
 * A secret is checked whole whenever its values are written, after a patch was applied.
 */

/* What is known of a structured secret without its values. Texts lie in the arena or are static; none is NULL. */
struct secret_facts {
    const char *key_type; /* "ed25519", "ecdsa", "rsa", "ed448"; empty: there is no key */
    uint32_t key_bits;    /* 0: there is no key */
    const char
        *fingerprint;    /* of an SSH_KEY or GITHUB_APP as ssh-keygen -l shows it; of certificates the first one's
                                SHA-256 in hex */
    const char *subject; /* of the first certificate; empty: there is none */
    const char *issuer;
    uint32_t certificates;
    int64_t not_after;     /* seconds since 1970 at which the first of the certificates expires; 0: there is none */
    const char **warnings; /* what the writer should know: sentences for people */
    size_t warning_count;
};

/* The type with a structure that is called so, such as "ssh_key"; false if there is none. */
bool secret_type_of_name(struct cof_slice name, Coffer__V1__SecretType *ret_type);

/* Whether a secret of this type may have such a key; always, if it has no structure. */
bool secret_type_may_have(Coffer__V1__SecretType type, const char *key);

/*
 * Checks values of a type, sorted by key as values_read leaves them, and returns what is to be stored: PEM with LF as
 * line ends and one at the end, IDs without white space around them. Values of CUSTOM are returned as they are, with no
 * facts. `now` is in seconds since 1970; `values` and `ret_values` may be the same.
 *
 * Fails with FIELD_INVALID or FIELD_REQUIRED; the field is "values.<KEY>", and the message never has anything of a
 * value. NOT_AVAILABLE for a type that is not known. Everything returned lies in the arena or in the values given.
 */
COF_CODE secret_type_check(Coffer__V1__SecretType type, const struct values *values, int64_t now,
                           struct cof_arena *arena, struct values *ret_values, struct secret_facts *ret_facts,
                           struct cof_error *err);
