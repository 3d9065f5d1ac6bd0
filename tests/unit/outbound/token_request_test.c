#include "server/outbound/service_account.h"
#include "server/outbound/token_request.h"
#include "tests/unit/crypto/started.h"
#include "tests/unit/outbound/vectors.h"

/* The vectors are made by make_vectors.py, which shares no code with the server. */

enum { ARENA = 1 << 20, NOW = 1795608000 };

static const uint8_t nonces[2 * ASSERTION_NONCE] = "0123456789abcdefGHIJKLMNOPQRSTU";

static void begin(struct cof_arena *arena, size_t limit)
{
    static struct cof_pool *pool;
    struct cof_error err;
    started();
    if (pool == NULL && cof_pool_new(4 * (size_t) ARENA, COF_LOCK_BEST_EFFORT, &pool, &err) != COF_OK) {
        abort();
    }
    cof_arena_init(arena, pool, limit);
}

#define T(text)                                    \
    {                                              \
        (const uint8_t *) (text), sizeof(text) - 1 \
    }

static const struct cof_slice scopes[] = {T("read:all"), T("a b&c=d")};

static struct token_exchange exchange_of(token_exchange_kind kind, token_client_authentication authentication)
{
    return (struct token_exchange){
        .kind = kind,
        .client = {.authentication = authentication,
                   .id = T("client id:\xc3\xbc"),
                   .secret = T("s+e/c r%t&~"),
                   .signer = {T(VECTOR_RSA_KEY), T("key-1")}},
        .grant = T("the grant+/="),
        .redirect_uri = T("https://coffer.example/oauth/callback"),
        .code_verifier = T("verifier-._~"),
        .signer = {T(VECTOR_RSA_KEY), T("key-2")},
        .issuer = T("robot@project.example"),
        .subject = T("user@\"example\""),
        .audience = T("https://as.example/token"),
        .scope_separator = " ",
        .scope_parameter = "scope",
        .now_s = NOW,
        .nonces = nonces,
    };
}

static void build(const struct token_exchange *exchange, struct cof_arena *arena, struct token_request *ret_request)
{
    struct cof_error err = {0};
    if (token_request_build(exchange, arena, ret_request, &err) != COF_OK) {
        fprintf(stderr, "token_request_build: %s\n", err.message);
        abort();
    }
}

/* The texts of slices, which end with no NUL. */
static const char *text_of(struct cof_arena *arena, struct cof_slice text)
{
    const char *copy = cof_arena_text(arena, text);
    if (copy == NULL) {
        abort();
    }
    return copy;
}

static void basic_sends_id_and_secret_each_form_encoded_with_spaces_as_percent_20(void)
{
    struct cof_arena arena;
    struct token_request request;
    begin(&arena, ARENA);
    const struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_REFRESH, TOKEN_CLIENT_BASIC);
    build(&exchange, &arena, &request);
    CHECK_TEXT(text_of(&arena, request.authorization), VECTOR_BASIC_HEADER);
    CHECK_TEXT(text_of(&arena, request.body), "grant_type=refresh_token&refresh_token=the%20grant%2B%2F%3D");
    cof_arena_reset(&arena);
}

static void post_and_none_send_the_client_in_the_body_alone(void)
{
    struct cof_arena arena;
    struct token_request request;
    begin(&arena, ARENA);
    struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_CLIENT_CREDENTIALS, TOKEN_CLIENT_POST);
    exchange.scopes = scopes;
    exchange.scope_count = COF_COUNT(scopes);
    build(&exchange, &arena, &request);
    CHECK_INT(request.authorization.len, 0);
    CHECK_TEXT(text_of(&arena, request.body), VECTOR_POST_BODY);
    exchange.client.authentication = TOKEN_CLIENT_NONE;
    exchange.scope_separator = ",";
    exchange.scope_parameter = "user_scope";
    build(&exchange, &arena, &request);
    CHECK_INT(request.authorization.len, 0);
    CHECK_TEXT(text_of(&arena, request.body), VECTOR_NONE_BODY);
    cof_arena_reset(&arena);
}

