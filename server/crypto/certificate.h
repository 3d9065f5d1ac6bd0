#pragma once

#include <stdbool.h>

#include "server/crypto/private_key.h"

/*
 * X.509 certificates that people store: read and described, not verified; whether one is trusted is for whoever uses
 * it. Failures are FIELD_INVALID with `field`, which begins the message.
 */

enum {
    CERTIFICATE_FINGERPRINT = 64 + 1, /* SHA-256 of the whole certificate in hex, NUL */
    CERTIFICATE_NAME_MAX = 1000,      /* longer names are cut off */
};

struct certificate {
    struct x509_st *x509; /* OpenSSL's */
    const char *subject;  /* RFC 2253, in ASCII: "CN=coffer.example,O=Example" */
    const char *issuer;
    char fingerprint[CERTIFICATE_FINGERPRINT];
    int64_t not_before; /* seconds since 1970 */
    int64_t not_after;
    bool ca; /* may issue others */
};

struct certificates {
    struct certificate *items; /* in the order of the text, in the arena */
    size_t count;              /* 1 or more */
};

/* Reads all certificates of a normalised text (pem.h), which may have comments around them. */
COF_CODE certificates_read(struct cof_slice text, const char *field, struct cof_arena *arena,
                           struct certificates *ret_certificates, struct cof_error *err);
/* Frees what OpenSSL holds of them. */
void certificates_done(struct certificates *certificates);

/* Whether it certifies the public part of this key. */
bool certificate_matches(const struct certificate *certificate, const struct private_key *key);
