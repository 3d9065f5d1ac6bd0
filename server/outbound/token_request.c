#include "server/outbound/token_request.h"

#include "common/encode.h"
#include "common/sink.h"

#define ASSERTION_TYPE "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#define BASIC "Basic "

/* What is signed before the body is written. */
struct assertions {
    struct cof_slice grant;
    struct cof_slice client;
};

/* --- Form encoding -------------------------------------------------------------------------------------------- */

static bool unreserved(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

static void put_encoded(struct cof_sink *sink, struct cof_slice text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t byte = text.data[i];
        const uint8_t escaped[] = {'%', (uint8_t) digits[byte >> 4], (uint8_t) digits[byte & 15]};
        cof_sink_put_raw(sink, unreserved(byte) ? cof_slice_of(&byte, 1) : cof_slice_of(escaped, sizeof escaped));
    }
}

static void put_parameter(struct cof_sink *sink, struct cof_slice name, struct cof_slice value)
{
    if (sink->used > 0) {
        cof_sink_put_raw(sink, cof_slice_text("&"));
    }
    put_encoded(sink, name);
    cof_sink_put_raw(sink, cof_slice_text("="));
    put_encoded(sink, value);
}

static void put(struct cof_sink *sink, const char *name, struct cof_slice value)
{
    put_parameter(sink, cof_slice_text(name), value);
}

static void put_if_any(struct cof_sink *sink, const char *name, struct cof_slice value)
{
    if (value.len > 0) {
        put(sink, name, value);
    }
}

cof_code token_form_encode(struct cof_slice text, struct cof_arena *arena, struct cof_slice *ret_text,
                           struct cof_error *err)
{
    struct cof_sink sink = {.to = NULL};
    put_encoded(&sink, text);
    sink = (struct cof_sink){.to = cof_arena_alloc(arena, sink.used), .room = sink.used};
    if (sink.to == NULL) {
        return cof_arena_exhausted(err);
    }
    put_encoded(&sink, text);
    *ret_text = cof_slice_of(sink.to, sink.used);
    return COF_OK;
}

/* --- Scopes --------------------------------------------------------------------------------------------------- */

static void put_scopes(struct cof_sink *sink, const struct token_exchange *exchange)
{
    for (size_t i = 0; i < exchange->scope_count; i++) {
        cof_sink_put_raw(sink, cof_slice_text(i == 0 ? "" : exchange->scope_separator));
        cof_sink_put_raw(sink, exchange->scopes[i]);
    }
}

static cof_code join_scopes(const struct token_exchange *exchange, struct cof_arena *arena,
                            struct cof_slice *ret_scope, struct cof_error *err)
{
    struct cof_sink sink = {.to = NULL};
    put_scopes(&sink, exchange);
    if (sink.used > TOKEN_SCOPE_MAX) {
        return cof_fail_field(err, COF_REASON_LIMIT_EXCEEDED, "scopes",
                              "the scopes are longer than %d bytes together; ask for fewer", TOKEN_SCOPE_MAX);
    }
    sink = (struct cof_sink){.to = cof_arena_alloc(arena, sink.used), .room = sink.used};
    if (sink.to == NULL) {
        return cof_arena_exhausted(err);
    }
    put_scopes(&sink, exchange);
    *ret_scope = cof_slice_of(sink.to, sink.used);
    return COF_OK;
}

/* --- Assertions ----------------------------------------------------------------------------------------------- */

static cof_code sign_grant(const struct token_exchange *exchange, struct cof_slice scope, struct cof_arena *arena,
                           struct cof_slice *ret_text, struct cof_error *err)
{
    const struct assertion assertion = {
        .key = exchange->signer.key,
        .key_id = exchange->signer.key_id,
        .issuer = exchange->issuer,
        .subject = exchange->subject,
        .audience = exchange->audience,
        .scope = exchange->scope_in_assertion ? scope : (struct cof_slice){NULL, 0},
        .now_s = exchange->now_s,
        .nonce = exchange->nonces,
    };
    return assertion_sign(&assertion, "signing_key", arena, ret_text, err);
}