static void every_grant_has_its_parameters_and_no_others(void)
{
    static const struct {
        token_exchange_kind kind;
        const char *body;
    } rows[] = {
        {TOKEN_EXCHANGE_REFRESH, "grant_type=refresh_token&refresh_token=the%20grant%2B%2F%3D"},
        {TOKEN_EXCHANGE_CLIENT_CREDENTIALS, "grant_type=client_credentials"},
        {TOKEN_EXCHANGE_CODE, VECTOR_CODE_BODY},
        {TOKEN_EXCHANGE_DEVICE, VECTOR_DEVICE_BODY},
        {TOKEN_EXCHANGE_DEVICE_START, "client_id=client%20id%3A%C3%BC"},
        {TOKEN_EXCHANGE_REVOKE, "token=the%20grant%2B%2F%3D&token_type_hint=access_token"},
    };
    for (size_t i = 0; i < COF_COUNT(rows); i++) {
        struct cof_arena arena;
        struct token_request request;
        begin(&arena, ARENA);
        const struct token_exchange exchange = exchange_of(rows[i].kind, TOKEN_CLIENT_BASIC);
        build(&exchange, &arena, &request);
        CHECK_TEXT(text_of(&arena, request.body), rows[i].body);
        cof_arena_reset(&arena);
    }
}

static void extras_and_the_resource_are_sent_with_tokens_and_not_with_revocations(void)
{
    static const struct token_parameter extras[] = {{T("audience"), T("https://api.example/")},
                                                    {T("empty"), T("")}};
    struct cof_arena arena;
    struct token_request request;
    begin(&arena, ARENA);
    struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_CLIENT_CREDENTIALS, TOKEN_CLIENT_BASIC);
    exchange.resource = cof_slice_text("https://mcp.example/a b");
    exchange.extras = extras;
    exchange.extra_count = COF_COUNT(extras);
    build(&exchange, &arena, &request);
    CHECK_TEXT(text_of(&arena, request.body),
               "grant_type=client_credentials&resource=https%3A%2F%2Fmcp.example%2Fa%20b"
               "&audience=https%3A%2F%2Fapi.example%2F&empty=");
    exchange.kind = TOKEN_EXCHANGE_REVOKE;
    exchange.revokes_refresh_token = true;
    build(&exchange, &arena, &request);
    CHECK_TEXT(text_of(&arena, request.body), "token=the%20grant%2B%2F%3D&token_type_hint=refresh_token");
    cof_arena_reset(&arena);
}

/* RS256 is deterministic: the whole body is what Python made. */
static void private_key_jwt_of_an_rsa_key_is_the_assertion_that_another_implementation_makes(void)
{
    struct cof_arena arena;
    struct token_request request;
    begin(&arena, ARENA);
    const struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_REFRESH, TOKEN_CLIENT_PRIVATE_KEY_JWT);
    build(&exchange, &arena, &request);
    CHECK_INT(request.authorization.len, 0);
    CHECK_TEXT(text_of(&arena, request.body), VECTOR_PRIVATE_KEY_JWT_BODY);
    cof_arena_reset(&arena);
}

static void jwt_bearer_carries_scopes_where_the_provider_wants_them(void)
{
    struct cof_arena arena;
    struct token_request request;
    begin(&arena, ARENA);
    struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_JWT_BEARER, TOKEN_CLIENT_NONE);
    exchange.client.id = (struct cof_slice){NULL, 0};
    exchange.scopes = scopes;
    exchange.scope_count = COF_COUNT(scopes);
    exchange.scope_in_assertion = true;
    build(&exchange, &arena, &request);
    CHECK_TEXT(text_of(&arena, request.body), VECTOR_JWT_BEARER_CLAIM_BODY);
    exchange.scope_in_assertion = false;
    exchange.subject = (struct cof_slice){NULL, 0};
    build(&exchange, &arena, &request);
    CHECK_TEXT(text_of(&arena, request.body), VECTOR_JWT_BEARER_PARAMETER_BODY);
    cof_arena_reset(&arena);
}

