/* What the authorization code flow is about: where a person is sent, and what comes back (server/providers/flow.h). */
#include <stdio.h>
#include <string.h>

#include "common/encode.h"
#include "server/crypto/crypto.h"
#include "server/service/authorizations.h"
#include "server/service/connection_exchange.h"
#include "server/service/connection_place.h"
#include "server/service/text.h"

enum { REFUSAL_TEXT = FLOW_ERROR_MAX + FLOW_WORDS_MAX + 64 };

bool authorization_state(struct cof_slice text, struct cof_uuid *ret_workspace,
                         uint8_t ret_hash[AUTHORIZATION_HASH])
{
    uint8_t random[FLOW_STATE_RANDOM];
    struct cof_error err;
    return flow_state_read(text, ret_workspace, random) &&
           crypto_sha256(cof_slice_of(random, sizeof random), ret_hash, &err) == COF_OK;
}

static cof_code changed(struct call *call)
{
    return cof_fail(call->err, COF_REASON_AUTHORIZATION_REFUSED,
                    "the connection or its provider was changed or deleted since the authorization was started; "
                    "nothing was stored; start anew");
}

cof_code authorization_rows(struct call *call, const struct authorization *authorization,
                            struct refresh_rows *ret_rows, const struct provider **ret_provider)
{
    const struct connection_authorization_row *row = &authorization->row;
    const cof_code code = refresh_rows_read(call, &row->workspace_id, &row->connection_id, ret_rows);
    if (code == COF_NOT_FOUND && call->err->reason == COF_REASON_CONNECTION_NOT_FOUND) {
        return changed(call);
    }
    TRY(code);
    TRY(connection_exchange_provider(call, ret_rows, ret_provider));
    return *ret_provider == NULL || (authorization->sealed != NULL &&
                                     authorization->sealed->config_generation != ret_rows->row.config_generation)
               ? changed(call)
               : COF_OK;
}

/* --- Where a person is sent ----------------------------------------------------------------------------------- */

static cof_code scopes_of(struct call *call, const struct connection_row *connection,
                          const struct provider *provider, struct provider_texts *ret_scopes)
{
    const size_t count = connection->scopes.count;
    const char **items = cof_arena_array(call->arena, count, sizeof *items);
    *ret_scopes = provider->sides[PROVIDER_USER].scopes;
    if (items == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = text_of(call->arena, connection->scopes.items[i]);
        if (items[i] == NULL) {
            return cof_arena_exhausted(call->err);
        }
    }
    if (count > 0) {
        *ret_scopes = (struct provider_texts){items, count};
    }
    return COF_OK;
}

static cof_code parameters_of(struct call *call, const Coffer__V1__ConnectionSettings *settings,
                              struct provider_pairs *ret_pairs)
{
    struct provider_pair *pairs = cof_arena_array(call->arena, settings->n_parameters, sizeof *pairs);
    if (pairs == NULL) {
        return cof_arena_exhausted(call->err);
    }
    for (size_t i = 0; i < settings->n_parameters; i++) {
        pairs[i] = (struct provider_pair){settings->parameters[i]->name, settings->parameters[i]->value};
    }
    *ret_pairs = (struct provider_pairs){pairs, settings->n_parameters};
    return COF_OK;
}

cof_code authorization_challenge(const char *verifier, char challenge[AUTHORIZATION_CHALLENGE],
                                 struct cof_error *err)
{
    _Static_assert((int) AUTHORIZATION_CHALLENGE == COF_BASE64URL_SIZE(CRYPTO_DIGEST), "the text of a digest");
    uint8_t digest[CRYPTO_DIGEST];
    TRY(crypto_sha256(cof_slice_text(verifier), digest, err));
    cof_base64url_encode(cof_slice_of(digest, sizeof digest), challenge);
    return COF_OK;
}

cof_code authorization_url(struct call *call, const struct connection_row *connection,
                           const struct provider *provider, const struct authorization *authorization,
                           const char *state, const char **ret_url)
{
    char challenge[AUTHORIZATION_CHALLENGE];
    Coffer__V1__ConnectionSettings *settings = NULL;
    struct provider asked = *provider;
    struct flow_start start = {
        .provider = &asked,
        .client_id = text_of(call->arena, connection->client_id),
        .redirect_uri = authorization->sealed->redirect_uri,
        .state = state,
        .code_challenge = challenge,
    };
    if (start.client_id == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(connection_settings(call, connection, &settings));
    TRY(parameters_of(call, settings, &start.parameters));
    TRY(scopes_of(call, connection, provider, &start.scopes));
    TRY(authorization_challenge(authorization->sealed->code_verifier, challenge, call->err));
    if (settings->resource[0] != '\0') {
        asked.resource = settings->resource;
    }
    return flow_authorize_url(&start, call->arena, ret_url, call->err);
}

/* --- What comes back ------------------------------------------------------------------------------------------ */

static cof_code issuer_of(struct call *call, const struct refresh_rows *rows, const struct provider *provider,
                          const char **ret_issuer)
{
    Coffer__V1__ConnectionSettings *settings = NULL;
    struct provider_pairs parameters;
    TRY(connection_settings(call, &rows->row, &settings));
    TRY(parameters_of(call, settings, &parameters));
    return provider_expand(provider, provider->issuer, parameters, call->arena, ret_issuer, call->err);
}

static const char *words_of(const struct flow_outcome *outcome)
{
    switch (outcome->verdict) {
    case FLOW_CODE:
        return "";
    case FLOW_REFUSED:
        return outcome->code;
    case FLOW_INCOMPLETE:
        return "the provider sent neither a code nor an error";
    case FLOW_ISSUER_MISSING:
        return "the provider did not say which server it is (iss), though it announces that";
    case FLOW_ISSUER_OTHER:
        break;
    }
    return "the answer comes from another authorization server than the one that was asked; somebody may have "
           "tried to "
           "mix them up";
}

cof_code authorization_judge(struct call *call, const struct refresh_rows *rows, const struct provider *provider,
                             const struct flow_return *back, flow_verdict *ret_verdict, struct cof_slice *ret_text)
{
    struct flow_outcome outcome;
    char text[REFUSAL_TEXT];
    const char *issuer = NULL;
    TRY(issuer_of(call, rows, provider, &issuer));
    flow_return_judge(back, issuer, provider->sends_issuer, &outcome);
    const bool both = outcome.code[0] != '\0' && outcome.words[0] != '\0';
    (void) snprintf(text, sizeof text, "%s%s%s", words_of(&outcome), both ? ": " : "", outcome.words);
    const char *kept = cof_arena_text(call->arena, cof_slice_text(text));
    if (kept == NULL) {
        return cof_arena_exhausted(call->err);
    }
    *ret_verdict = outcome.verdict;
    *ret_text = cof_slice_text(kept);
    return COF_OK;
}
