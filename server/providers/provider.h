#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"

/*
 * What an OAuth provider is: where its endpoints are and in what it differs from others, as data. There is no code for
 * single providers: what one does in its own way is a field here, and every caller goes by the fields. An entry of the
 * catalogue and a custom provider's row become the same struct (docs/decisions/0024-providers.md).
 *
 * Texts end with NUL, hold no other, and are never NULL: what is not told is empty. They and the lists belong to whoever
 * made the struct: the catalogue, for the life of the process, or an arena.
 */

enum {
    PROVIDER_ID_MAX = 94,    /* with "_oauth" behind it, it is a secret's name */
    PROVIDER_NAME_MAX = 200, /* bytes of UTF-8 */
    PROVIDER_URL_MAX = 2048,
    PROVIDER_SCOPE_MAX = 512,
    PROVIDER_SCOPES_MAX = 100,
    PROVIDER_PARAMETERS_MAX = 8,
    PROVIDER_PARAMETER_VALUE_MAX = 253,
    PROVIDER_EXTRAS_MAX = 16,
};

/* Whose token it is. User: authorization code, device, a refresh token brought along. Service: client credentials, JWT
 * bearer. */
typedef enum provider_class { PROVIDER_USER, PROVIDER_SERVICE, PROVIDER_CLASSES } provider_class;

/* How the client says to the token endpoint who it is. Bits, for a provider takes one or more. */
typedef enum provider_client_auth {
    PROVIDER_AUTH_BASIC = 1 << 0,
    PROVIDER_AUTH_POST = 1 << 1,
    PROVIDER_AUTH_NONE = 1 << 2,
    PROVIDER_AUTH_PRIVATE_KEY_JWT = 1 << 3,
} provider_client_auth;

/* PKCE is S256; `plain` is never used. */
typedef enum provider_pkce { PROVIDER_PKCE_USED, PROVIDER_PKCE_REFUSED } provider_pkce;

/* What a parameter's value may consist of, so that it cannot change what stands around it. */
typedef enum provider_parameter_form {
    PROVIDER_FORM_LABEL,   /* one label of a host's name: a-z, 0-9, "-" */
    PROVIDER_FORM_HOST,    /* a host's name of two labels or more */
    PROVIDER_FORM_SEGMENT, /* of a path: letters, digits, "._-"; not "." or ".." */
} provider_parameter_form;

/* {name} in an endpoint, issuer or resource. */
struct provider_parameter {
    const char *name; /* a-z, 0-9, "_" */
    provider_parameter_form form;
    const char *value; /* what it is if the connection gives none; empty: the connection must give it */
    const char *help;
};

struct provider_pair {
    const char *name;
    const char *value;
};

struct provider_pairs {
    const struct provider_pair *items;
    size_t count;
};

struct provider_texts {
    const char *const *items;
    size_t count;
};

/* What is particular to one class of tokens. */
struct provider_side {
    bool offered;                       /* there are tokens of this class */
    bool jwt_bearer;                    /* SERVICE: by a signed assertion (RFC 7523), not by client credentials */
    struct provider_texts scopes;       /* those that are asked for unless the connection says otherwise */
    const char *scope_parameter;        /* "scope"; Slack's user scopes go into "user_scope" */
    const char *token_member;           /* of the token answer, which holds the tokens; empty: the answer itself */
    struct provider_pairs token_extras; /* added to every token request of the class */
};

struct provider {
    const char *id;
    const char *name;
    const char *documentation; /* where the provider tells of it */
    bool custom;               /* of one workspace */

    /* Templates with {parameters}; provider_expand makes URLs of them. */
    const char *issuer;
    const char *authorization_endpoint;
    const char *token_endpoint;
    const char *revocation_endpoint;
    const char *device_endpoint;
    const char *registration_endpoint;
    const char *mcp_server; /* where discovery begins (RFC 9728) */
    const char *resource;   /* for token and authorization requests (RFC 8707) */
    bool discovery;         /* endpoints come from the issuer or the MCP server, and are not known before */
    struct provider_parameter parameters[PROVIDER_PARAMETERS_MAX];
    size_t parameter_count;

    struct provider_side sides[PROVIDER_CLASSES];
    const char *scope_separator; /* " " mostly, "," */

    /* Of the authorization request. */
    provider_pkce pkce;
    bool sends_issuer; /* announces `iss` in its redirects, so it is demanded (RFC 9207) */
    struct provider_pairs authorize_extras;

    /* Of token requests. */
    unsigned client_auths;            /* of provider_client_auth: what it takes */
    provider_client_auth client_auth; /* the one that is used unless the connection says otherwise */
    bool accept_json;                 /* answers as a form unless asked for JSON by Accept */
    bool assertion_audience_issuer;   /* `aud` of assertions is the issuer, not the token endpoint */

    /* Of tokens. */
    bool token_never_expires; /* a token without expires_in lives until it is revoked; else for `token_life_s` */
    uint32_t token_life_s;    /* without expires_in */
    uint32_t refresh_life_s;  /* 0: not known, or for ever */
    bool refresh_rotates;     /* each refresh gives a new refresh token */
    bool refresh_rotates_strictly; /* and an old one used again ends the session */
    uint32_t refresh_grace_s;      /* time in which an old one may be used again */
    bool refresh_ends_old_access;  /* the old access token ends when a new one is issued, so it is refreshed late */
};

/* What holds where nothing is told. */
extern const struct provider provider_defaults;

/*
 * Whether it makes sense and can do no harm: IDs, https and nothing but https, parameters that are declared and used, scopes,
 * extras that do not take the place of what we send ourselves, one grant at least with the endpoints that it needs. Fails
 * with FIELD_REQUIRED or FIELD_INVALID; the message begins with the field, as the file and the contract name it.
 */
COF_CODE provider_check(const struct provider *provider, struct cof_error *err);

/* Whether `value` has the parameter's form and is short enough. */
bool provider_parameter_fits(const struct provider_parameter *parameter, const char *value);

/*
 * The URL of a template, whose parameters are all declared: each gets its value of `values`, or its own. Fails with
 * FIELD_REQUIRED or FIELD_INVALID, which name the parameter, if one is missing, unknown or does not fit; the text of a value
 * is not in the message.
 */
COF_CODE provider_expand(const struct provider *provider, const char *template, struct provider_pairs values,
                         struct cof_arena *arena, const char **ret_url, struct cof_error *err);