static void assertion_of_another_try_is_another_one(void)
{
    static const uint8_t others[2 * ASSERTION_NONCE] = "another nonce for the next try.";
    struct cof_arena arena;
    struct token_request first;
    struct token_request second;
    begin(&arena, ARENA);
    struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_REFRESH, TOKEN_CLIENT_PRIVATE_KEY_JWT);
    build(&exchange, &arena, &first);
    exchange.nonces = others;
    build(&exchange, &arena, &second);
    CHECK(!cof_slice_equal(first.body, second.body));
    cof_arena_reset(&arena);
}

/* ES256 signs with random numbers; what is fixed is the header, and that r and s have 32 bytes each. That servers accept
 * the signature is shown by integration/server/oauth_connections. */
static void es256_signatures_are_64_bytes_behind_the_right_header(void)
{
    struct cof_arena arena;
    struct cof_error err = {0};
    struct cof_slice text;
    uint8_t signature[64];
    begin(&arena, ARENA);
    const struct assertion assertion = {
        .key = T(VECTOR_EC_KEY), .issuer = T("i"), .audience = T("a"), .now_s = NOW, .nonce = nonces};
    CHECK_OK(assertion_sign(&assertion, "key", &arena, &text, &err), &err);
    CHECK(cof_slice_starts_with(text, cof_slice_text(VECTOR_ES256_INPUT ".")));
    const size_t input = sizeof VECTOR_ES256_INPUT;
    CHECK(cof_base64url_decode(cof_slice_of(text.data + input, text.len - input), signature, sizeof signature));
    cof_arena_reset(&arena);
}

static void keys_that_sign_neither_way_are_refused(void)
{
    static const char *const keys[] = {VECTOR_P384_KEY, VECTOR_RSA_1024_KEY, VECTOR_ED25519_KEY, "no key", ""};
    for (size_t i = 0; i < COF_COUNT(keys); i++) {
        struct cof_arena arena;
        struct cof_error err = {0};
        begin(&arena, ARENA);
        CHECK_FAILS(assertion_check_key(cof_slice_text(keys[i]), "private_key", &arena, &err), &err, FIELD_INVALID);
        CHECK_TEXT(err.field, "private_key");
        cof_arena_reset(&arena);
    }
}

static void scopes_over_their_limit_are_refused(void)
{
    struct cof_arena arena;
    struct cof_error err = {0};
    struct token_request request;
    static uint8_t long_scope[TOKEN_SCOPE_MAX];
    memset(long_scope, 'x', sizeof long_scope);
    begin(&arena, ARENA);
    const struct cof_slice two[] = {cof_slice_of(long_scope, sizeof long_scope), T("y")};
    struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_CLIENT_CREDENTIALS, TOKEN_CLIENT_BASIC);
    exchange.scopes = two;
    exchange.scope_count = 1;
    CHECK_OK(token_request_build(&exchange, &arena, &request, &err), &err);
    exchange.scope_count = COF_COUNT(two);
    CHECK_FAILS(token_request_build(&exchange, &arena, &request, &err), &err, LIMIT_EXCEEDED);
    cof_arena_reset(&arena);
}

static void request_without_memory_fails_and_says_so(void)
{
    static uint8_t long_grant[TOKEN_SCOPE_MAX * 2];
    struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_REFRESH, TOKEN_CLIENT_BASIC);
    struct cof_arena arena;
    struct cof_error err = {0};
    struct token_request request;
    exchange.grant = cof_slice_of(long_grant, sizeof long_grant);
    begin(&arena, TOKEN_SCOPE_MAX);
    CHECK_FAILS(token_request_build(&exchange, &arena, &request, &err), &err, OUT_OF_MEMORY);
    cof_arena_reset(&arena);
}

/* --- Service accounts ----------------------------------------------------------------------------------------- */

static void service_account_is_read_whatever_else_stands_in_it(void)
{
    struct cof_arena arena;
    struct cof_error err = {0};
    struct service_account account;
    begin(&arena, ARENA);
    CHECK_OK(
        service_account_read(cof_slice_text(VECTOR_SERVICE_ACCOUNT), "service_account", &arena, &account, &err),
        &err);
    CHECK_TEXT(text_of(&arena, account.client_email), "robot@project.iam.example");
    CHECK_TEXT(text_of(&arena, account.private_key_id), "0123abc");
    CHECK_TEXT(text_of(&arena, account.private_key), VECTOR_RSA_KEY);
    cof_arena_reset(&arena);
}