static cof_code sign_client(const struct token_exchange *exchange, struct cof_arena *arena,
                            struct cof_slice *ret_text, struct cof_error *err)
{
    const struct token_client *client = &exchange->client;
    const struct assertion assertion = {
        .key = client->signer.key,
        .key_id = client->signer.key_id,
        .issuer = client->id,
        .subject = client->id,
        .audience = exchange->audience,
        .now_s = exchange->now_s,
        .nonce = exchange->nonces + ASSERTION_NONCE,
    };
    return assertion_sign(&assertion, "private_key", arena, ret_text, err);
}

/* --- The body ------------------------------------------------------------------------------------------------- */

static void put_challenge(struct cof_sink *sink, struct cof_slice challenge)
{
    if (challenge.len > 0) {
        put(sink, "code_challenge", challenge);
        put(sink, "code_challenge_method", cof_slice_text("S256"));
    }
}

static void put_grant(struct cof_sink *sink, const struct token_exchange *exchange, struct cof_slice assertion)
{
    switch (exchange->kind) {
    case TOKEN_EXCHANGE_REFRESH:
        put(sink, "grant_type", cof_slice_text("refresh_token"));
        put(sink, "refresh_token", exchange->grant);
        return;
    case TOKEN_EXCHANGE_CLIENT_CREDENTIALS:
        put(sink, "grant_type", cof_slice_text("client_credentials"));
        return;
    case TOKEN_EXCHANGE_JWT_BEARER:
        put(sink, "grant_type", cof_slice_text("urn:ietf:params:oauth:grant-type:jwt-bearer"));
        put(sink, "assertion", assertion);
        return;
    case TOKEN_EXCHANGE_CODE:
        put(sink, "grant_type", cof_slice_text("authorization_code"));
        put(sink, "code", exchange->grant);
        put_if_any(sink, "redirect_uri", exchange->redirect_uri);
        put_if_any(sink, "code_verifier", exchange->code_verifier);
        return;
    case TOKEN_EXCHANGE_DEVICE:
        put(sink, "grant_type", cof_slice_text("urn:ietf:params:oauth:grant-type:device_code"));
        put(sink, "device_code", exchange->grant);
        put_if_any(sink, "code_verifier", exchange->code_verifier);
        return;
    case TOKEN_EXCHANGE_DEVICE_START:
        put_challenge(sink, exchange->code_challenge);
        return;
    case TOKEN_EXCHANGE_REVOKE:
        put(sink, "token", exchange->grant);
        put(sink, "token_type_hint",
            cof_slice_text(exchange->revokes_refresh_token ? "refresh_token" : "access_token"));
        return;
    }
}

static void put_client(struct cof_sink *sink, const struct token_client *client, struct cof_slice assertion)
{
    switch (client->authentication) {
    case TOKEN_CLIENT_BASIC:
        return;
    case TOKEN_CLIENT_POST:
        put(sink, "client_id", client->id);
        put(sink, "client_secret", client->secret);
        return;
    case TOKEN_CLIENT_NONE:
        put_if_any(sink, "client_id", client->id);
        return;
    case TOKEN_CLIENT_PRIVATE_KEY_JWT:
        put(sink, "client_id", client->id);
        put(sink, "client_assertion_type", cof_slice_text(ASSERTION_TYPE));
        put(sink, "client_assertion", assertion);
        return;
    }
}

/* A refresh asks for what was granted, a code and a device code are of what was asked for already. */
static bool asks_for_scopes(const struct token_exchange *exchange)
{
    return exchange->kind == TOKEN_EXCHANGE_CLIENT_CREDENTIALS || exchange->kind == TOKEN_EXCHANGE_DEVICE_START ||
           (exchange->kind == TOKEN_EXCHANGE_JWT_BEARER && !exchange->scope_in_assertion);
}

