#include "server/service/connection_exchange.h"

#include <coffer/v1/connection.pb-c.h>

#include "common/encode.h"
#include "server/crypto/crypto.h"
#include "server/outbound/http.h"
#include "server/service/connection_credential.h"
#include "server/service/connection_place.h"
#include "server/service/providers.h"
#include "server/service/text.h"

#define KIND(name) COFFER__V1__CREDENTIAL_KIND__CREDENTIAL_KIND_##name
#define GRANT(name) COFFER__V1__CONNECTION_GRANT__CONNECTION_GRANT_##name
#define AUTHENTICATION(name) COFFER__V1__CLIENT_AUTHENTICATION__CLIENT_AUTHENTICATION_##name

enum { SECOND = 1000000, NONCES = 2, SENT_MOST = 3 };

/* One exchange that is being made. */
struct making {
    struct call *call;
    const struct refresh_rows *rows;
    const struct provider *provider;
    const struct provider_side *side;
    const Coffer__V1__ConnectionSettings *settings;
    const Coffer__Stored__V1__Credential *credential; /* NULL: the client has none */
    const struct connection_code *code;               /* NULL: it is not what is exchanged */
    struct provider_pairs parameters;
    const char *url;
    struct token_exchange exchange;
};

/* --- The provider --------------------------------------------------------------------------------------------- */

/* Memory for it, and what it is called. */
static cof_code room_for_provider(struct call *call, const struct refresh_rows *rows, const char **ret_id,
                                  struct provider_found **ret_found)
{
    *ret_found = cof_arena_alloc(call->arena, sizeof **ret_found);
    *ret_id = text_of(call->arena, rows->row.provider);
    return *ret_found == NULL || *ret_id == NULL ? cof_arena_exhausted(call->err) : COF_OK;
}

static cof_code as_configured(struct call *call, const struct refresh_rows *rows, cof_code code,
                              const struct provider_found *found, const struct provider **ret_provider)
{
    *ret_provider = NULL;
    if (code != COF_OK && call->err->reason == COF_REASON_PROVIDER_NOT_FOUND) {
        cof_error_clear(call->err);
        return COF_OK;
    }
    TRY(code);
    if (found->generation == (uint64_t) rows->row.provider_generation) {
        *ret_provider = &found->provider;
    }
    return COF_OK;
}

cof_code connection_exchange_provider(struct call *call, const struct refresh_rows *rows,
                                      const struct provider **ret_provider)
{
    struct provider_found *found = NULL;
    const char *id = NULL;
    TRY(room_for_provider(call, rows, &id, &found));
    return as_configured(call, rows, provider_get(call, &rows->row.workspace_id, id, found), found, ret_provider);
}

cof_code connection_exchange_provider_read(struct call *call, const struct refresh_rows *rows,
                                           const struct rows *found, size_t index,
                                           const struct provider **ret_provider)
{
    struct provider_found *provider = NULL;
    const char *id = NULL;
    const struct provider_stored stored = {found, index, refresh_rows_provider()};
    TRY(room_for_provider(call, rows, &id, &provider));
    return as_configured(call, rows, provider_take(call, &rows->row.workspace_id, &stored, id, provider), provider,
                         ret_provider);
}

size_t connection_exchange_headers(const struct connection_exchange *exchange,
                                   struct outbound_header headers[CONNECTION_EXCHANGE_HEADERS])
{
    const struct cof_slice authorization = exchange->request.authorization;
    headers[0] = (struct outbound_header){"Content-Type", cof_slice_text("application/x-www-form-urlencoded")};
    headers[1] = (struct outbound_header){"Accept", cof_slice_text("application/json")};
    headers[2] = (struct outbound_header){"Authorization", authorization};
    return authorization.len > 0 ? CONNECTION_EXCHANGE_HEADERS : CONNECTION_EXCHANGE_HEADERS - 1;
}

/* Where a workspace has a say in the host, through a provider of its own or a parameter, it has limits and a breaker of its
 * own, too: a host of its choice that fails must not keep others from theirs. IDs may be longer than names of groups; what
 * they begin with is enough for a limit. */
const char *connection_group(struct call *call, const struct cof_uuid *workspace, const struct provider *provider)
{
    char hex[2 * sizeof workspace->bytes + 1];
    const int room = OUTBOUND_GROUP_MAX - 1;
    if (!provider->custom && provider->parameter_count == 0) {
        return cof_arena_format(call->arena, "%.*s", room, provider->id);
    }
    cof_hex_encode(cof_slice_of(workspace->bytes, sizeof workspace->bytes), hex);
    return cof_arena_format(call->arena, "%s/%.*s", hex, room - (int) sizeof hex, provider->id);
}

/* --- What the rows say ---------------------------------------------------------------------------------------- */