static void file_that_is_no_service_account_is_refused_and_nothing_of_it_is_told(void)
{
    static const char *const files[] = {
        "",
        "[]",
        "SECRETTEXT",
        "{\"type\":\"SECRETTEXT\"}",
        "{\"type\":\"service_account\",\"client_email\":\"SECRETTEXT\"}",
        "{\"type\":\"service_account\",\"client_email\":{\"a\":1},\"private_key\":\"SECRETTEXT\"}",
        "{\"type\":\"service_account\",\"client_email\":[\"SECRETTEXT\"],\"private_key\":\"SECRETTEXT\"}",
        "{\"type\":\"service_account\",\"type\":\"service_account\",\"client_email\":\"SECRETTEXT\"}",
        "{\"type\":\"service_account\",\"client_email\":\"SECRETTEXT\",\"private_key\":\"SECRETTEXT\"}",
        "{\"type\":\"service_account\",\"client_email\":\"SECRETTEXT\\u0000\",\"private_key\":\"SECRETTEXT\"}",
        "{\"installed\":{\"type\":\"service_account\",\"client_email\":\"SECRETTEXT\",\"private_key\":\"x\"}}",
        "{\"type\":\"service_account\",\"client_email\":\"a\",\"private_key\":\"" VECTOR_P384_JSON "\"}",
    };
    for (size_t i = 0; i < COF_COUNT(files); i++) {
        struct cof_arena arena;
        struct cof_error err = {0};
        struct service_account account;
        begin(&arena, ARENA);
        CHECK_FAILS(service_account_read(cof_slice_text(files[i]), "service_account", &arena, &account, &err), &err,
                    FIELD_INVALID);
        CHECK(strstr(err.message, "SECRETTEXT") == NULL);
        CHECK_TEXT(err.field, "service_account");
        cof_arena_reset(&arena);
    }
}

static void device_flow_begins_with_scopes_and_a_challenge(void)
{
    struct cof_arena arena;
    struct token_request request;
    begin(&arena, ARENA);
    struct token_exchange exchange = exchange_of(TOKEN_EXCHANGE_DEVICE_START, TOKEN_CLIENT_NONE);
    exchange.scopes = scopes;
    exchange.scope_count = COF_COUNT(scopes);
    exchange.code_challenge = (struct cof_slice) T("challenge");
    exchange.resource = (struct cof_slice) T("https://mcp.example/");
    build(&exchange, &arena, &request);
    CHECK_TEXT(text_of(&arena, request.body),
               "code_challenge=challenge&code_challenge_method=S256&client_id=client%20id%3A%C3%BC&"
               "scope=read%3Aall%20a%20b%26c%3Dd&resource=https%3A%2F%2Fmcp.example%2F");
    cof_arena_reset(&arena);
}

TEST_MAIN(TEST(device_flow_begins_with_scopes_and_a_challenge),
          TEST(basic_sends_id_and_secret_each_form_encoded_with_spaces_as_percent_20),
          TEST(post_and_none_send_the_client_in_the_body_alone), TEST(every_grant_has_its_parameters_and_no_others),
          TEST(extras_and_the_resource_are_sent_with_tokens_and_not_with_revocations),
          TEST(private_key_jwt_of_an_rsa_key_is_the_assertion_that_another_implementation_makes),
          TEST(jwt_bearer_carries_scopes_where_the_provider_wants_them),
          TEST(assertion_of_another_try_is_another_one),
          TEST(es256_signatures_are_64_bytes_behind_the_right_header), TEST(keys_that_sign_neither_way_are_refused),
          TEST(scopes_over_their_limit_are_refused), TEST(request_without_memory_fails_and_says_so),
          TEST(service_account_is_read_whatever_else_stands_in_it),
          TEST(file_that_is_no_service_account_is_refused_and_nothing_of_it_is_told))