static void write_body(const struct token_exchange *exchange, struct cof_slice scope,
                       const struct assertions *assertions, struct cof_sink *sink)
{
    put_grant(sink, exchange, assertions->grant);
    put_client(sink, &exchange->client, assertions->client);
    if (exchange->kind == TOKEN_EXCHANGE_DEVICE_START && exchange->client.authentication == TOKEN_CLIENT_BASIC) {
        put(sink, "client_id", exchange->client.id); /* which many demand in the body, too (RFC 8628, 3.1) */
    }
    if (asks_for_scopes(exchange)) {
        put_if_any(sink, exchange->scope_parameter, scope);
    }
    if (exchange->kind == TOKEN_EXCHANGE_REVOKE) {
        return;
    }
    put_if_any(sink, "resource", exchange->resource);
    for (size_t i = 0; i < exchange->extra_count; i++) {
        put_parameter(sink, exchange->extras[i].name, exchange->extras[i].value);
    }
}

static cof_code make_body(const struct token_exchange *exchange, struct cof_slice scope,
                          const struct assertions *assertions, struct cof_arena *arena, struct cof_slice *ret_body,
                          struct cof_error *err)
{
    struct cof_sink sink = {.to = NULL};
    write_body(exchange, scope, assertions, &sink);
    if (sink.used > TOKEN_REQUEST_MAX) {
        return cof_fail(err, COF_REASON_LIMIT_EXCEEDED, "the token request is longer than %d bytes; ask for less",
                        TOKEN_REQUEST_MAX);
    }
    sink = (struct cof_sink){.to = cof_arena_alloc(arena, sink.used), .room = sink.used};
    if (sink.to == NULL) {
        return cof_arena_exhausted(err);
    }
    write_body(exchange, scope, assertions, &sink);
    *ret_body = cof_slice_of(sink.to, sink.used);
    return COF_OK;
}

/* --- The header ----------------------------------------------------------------------------------------------- */

static cof_code make_basic(const struct token_client *client, struct cof_arena *arena, struct cof_slice *ret_header,
                           struct cof_error *err)
{
    struct cof_slice id;
    struct cof_slice secret;
    TRY(token_form_encode(client->id, arena, &id, err));
    TRY(token_form_encode(client->secret, arena, &secret, err));
    const size_t length = id.len + 1 + secret.len;
    uint8_t *pair = cof_arena_alloc(arena, length);
    char *header = cof_arena_alloc(arena, sizeof BASIC + COF_BASE64_SIZE(length));
    if (pair == NULL || header == NULL) {
        return cof_arena_exhausted(err);
    }
    struct cof_sink sink = {.to = pair, .room = length};
    cof_sink_put_raw(&sink, id);
    cof_sink_put_raw(&sink, cof_slice_text(":"));
    cof_sink_put_raw(&sink, secret);
    memcpy(header, BASIC, sizeof BASIC - 1);
    cof_base64_encode(cof_slice_of(pair, length), header + sizeof BASIC - 1);
    *ret_header = cof_slice_text(header);
    return COF_OK;
}

cof_code token_request_build(const struct token_exchange *exchange, struct cof_arena *arena,
                             struct token_request *ret_request, struct cof_error *err)
{
    struct token_request request = {0};
    struct assertions assertions = {0};
    struct cof_slice scope;
    TRY(join_scopes(exchange, arena, &scope, err));
    if (exchange->kind == TOKEN_EXCHANGE_JWT_BEARER) {
        TRY(sign_grant(exchange, scope, arena, &assertions.grant, err));
    }
    if (exchange->client.authentication == TOKEN_CLIENT_PRIVATE_KEY_JWT) {
        TRY(sign_client(exchange, arena, &assertions.client, err));
    }
    if (exchange->client.authentication == TOKEN_CLIENT_BASIC) {
        TRY(make_basic(&exchange->client, arena, &request.authorization, err));
    }
    TRY(make_body(exchange, scope, &assertions, arena, &request.body, err));
    *ret_request = request;
    return COF_OK;
}
