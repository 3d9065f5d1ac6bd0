#pragma once

#include "server/crypto/private_key.h"

/*
 * Signed JSON in the compact form of JWS (RFC 7515), for assertions of OAuth clients: RS256 and ES256 (RFC 7518).
 */

typedef enum jws_algorithm { JWS_RS256, JWS_ES256 } jws_algorithm;

enum { JWS_RSA_MIN = 2048 }; /* bits: RFC 7518, 3.3 */

/* What the key signs with: RSA of 2048 bits or more with RS256, ECDSA on P-256 with ES256. FIELD_INVALID for others. */
COF_CODE jws_algorithm_of(const struct private_key *key, const char *field, jws_algorithm *ret_algorithm,
                          struct cof_error *err);

/* "RS256". */
const char *jws_algorithm_name(jws_algorithm algorithm);

/* base64url(header) "." base64url(payload) "." base64url(signature), in the arena. The key signs with this algorithm. */
COF_CODE jws_sign(const struct private_key *key, jws_algorithm algorithm, struct cof_slice header,
                  struct cof_slice payload, struct cof_arena *arena, struct cof_slice *ret_text,
                  struct cof_error *err);
