#pragma once

#include "server/providers/provider.h"

/*
 * Dynamic client registration (RFC 7591) as texts: what is asked for, and what of the answer is believed. Pure. Nothing of
 * an answer is quoted but a provider's own words about a refusal, for credentials stand in it.
 */

enum {
    REGISTRATION_URIS_MAX = 8,
    REGISTRATION_NAME_MAX = 200,
    REGISTRATION_ID_MAX = 512,
    REGISTRATION_SECRET_MAX = 4096,
    REGISTRATION_WORDS_MAX = 300,
};

struct registration_wish {
    const char *name; /* of the client, for people */
    struct provider_texts redirect_uris;
    struct provider_texts grants; /* as `grant_types` has them */
    struct provider_texts scopes; /* none: whatever the provider gives */
    provider_client_auth auth;
    unsigned auths; /* that the provider takes: it may answer with another of them */
    const char *software_id;
    const char *software_version;
};

/* The body of the request, application/json. */
COF_CODE registration_write(const struct registration_wish *wish, struct cof_arena *arena,
                            struct cof_slice *ret_body, struct cof_error *err);

struct registration_found {
    const char *client_id;
    const char *client_secret; /* empty: a public client */
    int64_t secret_expires_s;  /* since 1970; 0: never, or not told */
    provider_client_auth auth;
    const char *access_token; /* for RFC 7592; empty: none */
    const char *client_uri;   /* the same */
};

/*
 * Reads the answer of a success. FILE_INVALID if it is no client that can be used as it was asked for: no ID, no secret
 * where the authentication needs one, an authentication that is not known, other redirect URIs, a client_uri that is not
 * https.
 */
COF_CODE registration_read(struct cof_slice answer, const struct registration_wish *wish, struct cof_arena *arena,
                           struct registration_found *ret_found, struct cof_error *err);

/* Why it was refused: the provider's code and words, in printable ASCII, or empty. */
void registration_refusal(struct cof_slice answer, struct cof_arena *arena,
                          char ret_words[REGISTRATION_WORDS_MAX + 1]);