static cof_code list_parameters(struct making *making)
{
    const size_t count = making->settings->n_parameters;
    struct provider_pair *pairs = cof_arena_array(making->call->arena, count, sizeof *pairs);
    if (pairs == NULL) {
        return cof_arena_exhausted(making->call->err);
    }
    for (size_t i = 0; i < count; i++) {
        pairs[i] =
            (struct provider_pair){making->settings->parameters[i]->name, making->settings->parameters[i]->value};
    }
    making->parameters = (struct provider_pairs){pairs, count};
    return COF_OK;
}

static cof_code expand(const struct making *making, const char *template, const char **ret_url)
{
    return provider_expand(making->provider, template, making->parameters, making->call->arena, ret_url,
                           making->call->err);
}

/* The current one; those that are older are for the provider's sake alone. */
static cof_code choose_credential(struct making *making)
{
    Coffer__Stored__V1__Credentials *credentials;
    TRY(credential_open(making->call, &making->rows->row, &credentials));
    making->credential = credentials->n_credentials > 0 ? credentials->credentials[0] : NULL;
    return COF_OK;
}

static cof_code read_rows(struct making *making)
{
    Coffer__V1__ConnectionSettings *settings;
    const bool service = making->rows->row.class == CONNECTION_SERVICE;
    making->side = &making->provider->sides[service ? PROVIDER_SERVICE : PROVIDER_USER];
    TRY(connection_settings(making->call, &making->rows->row, &settings));
    making->settings = settings;
    TRY(list_parameters(making));
    TRY(choose_credential(making));
    return expand(making, making->provider->token_endpoint, &making->url);
}

/* --- The request ---------------------------------------------------------------------------------------------- */

static struct cof_slice secret_of(const struct making *making)
{
    const Coffer__Stored__V1__Credential *credential = making->credential;
    return credential == NULL ? cof_slice_text("") : cof_slice_of(credential->secret.data, credential->secret.len);
}

static token_client_authentication authentication_of(int32_t stored)
{
    switch (stored) {
    case AUTHENTICATION(SECRET_BASIC):
        return TOKEN_CLIENT_BASIC;
    case AUTHENTICATION(SECRET_POST):
        return TOKEN_CLIENT_POST;
    case AUTHENTICATION(PRIVATE_KEY_JWT):
        return TOKEN_CLIENT_PRIVATE_KEY_JWT;
    default:
        return TOKEN_CLIENT_NONE;
    }
}

static struct token_signer signer_of(const struct making *making)
{
    const char *key_id = making->credential == NULL ? "" : making->credential->key_id;
    return (struct token_signer){secret_of(making), cof_slice_text(key_id)};
}

static void set_client(struct making *making)
{
    struct token_client *client = &making->exchange.client;
    client->authentication = authentication_of(making->rows->row.client_authentication);
    client->id = making->rows->row.client_id;
    if (client->authentication == TOKEN_CLIENT_PRIVATE_KEY_JWT) {
        client->signer = signer_of(making);
    } else if (client->authentication != TOKEN_CLIENT_NONE) {
        client->secret = secret_of(making);
    }
}

/* A service account asks for itself unless it says for whom; others name the client where nobody is named. */
static void set_assertion(struct making *making)
{
    struct token_exchange *exchange = &making->exchange;
    const Coffer__Stored__V1__Credential *credential = making->credential;
    const bool account = credential != NULL && credential->kind == KIND(SERVICE_ACCOUNT);
    const struct cof_slice client = making->rows->row.client_id;
    const struct cof_slice subject = cof_slice_text(making->settings->subject);
    exchange->kind = TOKEN_EXCHANGE_JWT_BEARER;
    exchange->signer = signer_of(making);
    exchange->issuer = account ? cof_slice_text(credential->service_account) : client;
    exchange->subject = subject.len > 0 || account ? subject : client;
    exchange->scope_in_assertion = account;
}

static void set_grant(struct making *making, struct cof_slice refresh_token)
{
    struct token_exchange *exchange = &making->exchange;
    if (making->code != NULL) {
        exchange->kind = making->code->device ? TOKEN_EXCHANGE_DEVICE : TOKEN_EXCHANGE_CODE;
        exchange->grant = making->code->code;
        exchange->redirect_uri = making->code->redirect_uri;
        exchange->code_verifier =
            making->provider->pkce == PROVIDER_PKCE_USED ? making->code->verifier : exchange->code_verifier;
    } else if (making->rows->row.class == CONNECTION_USER) {
        exchange->kind = TOKEN_EXCHANGE_REFRESH;
        exchange->grant = refresh_token;
    } else if (making->rows->row.grant_kind == GRANT(JWT_BEARER)) {
        set_assertion(making);
    } else {
        exchange->kind = TOKEN_EXCHANGE_CLIENT_CREDENTIALS;
    }
}

