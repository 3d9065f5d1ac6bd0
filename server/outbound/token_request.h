#pragma once

#include "common/arena.h"
#include "server/outbound/assertion.h"

/*
 * What is sent to a token endpoint (RFC 6749, 7521, 7523, 7636, 8628, 8707), or to a revocation endpoint (RFC 7009), for
 * every grant and every way in which a client says who it is. Pure: no I/O, no clock, no randomness of its own. All memory
 * is the arena's, credentials in it.
 */

enum {
    TOKEN_REQUEST_MAX = 256 * 1024, /* bytes of a body */
    TOKEN_SCOPE_MAX = 16 * 1024,    /* of all scopes together */
};

typedef enum token_client_authentication {
    TOKEN_CLIENT_BASIC, /* ID and secret in a header, each form-encoded first (RFC 6749, 2.3.1), a space as %20 */
    TOKEN_CLIENT_POST,  /* in the body */
    TOKEN_CLIENT_NONE,  /* the ID in the body */
    TOKEN_CLIENT_PRIVATE_KEY_JWT,
} token_client_authentication;

struct token_signer {
    struct cof_slice key;    /* PEM, normalised */
    struct cof_slice key_id; /* empty: none */
};

struct token_client {
    token_client_authentication authentication;
    struct cof_slice id; /* empty: none, which a JWT bearer without a client may have */
    struct cof_slice secret;
    struct token_signer signer;
};

typedef enum token_exchange_kind {
    TOKEN_EXCHANGE_REFRESH,            /* `grant`: the refresh token */
    TOKEN_EXCHANGE_CLIENT_CREDENTIALS, /* scopes */
    TOKEN_EXCHANGE_JWT_BEARER,         /* `signer`, `issuer`, `subject`, scopes */
    TOKEN_EXCHANGE_CODE,               /* `grant`: the code; `redirect_uri`, `code_verifier` */
    TOKEN_EXCHANGE_DEVICE,             /* `grant`: the device code; `code_verifier` */
    TOKEN_EXCHANGE_DEVICE_START,       /* to the device endpoint: scopes, `code_challenge` */
    TOKEN_EXCHANGE_REVOKE,             /* `grant`: a token; to the revocation endpoint */
} token_exchange_kind;

/* A parameter of the body; an empty value is sent as it is. */
struct token_parameter {
    struct cof_slice name;
    struct cof_slice value;
};

struct token_exchange {
    token_exchange_kind kind;
    struct token_client client;
    struct cof_slice grant;
    struct cof_slice redirect_uri;
    struct cof_slice code_verifier;  /* empty: without PKCE */
    struct cof_slice code_challenge; /* the same; S256 */
    bool revokes_refresh_token;      /* REVOKE: what `grant` is */

    /* Of the assertion that is a grant. */
    struct token_signer signer;
    struct cof_slice issuer;
    struct cof_slice subject; /* empty: none; but RFC 7523 wants one where no provider says otherwise */
    bool scope_in_assertion;  /* Google's way; else scopes are a parameter */

    struct cof_slice audience; /* of assertions: the token endpoint, or what the provider wants instead */
    const struct cof_slice *scopes;
    size_t scope_count;
    const char *scope_separator; /* " " */
    const char *scope_parameter; /* "scope" */
    struct cof_slice resource;   /* RFC 8707; empty: none */
    const struct token_parameter *extras;
    size_t extra_count;

    int64_t now_s;
    /* Two of ASSERTION_NONCE bytes, new for each try: of the grant's assertion and of the client's. */
    const uint8_t *nonces;
};

/* POST, with the content type application/x-www-form-urlencoded. */
struct token_request {
    struct cof_slice authorization; /* the header's value; empty: no such header */
    struct cof_slice body;
};

/*
 * Fails with FIELD_INVALID if a key cannot sign, or with LIMIT_EXCEEDED if the body were too large. The provider is expected
 * to have been checked: no extra parameter takes the place of one that is written here.
 */
COF_CODE token_request_build(const struct token_exchange *exchange, struct cof_arena *arena,
                             struct token_request *ret_request, struct cof_error *err);

/* Texts in application/x-www-form-urlencoded, a space as %20. */
COF_CODE token_form_encode(struct cof_slice text, struct cof_arena *arena, struct cof_slice *ret_text,
                           struct cof_error *err);
