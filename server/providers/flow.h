#pragma once

#include "common/uuid.h"
#include "server/providers/provider.h"

/*
 * The authorization code flow as texts (RFC 6749, 4.1; RFC 7636; RFC 9207; RFC 8707; RFC 9700): the state, where a person is
 * sent, and what comes back. Pure: no I/O, no clock, no randomness of its own. Nothing that is refused is quoted, for it may
 * hold a code.
 */

enum {
    FLOW_STATE_RANDOM = 32,
    FLOW_STATE_TEXT = 67, /* with the NUL */
    FLOW_CODE_MAX = 4096,
    FLOW_QUERY_MAX = 8192,
    FLOW_REDIRECT_MAX = 1024,
    FLOW_ERROR_MAX = 64,
    FLOW_WORDS_MAX = 300,
};

/* `state` = base64url(format, workspace, random): whoever gets it knows where to look for what belongs to it. */
void flow_state_make(const struct cof_uuid *workspace, const uint8_t random[FLOW_STATE_RANDOM],
                     char text[FLOW_STATE_TEXT]);
/* False for anything that flow_state_make does not write. */
bool flow_state_read(struct cof_slice text, struct cof_uuid *ret_workspace, uint8_t ret_random[FLOW_STATE_RANDOM]);

/*
 * Whether people may be sent back there: an https URL, or http on 127.0.0.1, [::1] or localhost (RFC 8252, 7.3 and 8.3), of
 * at most FLOW_REDIRECT_MAX printable characters, without a user and a fragment.
 */
bool flow_redirect_fits(const char *uri);

struct flow_start {
    const struct provider *provider;
    struct provider_pairs parameters; /* of the connection */
    const char *client_id;
    const char *redirect_uri;
    const char *state;
    const char *code_challenge; /* base64url(SHA-256(verifier)) */
    struct provider_texts scopes;
};

/*
 * The URL of the authorization request, in the arena. A query that the endpoint has already stays (RFC 6749, 3.1). Fails as
 * provider_expand does, or if all of it is longer than FLOW_QUERY_MAX.
 */
COF_CODE flow_authorize_url(const struct flow_start *start, struct cof_arena *arena, const char **ret_url,
                            struct cof_error *err);

/* What somebody's browser brought to the redirect URI; decoded, in the arena; empty: not there. */
struct flow_return {
    struct cof_slice state;
    struct cof_slice code;
    struct cof_slice issuer;
    struct cof_slice error;
    struct cof_slice error_description;
};

/* Reads a query. Fails with FIELD_INVALID if it is too long, is not form-encoded UTF-8, or has one of these parameters
 * twice. */
COF_CODE flow_return_read(struct cof_slice query, struct cof_arena *arena, struct flow_return *ret_return,
                          struct cof_error *err);

typedef enum flow_verdict {
    FLOW_CODE,           /* there is a code, and it comes from whom it should */
    FLOW_REFUSED,        /* the provider says no: `code` and `words` */
    FLOW_INCOMPLETE,     /* neither a code nor an error, or both */
    FLOW_ISSUER_MISSING, /* the provider announces `iss`, and there is none */
    FLOW_ISSUER_OTHER,   /* it comes from another authorization server: a mix-up */
} flow_verdict;

struct flow_outcome {
    flow_verdict verdict;
    char code[FLOW_ERROR_MAX + 1];  /* of the provider's refusal: letters, digits, "_.-" only, or empty */
    char words[FLOW_WORDS_MAX + 1]; /* printable ASCII, or empty */
};

/*
 * What it means. The issuer is looked at first, also of errors: `issuer` is the provider's with its parameters in it, or
 * empty, and is compared byte by byte. One that is not known but announced cannot be right.
 */
void flow_return_judge(const struct flow_return *back, const char *issuer, bool sends_issuer,
                       struct flow_outcome *ret_outcome);