/* A refresh token and a code bring those that were granted. */
static cof_code set_scopes(struct making *making)
{
    struct token_exchange *exchange = &making->exchange;
    const struct provider_texts *usual = &making->side->scopes;
    const struct row_texts *asked = &making->rows->row.scopes;
    exchange->scope_separator = making->provider->scope_separator;
    exchange->scope_parameter = making->side->scope_parameter;
    const bool brought = exchange->kind == TOKEN_EXCHANGE_REFRESH || exchange->kind == TOKEN_EXCHANGE_CODE;
    if (brought || asked->count > 0) {
        exchange->scopes = asked->items;
        exchange->scope_count = brought ? 0 : asked->count;
        return COF_OK;
    }
    struct cof_slice *scopes = cof_arena_array(making->call->arena, usual->count, sizeof *scopes);
    if (scopes == NULL) {
        return cof_arena_exhausted(making->call->err);
    }
    for (size_t i = 0; i < usual->count; i++) {
        scopes[i] = cof_slice_text(usual->items[i]);
    }
    exchange->scopes = scopes;
    exchange->scope_count = usual->count;
    return COF_OK;
}

static bool is_set(const Coffer__V1__ConnectionSettings *settings, const char *name)
{
    for (size_t i = 0; i < settings->n_extra_parameters; i++) {
        if (strcmp(settings->extra_parameters[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* What the connection says comes before what its provider's entry says. */
static cof_code set_extras(struct making *making)
{
    const Coffer__V1__ConnectionSettings *settings = making->settings;
    const struct provider_pairs *usual = &making->side->token_extras;
    struct token_exchange *exchange = &making->exchange;
    struct token_parameter *extras =
        cof_arena_array(making->call->arena, settings->n_extra_parameters + usual->count, sizeof *extras);
    if (extras == NULL) {
        return cof_arena_exhausted(making->call->err);
    }
    for (size_t i = 0; i < settings->n_extra_parameters; i++) {
        extras[exchange->extra_count++] =
            (struct token_parameter){cof_slice_text(settings->extra_parameters[i]->name),
                                     cof_slice_text(settings->extra_parameters[i]->value)};
    }
    for (size_t i = 0; i < usual->count; i++) {
        if (!is_set(settings, usual->items[i].name)) {
            extras[exchange->extra_count++] = (struct token_parameter){cof_slice_text(usual->items[i].name),
                                                                       cof_slice_text(usual->items[i].value)};
        }
    }
    exchange->extras = extras;
    return COF_OK;
}

static cof_code set_places(struct making *making)
{
    struct token_exchange *exchange = &making->exchange;
    const Coffer__V1__ConnectionSettings *settings = making->settings;
    const char *audience = settings->audience[0] != '\0' ? settings->audience : making->url;
    const char *resource = settings->resource;
    if (settings->audience[0] == '\0' && making->provider->assertion_audience_issuer) {
        TRY(expand(making, making->provider->issuer, &audience));
    }
    if (resource[0] == '\0' && making->provider->resource[0] != '\0') {
        TRY(expand(making, making->provider->resource, &resource));
    }
    exchange->audience = cof_slice_text(audience);
    exchange->resource = cof_slice_text(resource);
    return COF_OK;
}

static cof_code set_nonces(struct making *making)
{
    const size_t size = (size_t) NONCES * ASSERTION_NONCE;
    uint8_t *nonces = cof_arena_alloc(making->call->arena, size);
    if (nonces == NULL) {
        return cof_arena_exhausted(making->call->err);
    }
    making->exchange.nonces = nonces;
    making->exchange.now_s = call_now(making->call) / SECOND;
    return crypto_random(nonces, size, making->call->err);
}

static cof_code build(struct making *making, struct cof_slice refresh_token, struct token_request *ret_request)
{
    set_client(making);
    set_grant(making, refresh_token);
    TRY(set_scopes(making));
    TRY(set_extras(making));
    TRY(set_places(making));
    TRY(set_nonces(making));
    return token_request_build(&making->exchange, making->call->arena, ret_request, making->call->err);
}

/* --- The answer ----------------------------------------------------------------------------------------------- */

static token_grant grant_of(token_exchange_kind kind)
{
    switch (kind) {
    case TOKEN_EXCHANGE_REFRESH:
        return TOKEN_GRANT_REFRESH;
    case TOKEN_EXCHANGE_CODE:
        return TOKEN_GRANT_CODE;
    default:
        return TOKEN_GRANT_OWN;
    }
}

/* With texts that last for as long as the call's memory: rows and the provider do not. */
static cof_code make_question(const struct making *making, struct token_question *ret_question)
{
    struct cof_slice *sent = cof_arena_array(making->call->arena, SENT_MOST, sizeof *sent);
    size_t count = 0;
    if (sent == NULL) {
        return cof_arena_exhausted(making->call->err);
    }
    const char *grant = cof_arena_text(making->call->arena, making->exchange.grant);
    const char *member = cof_arena_text(making->call->arena, cof_slice_text(making->side->token_member));
    if (grant == NULL || member == NULL) {
        return cof_arena_exhausted(making->call->err);
    }
    if (making->exchange.grant.len > 0) {
        sent[count++] = cof_slice_of((const uint8_t *) grant, making->exchange.grant.len);
    }
    if (making->exchange.client.secret.len > 0) {
        sent[count++] = making->exchange.client.secret;
    }
    if (making->exchange.code_verifier.len > 0) {
        sent[count++] = making->exchange.code_verifier;
    }
    *ret_question = (struct token_question){
        .grant = grant_of(making->exchange.kind),
        .member = member[0] == '\0' ? NULL : member,
        .sent = sent,
        .sent_count = count,
    };
    return COF_OK;
}

static cof_code make(struct making *making, struct cof_slice refresh_token,
                     struct connection_exchange *ret_exchange)
{
    const struct provider *provider = making->provider;
    struct connection_exchange exchange = {
        .life_us = provider->token_never_expires ? REFRESH_NEVER : (int64_t) provider->token_life_s * SECOND,
        .refresh_life_us =
            provider->refresh_life_s == 0 ? REFRESH_NEVER : (int64_t) provider->refresh_life_s * SECOND,
        .group = connection_group(making->call, &making->rows->row.workspace_id, provider),
    };
    if (exchange.group == NULL) {
        return cof_arena_exhausted(making->call->err);
    }
    TRY(read_rows(making));
    TRY(build(making, refresh_token, &exchange.request));
    TRY(make_question(making, &exchange.question));
    exchange.url = making->url;
    *ret_exchange = exchange;
    return COF_OK;
}

cof_code connection_exchange_make(struct call *call, const struct refresh_rows *rows,
                                  const struct provider *provider, struct cof_slice refresh_token,
                                  struct connection_exchange *ret_exchange)
{
    struct making making = {.call = call, .rows = rows, .provider = provider};
    return make(&making, refresh_token, ret_exchange);
}

cof_code connection_exchange_make_code(struct call *call, const struct refresh_rows *rows,
                                       const struct provider *provider, const struct connection_code *code,
                                       struct connection_exchange *ret_exchange)
{
    struct making making = {.call = call, .rows = rows, .provider = provider, .code = code};
    return make(&making, cof_slice_text(""), ret_exchange);
}

/* Assertions are for the token endpoint, wherever they go: that is the name by which all servers know themselves. */
cof_code connection_exchange_revoke(struct call *call, const struct refresh_rows *rows,
                                    const struct provider *provider, struct cof_slice token, bool is_refresh_token,
                                    struct connection_exchange *ret_exchange)
{
    struct making making = {.call = call, .rows = rows, .provider = provider};
    struct connection_exchange exchange = {.group = connection_group(call, &rows->row.workspace_id, provider)};
    if (exchange.group == NULL) {
        return cof_arena_exhausted(call->err);
    }
    TRY(read_rows(&making));
    TRY(expand(&making, provider->revocation_endpoint, &exchange.url));
    making.exchange.kind = TOKEN_EXCHANGE_REVOKE;
    making.exchange.grant = token;
    making.exchange.revokes_refresh_token = is_refresh_token;
    set_client(&making);
    TRY(set_places(&making));
    TRY(set_nonces(&making));
    TRY(token_request_build(&making.exchange, call->arena, &exchange.request, call->err));
    TRY(make_question(&making, &exchange.question));
    *ret_exchange = exchange;
    return COF_OK;
}

cof_code connection_exchange_make_device(struct call *call, const struct refresh_rows *rows,
                                         const struct provider *provider, struct cof_slice challenge,
                                         struct connection_exchange *ret_exchange)
{
    struct making making = {.call = call, .rows = rows, .provider = provider};
    struct connection_exchange exchange = {.group = connection_group(call, &rows->row.workspace_id, provider)};
    if (exchange.group == NULL) {
        return cof_arena_exhausted(call->err);
    }
    making.exchange.code_challenge = challenge;
    TRY(read_rows(&making));
    TRY(expand(&making, provider->device_endpoint, &exchange.url));
    making.exchange.kind = TOKEN_EXCHANGE_DEVICE_START;
    set_client(&making);
    TRY(set_scopes(&making));
    TRY(set_places(&making));
    TRY(set_nonces(&making));
    TRY(token_request_build(&making.exchange, call->arena, &exchange.request, call->err));
    *ret_exchange = exchange;
    return COF_OK;
}
